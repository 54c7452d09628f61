package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// answer waits for a participant's answer to the attacker's invitation.
func (h *hostile) answer(mark int, user, session string) (accepted bool, reason string) {
	h.t.Helper()
	eventually(h.t, user+" answers "+session, func() bool {
		for _, r := range sentBy[wire.SignResponse](h, mark, user) {
			if r.SessionID == session {
				accepted, reason = *r.Response, r.Reason
				return true
			}
		}
		for _, r := range sentBy[wire.KeygenResponse](h, mark, user) {
			if r.SessionID == session {
				accepted, reason = *r.Response, r.Reason
				return true
			}
		}
		return false
	})
	return accepted, reason
}

// TestForgedRequests has the server request signatures by itself, with everything it
// can obtain.
func TestForgedRequests(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	const data = "Pay 500 ether to Mallory"
	mark := h.mark()
	h.stillSigns(key, "an honest one", "bob", "carol")
	old := toldTo[wire.SignInvite](h, mark, "bob")[0]
	oldKeygen := toldTo[wire.KeygenInvite](h, 0, "bob")[0]
	now := time.Now()

	// The fields that must be signed, and the signers available to the attacker.
	forged := wire.SignInvite{
		KeyID: key.KeyID, Data: data, AccountAddr: key.AccountAddr, PartIndex: 1, Participants: []string{"bob", "carol"},
		SessionID: "sg-forged", Coordinator: "alice", Hash: "none", Digest: pubkey.Encode([]byte(data)), Deadline: now.Add(time.Minute),
	}
	signed := func(id *identity.Identity, i wire.SignInvite, issued, expires time.Time) string {
		s, err := statement.Request{
			Kind: "sign", Coordinator: i.Coordinator, SessionID: i.SessionID, KeyID: i.KeyID, Curve: pubkey.Ed25519,
			Participants: i.Participants, Data: i.Data, Hash: i.Hash, Digest: i.Digest, AccountAddr: i.AccountAddr,
		}.Sign(id, issued, expires)
		if err != nil {
			t.Fatal(err)
		}
		return s.String()
	}
	mallory, pinned := partytest.Identity(t), partytest.Identity(t)
	if err := h.p["bob"].store.Pin("trent", pinned.Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	in, ago := now.Add(time.Hour), now.Add(-time.Hour)
	for i, tc := range []struct {
		name, reason string
		forge        func(i *wire.SignInvite)
	}{
		{"not signed", "alice has not signed the request", func(*wire.SignInvite) {}},
		{"of nobody known, not signed", "not signed", func(i *wire.SignInvite) { i.Coordinator = "mallory" }},
		{"signed by somebody else as alice", "the identity has changed: alice", func(i *wire.SignInvite) { i.SignedRequest = signed(mallory, *i, now, in) }},
		{"signed by somebody who is not pinned", "the identity of mallory is not pinned", func(i *wire.SignInvite) {
			i.Coordinator = "mallory"
			i.SignedRequest = signed(mallory, *i, now, in)
		}},
		{"signed by another pinned coordinator as alice", "the identity has changed: alice", func(i *wire.SignInvite) { i.SignedRequest = signed(pinned, *i, now, in) }},
		{"signed by another pinned coordinator, shown as alice's", otherwise, func(i *wire.SignInvite) {
			i.Coordinator = "trent"
			i.SignedRequest = signed(pinned, *i, now, in)
			i.Coordinator = "alice"
		}},
		{"signed long ago", "the request has expired", func(i *wire.SignInvite) {
			i.Coordinator = "trent"
			i.SignedRequest = signed(pinned, *i, ago.Add(-time.Hour), ago)
		}},
		{"signed for later", "signed for a later time", func(i *wire.SignInvite) {
			i.Coordinator = "trent"
			i.SignedRequest = signed(pinned, *i, in, in.Add(time.Hour))
		}},
		{"alice's own for something else", otherwise, func(i *wire.SignInvite) { i.SignedRequest = old.SignedRequest }},
		{"alice's own in another session", otherwise, func(i *wire.SignInvite) { name := i.SessionID; *i = *old; i.SessionID = name }},
		{"alice's own for a keygen", otherwise, func(i *wire.SignInvite) { i.SignedRequest = oldKeygen.SignedRequest }},
		{"cut off", "parse signed request", func(i *wire.SignInvite) { i.SignedRequest = old.SignedRequest[:200] }},
	} {
		invite := forged
		invite.SessionID = fmt.Sprintf("sg-forged-%d", i)
		tc.forge(&invite)
		mark := h.mark()
		h.tell("bob", write(wire.Message{}, &invite))
		accepted, reason := h.answer(mark, "bob", invite.SessionID)
		if accepted || !strings.Contains(reason, tc.reason) {
			t.Errorf("%s: bob says %v, %q, want him to decline: %q", tc.name, accepted, reason, tc.reason)
		}
		// Parameters do not help.
		h.tell("bob", write(wire.Message{}, &wire.SignParams{
			KeyID: key.KeyID, Data: invite.Data, PartIndex: 1, Participants: "1,2", SessionID: invite.SessionID, Attempt: 1,
			Hash: "none", Digest: invite.Digest, Parties: toldTo[wire.SignParams](h, 0, "bob")[0].Parties,
		}))
	}
	h.stillSigns(key, "after all", "bob", "carol") // bob has checked all earlier requests
	if n := len(sentBy[wire.SignResult](h, mark, "bob")); n > 2 {
		t.Errorf("bob has signed %d times, want the two honest ones", n)
	}

	// A key: an old request repeated in another session.
	again := *oldKeygen
	again.SessionID = "kg-forged"
	mark = h.mark()
	h.tell("bob", write(wire.Message{}, &again))
	if accepted, reason := h.answer(mark, "bob", "kg-forged"); accepted || !strings.Contains(reason, "was used before") {
		t.Errorf("an old keygen request: bob says %v, %q", accepted, reason)
	}
}

// TestChangedRequests changes alice's requests before the node has them, so that
// node and participants agree on a request that she did not make.
func TestChangedRequests(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	changing := func(sign func(*wire.SignRequest), keygen func(*wire.KeygenRequest)) func(f frame) []wire.Message {
		return func(f frame) []wire.Message {
			if s, ok := read[wire.SignRequest](f.m); ok && f.up && sign != nil {
				sign(s)
				return []wire.Message{write(f.m, s)}
			}
			if k, ok := read[wire.KeygenRequest](f.m); ok && f.up && keygen != nil {
				keygen(k)
				return []wire.Message{write(f.m, k)}
			}
			return []wire.Message{f.m}
		}
	}
	for name, change := range map[string]func(*wire.SignRequest){
		"data":                       func(r *wire.SignRequest) { r.Data = "Pay 500 ether to Mallory" },
		"participants":               func(r *wire.SignRequest) { r.Participants = []string{"bob", "dave"} },
		"session_id":                 func(r *wire.SignRequest) { r.SessionID = "another" },
		"signed_request left out":    func(r *wire.SignRequest) { r.SignedRequest = "" },
		"signed_request cut off":     func(r *wire.SignRequest) { r.SignedRequest = r.SignedRequest[:100] },
		"everything, and no request": func(r *wire.SignRequest) { r.Data, r.SignedRequest = "Pay 500 ether to Mallory", "" },
	} {
		mark := h.mark()
		h.attack(changing(change, nil))
		// alice never hears of a session by another name.
		_, err := h.sign(key, "Pay 5 ether to Bob", 0, "bob", "carol")
		var out *request.OutcomeError
		if !errors.As(err, &out) || out.Status != wire.StatusRejected || len(out.Culprits) != 0 {
			t.Errorf("%s: got %v, want it rejected, and nobody blamed", name, err)
		}
		if n := len(sentBy[wire.SignResult](h, mark, "")) + len(sentBy[wire.TSSMessage](h, mark, "")); n != 0 {
			t.Errorf("%s: the MPC ran", name)
		}
	}
	for name, change := range map[string]func(*wire.KeygenRequest){
		"threshold":               func(r *wire.KeygenRequest) { r.Threshold = 3 },
		"participants":            func(r *wire.KeygenRequest) { r.Participants = []string{"bob", "dave", "carol"} },
		"curve":                   func(r *wire.KeygenRequest) { r.Curve = "secp256k1" },
		"signed_request left out": func(r *wire.KeygenRequest) { r.SignedRequest = "" },
	} {
		mark := h.mark()
		h.attack(changing(nil, change))
		_, err := h.keygen(pubkey.Ed25519, 0)
		var out *request.OutcomeError
		if !errors.As(err, &out) || out.Status != wire.StatusRejected || len(out.Culprits) != 0 {
			t.Errorf("%s: got %v, want it rejected, and nobody blamed", name, err)
		}
		if n := len(sentBy[wire.KeygenComplete](h, mark, "")) + len(sentBy[wire.TSSMessage](h, mark, "")); n != 0 {
			t.Errorf("%s: the MPC ran", name)
		}
	}
	h.stillSigns(key, "after all", "bob", "carol")
}

// TestForgedAnswers turns a participant's no into a yes, and answers for one that
// has not decided: it takes no part all the same.
func TestForgedAnswers(t *testing.T) {
	t.Parallel()
	for name, approve := range map[string]participant.Approver{
		"who declines": func(context.Context, participant.Invitation) (bool, string, error) { return false, "no", nil },
		"who thinks": func(ctx context.Context, _ participant.Invitation) (bool, string, error) {
			<-ctx.Done()
			return false, "", ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forgeAnswers(t, approve)
		})
	}
}

func forgeAnswers(t *testing.T, approve participant.Approver) {
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	bob := h.p["bob"]
	bob.stop()
	bob.part.Approve = approve
	h.enter("bob")
	yes := true
	h.attack(func(f frame) []wire.Message {
		if f.user != "bob" {
			return []wire.Message{f.m}
		}
		switch f.m.Type {
		case wire.TypeSignInvite:
			i, _ := read[wire.SignInvite](f.m)
			h.speak("bob", &wire.SignResponse{KeyID: i.KeyID, PartIndex: 1, Response: &yes, SessionID: i.SessionID})
		case wire.TypeKeygenInvite:
			i, _ := read[wire.KeygenInvite](f.m)
			h.speak("bob", &wire.KeygenResponse{KeyID: i.KeyID, PartIndex: 1, Response: &yes, SessionID: i.SessionID})
		case wire.TypeSignResponse, wire.TypeKeygenResponse:
			return nil
		}
		return []wire.Message{f.m}
	})
	mark := h.mark()
	var out *request.OutcomeError
	if _, err := h.sign(key, "which bob does not want", ignoredFor, "bob", "carol"); !errors.As(err, &out) || out.Status != wire.StatusExpired {
		t.Errorf("sign: got %v, want it expired", err)
	}
	if _, err := h.keygen(pubkey.Ed25519, ignoredFor); !errors.As(err, &out) || out.Status != wire.StatusExpired {
		t.Errorf("keygen: got %v, want it expired", err)
	}
	if len(toldTo[wire.SignParams](h, mark, "bob")) == 0 || len(toldTo[wire.KeygenParams](h, mark, "bob")) == 0 {
		t.Error("the node did not take the forged answers")
	}
	if n := len(sentBy[wire.TSSMessage](h, mark, "bob")); n != 0 {
		t.Errorf("bob has sent %d round messages", n)
	}
	if n := len(sentBy[wire.SignResult](h, mark, "")) + len(sentBy[wire.KeygenComplete](h, mark, "")); n != 0 {
		t.Errorf("there are %d results", n)
	}
}

// TestReplaysAfterRestart repeats everything to a participant that was restarted in
// between, with the content of its disk.
func TestReplaysAfterRestart(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	bob, dir := h.p["bob"], t.TempDir()+"/bob"
	begin := func() *dirstore.Store {
		store, err := dirstore.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		bob.part.Shares = store
		return store
	}
	bob.stop()
	store := begin()
	if err := store.Pin("alice", h.c.met.pins["alice"]); err != nil {
		t.Fatal(err)
	}
	h.enter("bob")
	key := h.honest(pubkey.Ed25519)
	h.stillSigns(key, "an honest one", "bob", "carol")
	eventually(t, "bob hears the end", func() bool { return len(toldTo[wire.SessionEnded](h, 0, "bob")) == 2 })
	past := h.since(0)
	bob.stop()
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	begin()
	h.enter("bob")

	mark := h.mark()
	for _, f := range past {
		if f.user == "bob" && !f.up && f.m.Seq > 0 && f.m.Type != wire.TypeSessionEnded {
			h.tell("bob", f.m)
		}
	}
	for _, f := range past { // and attempts that never existed
		if p, ok := read[wire.SignParams](f.m); ok && f.user == "bob" && !f.up {
			p.Attempt = 2
			h.tell("bob", write(f.m, p))
		}
	}
	invite := toldTo[wire.KeygenInvite](h, 0, "bob")[0]
	invite.SessionID = "kg-again"
	h.tell("bob", write(wire.Message{}, invite))
	if accepted, reason := h.answer(mark, "bob", "kg-again"); accepted || !strings.Contains(reason, "was used before") {
		t.Errorf("an old keygen request: bob says %v, %q", accepted, reason)
	}
	for _, f := range h.since(mark) {
		switch {
		case f.user != "bob" || !f.up || f.m.Type == wire.TypeAck:
		case f.m.Type != wire.TypeKeygenResponse:
			t.Errorf("bob answers a replay: %s %s", f.m.Type, f.m.Payload)
		}
	}
	h.stillSigns(key, "after all", "bob", "carol")
}

// TestForgedTokens has the attacker issue arbitrary tokens. The servers accept it as
// any user; the clients do not.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	mark, alice, asks := h.mark(), h.alice, h.asks
	alice.stop()
	for name, id := range map[string]*identity.Identity{"another identity": partytest.Identity(t), "no identity": nil} {
		forger := &real{user: "alice"}
		h.c.enter(forger, client.Config{URLs: []string{h.url}, Role: wire.RoleCoordinator, Identity: id}, participant.Config{})
		h.alice = forger
		var out *request.OutcomeError
		if _, err := h.sign(key, "Pay 500 ether to Mallory", 0, "bob", "carol"); !errors.As(err, &out) || out.Status != wire.StatusRejected {
			t.Errorf("as alice with %s: got %v, want it rejected", name, err)
		}
		if _, err := h.keygen(pubkey.Ed25519, 0); !errors.As(err, &out) || out.Status != wire.StatusRejected {
			t.Errorf("as alice with %s: got %v, want no key", name, err)
		}
		forger.stop()
	}
	if n := len(sentBy[wire.TSSMessage](h, mark, "")); n != 0 {
		t.Error("the MPC ran")
	}

	// As carol, with everything of hers that a server has: her sealed share.
	h.alice = alice
	h.c.enter(alice, asks, participant.Config{})
	carol := h.p["carol"]
	sealed, _ := h.share("carol", key)
	carol.stop()
	carol.store = new(participant.MemStore)
	carol.cfg.Identity, carol.part.Shares = partytest.Identity(t), carol.store
	if err := errors.Join(carol.store.Put(t.Context(), sealed), carol.store.Pin("alice", h.c.met.pins["alice"])); err != nil {
		t.Fatal(err)
	}
	carol.part.Approve = participant.ApproveUnsigned
	h.enter("carol")
	mark = h.mark()
	var out *request.OutcomeError
	if _, err := h.sign(key, "with a false carol", 0, "bob", "carol"); !errors.As(err, &out) || out.Status != wire.StatusFailed {
		t.Errorf("sign as carol: got %v, want it failed", err)
	}
	if _, err := h.keygen(pubkey.Ed25519, 0); !errors.As(err, &out) || !strings.Contains(out.Reason, "the identity has changed: carol") {
		t.Errorf("keygen as carol: got %v, want the others to refuse her", err)
	}
	for _, f := range sentBy[wire.PartyFailed](h, mark, "bob") {
		if !strings.Contains(f.Reason, "the identity has changed: carol") && !strings.Contains(f.Reason, "no word from part 2") {
			t.Errorf("bob says %q", f.Reason)
		}
	}
	if n := len(sentBy[wire.SignResult](h, mark, "")) + len(sentBy[wire.KeygenComplete](h, mark, "")); n != 0 {
		t.Errorf("there are %d results", n)
	}
}
