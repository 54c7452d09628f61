package service_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func decode(w *world, m wire.Message, into any) {
	w.Helper()
	if err := json.Unmarshal(m.Payload, into); err != nil {
		w.Fatal(err)
	}
}

// TestSeedFlows runs both flows with the seed's messages only, and checks every
// resulting message.
func TestSeedFlows(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		c := w.cast(v, true)
		if reply := w.must(v, "boss", keygenRequest("vault")); reply != nil {
			w.Fatalf("a direct reply to a seed client: %v", reply)
		}
		c.act()
		confirm, _ := w.outcomes()[0].(*wire.KeygenConfirm)
		if confirm == nil || confirm.Status != wire.StatusSuccess || confirm.AccountAddr != theKey.Address {
			w.Fatalf("got %+v", confirm)
		}
		for _, user := range committee {
			want := []wire.Type{wire.TypeKeygenInvite, wire.TypeKeygenParams, wire.TypeSessionEnded}
			if diff := cmp.Diff(want, w.mail.types(user)); diff != "" {
				w.Errorf("%s: %s", user, diff)
			}
		}

		w.must(v, "boss", signRequest("vault", "hello", "alice", "carol"))
		c.act()
		complete, _ := w.outcomes()[1].(*wire.SignComplete)
		if complete == nil || complete.Status != wire.StatusSuccess || complete.Data != "hello" || complete.PublicKey != theKey.Public {
			w.Fatalf("got %+v", complete)
		}
		var params wire.SignParams
		decode(w, w.mail.of("carol")[4], &params)
		if params.Participants != "1,3" || params.PartIndex != 3 || complete.Signature != theKey.Sign(params.Digest) {
			w.Fatalf("got %+v, signature %s", params, complete.Signature)
		}
		if n := len(w.mail.of("bob")); n != 3 {
			w.Errorf("bob was not invited and got %d messages", n)
		}
		w.settled()
	})
}

// TestExtendedFlows is the same with session ids, request ids and acks.
func TestExtendedFlows(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		c := w.cast(v, false)
		c.send("boss", keygenRequest("vault"), "r1")
		c.act()
		c.send("boss", signRequest("vault", "0x1234"), "r2")
		c.act()
		all := w.mail.of("boss")
		if len(all) != 2 || all[0].RequestID != "r1" || all[1].RequestID != "r2" {
			w.Fatalf("boss was told %+v", all)
		}
		k, err := w.store.Key(w.ctx, "vault")
		if err != nil || k.PublicKey != theKey.Public || k.AccountAddr != theKey.Address {
			w.Fatalf("%+v, %v", k, err)
		}
		s := w.the(session.Sign)
		if s.Phase != session.Completed || s.Hash != "keccak256" {
			w.Fatalf("%+v", s)
		}
		var params wire.SignParams
		for _, m := range w.mail.of("alice") {
			if m.Type == wire.TypeSignParams {
				decode(w, m, &params)
			}
		}
		if params.Parties[0].Identity != "id-alice" || s.Parties[0].Identity != "" {
			w.Errorf("alice is told %+v, and after the end %q is kept", params.Parties, s.Parties[0].Identity)
		}
		w.toldOnce()
		w.settled()
	})
}

// TestNodesShareSessions sends each message to another node.
func TestNodesShareSessions(t *testing.T) {
	each(t, func(w *world) {
		nodes := []*service.Service{w.node(nil), w.node(nil), w.node(nil)}
		c := w.cast(nodes[0], false)
		n := 0
		c.send = func(user string, p wire.Payload, requestID string) {
			n++
			if _, err := w.say(nodes[n%3], user, p, requestID); err != nil {
				w.Fatalf("%s: %s: %v", user, p.Type(), err)
			}
		}
		c.send("boss", keygenRequest("vault"), "r1")
		c.act()
		c.send("boss", signRequest("vault", "hello"), "r2")
		c.act()
		if got := len(w.outcomes()); got != 2 {
			w.Fatalf("%d outcomes", got)
		}
		w.toldOnce()
		w.settled()
	})
}

// TestLateResults has the second of two signers report late, without a session_id: when
// no signing is open, and when the next one is and the result would count as a wrong
// signature of that one.
func TestLateResults(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", true)
		c := w.cast(v, true)
		c.skip()
		var late *wire.SignResult
		c.acts = func(user string, p wire.Payload) bool {
			params, ok := p.(*wire.SignParams)
			if !ok || user != "bob" || late != nil {
				return true
			}
			late = c.answer(user, params).(*wire.SignResult)
			return false
		}
		w.must(v, "boss", signRequest("vault", "one", "alice", "bob"))
		c.act()
		w.must(v, "bob", late)

		w.must(v, "boss", signRequest("vault", "two", "alice", "bob"))
		c.acts = func(_ string, p wire.Payload) bool { _, params := p.(*wire.SignParams); return !params }
		c.act()
		w.must(v, "bob", late)
		_, open, _, err := w.store.Signings(w.ctx, "vault")
		if err != nil || len(open) != 1 {
			w.Fatalf("open: %v, %v", open, err)
		}
		s, _, err := w.store.Load(w.ctx, open[0].SessionID)
		if err != nil || s.Phase != session.Running || len(s.Culprits) > 0 {
			w.Fatalf("after a late result of the signing before: %s, culprits %v, %v", s.Phase, s.Culprits, err)
		}
		w.must(v, "bob", &wire.SignResult{KeyID: "vault", PartIndex: 2, Signature: theKey.Sign(s.Digest)})
		w.settled()
	})
}

// TestWrongSignatureNamesItsSender has one signer lie: it gets an error, and another
// takes its place.
func TestWrongSignatureNamesItsSender(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		c := w.cast(v, false)
		c.skip()
		c.acts = func(_ string, p wire.Payload) bool { _, params := p.(*wire.SignParams); return !params }
		w.must(v, "boss", signRequest("vault", "hello"))
		c.act()
		s := w.the(session.Sign)
		lie := &wire.SignResult{KeyID: "vault", PartIndex: 1, Signature: anotherKey.Sign(s.Digest), SessionID: s.ID}
		w.refused(v, "alice", lie, wire.CodeInvalidSignature)
		w.refused(v, "alice", lie, wire.CodeInvalidSignature)
		if s = w.the(session.Sign); s.Attempt != 2 || !slices.Equal(s.Signers, []int{2, 3}) || !slices.Equal(s.Culprits, []int{1}) {
			w.Fatalf("attempt %d by %v, culprits %v", s.Attempt, s.Signers, s.Culprits)
		}
		w.must(v, "carol", &wire.SignResult{KeyID: "vault", PartIndex: 3, Signature: theKey.Sign(s.Digest), SessionID: s.ID})
		w.toldOnce()
		w.settled()
	})
}

// TestServedInOrder has messages without a session id, as of seed clients, answer
// several open signings in the order in which these began; a result goes to the one
// that its signature belongs to. If no signing waits for it, it is refused as ambiguous.
func TestServedInOrder(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", true)
		accepts := func(part int) *wire.SignResponse {
			return &wire.SignResponse{KeyID: "vault", PartIndex: part, Response: &yes}
		}
		w.refused(v, "alice", accepts(1), wire.CodeNotFound)
		var ids []string
		for _, r := range []*wire.SignRequest{signRequest("vault", "one", "alice", "bob"), signRequest("vault", "two")} {
			began, err := w.store.Now(w.ctx)
			if err != nil {
				w.Fatal(err)
			}
			w.eventually("the clock goes on", func() bool {
				now, err := w.store.Now(w.ctx)
				return err == nil && now.Sub(began) > 2*time.Millisecond
			})
			w.must(v, "boss", r)
			_, open, _, err := w.store.Signings(w.ctx, "vault")
			if err != nil {
				w.Fatal(err)
			}
			for _, o := range open {
				if !slices.Contains(ids, o.SessionID) {
					ids = append(ids, o.SessionID)
				}
			}
		}
		at := func(k int) session.Session {
			s, _, err := w.store.Load(w.ctx, ids[k])
			if err != nil {
				w.Fatal(err)
			}
			return s
		}
		w.must(v, "carol", accepts(3)) // she has only the second
		if s := at(1); s.Parties[2].Response != session.Accepted {
			w.Fatalf("carol: %+v", s.Parties[2])
		}
		w.must(v, "alice", accepts(1))
		if at(0).Parties[0].Response != session.Accepted || at(1).Parties[0].Response != session.Unanswered {
			w.Fatal("alice's first answer is not for the first signing")
		}
		w.must(v, "alice", accepts(1))
		if at(1).Parties[0].Response != session.Accepted {
			w.Fatal("alice's second answer is not for the second signing")
		}
		w.refused(v, "alice", accepts(1), wire.CodeAmbiguous)
		w.must(v, "bob", accepts(2))
		if s := at(0); s.Phase != session.Running || !slices.Equal(s.Signers, []int{1, 2}) {
			w.Fatalf("the first signing: %s by %v", s.Phase, s.Signers)
		}
		w.must(v, "alice", &wire.SignResult{KeyID: "vault", PartIndex: 1, Signature: theKey.Sign(at(1).Digest)})
		if at(0).Phase != session.Running || at(1).Phase != session.Completed {
			w.Fatalf("after a result of the second: %s and %s", at(0).Phase, at(1).Phase)
		}
		w.must(v, "alice", &wire.SignResult{KeyID: "vault", PartIndex: 1, Signature: theKey.Sign(at(0).Digest)})
		if at(0).Phase != session.Completed {
			w.Fatalf("after a result of the first: %s", at(0).Phase)
		}
	})
}
