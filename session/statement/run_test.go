package statement

import (
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
