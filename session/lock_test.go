package session_test

import (
	"context"
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

func (l countedLocks) Lock(ctx context.Context, id string) (session.Lock, session.Loaded, error) {
	l.taken.Add(1)
	return l.Locker.Lock(ctx, id)
}

// Each step is taken under the session's lock.
func TestStepsAreLocked(t *testing.T) {
	each(t, func(w *world) {
		var taken atomic.Int64
		v := w.node(func(c *session.Config) { c.Locker = countedLocks{c.Locker, &taken} })
		w.keygen(v, "vault", false)
		w.must(v, "boss", signRequest("vault", "hello"))
		before := taken.Load()
		w.must(v, "alice", &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes})
		w.must(v, "bob", &wire.SignResponse{KeyID: "vault", PartIndex: 2, Response: &yes})
		if s, n := w.the(session.Sign), taken.Load()-before; s.Phase != session.Running || n != 2 {
			t.Errorf("the session is %s, and the lock was taken %d times, want running and 2", s.Phase, n)
		}
	})
}
