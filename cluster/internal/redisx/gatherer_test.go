package redisx_test

import (
	"slices"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// Values added during a batch form the next one, in order and within the maximum;
// values added while none runs go at once.
func TestGatherer(t *testing.T) {
	t.Parallel()
	batches, proceed := make(chan []int), make(chan struct{})
	g := redisx.Gatherer[int]{Most: 3, Run: func(batch []int) {
		batches <- slices.Clone(batch)
		<-proceed
	}}
	g.Add(0)
	if got := <-batches; !slices.Equal(got, []int{0}) {
		t.Fatalf("when idle the batch is %v, want the one thing there is", got)
	}
	for i := 1; i <= 4; i++ {
		g.Add(i)
	}
	for _, want := range [][]int{{1, 2, 3}, {4}} {
		proceed <- struct{}{}
		if got := <-batches; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	proceed <- struct{}{}
	g.Add(5)
	if got := <-batches; !slices.Equal(got, []int{5}) {
		t.Errorf("got %v after a rest, want 5", got)
	}
	close(proceed)
}

// A caller that finds no batch running leads alone; values added meanwhile form the
// next batch, in order, and no two batches run at once.
func TestGathererIsLed(t *testing.T) {
	t.Parallel()
	batches := make(chan []int)
	g := redisx.Gatherer[int]{Most: 3, Run: func(batch []int) { batches <- slices.Clone(batch) }}
	for range 2 {
		if !g.Lead() {
			t.Fatal("nothing is under way, and the caller may not go ahead")
		}
		if g.Lead() {
			t.Fatal("two lead at a time")
		}
		g.Add(1)
		g.Add(2)
		select {
		case got := <-batches:
			t.Fatalf("%v ran beside its leader", got)
		case <-time.After(20 * time.Millisecond):
		}
		g.Pass()
		if g.Lead() {
			t.Error("the caller went ahead of those who waited")
		}
		if got := <-batches; !slices.Equal(got, []int{1, 2}) {
			t.Errorf("got %v, want what came meanwhile", got)
		}
		for tries := 0; !g.Lead(); tries++ {
			if tries == 5000 {
				t.Fatal("it does not rest")
			}
			time.Sleep(time.Millisecond)
		}
		g.Pass() // nothing was added
	}
}
