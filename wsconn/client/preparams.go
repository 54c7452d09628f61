package client

import (
	"context"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
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
	// the Want goes on.
	Take(ctx context.Context) (*party.PreParams, error)
	// Release ends a Want that needs no set any more.
	Release()
}

// PreParamsMaker is the usual PreParamsSource: it makes as many sets as are
// wanted, one after the other, and some ahead. The zero value is ready.
type PreParamsMaker struct {
	// Ahead is how many sets are kept ready that nobody has asked for yet. With
	// one, a keygen need not wait; making it takes some seconds of a core's time.
	// They are made when nobody has taken a set for a minute, so that they do not
	// keep cores from the keygen that took it.
	Ahead int
	// Concurrency is how many cores may be used. Zero value means all.
	Concurrency int

	mu      sync.Mutex
	wanted  int
	takers  int // in Take now
	stock   []*party.PreParams
	taken   time.Time     // when the last set was
	err     error         // why Run has returned
	changed chan struct{} // closed, and replaced, at each change; made when needed
}

// quiet is how long nobody must have taken a set before others are made ahead.
const quiet = time.Minute

// broadcast tells everybody of a change. m.mu is held.
func (m *PreParamsMaker) broadcast() {
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// change returns what the next broadcast closes. m.mu is held.
func (m *PreParamsMaker) change() <-chan struct{} {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return m.changed
}

// Run implements [PreParamsSource].
func (m *PreParamsMaker) Run(ctx context.Context, progress func(found, of int)) {
	for {
		m.mu.Lock()
		asked, quietAt := max(m.wanted, m.takers), m.taken.Add(quiet)
		enough := len(m.stock) >= asked
		changed := m.change()
		var later <-chan time.Time
		if enough && len(m.stock) < asked+m.Ahead {
			later = time.After(time.Until(quietAt)) // at once, if that has passed
		}
		m.mu.Unlock()
		if enough {
			select {
			case <-changed:
				continue
			case <-later:
			case <-ctx.Done():
			}
		}
		p, err := party.GeneratePreParams(ctx, party.PreParamsConfig{Concurrency: m.Concurrency, Progress: progress})
		m.mu.Lock()
		if m.err = err; err == nil {
			m.stock = append(m.stock, p)
		}
		m.broadcast()
		m.mu.Unlock()
		if err != nil {
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
func (m *PreParamsMaker) Take(ctx context.Context) (*party.PreParams, error) {
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
