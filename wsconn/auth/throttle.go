package auth

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// maxThrottled bounds the keys that one generation of a Throttle holds; about
// 3 MB for both when they are full.
const maxThrottled = 64 << 10

// Throttle limits how often something may happen for each of any number of
// keys: users, accounts, addresses. A key may go at an even pace for long, and
// run ahead of it by a burst.
//
// What it remembers of a key is one number, which says nothing any more once
// the key's burst is whole again, and is then forgotten. So its memory follows
// the keys of the last moments, and has a bound besides: a full Throttle forgets,
// of a few keys, the one that is least ahead. Whoever makes up keys to crowd the
// others out so loses their own first.
//
// A nil Throttle limits nothing. It starts no goroutine and is safe for
// concurrent use.
type Throttle struct {
	every time.Duration // one event's share of time
	ahead time.Duration // how far a key may be ahead of the clock
	most  int           // keys of one generation
	seed  maphash.Seed  // nobody can choose keys that fall together
	clock func() time.Duration

	refused atomic.Uint64

	mu     sync.Mutex
	turned time.Duration // when young was begun
	young  map[uint64]time.Duration
	old    map[uint64]time.Duration // by key: when its burst will be whole
}

// NewThrottle returns a Throttle that lets each key do something that often a
// second for long, and burst times at once. It is nil for a rate that is not
// positive.
func NewThrottle(perSecond float64, burst int) *Throttle {
	if !(perSecond > 0) {
		return nil
	}
	start := time.Now()
	every := max(time.Duration(float64(time.Second)/perSecond), 1)
	return &Throttle{
		every: every, ahead: every * time.Duration(max(burst, 1)), most: maxThrottled,
		seed: maphash.MakeSeed(), clock: func() time.Duration { return time.Since(start) },
		young: make(map[uint64]time.Duration),
	}
}

// Take lets key do what costs as much as that many events, at most half a burst,
// and returns 0. If that is too much now, it takes nothing and returns how long to
// wait.
func (t *Throttle) Take(key string, cost int) (wait time.Duration) { return t.take(key, cost, false) }

// Spend takes whether or not there is enough left, and returns how long key should
// pause before it does anything more: 0 while it keeps within its burst. It is for a
// caller that can put the key off and so need refuse nothing.
func (t *Throttle) Spend(key string, cost int) (pause time.Duration) { return t.take(key, cost, true) }

func (t *Throttle) take(key string, cost int, always bool) (beyond time.Duration) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock()
	t.turn(now)
	h := maphash.String(t.seed, key)
	whole := max(t.at(h), now) + t.price(cost)
	beyond = max(whole-now-t.ahead, 0)
	if beyond > 0 {
		t.refused.Add(1)
	}
	if beyond == 0 || always {
		t.put(h, whole)
	}
	return beyond
}

// Refused returns how often Take has refused and Spend has asked for a pause.
func (t *Throttle) Refused() uint64 {
	if t == nil {
		return 0
	}
	return t.refused.Load()
}

// GiveBack undoes a Take of that cost.
func (t *Throttle) GiveBack(key string, cost int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(t.clock())
	h := maphash.String(t.seed, key)
	if whole := t.at(h); whole > 0 {
		t.put(h, whole-t.price(cost))
	}
}

// price is what that many events cost. What is dear must be possible all the
// same, also for who has just done something else.
func (t *Throttle) price(cost int) time.Duration {
	return min(t.every*time.Duration(cost), max(t.every, t.ahead/2))
}

// Charge is Take with an error for the client: a *wire.Error with
// wire.CodeRateLimited that says tooMany and when to try again.
func (t *Throttle) Charge(key string, cost int, tooMany string) error {
	if wait := t.Take(key, cost); wait > 0 {
		return limited(wait, tooMany)
	}
	return nil
}

func limited(wait time.Duration, tooMany string) error {
	e := wire.Errorf(wire.CodeRateLimited, "%s; try again later", tooMany)
	e.RetryAfter = wait
	return e
}

// turn begins a new generation when the last is as old as a burst takes: what
// was not touched since the one before is whole again.
func (t *Throttle) turn(now time.Duration) {
	age := now - t.turned
	if age < t.ahead {
		return
	}
	t.old = t.young
	if age >= 2*t.ahead {
		t.old = nil
	}
	t.young, t.turned = make(map[uint64]time.Duration), now
}

func (t *Throttle) at(h uint64) time.Duration {
	if whole, ok := t.young[h]; ok {
		return whole
	}
	return t.old[h]
}

func (t *Throttle) put(h uint64, whole time.Duration) {
	if _, ok := t.young[h]; !ok && len(t.young) >= t.most {
		t.makeRoom()
	}
	t.young[h] = whole
}

// makeRoom forgets one key: of a few, which the map's own random order chooses,
// the one that has taken least.
func (t *Throttle) makeRoom() {
	const few = 16
	var least uint64
	looked := 0
	for h, whole := range t.young {
		if looked == 0 || whole < t.young[least] {
			least = h
		}
		if looked++; looked == few {
			break
		}
	}
	delete(t.young, least)
}
