package participant

import (
	"context"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/preparams"
)

// PreParamsSource supplies the pre-parameters of secp256k1 key generations, a
// set for each. It is safe for concurrent use.
type PreParamsSource interface {
	// Run does the work, if any, until ctx ends. It is called once, while the
	// participant serves.
	Run(ctx context.Context, progress func(found, of int))
	// Want announces that a keygen will need a set soon.
	Want()
	// Take waits for the set that was announced, and so ends a Want. With an error
	// the Want continues.
	Take(ctx context.Context) (*preparams.Set, error)
	// Release ends a Want that no longer needs a set.
	Release()
}

// PreParamsStore keeps sets of pre-parameters that were made ahead. It is safe for
// concurrent use. Package dirstore has one.
type PreParamsStore interface {
	// Put keeps a set, which its caller must then forget.
	Put(p *preparams.Set) error
	// Len returns how many sets are kept.
	Len() (int, error)
	// Take removes and returns a set, nil if there is none.
	Take() (*preparams.Set, error)
}

// PreParamsMaker is the usual PreParamsSource: it makes as many sets as are wanted,
// one after the other, and some ahead. The zero value is ready.
type PreParamsMaker struct {
	// Ahead is how many sets are kept ready without a Want. With one, a keygen need
	// not wait; making it takes some seconds of a core's time. They are made by one
	// core, when no set was taken for a minute, and not while the participant
	// computes, so that they do not compete with it.
	Ahead int
	// Dir keeps the sets made ahead, so that they outlive the process. Nil means
	// that they are kept in memory.
	Dir PreParamsStore
	// Concurrency is how many cores may be used for a set that is waited for. Zero
	// value means all.
	Concurrency int

	testingOnlyGenerate func(ctx context.Context, c preparams.Config) (*preparams.Set, error)

	mu      sync.Mutex
	wanted  int
	takers  int // in Take now
	busy    int // runs in progress
	stock   []*preparams.Set
	taken   time.Time     // when the last set was taken
	err     error         // why Run has returned
	changed chan struct{} // closed, and replaced, at each change; made when needed
}

// quietFor is how long no set must have been taken before others are made ahead.
const quietFor = time.Minute

// broadcast signals a change to all waiters. m.mu is held.
func (m *PreParamsMaker) broadcast() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// change returns the channel that the next broadcast closes. m.mu is held.
func (m *PreParamsMaker) change() <-chan struct{} {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// Run implements [PreParamsSource].
func (m *PreParamsMaker) Run(ctx context.Context, progress func(found, of int)) {
	for ctx.Err() == nil {
		if err := m.step(ctx, progress); err != nil {
			m.mu.Lock()
			m.err = err
			m.broadcast()
			m.mu.Unlock()
			return
		}
	}
}

// step makes or fetches one set, or waits for a change.
func (m *PreParamsMaker) step(ctx context.Context, progress func(found, of int)) error {
	m.mu.Lock()
	short := max(m.wanted, m.takers) - len(m.stock)
	kept := max(0, -short) // beyond those wanted
	quietAt := m.taken.Add(quietFor)
	changed := m.change()
	m.mu.Unlock()
	if m.Dir != nil {
		var err error
		if kept, err = m.Dir.Len(); err != nil {
			return err
		}
	}
	cfg := preparams.Config{Concurrency: m.Concurrency, Progress: progress}
	if short > 0 {
		if m.Dir != nil && kept > 0 {
			if p, err := m.Dir.Take(); p != nil || err != nil {
				m.add(p)
				return err
			} // otherwise all are unreadable
		}
		return m.make(ctx, cfg, false)
	}
	var later <-chan time.Time
	if kept < m.Ahead {
		later = time.After(time.Until(quietAt)) // at once, if that has passed
	}
	select {
	case <-changed:
		return nil
	case <-later:
		cfg.Concurrency, cfg.Yield = 1, m.yield
		return m.make(ctx, cfg, true)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// make makes a set, for the directory if no Take waits when it is done.
func (m *PreParamsMaker) make(ctx context.Context, cfg preparams.Config, ahead bool) error {
	generate := preparams.Generate
	if m.testingOnlyGenerate != nil {
		generate = m.testingOnlyGenerate
	}
	p, err := generate(ctx, cfg)
	if err != nil {
		return err
	}
	m.mu.Lock()
	short := max(m.wanted, m.takers) > len(m.stock)
	m.mu.Unlock()
	if ahead && !short && m.Dir != nil {
		return m.Dir.Put(p)
	}
	m.add(p)
	return nil
}

// add passes a set to the next Take; nil is ignored.
func (m *PreParamsMaker) add(p *preparams.Set) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p != nil {
		m.stock = append(m.stock, p)
	}
	m.broadcast()
}

// Busy counts MPC runs that begin (1) and end (-1): while there are any, no set is
// made ahead.
func (m *PreParamsMaker) Busy(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy += n
	m.broadcast()
}

// yield waits while the participant has more urgent work.
func (m *PreParamsMaker) yield(ctx context.Context) {
	for {
		m.mu.Lock()
		if m.busy == 0 || max(m.wanted, m.takers) > len(m.stock) {
			m.mu.Unlock()
			return
		}
		changed := m.change()
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Want implements [PreParamsSource].
func (m *PreParamsMaker) Want() { m.want(1) }

// Release implements [PreParamsSource].
func (m *PreParamsMaker) Release() { m.want(-1) }

func (m *PreParamsMaker) want(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = max(0, m.wanted+n)
	m.broadcast()
}

// Take implements [PreParamsSource].
func (m *PreParamsMaker) Take(ctx context.Context) (*preparams.Set, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.takers++
	m.broadcast()
	defer func() { m.takers-- }()
	for len(m.stock) == 0 {
		if m.err != nil {
			return nil, m.err
		}
		changed := m.change()
		m.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		m.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	p := m.stock[0]
	m.stock = m.stock[1:]
	m.wanted = max(0, m.wanted-1)
	m.taken = time.Now()
	m.broadcast()
	return p, nil
}
