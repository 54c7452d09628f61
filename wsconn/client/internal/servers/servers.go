// Package servers chooses among the base URLs of several servers: it remembers
// which of them work, and tries them in parallel with delays.
package servers

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// StaggerBy is how long one URL may take to answer before the next is tried
	// beside it.
	StaggerBy = time.Second

	// After a failure a URL is tried last for a while, which doubles with each
	// further failure.
	avoidFirst = 10 * time.Second
	avoidMost  = time.Minute
)

// List remembers which of several base URLs has answered last, and which have
// failed lately. It is safe for concurrent use.
type List struct {
	mu     sync.Mutex
	prefer int // index of the URL that is tried first
	failed []failures
}

// failures counts one URL's failures since it last answered.
type failures struct {
	count int
	until time.Time // it is tried last until then
}

// New returns a list of n URLs in unknown state.
func New(n int) *List { return &List{failed: make([]failures, n)} }

// Order returns the indices of all URLs in the order in which to try them: from the
// preferred one on, with those that have failed lately last.
func (s *List) Order(now time.Time) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var order, avoided []int
	for k := range s.failed {
		i := (s.prefer + k) % len(s.failed)
		if s.failed[i].until.After(now) {
			avoided = append(avoided, i)
		} else {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(avoided, func(a, b int) int { return s.failed[a].until.Compare(s.failed[b].until) })
	return append(order, avoided...)
}

// Answered records that a URL works.
func (s *List) Answered(i int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed[i] = failures{}
	s.prefer = i
}

// Failing records that a URL does not work, or no longer does.
func (s *List) Failing(i int, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &s.failed[i]
	pause := min(avoidFirst<<min(f.count, 16), avoidMost)
	f.count++
	f.until = now.Add(pause/2 + rand.N(pause/2+1))
	if s.prefer == i {
		s.prefer = (i + 1) % len(s.failed)
	}
}

// raced is the end of one attempt.
type raced[T any] struct {
	i     int
	value T
	err   error
}

// Race tries the URLs of s in their order until one succeeds: the next one when one
// has failed, or beside it when it has taken stagger. It returns the first success
// and its URL, ends the other attempts, waits for them and passes their late
// results to drop. Without a success it returns all errors, or that of ctx.
func Race[T any](ctx context.Context, s *List, stagger time.Duration, try func(ctx context.Context, i int) (T, error), drop func(T)) (T, int, error) {
	trying, cancel := context.WithCancel(ctx)
	order := s.Order(time.Now())
	results := make(chan raced[T], len(order))
	begun := map[int]time.Time{} // of the unfinished attempts
	next := 0
	start := func() {
		i := order[next]
		next++
		begun[i] = time.Now()
		go func() {
			v, err := try(trying, i)
			results <- raced[T]{i, v, err}
		}()
	}
	defer func() {
		cancel()
		for range begun {
			if r := <-results; r.err == nil && drop != nil {
				drop(r.value)
			}
		}
	}()
	var errs []error
	start()
	timer := time.NewTimer(stagger)
	defer timer.Stop()
	var none T
	for {
		select {
		case r := <-results:
			delete(begun, r.i)
			if r.err == nil {
				// An attempt that has had ample time is slow, or hangs.
				for i, at := range begun {
					if time.Since(at) >= stagger {
						s.Failing(i, time.Now())
					}
				}
				return r.value, r.i, nil
			}
			if ctx.Err() != nil {
				return none, 0, errors.Join(ctx.Err(), r.err)
			}
			s.Failing(r.i, time.Now())
			errs = append(errs, r.err)
			if next == len(order) && len(begun) == 0 {
				return none, 0, errors.Join(errs...)
			}
		case <-timer.C:
		}
		if next < len(order) {
			start()
			timer.Reset(stagger)
		}
	}
}
