package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// clocked gives a Throttle a clock that only the test moves.
func clocked(t *Throttle) func(time.Duration) {
	var now time.Duration
	t.clock = func() time.Duration { return now }
	return func(d time.Duration) { now += d }
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	const perSecond, burst = 10, 5
	throttle := NewThrottle(perSecond, burst)
	pass := clocked(throttle)
	pass(time.Hour)
	take := func(key string, cost int, want time.Duration) {
		t.Helper()
		if got := throttle.Take(key, cost); got != want {
			t.Errorf("Take(%q, %d) = %s, want %s", key, cost, got, want)
		}
	}
	for range burst {
		take("alice", 1, 0)
	}
	take("alice", 1, 100*time.Millisecond)
	take("alice", 1, 100*time.Millisecond) // a refused event is not charged
	if got := throttle.Refused(); got != 2 {
		t.Errorf("%d were refused, want 2", got)
	}
	take("alice", 2, 200*time.Millisecond)
	take("bob", 1, 0)
	pass(40 * time.Millisecond)
	take("alice", 1, 60*time.Millisecond)
	pass(60 * time.Millisecond)
	take("alice", 1, 0)
	take("alice", 1, 100*time.Millisecond)
	throttle.GiveBack("alice", 1)
	take("alice", 1, 0)

	// Spending is paid for by a pause.
	spend := func(key string, cost int, want time.Duration) {
		t.Helper()
		if got := throttle.Spend(key, cost); got != want {
			t.Errorf("Spend(%q, %d) = %s, want %s", key, cost, got, want)
		}
	}
	for range burst {
		spend("dave", 1, 0)
	}
	spend("dave", 1, 100*time.Millisecond)
	spend("dave", 2, 300*time.Millisecond)
	take("dave", 1, 400*time.Millisecond)

	// An event above half a burst costs half a burst, so that it is possible.
	take("carol", 1, 0)
	take("carol", 100, 0)
	take("carol", 100, 100*time.Millisecond)
	take("carol", 1, 0)
	take("carol", 1, 50*time.Millisecond)

	// A long pause restores the burst, and not more.
	pass(time.Hour)
	for range burst {
		take("alice", 1, 0)
	}
	take("alice", 1, 100*time.Millisecond)
	throttle.GiveBack("nobody", 1)
	for range burst {
		take("nobody", 1, 0)
	}
	take("nobody", 1, 100*time.Millisecond)

	for _, none := range []*Throttle{NewThrottle(0, 1), NewThrottle(-1, 1), nil} {
		if none != nil || none.Take("x", 1000) != 0 || none.Spend("x", 1) != 0 {
			t.Error("a Throttle that limits nothing limits something")
		}
		none.GiveBack("x", 1)
	}
}

// TestThrottleForgetsNothing compares a Throttle, which drops keys, with one that
// does not, over random times.
func TestThrottleForgetsNothing(t *testing.T) {
	const perSecond, burst, keys = 50, 20, 30
	throttle := NewThrottle(perSecond, burst)
	pass := clocked(throttle)
	ahead, every := burst*time.Second/perSecond, time.Second/perSecond
	whole := map[string]time.Duration{}
	var now time.Duration
	r := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for range 100_000 {
		step := time.Duration(r.Int64N(int64(time.Millisecond)))
		if r.IntN(1000) == 0 {
			step = time.Duration(r.Int64N(int64(3 * ahead)))
		}
		now += step
		pass(step)
		key, cost := fmt.Sprint(r.IntN(keys)), 1+r.IntN(3)
		then := max(whole[key], now) + time.Duration(cost)*every
		want := max(0, then-now-ahead)
		if got := throttle.Take(key, cost); got != want {
			t.Fatalf("at %s: Take(%s, %d) = %s, want %s", now, key, cost, got, want)
		}
		if want == 0 {
			whole[key] = then
		} else {
			refused++
		}
	}
	if refused < 1000 {
		t.Fatalf("only %d were refused: the test says little", refused)
	}
}

// TestThrottleIsBounded: made-up keys neither grow it nor free the one that floods,
// and when they stop it becomes empty.
func TestThrottleIsBounded(t *testing.T) {
	throttle := NewThrottle(0.1, 10)
	throttle.most = 1000
	pass := clocked(throttle)
	for throttle.Take("flooder", 1) == 0 {
	}
	for i := range 100 * throttle.most {
		pass(time.Microsecond)
		throttle.Take(fmt.Sprint("made up ", i), 1)
		if n := throttle.len(); n > 2*throttle.most {
			t.Fatalf("%d keys, at most %d", n, 2*throttle.most)
		}
	}
	if throttle.Take("flooder", 1) == 0 {
		t.Error("made-up keys have freed the one that floods")
	}
	pass(time.Hour)
	throttle.Take("alice", 1)
	if n := throttle.len(); n != 1 {
		t.Errorf("%d keys are left of the flood, want 1", n)
	}
}

func TestThrottleAtOnce(t *testing.T) {
	const burst = 100
	throttle := NewThrottle(0.0001, burst)
	var mu sync.Mutex
	taken := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range burst {
				if throttle.Take("alice", 1) == 0 {
					mu.Lock()
					taken++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if taken != burst {
		t.Errorf("%d taken, want %d", taken, burst)
	}
}

func (t *Throttle) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.young) + len(t.old)
}

// TestNetwork: one address in two forms is one network.
func TestNetwork(t *testing.T) {
	here := netip.MustParseAddr("192.0.2.1")
	if Network(netip.AddrFrom16(here.As16())) != Network(here) || Network(netip.Addr{}) == Network(here) {
		t.Error("one address in two forms is two networks")
	}
}
