package statement

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// TestContextBindsEverything changes each part of a run as little as possible.
func TestContextBindsEverything(t *testing.T) {
	t.Parallel()
	base := Run{
		Kind: Sign, SessionID: "session", Attempt: 1, KeyID: "key", Epoch: 1, Curve: pubkey.Secp256k1,
		Threshold: 2, TotalParts: 3, Digest: []byte("digest"), PublicKey: []byte("public"),
	}
	ids := []*identity.Identity{fresh(t), fresh(t), fresh(t)}
	for i, id := range ids {
		base.Parties = append(base.Parties, identity.Member{Index: i + 1, User: fmt.Sprintf("user-%d", i+1), Identity: id.Public()})
	}
	seen := map[[32]byte]string{base.Context(): "the base"}
	stranger := fresh(t)
	for what, change := range map[string]func(*Run){
		"the kind":           func(r *Run) { r.Kind = Keygen },
		"the digest":         func(r *Run) { r.Digest = []byte("digesT") },
		"the public key":     func(r *Run) { r.PublicKey = []byte("publiC") },
		"the digest's end":   func(r *Run) { r.Digest, r.PublicKey = []byte("digestp"), []byte("ublic") },
		"the session":        func(r *Run) { r.SessionID = "sessioN" },
		"the attempt":        func(r *Run) { r.Attempt = 2 },
		"the key":            func(r *Run) { r.KeyID = "keY" },
		"the epoch":          func(r *Run) { r.Epoch = 2 },
		"the first format":   func(r *Run) { r.v1 = true },
		"the curve":          func(r *Run) { r.Curve = pubkey.Ed25519 },
		"the threshold":      func(r *Run) { r.Threshold = 3 },
		"the total":          func(r *Run) { r.TotalParts = 4 },
		"fewer parties":      func(r *Run) { r.Parties = r.Parties[:2] },
		"a part index":       func(r *Run) { r.Parties[2].Index = 4 },
		"a user":             func(r *Run) { r.Parties[1].User = "user-x" },
		"an identity":        func(r *Run) { r.Parties[1].Identity = stranger.Public() },
		"a signing key":      func(r *Run) { r.Parties[1].Identity = mixed(t, stranger, ids[1]).Public() },
		"a sealing key":      func(r *Run) { r.Parties[1].Identity = mixed(t, ids[1], stranger).Public() },
		"a session and more": func(r *Run) { r.SessionID, r.KeyID = "sessionk", "ey" },
	} {
		r := base
		r.Parties = slices.Clone(base.Parties)
		change(&r)
		c := r.Context()
		if other, taken := seen[c]; taken {
			t.Errorf("%s and %s have the same context", what, other)
		}
		seen[c] = what
	}
}

// reshareRun is a run of a reshare from two of three parties to two.
func reshareRun(t *testing.T) (*Run, []*identity.Identity) {
	t.Helper()
	r := &Run{
		Kind: Reshare, SessionID: "session", Attempt: 1, KeyID: "key", Epoch: 5, Curve: pubkey.Ed25519,
		Threshold: 2, TotalParts: 2, PublicKey: []byte("public"),
		From: &From{Epoch: 3, Threshold: 2, TotalParts: 3, Certificate: [32]byte{1}},
	}
	ids := []*identity.Identity{fresh(t), fresh(t), fresh(t)}
	for i, m := range []identity.Member{
		{Index: 1, User: "alice"}, {Index: 3, User: "carol"}, // the old ones
		{Index: 4, User: "alice"}, {Index: 5, User: "dave"},
	} {
		m.Identity = ids[[]int{0, 1, 0, 2}[i]].Public()
		r.Parties = append(r.Parties, m)
	}
	return r, ids
}

// TestReshareRun: what no reshare can be is refused, and every part of it is in the
// context.
func TestReshareRun(t *testing.T) {
	t.Parallel()
	base, ids := reshareRun(t)
	if err := base.Check(); err != nil {
		t.Fatal(err)
	}
	if base.Side(3) != Old || base.Side(4) != New || len(base.Committee(Old)) != 2 || base.Committee(New)[1].Index != 2 {
		t.Errorf("the committees are %v and %v", base.Committee(Old), base.Committee(New))
	}
	stranger := fresh(t)
	seen := map[[32]byte]string{base.Context(): "the base"}
	for what, change := range map[string]func(r *Run) (valid bool){
		"the old epoch":           func(r *Run) bool { r.From.Epoch = 4; return true },
		"the old threshold":       func(r *Run) bool { r.From.Threshold = 3; return false },
		"the old total":           func(r *Run) bool { r.From.TotalParts = 4; return false },
		"the certificate":         func(r *Run) bool { r.From.Certificate[31] = 1; return true },
		"a new device":            func(r *Run) bool { r.Parties[2].Identity = stranger.Public(); return true },
		"another quorum":          func(r *Run) bool { r.Parties[0].Index = 2; return true },
		"another key":             func(r *Run) bool { r.PublicKey = []byte("publiC"); return true },
		"a later epoch":           func(r *Run) bool { r.Epoch = 6; return true },
		"the old epoch again":     func(r *Run) bool { r.Epoch = 3; return false },
		"a stolen identity":       func(r *Run) bool { r.Parties[3].Identity = ids[1].Public(); return false },
		"one old member":          func(r *Run) bool { r.Parties = r.Parties[1:]; return false },
		"one new member":          func(r *Run) bool { r.Parties = r.Parties[:3]; return false },
		"an old member twice":     func(r *Run) bool { r.Parties[1].User = "alice"; return false },
		"a new member twice":      func(r *Run) bool { r.Parties[3].User = "alice"; return false },
		"out of order":            func(r *Run) bool { slices.Reverse(r.Parties); return false },
		"place 0":                 func(r *Run) bool { r.Parties[0].Index = 0; return false },
		"a place after the last":  func(r *Run) bool { r.Parties[3].Index = 6; return false },
		"an old threshold of one": func(r *Run) bool { r.From.Threshold = 1; return false },
		"import of three":         func(r *Run) bool { r.From.Epoch, r.From.Certificate = 0, [32]byte{}; return false },
		"a signing":               func(r *Run) bool { r.Kind = Sign; return false },
	} {
		r := *base
		from := *base.From
		r.From, r.Parties = &from, slices.Clone(base.Parties)
		valid := change(&r)
		if err := r.Check(); (err == nil) != valid {
			t.Errorf("%s: got %v", what, err)
		}
		c := r.Context()
		if other, taken := seen[c]; taken {
			t.Errorf("%s and %s have the same context", what, other)
		}
		seen[c] = what
	}
	alone := *base
	alone.From = nil
	if alone.Check() == nil {
		t.Error("a reshare needs no old committee")
	}
}

// TestReshareEvidence: evidence from a reshare is read as it was written and convicts; of
// another old committee, place or side it proves nothing.
func TestReshareEvidence(t *testing.T) {
	t.Parallel()
	run, ids := reshareRun(t)
	run.PublicKey = make([]byte, 32)
	place := Place{Context: run.Context(), Round: "eddsa/reshare/1", From: 3}
	sign := func(body string) SignedCopy {
		hash := sha256.Sum256([]byte(body))
		return SignedCopy{Hash: hash[:], Sig: ids[1].Sign(place.Message(hash))}
	}
	text, err := NewEvidence(run, place, sign("one"), sign("two")).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(e *Evidence) (valid bool){
		"nothing":             func(*Evidence) bool { return true },
		"the old committee":   func(e *Evidence) bool { e.Old = nil; return false },
		"the old epoch":       func(e *Evidence) bool { e.Old.Epoch = 4; return false },
		"the certificate":     func(e *Evidence) bool { e.Old.Certificate = pubkey.Encode(make([]byte, 32)); return false },
		"a short certificate": func(e *Evidence) bool { e.Old.Certificate = "0x01"; return false },
		"the public key":      func(e *Evidence) bool { e.PublicKey = pubkey.Encode(make([]byte, 31)); return false },
		"a digest":            func(e *Evidence) bool { e.Digest = "0x01"; return false },
		"the protocol":        func(e *Evidence) bool { e.Protocol = Sign; return false },
		"the sender's side":   func(e *Evidence) bool { e.From = 5; return false },
		"the round":           func(e *Evidence) bool { e.Round = "eddsa/reshare/3"; return false },
		"the first format":    func(e *Evidence) bool { e.Version, e.Epoch = 1, 0; return false },
	} {
		e, err := ParseEvidence(text)
		if err != nil {
			t.Fatal(err)
		}
		valid := change(e)
		culprit, err := e.Verify()
		if (err == nil) != valid || valid && culprit.User != "carol" {
			t.Errorf("%s: convicts %q: %v", what, culprit.User, err)
		}
	}
}
