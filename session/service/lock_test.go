package service_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// countedLocks counts how often the lock is taken.
type countedLocks struct {
	service.Locker
	taken *atomic.Int64
}

func (l countedLocks) Lock(ctx context.Context, id string) (service.Lock, service.Loaded, error) {
	l.taken.Add(1)
	return l.Locker.Lock(ctx, id)
}

// Each step runs under the session's lock.
func TestStepsAreLocked(t *testing.T) {
	each(t, func(w *world) {
		var taken atomic.Int64
		v := w.node(func(c *service.Config) { c.Locker = countedLocks{c.Locker, &taken} })
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

// Ended sessions do not change: messages for them, without a session id, take no lock.
func TestWhatHasEndedIsNotLocked(t *testing.T) {
	each(t, func(w *world) {
		var taken atomic.Int64
		v := w.node(func(c *service.Config) { c.Locker = countedLocks{c.Locker, &taken} })
		s := w.hasSigned(v)
		before := taken.Load()
		w.must(v, "bob", &wire.SignResult{KeyID: "vault", PartIndex: 2, Signature: theKey.Sign(s.Digest)})
		w.must(v, "bob", &wire.SignResult{KeyID: "vault", PartIndex: 2, Signature: s.Signature})
		if n := taken.Load() - before; n != 0 {
			t.Errorf("the lock was taken %d times", n)
		}
	})
}

// A key's only open signing is a guess for messages without a session id: if it did not
// invite the sender, or does not exist, the key's last signing is meant.
func TestOpenSigningOfOthers(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		first := w.hasSigned(v)
		open := func(id string) {
			t.Helper()
			sig := service.Signing{SessionID: id, Fingerprint: "f", Coordinator: "boss"}
			r := service.Reservation{User: "boss", SessionID: id}
			if _, err := w.store.OpenSigning(w.ctx, "vault", sig, r, false); err != nil {
				t.Fatal(err)
			}
		}
		late := func(user string, part int) error {
			_, err := w.say(v, user, &wire.SignResult{KeyID: "vault", PartIndex: part, Signature: theKey.Sign(first.Digest)}, "")
			return err
		}
		open("sg-lost") // lost with the node that was about to create it
		if err := late("bob", 2); err != nil {
			t.Errorf("a late result: %v", err)
		}
		w.rdb.HDel(w.ctx, w.prefix+"key:{vault}", "open:sg-lost")

		w.must(v, "boss", signRequest("vault", "again", "alice", "bob"))
		answer := &wire.SignResponse{KeyID: "vault", PartIndex: 3, Response: &no}
		_, err := w.say(v, "carol", answer, "")
		answer.SessionID = first.ID
		_, want := w.say(v, "carol", answer, "")
		if want == nil || err == nil || err.Error() != want.Error() {
			t.Errorf("carol's answer: got %v, want %v", err, want)
		}
		places, err := w.store.SessionsOf(w.ctx, "boss", service.Page{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err := w.store.Load(w.ctx, places[0].ID); err != nil || s.ID == first.ID || s.Version != 1 {
			t.Errorf("%s is %s at version %d, %v", s.ID, s.Phase, s.Version, err)
		}
	})
}

// A party that sent a wrong signature, and the right one only after its signing has
// ended and the next is open, is late, and not blamed in either.
func TestLateAfterInvalid(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", true)
		w.must(v, "boss", signRequest("vault", "hello"))
		first := w.the(session.Sign)
		for i, user := range committee {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		right := func(part int) *wire.SignResult {
			return &wire.SignResult{KeyID: "vault", PartIndex: part, Signature: theKey.Sign(first.Digest)}
		}
		w.refused(v, "bob", &wire.SignResult{KeyID: "vault", PartIndex: 2, Signature: theKey.Sign("0x" + strings.Repeat("5a", 32))}, wire.CodeInvalidSignature)
		w.must(v, "alice", right(1))
		w.must(v, "boss", signRequest("vault", "again"))
		for i, user := range committee {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		w.must(v, "bob", right(2))
		places, err := w.store.SessionsOf(w.ctx, "boss", service.Page{Limit: 1})
		if err != nil {
			t.Fatal(err)
		}
		if s, _, err := w.store.Load(w.ctx, places[0].ID); err != nil || s.ID == first.ID || len(s.Culprits) != 0 || s.Parties[1].Out {
			t.Errorf("in %s: %v, culprits %v, bob is out %t", s.ID, err, s.Culprits, s.Parties[1].Out)
		}
	})
}

// A signature that is valid in no signing is wrong, and not treated as a late one of
// the last.
func TestWrongIsNotLate(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.hasSigned(v)
		w.must(v, "boss", signRequest("vault", "again"))
		for i, user := range committee {
			w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		wrong := theKey.Sign("0x" + strings.Repeat("5a", 32))
		w.refused(v, "bob", &wire.SignResult{KeyID: "vault", PartIndex: 2, Signature: wrong}, wire.CodeInvalidSignature)
	})
}

// hasSigned makes a key and a signature with it, and returns that signing.
func (w *world) hasSigned(v *service.Service) session.Session {
	w.Helper()
	w.keygen(v, "vault", true)
	c := w.cast(v, true)
	c.skip()
	w.must(v, "boss", signRequest("vault", "hello"))
	c.act()
	s := w.the(session.Sign)
	if s.Phase != session.Completed {
		w.Fatal(s.Phase)
	}
	return s
}
