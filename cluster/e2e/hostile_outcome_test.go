package e2e_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ownKey is a key held by the attacker alone.
func ownKey(t *testing.T) (private ed25519.PrivateKey, public, address string) {
	t.Helper()
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if address, err = pubkey.Ed25519.Address(pub); err != nil {
		t.Fatal(err)
	}
	return private, pubkey.Encode(pub), address
}

// outcomes returns the attack that changes the outcomes sent to alice.
func outcomes[T any, P payload[T]](change func(P)) func(f frame) []wire.Message {
	return func(f frame) []wire.Message {
		p, ok := read[T, P](f.m)
		if !ok || f.up || f.user != "alice" {
			return []wire.Message{f.m}
		}
		change(p)
		return []wire.Message{write(f.m, p)}
	}
}

// TestFalseOutcomes sends the coordinator invalid signatures and keys.
func TestFalseOutcomes(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key := h.honest(pubkey.Ed25519)
	private, public, address := ownKey(t)
	const data = "Pay 5 ether to Bob"
	earlier, err := h.sign(key, "something else", 0)
	if err != nil {
		t.Fatal(err)
	}
	own := func(text string) string { return pubkey.Encode(ed25519.Sign(private, []byte(text))) }
	for name, change := range map[string]func(p *wire.SignComplete){
		"a signature of something else": func(p *wire.SignComplete) { p.Signature = earlier.Signature },
		"its data too":                  func(p *wire.SignComplete) { p.Signature, p.Data = earlier.Signature, "something else" },
		"a signature by another key":    func(p *wire.SignComplete) { p.Signature = own(data) },
		"the key's address too":         func(p *wire.SignComplete) { p.Signature, p.AccountAddr, p.PublicKey = own(data), address, public },
		"half a signature":              func(p *wire.SignComplete) { p.Signature = p.Signature[:66] },
		"no signature":                  func(p *wire.SignComplete) { p.Signature = "" },
		"a signature with another last digit": func(p *wire.SignComplete) {
			last := "8"
			if strings.HasSuffix(p.Signature, last) {
				last = "7"
			}
			p.Signature = p.Signature[:len(p.Signature)-1] + last
		},
	} {
		h.attack(outcomes(change))
		sig, err := h.sign(key, data, 0)
		if !errors.Is(err, request.ErrBadSignature) || sig.Signature != "" {
			t.Errorf("%s: got %v, want ErrBadSignature and nothing besides", name, err)
		}
	}
	// Unproven fields beside a good signature are not believed.
	h.attack(outcomes(func(p *wire.SignComplete) {
		p.Data, p.AccountAddr, p.PublicKey = "Pay 500 ether to Mallory", address, public
	}))
	sig, err := h.sign(key, data, 0)
	if err != nil || sig.Data != data || sig.AccountAddr != key.AccountAddr || sig.PublicKey != key.PublicKey {
		t.Errorf("lies beside a good signature: got %v, %v", sig, err)
	}
	// An outcome can be denied, and then there is no signature.
	h.attack(outcomes(func(p *wire.SignComplete) {
		p.Status, p.Reason, p.Culprits = wire.StatusFailed, "carol's fault", []int{2}
	}))
	var out *request.OutcomeError
	if sig, err := h.sign(key, data, 0); !errors.As(err, &out) || sig.Signature != "" {
		t.Errorf("an outcome denied: got %v, %v", sig, err)
	}

	for name, change := range map[string]func(p *wire.KeygenConfirm){
		"another address":            func(p *wire.KeygenConfirm) { p.AccountAddr = address },
		"another public key":         func(p *wire.KeygenConfirm) { p.PublicKey = public },
		"an address of another form": func(p *wire.KeygenConfirm) { p.AccountAddr, p.PublicKey = newFakeKey(t).address, "" },
		"no address":                 func(p *wire.KeygenConfirm) { p.AccountAddr = "" },
	} {
		h.attack(outcomes(change))
		if got, err := h.keygen(pubkey.Ed25519, 0); err == nil || got.KeyID != "" || got.AccountAddr != "" {
			t.Errorf("%s: got %v, %v, want an error", name, got, err)
		}
	}
	h.stillSigns(key, "after all")
}

// reports returns the attack that changes bob's reports of a keygen.
func reports(change func(p *wire.KeygenComplete)) func(f frame) []wire.Message {
	return func(f frame) []wire.Message {
		p, ok := read[wire.KeygenComplete](f.m)
		if !ok || !f.up || f.user != "bob" {
			return []wire.Message{f.m}
		}
		change(p)
		return []wire.Message{write(f.m, p)}
	}
}

// TestFalseReports changes a participant's report of its keygen: a key is confirmed
// only if all parties have reported alike.
func TestFalseReports(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	_, public, address := ownKey(t)
	for _, tc := range []struct {
		name    string
		change  func(p *wire.KeygenComplete)
		status  wire.Status
		reason  string
		expires time.Duration
	}{
		{"another key", func(p *wire.KeygenComplete) { p.AccountAddr, p.PublicKey = address, public }, wire.StatusFailed, "the parties disagree on the key", 0},
		{"another address", func(p *wire.KeygenComplete) { p.AccountAddr = address }, wire.StatusExpired, "without a word from bob", ignoredFor},
	} {
		h.attack(reports(tc.change))
		var out *request.OutcomeError
		_, err := h.keygen(pubkey.Ed25519, tc.expires)
		if !errors.As(err, &out) || out.Status != tc.status || !strings.Contains(out.Reason, tc.reason) || !slices.Contains(out.Culprits, 1) {
			t.Errorf("%s: got %v, want %s: %s, and bob's part named", tc.name, err, tc.status, tc.reason)
		}
	}
}

// TestKeygenParamsTwice sends two versions of a keygen's parameters.
func TestKeygenParamsTwice(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	h.honest(pubkey.Ed25519)
	stranger := partytest.Identity(t).Public().String()
	tries := map[string]struct {
		change func(p *wire.KeygenParams)
		reason string
	}{
		"the same":                          {func(*wire.KeygenParams) {}, ""},
		"another committee":                 {func(p *wire.KeygenParams) { p.Parties[1].UserID = "mallory" }, ""},
		"another identity":                  {func(p *wire.KeygenParams) { p.Parties[1].Identity = stranger }, ""},
		"another attempt and committee":     {func(p *wire.KeygenParams) { p.Attempt, p.Parties[1].UserID = 2, "mallory" }, differ},
		"another attempt and identity":      {func(p *wire.KeygenParams) { p.Attempt, p.Parties[1].Identity = 2, stranger }, "the identity has changed: carol"},
		"another attempt, for bob alone":    {func(p *wire.KeygenParams) { p.Attempt = 2 }, refusesRound},
		"another attempt and own identity":  {func(p *wire.KeygenParams) { p.Attempt, p.Parties[0].Identity = 2, stranger }, "another identity than the own one"},
		"another attempt and fewer parties": {func(p *wire.KeygenParams) { p.Attempt, p.Parties = 2, p.Parties[:2] }, differ},
	}
	for _, name := range sample.Of(3, slices.Sorted(maps.Keys(tries))) {
		again, mark := tries[name], h.mark()
		h.attack(func(f frame) []wire.Message {
			p, ok := read[wire.KeygenParams](f.m)
			if !ok || f.up || f.user != "bob" {
				return []wire.Message{f.m}
			}
			again.change(p)
			second := write(f.m, p)
			second.Seq = 0
			return []wire.Message{f.m, second}
		})
		if again.reason == "" {
			key, err := h.keygen(pubkey.Ed25519, 0)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			h.sameKey(key)
			continue
		}
		var out *request.OutcomeError
		if _, err := h.keygen(pubkey.Ed25519, ignoredFor); !errors.As(err, &out) || out.Status != wire.StatusExpired {
			t.Errorf("%s: got %v, want it expired", name, err)
		}
		// The node does not know of such an attempt, and ignores bob's report of it.
		failed := sentBy[wire.PartyFailed](h, mark, "bob")
		if len(failed) != 1 || failed[0].Attempt != 2 || !strings.Contains(failed[0].Reason, again.reason) {
			t.Errorf("%s: bob says %v, want %q", name, failed, again.reason)
		}
		if n := len(sentBy[wire.KeygenComplete](h, mark, "")); n != 0 {
			t.Errorf("%s: %d parties have a key", name, n)
		}
	}
}

// TestReturnedShares gives a participant that has lost its disk something other than
// the sealed share that it once gave the server.
func TestReturnedShares(t *testing.T) {
	t.Parallel()
	h := captured(t, true)
	key, other := h.honest(pubkey.Ed25519), h.honest(pubkey.Ed25519)
	own, _ := h.share("bob", key)
	others, _ := h.share("bob", other)
	carols, _ := h.share("carol", key)
	bob := h.p["bob"]
	bob.stop()
	bob.store = new(participant.MemStore)
	bob.part.Shares = bob.store
	if err := bob.store.Pin("alice", h.c.met.pins["alice"]); err != nil {
		t.Fatal(err)
	}
	h.enter("bob")
	sealed := func(share string) string { _, s, _ := strings.Cut(share, `"sealed":`); return s }
	type row struct{ name, share, reason string }
	wrong := []row{
		{"nothing", "", "there is no share of the key here"},
		{"garbage", "garbage", "parse share"},
		{"carol's", carols, "the share is sealed to another identity"},
		{"carol's, said to be bob's", strings.Replace(carols, `"user_id":"carol","part_index":2`, `"user_id":"bob","part_index":1`, 1), "the share is sealed to another identity"},
		{"of another key", others, "the share is of another key"},
		{"of another key, said to be of this", strings.Replace(own, sealed(own), sealed(others), 1), "the public part was changed after sealing"},
		{"with another threshold", strings.Replace(own, `"threshold":2`, `"threshold":3`, 1), "the public part was changed after sealing"},
		{"with another identity of carol", strings.ReplaceAll(own, h.p["carol"].cfg.Identity.Public().String(), partytest.Identity(t).Public().String()), "the public part was changed after sealing"},
		{"cut off", own[:len(own)/2], "parse share"},
	}
	for _, tc := range append(sample.Of(4, wrong), row{"the right one", own, ""}) {
		if tc.share == own && tc.reason != "" {
			t.Errorf("%s: nothing is changed", tc.name)
		}
		mark := h.mark()
		h.attack(func(f frame) []wire.Message {
			p, ok := read[wire.SignParams](f.m)
			if !ok || f.up || f.user != "bob" {
				return []wire.Message{f.m}
			}
			p.ShareJSON = tc.share
			return []wire.Message{write(f.m, p)}
		})
		data := "signed with a share: " + tc.name
		sig, err := h.sign(key, data, 0, "bob", "carol")
		if tc.reason == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
				continue
			}
			independent(t, key, data, sig.Signature)
			continue
		}
		var out *request.OutcomeError
		if !errors.As(err, &out) || out.Status != wire.StatusFailed {
			t.Errorf("%s: got %v, want it failed", tc.name, err)
		}
		for _, f := range sentBy[wire.PartyFailed](h, mark, "bob") {
			if !strings.Contains(f.Reason, tc.reason) || len(f.Culprits) != 0 {
				t.Errorf("%s: bob says %q and blames %v, want %q and nobody", tc.name, f.Reason, f.Culprits, tc.reason)
			}
		}
		if n := len(sentBy[wire.SignResult](h, mark, "")) + len(sentBy[wire.TSSMessage](h, mark, "bob")); n != 0 {
			t.Errorf("%s: bob has taken part", tc.name)
		}
	}
}
