package redisx

import (
	"runtime"
	"sync"
	"time"
)

// Gatherer runs values in batches, in order. While no batch is running the first
// value is a batch by itself, at once; values added meanwhile form the next. So no
// value waits for others, and under load many share a round trip. Its goroutine
// runs only while there are values; a caller that finds no batch running may also
// run its own, see [Gatherer.Lead]. Safe for concurrent use; set its fields before
// first use.
type Gatherer[T any] struct {
	Run  func(batch []T) // never called concurrently; the slice is reused
	Most int             // maximum batch size
	Rest time.Duration   // pause after a batch, for values that no caller waits for; zero for none

	mu      sync.Mutex
	queue   []T
	running bool
}

// Add queues v, to be run after the values before it.
func (g *Gatherer[T]) Add(v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, v)
	if !g.running {
		g.running = true
		go g.work()
	}
}

// Lead lets a caller that finds no batch running be the batch itself, which saves
// two goroutine switches. It must call Pass afterwards; meanwhile others gather.
func (g *Gatherer[T]) Lead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return false
	}
	g.running = true
	return true
}

// Pass ends the batch that Lead began: the values added meanwhile are the next.
func (g *Gatherer[T]) Pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.running = false
		return
	}
	go g.work()
}

// Busy reports whether a batch is running.
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
		runtime.Gosched() // callers just answered may add more, which shares the next batch
		time.Sleep(g.Rest)
	}
}
