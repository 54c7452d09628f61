// Package limit bounds how often something may happen, in this process's memory and
// separately for each key: messages of a user, calls from an address.
//
// Start here: [NewThrottle] makes a [Throttle], Throttle.Take charges it, and
// [Network] is the key of a client's address. A caller that can wait instead of
// refusing uses Throttle.Spend. The package makes no client errors; auth.Charge
// does.
//
// It starts no goroutine and everything in it is safe for concurrent use. Limits
// shared by all nodes are in Redis, in package cluster/store/accounts.
package limit

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxThrottled bounds the keys that one generation of a Throttle holds; about
// 3 MB for both when they are full.
const maxThrottled = 64 << 10

// Throttle limits the rate of each of any number of keys: users, accounts,
// addresses. A key has an average rate, which it may exceed by a burst.
//
// It keeps one number per key and drops it once the key's burst is whole again. So
// its memory follows the recently active keys. It is also bounded: a full Throttle
// drops, out of a few keys, the one that is least ahead, so that a client that
// makes up keys to displace others loses its own first.
//
// A nil Throttle limits nothing. It starts no goroutine and is safe for
// concurrent use.
type Throttle struct {
	every time.Duration // time per event
	ahead time.Duration // how far a key may run ahead of the clock
	most  int           // keys of one generation
	seed  maphash.Seed  // random, so that clients cannot choose keys that collide
	clock func() time.Duration

	refused atomic.Uint64

	mu     sync.Mutex
	turned time.Duration // when young was begun
	young  map[uint64]time.Duration
	old    map[uint64]time.Duration // by key: time at which its burst will be whole
}

// NewThrottle returns a Throttle that allows each key that many events a second on
// average, and burst at once. It is nil for a rate that is not positive.
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

// Take charges key the price of cost events, at most half a burst, and returns 0.
// If that exceeds the limit, it charges nothing and returns how long to wait.
func (t *Throttle) Take(key string, cost int) (wait time.Duration) { return t.take(key, cost, false) }

// Spend charges key even beyond its limit, and returns how long it should pause
// before its next event: 0 while it keeps within its burst. It is for a caller that
// can delay the key instead of refusing.
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

// price is the time that cost events take. An expensive event is capped at half a
// burst, so that it can always succeed.
func (t *Throttle) price(cost int) time.Duration {
	return min(t.every*time.Duration(cost), max(t.every, t.ahead/2))
}

// turn begins a new generation when the last is as old as a burst takes: keys not
// used since the previous one are whole again.
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

// makeRoom drops one key: out of a few, chosen by the map's own random order, the
// one that has taken least.
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

// Network returns the network that one client is assumed to hold, as text: an IPv4
// address, or an IPv6 network of 64 bits, since a client has all of its addresses.
func Network(from netip.Addr) string {
	from = from.Unmap()
	if from.Is6() {
		if p, err := from.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return from.String()
}
