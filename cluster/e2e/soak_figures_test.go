package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// figures are the measurements of a run.
type figures struct {
	mu     sync.Mutex
	ends   map[string]int // outcomes by kind and status
	faults map[string]int
	missed int             // faults that another prevented
	took   []time.Duration // every signature that was made
	again  []time.Duration // from a node's end to a signature by one of its users
	others []time.Duration // the same for users of other nodes
}

func newFigures() *figures { return &figures{ends: map[string]int{}, faults: map[string]int{}} }

func (f *figures) outcome(kind string, status wire.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[kind+" "+string(status)]++
}

func (f *figures) signed(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.took = append(f.took, took)
}

func (f *figures) outcomes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.ends {
		n += c
	}
	return n
}

func (f *figures) fault(name string, done bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !done {
		f.missed++
		return
	}
	f.faults[name]++
}

// signAgain has each group sign, with a user of the node that has just ended if the
// group has one, and measures how long that takes.
func (a *arena) signAgain(r *rand.Rand, away map[*group][]string, measure bool) {
	var wg sync.WaitGroup
	for _, g := range a.groups {
		begun := time.Now()
		own := rand.New(rand.NewPCG(r.Uint64(), 0))
		var by []string // a member that was there and its neighbour
		for i, user := range g.users {
			if slices.Contains(away[g], user) {
				by = []string{user, g.users[(i+1)%len(g.users)]}
				break
			}
		}
		wg.Go(func() {
			within, cancel := context.WithTimeout(a.life, a.within)
			defer cancel()
			if !g.sign(within, own, by...) || !measure {
				return
			}
			a.figures.mu.Lock()
			defer a.figures.mu.Unlock()
			if len(away[g]) > 0 {
				a.figures.again = append(a.figures.again, time.Since(begun))
			} else {
				a.figures.others = append(a.figures.others, time.Since(begun))
			}
		})
	}
	wg.Wait()
}

func (f *figures) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	for _, end := range slices.Sorted(maps.Keys(f.ends)) {
		fmt.Fprintf(&b, "  %-28s %6d\n", end, f.ends[end])
	}
	total := 0
	for _, name := range slices.Sorted(maps.Keys(f.faults)) {
		fmt.Fprintf(&b, "  fault: %-40s %5d\n", name, f.faults[name])
		total += f.faults[name]
	}
	fmt.Fprintf(&b, "  %d faults, %d put off because another was in the way\n", total, f.missed)
	spread(&b, "a signature, whatever happened", f.took)
	spread(&b, "signing again, users of a killed node", f.again)
	spread(&b, "signing meanwhile, users of other nodes", f.others)
	return b.String()
}

func spread(b *strings.Builder, what string, all []time.Duration) {
	if len(all) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(all))
	at := func(q float64) time.Duration {
		return sorted[int(q*float64(len(sorted)-1))].Round(time.Millisecond)
	}
	fmt.Fprintf(b, "  %s: median %s, 95%% %s, worst %s (%d times)\n", what, at(0.5), at(0.95), at(1), len(sorted))
}
