package service

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/session"
)

const (
	lookEvery = 5 * time.Second  // interval of reading a followed session, in case a notice was lost
	watchFor  = 20 * time.Second // how long other nodes notify this one before Watch must be renewed
)

// Notifier notifies other nodes that a session has changed.
type Notifier interface {
	// Notify makes those nodes call [Service.OnNotify]. It is best effort: followers also
	// look every few seconds.
	Notify(ctx context.Context, nodes []string, id string, version int64)
}

// Follower yields a session's states as they are committed on any node; of several in
// quick succession perhaps only the last. It is for one goroutine, and must be closed.
// Without followers a commit costs nothing more; with them there is no polling: the
// commit's script returns the nodes to notify.
type Follower struct {
	service *Service
	id      string
	hub     *followed
	seen    int64 // the version last returned
	current session.Session
	closed  bool
}

// Follow follows a session for a user who is involved in it, or an admin; for others
// ErrNotFound.
func (v *Service) Follow(ctx context.Context, c Caller, id string) (*Follower, error) {
	s, err := v.Session(ctx, c, id)
	if err != nil {
		return nil, err
	}
	f := &Follower{service: v, id: id, seen: s.Version, current: s, hub: v.follows.join(id)}
	if s.Phase.Final() {
		return f, nil
	}
	// look reads what was committed before it; later commits are notified.
	if err := f.look(ctx); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Session returns the session that Follow found, or that Next returned last.
func (f *Follower) Session() session.Session { return f.current }

// Next waits until the session differs from Session's, and returns it. Its errors are
// those of the context and of the store; ErrNotFound once the session is forgotten.
func (f *Follower) Next(ctx context.Context) (session.Session, error) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		latest, heard, changed := f.hub.state()
		switch {
		case latest.Version > f.seen:
			f.seen, f.current = latest.Version, latest
			return latest, nil
		case heard > f.seen:
			s, _, err := f.service.cfg.Store.Load(ctx, f.id)
			if err != nil {
				return session.Session{}, err
			}
			f.hub.put(s)
			continue
		}
		select {
		case <-ctx.Done():
			return session.Session{}, ctx.Err()
		case <-changed:
		case <-timer.C:
			if err := f.look(ctx); err != nil {
				return session.Session{}, err
			}
			timer.Reset(lookEvery)
		}
	}
}

// look requests notices of commits and reads the current version.
func (f *Follower) look(ctx context.Context) error {
	version, err := f.service.cfg.Store.Watch(ctx, f.id, f.service.cfg.NodeID, watchFor)
	if err != nil {
		return err
	}
	f.hub.hear(version)
	return nil
}

// Close stops following.
func (f *Follower) Close() {
	if !f.closed {
		f.closed = true
		f.service.follows.leave(f.id)
	}
}

// OnNotify notifies this node's followers that another node has committed a session in
// that version. It does not block.
func (v *Service) OnNotify(id string, version int64) {
	if hub := v.follows.find(id); hub != nil {
		hub.hear(version)
	}
}

// changed notifies this node's followers of s.
func (v *Service) changed(s session.Session) {
	if hub := v.follows.find(s.ID); hub != nil {
		hub.put(s)
	}
}

// notify notifies the followers of s on other nodes.
func (v *Service) notify(ctx context.Context, s session.Session, nodes []string) {
	if len(nodes) == 0 || v.cfg.Notifier == nil {
		return
	}
	others := make([]string, 0, len(nodes))
	for _, node := range nodes {
		if node != v.cfg.NodeID {
			others = append(others, node)
		}
	}
	if len(others) > 0 {
		v.cfg.Notifier.Notify(context.WithoutCancel(ctx), others, s.ID, s.Version)
	}
}

// follows holds the followed sessions of this node. The zero value is ready.
type follows struct {
	any atomic.Int64 // their number, for a fast check without the mutex

	mu  sync.Mutex
	all map[string]*followed
}

// followed is one followed session. Its own mutex guards its followers' state.
type followed struct {
	followers int // guarded by follows.mu

	mu      sync.Mutex
	latest  session.Session // the zero Session until one was received
	heard   int64           // the newest known version
	changed chan struct{}   // closed, and made anew, when either changes
}

func (f *follows) join(id string) *followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil {
		f.all = make(map[string]*followed)
	}
	hub := f.all[id]
	if hub == nil {
		hub = &followed{changed: make(chan struct{})}
		f.all[id] = hub
		f.any.Add(1)
	}
	hub.followers++
	return hub
}

func (f *follows) leave(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	hub := f.all[id]
	if hub.followers--; hub.followers == 0 {
		delete(f.all, id)
		f.any.Add(-1)
	}
}

func (f *follows) find(id string) *followed {
	if f.any.Load() == 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.all[id]
}

func (h *followed) state() (latest session.Session, heard int64, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.latest, h.heard, h.changed
}

func (h *followed) put(s session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.Version > h.latest.Version {
		h.latest, h.heard = s, max(h.heard, s.Version)
		h.wake()
	}
}

func (h *followed) hear(version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if version > h.heard {
		h.heard = version
		h.wake()
	}
}

// wake is called with h.mu held.
func (h *followed) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}
