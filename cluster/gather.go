package cluster

import (
	"runtime"
	"sync"
	"time"
)

// gatherer runs what it is given in batches, one after the other, in order. When
// nothing is under way a batch is whatever came first, at once; else it is all
// that came meanwhile. So nobody waits for company, and under load many share a
// round trip. Its goroutine runs only while there is something to do; who finds
// nothing under way may also do its own, see lead.
type gatherer[T any] struct {
	run  func(batch []T) // not called by two goroutines at a time
	most int             // of one batch
	rest time.Duration   // after a batch, for what nobody waits for; zero for none

	mu      sync.Mutex
	queue   []T
	running bool
}

func (g *gatherer[T]) add(v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, v)
	if !g.running {
		g.running = true
		go g.work()
	}
}

// lead lets a caller that finds nothing under way be the batch itself, which
// saves it two changes of goroutine. It then owes pass; meanwhile others gather.
func (g *gatherer[T]) lead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return false
	}
	g.running = true
	return true
}

// pass ends what lead began: what has come meanwhile is the next batch.
func (g *gatherer[T]) pass() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.queue) == 0 {
		g.running = false
		return
	}
	go g.work()
}

func (g *gatherer[T]) work() {
	var batch []T
	for {
		g.mu.Lock()
		if len(g.queue) == 0 {
			g.running, g.queue = false, nil
			g.mu.Unlock()
			return
		}
		n := min(len(g.queue), g.most)
		batch = append(batch[:0], g.queue[:n]...)
		left := copy(g.queue, g.queue[n:])
		clear(g.queue[left:])
		g.queue = g.queue[:left]
		g.mu.Unlock()
		g.run(batch)
		clear(batch)
		runtime.Gosched() // who was answered has more to say, and shares the next one
		time.Sleep(g.rest)
	}
}
