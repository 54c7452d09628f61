package e2e_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

// TestFaults runs each fault alone, under load, and checks the history: each twice
// in the full set, some in the sample, once and only as long as needed to take
// effect. If signatures must be prompt, the first of three tries that meets the
// limit counts, as the machine may be busy.
//
// With CONCLAVE_SOAK_SEED its random choices are those of that seed.
func TestFaults(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("faults against real processes are left out with -short")
	}
	for _, i := range alone() {
		f := faults[i]
		t.Run(strings.ReplaceAll(f.name, "/", " "), func(t *testing.T) {
			t.Parallel()
			const tries = 3
			for try := 1; ; try++ {
				worst := f.alone(t, uint64(i))
				if f.promptly == 0 || worst <= f.promptly {
					return
				}
				t.Logf("try %d: a signature took %s", try, worst)
				if try == tries {
					t.Errorf("a signature took %s, want at most %s", worst, f.promptly)
					return
				}
			}
		})
	}
}

// alone returns the numbers of the faults that TestFaults runs: in the sample eight
// adjacent ones of those that TestMatrix does not have.
func alone() []int {
	var numbers []int
	for i, f := range faults {
		if sample.Full() || !f.act {
			numbers = append(numbers, i)
		}
	}
	return sample.Of(8, numbers)
}

// alone is one try of one fault; it returns how long the slowest signature took.
func (f fault) alone(t *testing.T, number uint64) time.Duration {
	t.Helper()
	seed := soakSeed(t)
	start := newArena
	if f.act {
		start = newArenaWithReplica
	}
	a := start(t, seed, 3, 2)
	a.brief = !sample.Full()
	r := rand.New(rand.NewPCG(seed, number))
	a.load(3-2*int(number%2), a.think()) // alone, so that no later message uncovers a lost one
	a.more(sample.Or(2, 5))
	for range sample.Or(1, 2) {
		if !f.hurt(a, r) {
			t.Error("the fault did not happen")
		}
		a.figures.fault(f.name, true)
		a.more(sample.Or(3, 5))
	}
	report(t, a, a.settle())
	return slices.Max(a.figures.took)
}

// TestSoak runs all faults together for as long as CONCLAVE_SOAK says, a new one
// every two seconds:
//
//	CONCLAVE_SOAK=30m go test -run Soak -timeout 1h -v ./cluster/node
//
// It prints its seed; the same CONCLAVE_SOAK_SEED makes the same choices. With
// CONCLAVE_SOAK_FAULTS only faults are chosen whose names contain it, and
// CONCLAVE_SOAK_LOG names a file for the nodes' logs.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("CONCLAVE_SOAK"))
	if err != nil {
		t.Skip("set CONCLAVE_SOAK to a duration to run it")
	}
	needRedis(t)
	seed := soakSeed(t)
	chosen := slices.DeleteFunc(slices.Clone(faults), func(f fault) bool {
		return !strings.Contains(f.name, os.Getenv("CONCLAVE_SOAK_FAULTS"))
	})
	if len(chosen) == 0 {
		t.Fatal("CONCLAVE_SOAK_FAULTS names no fault")
	}
	a := newArenaWithReplica(t, seed, 3, 4)
	a.real = a.truth()
	r := rand.New(rand.NewPCG(seed, 1<<32))
	a.load(2, 300*time.Millisecond)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	var under sync.WaitGroup
	for end := time.Now().Add(length); time.Now().Before(end); <-tick.C {
		f, own := chosen[r.IntN(len(chosen))], rand.New(rand.NewPCG(r.Uint64(), 0))
		under.Go(func() { a.figures.fault(f.name, f.hurt(a, own)) })
	}
	under.Wait()
	breaches := a.settle()
	keepLogs(t, a)
	report(t, a, breaches)
}

func soakSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("CONCLAVE_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("CONCLAVE_SOAK_SEED: %v", err)
		}
	}
	t.Logf("CONCLAVE_SOAK_SEED=%d", seed)
	return seed
}

// keepLogs writes the nodes' logs to the file named by CONCLAVE_SOAK_LOG, if set.
func keepLogs(t *testing.T, a *arena) {
	t.Helper()
	if file := os.Getenv("CONCLAVE_SOAK_LOG"); file != "" {
		if err := os.WriteFile(file, []byte(a.c.logs.String()), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// report prints the figures and fails the test for every breach.
func report(t *testing.T, a *arena, breaches []breach) {
	t.Helper()
	count := map[string]int{}
	for i, b := range breaches {
		count[b.class]++
		if i < 50 {
			t.Error(b)
		}
	}
	t.Logf("%d outcomes; %d lost, %d duplicated, %d contradictory, %d stuck, %d refused, %d deaf\n%s", a.figures.outcomes(),
		count[lost], count[duplicated], count[contradictory], count[stuck], count[refused], count[deaf], a.figures)
}
