package session_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// countedLocks counts how often the lock is taken.
type countedLocks struct {
	session.Locker
	taken *atomic.Int64
}

func (l countedLocks) Lock(ctx context.Context, id string) (session.Lock, error) {
	l.taken.Add(1)
	return l.Locker.Lock(ctx, id)
}

// A node that is alone with a session does not lock it.
func TestNoLockWithoutContention(t *testing.T) {
	each(t, func(w *world) {
		var taken atomic.Int64
		v := w.node(func(c *session.Config) { c.Locker = countedLocks{c.Locker, &taken} })
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello"))
		w.must(v, "alice", &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes})
		w.must(v, "bob", &wire.SignResponse{KeyID: "vault", PartIndex: 2, Response: &yes})
		if s := w.the(session.Sign); s.Phase != session.Running || taken.Load() != 0 {
			t.Errorf("the session is %s, and the lock was taken %d times, want running and never", s.Phase, taken.Load())
		}
	})
}

// One that other nodes overtake takes the lock, and gets through: they cannot
// commit while it is held.
func TestOvertakenNodeLocks(t *testing.T) {
	each(t, func(w *world) {
		var taken atomic.Int64
		w.keygen(w.node(nil), "vault", false)
		w.must(w.node(nil), "boss", signRequest("vault", "hello"))
		other := w.node(nil)
		others := []func(){
			func() { w.must(other, "alice", &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes}) },
			func() { w.must(other, "bob", &wire.SignResponse{KeyID: "vault", PartIndex: 2, Response: &yes}) },
		}
		v := w.node(func(c *session.Config) {
			c.Locker = countedLocks{c.Locker, &taken}
			c.Store = slowStore{Store: c.Store, commit: func() { // someone comes in between, each time
				if len(others) > 0 {
					next := others[0]
					others = others[1:]
					next()
				}
			}}
		})
		w.must(v, "carol", &wire.SignResponse{KeyID: "vault", PartIndex: 3, Response: &yes})
		s := w.the(session.Sign)
		if taken.Load() != 1 {
			t.Errorf("the lock was taken %d times, want once, after two lost races", taken.Load())
		}
		for i, p := range s.Parties {
			if p.Response != session.Accepted {
				t.Errorf("part %d: %q, want accepted", i+1, p.Response)
			}
		}
	})
}

// Everybody answers through a node of their own at the same moment: nothing is
// lost, and the signing starts once.
func TestAnswersAtOnce(t *testing.T) {
	each(t, func(w *world) {
		w.keygen(w.node(nil), "vault", false)
		w.must(w.node(nil), "boss", signRequest("vault", "hello"))
		var all sync.WaitGroup
		for i, user := range committee {
			v := w.node(nil)
			all.Go(func() {
				if _, err := w.say(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes}, ""); err != nil {
					w.Errorf("%s: %v", user, err)
				}
			})
		}
		all.Wait()
		s := w.the(session.Sign)
		if s.Phase != session.Running || s.Attempt != 1 || len(s.Signers) != 2 {
			t.Fatalf("%s, attempt %d, signers %v", s.Phase, s.Attempt, s.Signers)
		}
		for i, p := range s.Parties {
			if p.Response != session.Accepted {
				t.Errorf("part %d: %q, want accepted", i+1, p.Response)
			}
		}
	})
}
