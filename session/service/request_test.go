package service_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestKeygenRequestAgain requests the same key at every stage of its keygen.
func TestKeygenRequestAgain(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		ask := func(requestID string) session.Session {
			w.Helper()
			s, err := v.RequestKeygen(w.ctx, caller("boss"), keygenRequest("vault"), requestID)
			if err != nil {
				w.Fatal(err)
			}
			return s
		}
		first := ask("")
		if again := ask(""); again.ID != first.ID || again.Version != 1 {
			w.Fatalf("got session %s at version %d, want %s", again.ID, again.Version, first.ID)
		}
		other := keygenRequest("vault")
		other.Threshold = 3
		w.refused(v, "boss", other, wire.CodeConflict)
		w.refused(v, "other-boss", keygenRequest("vault"), wire.CodeConflict)
		w.refused(v, "admin", keygenRequest("vault"), wire.CodeConflict)

		w.cast(v, false).act()
		reply := w.must(v, "boss", keygenRequest("vault"))
		if c, ok := reply.(*wire.KeygenConfirm); !ok || c.Status != wire.StatusSuccess || c.AccountAddr != theKey.Address {
			w.Fatalf("got %T %+v", reply, reply)
		}
		attested := []string{"attested by alice", "attested by bob", "attested by carol"}
		if c := reply.(*wire.KeygenConfirm); !slices.Equal(c.Attestations, attested) {
			w.Fatalf("got attestations %q", c.Attestations)
		}
		w.refused(v, "boss", other, wire.CodeConflict)
		if n := len(w.outcomes()); n != 1 {
			w.Fatalf("%d outcomes", n)
		}

		// After the session is forgotten, the record answers.
		w.rdb.Del(w.ctx, w.prefix+"session:{"+first.ID+"}")
		reply = w.must(v, "boss", keygenRequest("vault"))
		if c, ok := reply.(*wire.KeygenConfirm); !ok || c.Status != wire.StatusSuccess || c.AccountAddr != theKey.Address {
			w.Fatalf("after the session was forgotten: got %T %+v", reply, reply)
		}
		if c := reply.(*wire.KeygenConfirm); !slices.Equal(c.Attestations, attested) || c.SessionID != first.ID {
			w.Fatalf("after the session was forgotten: session %s, attestations %q", c.SessionID, c.Attestations)
		}
	})
}

// TestFailedKeygenAgain tries a key again whose keygen was declined. The same request,
// by its request_id, is not a new try.
func TestFailedKeygenAgain(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		if _, err := w.say(v, "boss", keygenRequest("vault"), "r1"); err != nil {
			w.Fatal(err)
		}
		w.must(v, "bob", &wire.KeygenResponse{KeyID: "vault", PartIndex: 2, Response: &no})
		reply, err := w.say(v, "boss", keygenRequest("vault"), "r1")
		if c, ok := reply.(*wire.KeygenConfirm); err != nil || !ok || c.Status != wire.StatusRejected {
			w.Fatalf("the same request again: %T %+v, %v", reply, reply, err)
		}
		w.refused(v, "other-boss", keygenRequest("vault"), wire.CodeConflict)

		again := keygenRequest("vault")
		again.Threshold = 3
		if _, err := w.say(v, "boss", again, "r1"); !errors.Is(err, wire.ErrConflict) {
			w.Fatalf("its request_id with other content: %v", err)
		}
		if _, err := w.say(v, "boss", again, "r2"); err != nil {
			w.Fatal(err)
		}
		c := w.cast(v, false)
		for _, user := range committee {
			c.read[user] = 2 // the first invitation and its end
		}
		c.act()
		if k, err := w.store.Key(w.ctx, "vault"); err != nil || k.Status != session.KeyActive || k.Threshold != 3 {
			w.Fatalf("%+v, %v", k, err)
		}
		w.toldOnce()
		w.settled()
	})
}

// TestKeygenAgainBeforeTheRecordSaysSo has the node die between the end of a
// keygen and the key record.
func TestKeygenAgainBeforeTheRecordSaysSo(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.must(v, "boss", keygenRequest("vault"))
		k, err := w.store.Key(w.ctx, "vault")
		if err != nil {
			w.Fatal(err)
		}
		w.must(v, "bob", &wire.KeygenResponse{KeyID: "vault", PartIndex: 2, Response: &no})
		now, err := w.store.Key(w.ctx, "vault")
		if err != nil || now.Status != session.KeyFailed {
			w.Fatalf("%+v, %v", now, err)
		}
		k.Version = now.Version
		if err := w.store.PutKey(w.ctx, k); err != nil { // as before
			w.Fatal(err)
		}
		s, err := v.RequestKeygen(w.ctx, caller("boss"), keygenRequest("vault"), "")
		if err != nil || s.ID == k.Session || s.Phase != session.Inviting {
			w.Fatalf("%+v, %v", s, err)
		}
	})
}

// TestLostCreation has nodes die before they create a session that they noted: the same
// request again creates it.
func TestLostCreation(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.must(v, "boss", keygenRequest("vault"))
		lost := w.the(session.Keygen)
		w.rdb.Del(w.ctx, w.prefix+"session:{"+lost.ID+"}", w.prefix+"session:{"+lost.ID+"}:outbox")
		w.sweepAll(v)
		w.settled()
		w.must(v, "boss", keygenRequest("vault"))
		if s := w.the(session.Keygen); s.ID != lost.ID {
			w.Fatalf("got session %s, want %s", s.ID, lost.ID)
		}

		w.keygen(v, "second", false)
		print := strings.Split(reserve(w, v, signRequest("second", "hello")), ".")[1]
		dead := service.Signing{SessionID: "sg-lost", Fingerprint: print, Coordinator: "boss"}
		if _, err := w.store.OpenSigning(w.ctx, "second", dead, service.Reservation{User: "boss", SessionID: "sg-lost"}, true); err != nil {
			w.Fatal(err)
		}
		w.must(v, "boss", signRequest("second", "hello"))
		if s := w.the(session.Sign); s.ID != "sg-lost" {
			w.Fatalf("got session %s, want sg-lost", s.ID)
		}
	})
}

func reserve(w *world, v *service.Service, p *wire.SignRequest) string {
	w.Helper()
	asked := *p
	id, _, err := v.SignTask(w.ctx, caller("boss"), &asked, service.Task{})
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// TestSignRequestAgain repeats requests by request_id, by session_id and by
// content.
func TestSignRequestAgain(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		ask := func(p *wire.SignRequest, requestID string) string {
			w.Helper()
			s, err := v.RequestSign(w.ctx, caller("boss"), p, requestID)
			if err != nil {
				w.Fatal(err)
			}
			return s.ID
		}
		named := func(data, id string) *wire.SignRequest {
			p := signRequest("vault", data)
			p.SessionID = id
			return p
		}
		mine := reserve(w, v, signRequest("vault", "a"))
		byRequest, byName, byContent := ask(signRequest("vault", "a"), "r1"), ask(named("a", mine), ""), ask(signRequest("vault", "a"), "")
		if byRequest == byName || byName != mine {
			w.Fatalf("sessions %s, %s, %s", byRequest, byName, byContent)
		}
		if ask(signRequest("vault", "a"), "r1") != byRequest || ask(named("a", mine), "r9") != byName {
			w.Error("the same request again is another session")
		}
		if id := ask(signRequest("vault", "a"), ""); id != byRequest && id != byName && id != byContent {
			w.Error("a request of equal content is another session")
		}
		if id := ask(signRequest("vault", "b"), ""); id == byContent {
			w.Error("a request of other content is the same session")
		}
		if id := ask(signRequest("vault", "a", "alice", "bob"), ""); id == byContent {
			w.Error("a request of other participants is the same session")
		}
		if _, err := w.say(v, "boss", signRequest("vault", "b"), "r1"); !errors.Is(err, wire.ErrConflict) {
			w.Errorf("another request under the same request_id: %v", err)
		}
		w.refused(v, "boss", named("b", mine), wire.CodeConflict)
		w.refused(v, "admin", named("a", mine), wire.CodeConflict)
		w.refused(v, "boss", named("a", w.the(session.Keygen).ID), wire.CodeBadRequest)

		// A repeated outcome does not make another signature.
		w.must(v, "boss", &wire.SessionCancel{SessionID: mine})
		reply := w.must(v, "boss", named("a", mine))
		if c, ok := reply.(*wire.SignComplete); !ok || c.Status != wire.StatusCancelled {
			w.Errorf("got %T %+v", reply, reply)
		}
	})
}

// TestReservedIDs: an id is valid only for the request that it was reserved for.
func TestReservedIDs(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		ed := keygenRequest("")
		ed.Curve = "ed25519"
		id, _, err := v.KeygenTask(w.ctx, caller("boss"), ed, service.Task{})
		if err != nil {
			w.Fatal(err)
		}
		if !wire.ValidID(id) {
			w.Fatalf("reserved %q", id)
		}
		w.refused(v, "alice", &wire.KeygenResponse{KeyID: id, PartIndex: 1, Response: &yes}, wire.CodeNotFound)
		other := keygenRequest(id)
		other.Threshold = 3
		w.refused(v, "boss", other, wire.CodeConflict)
		w.refused(v, "other-boss", keygenRequest(id), wire.CodeConflict)
		w.must(v, "boss", keygenRequest(id)) // a seed client cannot name the curve
		if s := w.the(session.Keygen); s.Curve != "ed25519" {
			w.Fatalf("curve %s", s.Curve)
		}

		w.keygen(v, "vault", false)
		p := signRequest("vault", "hello")
		p.SessionID = reserve(w, v, p)
		if !wire.ValidID(p.SessionID) {
			w.Fatalf("reserved %q", p.SessionID)
		}
		q := signRequest("vault", "something else")
		q.SessionID = p.SessionID
		w.refused(v, "boss", q, wire.CodeConflict)
		w.refused(v, "admin", p, wire.CodeConflict)
		w.must(v, "boss", p)
		if s := w.the(session.Sign); s.ID != p.SessionID || s.Data != "hello" {
			w.Fatalf("%+v", s)
		}
	})
}

// TestRequestsRace sends the same requests through two nodes at once.
func TestRequestsRace(t *testing.T) {
	each(t, func(w *world) {
		nodes := []*service.Service{w.node(nil), w.node(nil)}
		race := func(ask func(v *service.Service) (session.Session, error)) {
			w.Helper()
			var mu sync.Mutex
			ids := map[string]int{}
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Go(func() {
					s, err := ask(nodes[i%2])
					if err != nil {
						w.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					ids[s.ID]++
				})
			}
			wg.Wait()
			if len(ids) != 1 {
				w.Errorf("one request began sessions %v", ids)
			}
		}
		boss := caller("boss")
		race(func(v *service.Service) (session.Session, error) {
			return v.RequestKeygen(w.ctx, boss, keygenRequest("vault"), "")
		})
		w.cast(nodes[0], false).act()
		race(func(v *service.Service) (session.Session, error) {
			return v.RequestSign(w.ctx, boss, signRequest("vault", "a"), "")
		})
		race(func(v *service.Service) (session.Session, error) {
			return v.RequestSign(w.ctx, boss, signRequest("vault", "b"), "r1")
		})
		for _, user := range committee {
			if got := len(w.mail.of(user)); got != 5 { // a keygen's three and two invitations
				w.Errorf("%s got %d messages: %v", user, got, w.mail.types(user))
			}
		}
	})
}

// countedKeys counts how often a key's record is read.
type countedKeys struct {
	service.Store
	read *atomic.Int64
}

func (k countedKeys) Key(ctx context.Context, id string) (session.Key, error) {
	k.read.Add(1)
	return k.Store.Key(ctx, id)
}

func (k countedKeys) Signings(ctx context.Context, id string) (session.Key, []service.Signing, string, error) {
	k.read.Add(1)
	return k.Store.Signings(ctx, id)
}

// TestSignRequestReadsKeyOnce: for every way of requesting a signing, its key is read
// once before it is noted as open.
func TestSignRequestReadsKeyOnce(t *testing.T) {
	each(t, func(w *world) {
		var read atomic.Int64
		v := w.node(func(c *service.Config) { c.Store = countedKeys{c.Store, &read} })
		w.keygen(v, "vault", false)
		message := func(p *wire.SignRequest, requestID string) func() error {
			return func() error {
				_, err := v.Handle(w.ctx, caller("boss"), wire.Message{RequestID: requestID}, p)
				return err
			}
		}
		task := func(p *wire.SignRequest, t service.Task) func() error {
			return func() error {
				_, _, err := v.SignTask(w.ctx, caller("boss"), p, t)
				return err
			}
		}
		for name, ask := range map[string]func() error{
			"by content":          message(signRequest("vault", "a"), ""),
			"with a request_id":   message(signRequest("vault", "b"), "r1"),
			"over HTTP":           task(signRequest("vault", "c"), service.Task{Start: true}),
			"over HTTP, once":     task(signRequest("vault", "d"), service.Task{Start: true, Once: "e1"}),
			"over HTTP, reserved": task(signRequest("vault", "e"), service.Task{}),
		} {
			before := read.Load()
			if err := ask(); err != nil {
				w.Fatalf("%s: %v", name, err)
			}
			if n := read.Load() - before; n != 1 {
				w.Errorf("%s: the key was read %d times, want once", name, n)
			}
		}
	})
}

type countedLoads struct {
	service.Store
	loaded *atomic.Int64
}

func (c countedLoads) Load(ctx context.Context, id string) (session.Session, time.Time, error) {
	c.loaded.Add(1)
	return c.Store.Load(ctx, id)
}

// TestOnlySigningIsNotReadTwice: a message of the seed's protocol, without session_id,
// costs no read besides that of the lock where its key has one open signing.
func TestOnlySigningIsNotReadTwice(t *testing.T) {
	each(t, func(w *world) {
		var loaded atomic.Int64
		v := w.node(func(c *service.Config) { c.Store = countedLoads{c.Store, &loaded} })
		w.keygen(v, "vault", false)
		for _, data := range []string{"a", "b"} { // the second has a last signing before it
			w.must(v, "boss", signRequest("vault", data))
			before := loaded.Load()
			for i, user := range []string{"alice", "bob"} {
				w.must(v, user, &wire.SignResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
			}
			if n := loaded.Load() - before; n != 0 {
				w.Errorf("%s: two answers took %d reads of their own, want none", data, n)
			}
			_, open, _, err := w.store.Signings(w.ctx, "vault")
			if err != nil || len(open) != 1 {
				w.Fatalf("open: %v, %v", open, err)
			}
			s, _, err := w.store.Load(w.ctx, open[0].SessionID)
			if err != nil {
				w.Fatal(err)
			}
			before = loaded.Load()
			w.must(v, "alice", &wire.SignResult{KeyID: "vault", PartIndex: 1, Signature: theKey.Sign(s.Digest)})
			if n := loaded.Load() - before; n != 0 {
				w.Errorf("%s: the result took %d reads of its own, want none", data, n)
			}
		}
	})
}
