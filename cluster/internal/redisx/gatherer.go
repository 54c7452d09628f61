package redisx

import (
	"runtime"
	"sync"
	"time"
)

// Gatherer runs values in batches, one after the other, in order. While no batch is
// under way the first value is a batch by itself, at once; the values that come
// meanwhile are the next one. So no value waits for others, and under load many share
// a round trip. Its goroutine runs only while there are values; a caller that finds no
// batch under way may also run its own, see [Gatherer.Lead]. Safe for concurrent use;
// its fields are set before the first.
type Gatherer[T any] struct {
	Run  func(batch []T) // not called by two goroutines at a time; the slice is lent
	Most int             // of one batch
	Rest time.Duration   // after a batch, for values that no caller waits for; zero for none

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

// Lead lets a caller that finds no batch under way be the batch itself, which saves
// two changes of goroutine. It must call Pass afterwards; meanwhile others gather.
func (g *Gatherer[T]) Lead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return false
	}
	g.running = true
	return true
}

// Pass ends the batch that Lead began: the values that have come meanwhile are the next.
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
		runtime.Gosched() // callers that were answered may have more, which shares the next one
		time.Sleep(g.Rest)
	}
}
