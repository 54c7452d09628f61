package service_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// teller is an Outcomes that fails while it is set to.
type teller struct {
	mu    sync.Mutex
	fails bool
	told  []string
}

func (o *teller) Ended(_ context.Context, s session.Session) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fails {
		return errors.New("not now")
	}
	o.told = append(o.told, s.ID+" "+string(s.Phase))
	return nil
}

func (o *teller) Again(ctx context.Context, s session.Session, now time.Time) error {
	if now.Before(s.EndedAt) {
		return errors.New("it has not ended yet")
	}
	return o.Ended(ctx, s)
}

func (o *teller) set(fails bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fails = fails
}

func (o *teller) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.told)
}

// TestOutcomesAreTold ends a session while Outcomes fails, or on a node that dies just
// then: it stays due until a call has succeeded.
func TestOutcomesAreTold(t *testing.T) {
	each(t, func(w *world) {
		o := &teller{fails: true}
		told := func(c *service.Config) { c.Outcomes = o }
		v, other := w.node(told), w.node(told)
		w.must(v, "boss", keygenRequest("vault"))
		s := w.the(session.Keygen)
		if _, err := v.Cancel(w.ctx, caller("boss"), s.ID, ""); err != nil {
			w.Fatal(err)
		}
		w.sweepAll(other)
		if due := w.rdb.ZCard(w.ctx, w.prefix+"sessions:due").Val(); due != 1 {
			w.Errorf("%d sessions are due while one's outcome is not told", due)
		}
		o.set(false)
		w.sweepAll(other)
		w.settled()
		if got := o.list(); !slices.Equal(got, []string{s.ID + " cancelled"}) {
			w.Errorf("told %v", got)
		}
	})
}

// TestResend: a session's coordinator, and an admin, may have its outcome sent again.
func TestResend(t *testing.T) {
	each(t, func(w *world) {
		o := &teller{}
		v, mute := w.node(func(c *service.Config) { c.Outcomes = o }), w.node(nil)
		w.must(v, "boss", keygenRequest("vault"))
		id := w.the(session.Keygen).ID
		if _, err := v.Resend(w.ctx, caller("boss"), id); !errors.Is(err, service.ErrNotEnded) {
			w.Errorf("before its end: %v", err)
		}
		if _, err := v.Cancel(w.ctx, caller("boss"), id, ""); err != nil {
			w.Fatal(err)
		}
		w.sweepAll(v)
		before := o.list()
		admin := service.Caller{User: "root", Roles: []wire.Role{wire.RoleAdmin}}
		for name, tc := range map[string]struct {
			at   *service.Service
			who  service.Caller
			id   string
			want error
		}{
			"a participant":   {v, caller("alice"), id, session.ErrNotMine},
			"a stranger":      {v, caller("mallory"), id, service.ErrNotFound},
			"no such session": {v, caller("boss"), "none", service.ErrNotFound},
			"no id":           {v, caller("boss"), "{}", service.ErrNotFound},
			"no webhook":      {mute, caller("boss"), id, service.ErrNoOutcomes},
		} {
			if _, err := tc.at.Resend(w.ctx, tc.who, tc.id); err != tc.want {
				w.Errorf("%s: %v, want %v", name, err, tc.want)
			}
		}
		if got := o.list(); !slices.Equal(got, before) {
			w.Errorf("told %v after refusals", got)
		}
		for _, who := range []service.Caller{caller("boss"), admin} {
			s, err := v.Resend(w.ctx, who, id)
			if err != nil || s.ID != id {
				w.Errorf("%s: %s, %v", who.User, s.ID, err)
			}
		}
		told := id + " cancelled"
		if got := o.list(); !slices.Equal(got, append(before, told, told)) {
			w.Errorf("told %v, want twice more than %v", got, before)
		}
	})
}

// TestFollow has a follower on one node see another node's commits, without polling,
// and its own node's.
func TestFollow(t *testing.T) {
	each(t, func(w *world) {
		others := &notices{nodes: map[string]*service.Service{}}
		node := func(id string) *service.Service {
			others.nodes[id] = w.node(func(c *service.Config) { c.NodeID, c.Notifier, c.Store = id, others, &looksOnce{Store: c.Store} })
			return others.nodes[id]
		}
		n1, n2 := node("n1"), node("n2")
		w.must(n1, "boss", keygenRequest("vault"))
		id := w.the(session.Keygen).ID
		if _, err := n1.Follow(w.ctx, caller("mallory"), id); !errors.Is(err, service.ErrNotFound) {
			w.Fatalf("a stranger follows: %v", err)
		}
		here, err := n1.Follow(w.ctx, caller("boss"), id)
		if err != nil {
			w.Fatal(err)
		}
		defer here.Close()
		there, err := n2.Follow(w.ctx, caller("alice"), id)
		if err != nil {
			w.Fatal(err)
		}
		defer there.Close()
		others.took() // that Follow itself may cause
		w.must(n1, "alice", &wire.KeygenResponse{KeyID: "vault", PartIndex: 1, Response: &yes})
		if _, err := n1.Cancel(w.ctx, caller("boss"), id, ""); err != nil {
			w.Fatal(err)
		}
		for name, f := range map[string]*service.Follower{"here": here, "there": there} {
			for !f.Session().Phase.Final() {
				ctx, cancel := context.WithTimeout(w.ctx, 20*time.Second)
				_, err := f.Next(ctx)
				cancel()
				if err != nil {
					w.Fatalf("%s: %v", name, err)
				}
			}
		}
		if heard := others.took(); !slices.Equal(heard, []string{"n2", "n2"}) {
			w.Errorf("heard at %v, want n2 for each of two commits, and never the committing node", heard)
		}
		over, err := n2.Follow(w.ctx, caller("boss"), id)
		if err != nil || over.Session().Phase != session.Cancelled {
			w.Errorf("followed after its end: %v, %v", over.Session().Phase, err)
		}
		over.Close()
	})
}

// looksOnce is a Store that a follower may read when it begins, and not again.
type looksOnce struct {
	service.Store
	looked atomic.Bool
}

func (l *looksOnce) Watch(ctx context.Context, id, node string, ttl time.Duration) (int64, error) {
	if l.looked.Swap(true) {
		return 0, errors.New("it was not told")
	}
	return l.Store.Watch(ctx, id, node, ttl)
}

// notices is a Notifier between Services of one process.
type notices struct {
	nodes map[string]*service.Service

	mu    sync.Mutex
	heard []string
}

func (r *notices) Notify(_ context.Context, nodes []string, id string, version int64) {
	r.mu.Lock()
	r.heard = append(r.heard, nodes...)
	r.mu.Unlock()
	for _, n := range nodes {
		r.nodes[n].OnNotify(id, version)
	}
}

func (r *notices) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := r.heard
	r.heard = nil
	return heard
}
