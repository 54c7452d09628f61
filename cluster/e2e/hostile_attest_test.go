package e2e_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ownCommittee makes a key of the attacker's own, whose parties have the names of
// the participants, and their attestations, valid for verifiers that do not know
// them.
func ownCommittee(t *testing.T, keyID, session string) (key share.Public, attestations []string) {
	t.Helper()
	c := partytest.NewCommittee(t, len(partUsers))
	for i, user := range partUsers {
		c.Members[i].User = user
	}
	for i, held := range c.KeygenCalled(t, pubkey.Ed25519, 2, keyID) {
		a, err := held.Attest(c.Identities[i], session, "alice")
		if err != nil {
			t.Error(err)
		}
		key, attestations = held.Public(), append(attestations, a.String())
	}
	return key, attestations
}

// TestKeyOfTheServer has the server report to the coordinator a key that it holds
// alone, to which people would send funds. The participants have made another one,
// and she believes them alone.
func TestKeyOfTheServer(t *testing.T) {
	inTurn(t, "webhooks and keys", 1, 3)
	t.Parallel()
	h := captured(t, true)
	earlier := h.honest(pubkey.Ed25519)
	first := toldTo[wire.KeygenConfirm](h, 0, "alice")[0]
	if len(first.Attestations) != 3 || !earlier.Attested() {
		t.Fatalf("the honest key is not attested: %+v", earlier)
	}
	_, public, address := ownKey(t)
	for _, tc := range []struct {
		name   string
		change func(p *wire.KeygenConfirm)
		fault  trust.AttestationFault
	}{
		{"another key", func(p *wire.KeygenConfirm) { p.AccountAddr, p.PublicKey = address, public }, trust.AttestationOther},
		{"another key, and nothing attested", func(p *wire.KeygenConfirm) {
			p.AccountAddr, p.PublicKey, p.Attestations = address, public, nil
		}, trust.AttestationMissing},
		{"another key, and empty attestations", func(p *wire.KeygenConfirm) {
			p.AccountAddr, p.PublicKey, p.Attestations = address, public, []string{"", "", ""}
		}, trust.AttestationMissing},
		{"another key, and what was attested of an earlier one", func(p *wire.KeygenConfirm) {
			p.AccountAddr, p.PublicKey, p.Attestations = address, public, first.Attestations
		}, trust.AttestationOther},
		{"the earlier key", func(p *wire.KeygenConfirm) {
			p.AccountAddr, p.PublicKey, p.Attestations = first.AccountAddr, first.PublicKey, first.Attestations
		}, trust.AttestationOther},
		{"the earlier key and session", func(p *wire.KeygenConfirm) {
			p.AccountAddr, p.PublicKey, p.Attestations, p.SessionID = first.AccountAddr, first.PublicKey, first.Attestations, first.SessionID
		}, trust.AttestationOther},
		{"a committee of the attacker's", func(p *wire.KeygenConfirm) {
			own, list := ownCommittee(t, p.KeyID, p.SessionID)
			p.AccountAddr, p.PublicKey, p.Attestations = own.AccountAddr, own.PublicKey, list
		}, trust.AttestationIdentity},
		{"one of a committee of the attacker's", func(p *wire.KeygenConfirm) {
			own, list := ownCommittee(t, p.KeyID, p.SessionID)
			p.AccountAddr, p.PublicKey, p.Attestations[1] = own.AccountAddr, own.PublicKey, list[1]
		}, trust.AttestationIdentity},
		{"the true key, one attestation away", func(p *wire.KeygenConfirm) { p.Attestations[2] = "" }, trust.AttestationIncomplete},
		{"the true key, one cut off", func(p *wire.KeygenConfirm) { p.Attestations = p.Attestations[:2] }, trust.AttestationIncomplete},
		{"the true key, one broken", func(p *wire.KeygenConfirm) { p.Attestations[2] = p.Attestations[2][1:] }, trust.AttestationMalformed},
		{"the true key, two exchanged", func(p *wire.KeygenConfirm) { slices.Reverse(p.Attestations) }, trust.AttestationIdentity},
		{"the true key, its public key away", func(p *wire.KeygenConfirm) { p.PublicKey = "" }, trust.AttestationOther},
	} {
		mark := h.mark()
		h.attack(outcomes(tc.change))
		key, err := h.keygen(pubkey.Ed25519, 0)
		var e *trust.AttestationError
		if !errors.As(err, &e) || e.Fault != tc.fault || key.AccountAddr != "" {
			t.Errorf("%s: got %v, %v, want it refused as %s", tc.name, key, err, tc.fault)
		}
		// They had made a key, and would have signed with that one alone.
		for _, done := range sentBy[wire.KeygenComplete](h, mark, "") {
			if a, err := statement.ParseAttestation(done.Attestation); err != nil || done.AccountAddr == address || a.Identity != h.p[partUsers[done.PartIndex-1]].cfg.Identity.Public() {
				t.Errorf("%s: part %d reports %s, attested %v", tc.name, done.PartIndex, done.AccountAddr, err)
			}
		}
	}
	// A participant's attestation that is changed in transit is refused.
	for name, tc := range map[string]struct {
		change func(p *wire.KeygenComplete)
		fault  trust.AttestationFault
	}{
		"left out": {func(p *wire.KeygenComplete) { p.Attestation = "" }, trust.AttestationIncomplete},
		"garbage":  {func(p *wire.KeygenComplete) { p.Attestation = "garbage" }, trust.AttestationMalformed},
		"earlier":  {func(p *wire.KeygenComplete) { p.Attestation = first.Attestations[0] }, trust.AttestationOther},
		"carol's":  {func(p *wire.KeygenComplete) { p.Attestation = first.Attestations[1] }, trust.AttestationIdentity},
	} {
		h.attack(reports(tc.change))
		var e *trust.AttestationError
		if key, err := h.keygen(pubkey.Ed25519, 0); !errors.As(err, &e) || e.Fault != tc.fault || key.AccountAddr != "" {
			t.Errorf("bob's %s: got %v, %v, want it refused as %s", name, key, err, tc.fault)
		}
	}
	h.stillSigns(h.honest(pubkey.Ed25519), "after all")
}

// TestKeyOfAnotherCoordinator: mallory may request keys from the participants as
// well. With a server's help she has one made under the name of alice's, with which
// she may request signatures, and alice is told that it is hers.
func TestKeyOfAnotherCoordinator(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	mallory := h.c.join("mallory", wire.RoleCoordinator, 0, 0)
	request := client.KeygenRequest{KeyID: "treasury", Threshold: 2, Participants: partUsers, Curve: pubkey.Ed25519}
	theirs, err := mallory.Keygen(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	var lists [3]string
	for _, done := range sentBy[wire.KeygenComplete](h, 0, "") {
		lists[done.PartIndex-1] = done.Attestation
	}
	h.attack(func(f frame) []wire.Message {
		if _, ok := read[wire.KeygenRequest](f.m); !ok || !f.up {
			return []wire.Message{f.m}
		}
		h.tell("alice", write(wire.Message{}, &wire.KeygenConfirm{
			KeyID: theirs.KeyID, Status: wire.StatusSuccess, AccountAddr: theirs.AccountAddr, SessionID: theirs.SessionID,
			PublicKey: theirs.PublicKey, Attestations: lists[:],
		}))
		return nil
	})
	var e *trust.AttestationError
	if key, err := h.alice.Keygen(t.Context(), request); !errors.As(err, &e) || e.Fault != trust.AttestationOther {
		t.Errorf("got %v, %v, want it refused", key, err)
	}
}

// TestKeyOfStrangers: about participants unknown to a coordinator the server can lie
// to her; she is told so, and if pins are required no request is made.
func TestKeyOfStrangers(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	h.ask(func(cfg *client.Config) { cfg.Trust = trust.Policy{} })
	_, public, address := ownKey(t)
	h.attack(outcomes(func(p *wire.KeygenConfirm) { p.AccountAddr, p.PublicKey, p.Attestations = address, public, nil }))
	if key, err := h.keygen(pubkey.Ed25519, 0); err != nil || key.Attested() || len(key.AttestedBy) != 0 {
		t.Errorf("nothing attested: got %+v, %v", key, err)
	}
	h.attack(outcomes(func(p *wire.KeygenConfirm) {
		own, list := ownCommittee(t, p.KeyID, p.SessionID)
		p.AccountAddr, p.PublicKey, p.Attestations = own.AccountAddr, own.PublicKey, list
	}))
	key, err := h.keygen(pubkey.Ed25519, 0)
	if err != nil || key.Attested() || len(key.AttestedBy) != 3 || !key.AttestedBy[0].First {
		t.Errorf("attested by the attacker: got %+v, %v", key, err)
	}
	// One known participant is enough: he has made the key with the others.
	known := new(participant.MemStore)
	if err := known.Pin("carol", h.p["carol"].cfg.Identity.Public().Fingerprint()); err != nil {
		t.Fatal(err)
	}
	h.ask(func(cfg *client.Config) { cfg.Trust = trust.Of(known) })
	var e *trust.AttestationError
	if key, err := h.keygen(pubkey.Ed25519, 0); !errors.As(err, &e) || e.Fault != trust.AttestationIdentity {
		t.Errorf("carol is pinned: got %+v, %v", key, err)
	}
	h.ask(func(cfg *client.Config) { cfg.Trust.PinnedOnly = true })
	mark := h.mark()
	if key, err := h.keygen(pubkey.Ed25519, 0); !errors.Is(err, trust.ErrNotPinned) || len(sentBy[wire.KeygenRequest](h, mark, "")) != 0 {
		t.Errorf("all must be pinned: got %+v, %v, want nothing asked", key, err)
	}
}
