package redisx

import (
	"runtime"
	"sync"
	"time"
)

// Gatherer runs what it is given in batches, one after the other, in order. When
// nothing is under way a batch is whatever came first, at once; else it is all
// that came meanwhile. So nobody waits for company, and under load many share a
// round trip. Its goroutine runs only while there is something to do; who finds
// nothing under way may also do its own, see [Gatherer.Lead]. Safe for concurrent
// use; its fields are set before the first.
type Gatherer[T any] struct {
	Run  func(batch []T) // not called by two goroutines at a time; the slice is lent
	Most int             // of one batch
	Rest time.Duration   // after a batch, for what nobody waits for; zero for none

	mu      sync.Mutex
	queue   []T
	running bool
}

// Add hands v over, to be run after what came before it.
func (g *Gatherer[T]) Add(v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, v)
	if !g.running {
		g.running = true
		go g.work()
	}
}

// Lead lets a caller that finds nothing under way be the batch itself, which
// saves it two changes of goroutine. It then owes Pass; meanwhile others gather.
func (g *Gatherer[T]) Lead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return false
	}
	g.running = true
	return true
}

// Pass ends what Lead began: what has come meanwhile is the next batch.
func (g *Gatherer[T]) Pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.running = false
		return
	}
	go g.work()
}

// Busy reports whether something is under way.
func (g *Gatherer[T]) Busy() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}

func (g *Gatherer[T]) work() {
	var batch []T
	for {
		g.mu.Lock()
		if len(g.queue) == 0 {
			g.running, g.queue = false, nil
			g.mu.Unlock()
			return
		}
		n := min(len(g.queue), g.Most)
		batch = append(batch[:0], g.queue[:n]...)
		left := copy(g.queue, g.queue[n:])
		clear(g.queue[left:])
		g.queue = g.queue[:left]
		g.mu.Unlock()
		g.Run(batch)
		clear(batch)
		runtime.Gosched() // who was answered has more to say, and shares the next one
		time.Sleep(g.Rest)
	}
}
