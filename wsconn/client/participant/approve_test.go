package participant

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

const testPolicy = `{"version": 1, "rules": [
	{"name": "words", "coordinators": ["alice"], "kinds": ["sign"], "keys": ["k1"], "hashes": ["eip191"], "text": ["pay [0-9]+ to bob"]},
	{"name": "anything", "coordinators": ["frank"], "kinds": ["sign"], "keys": ["*"], "hashes": ["none"], "any_data": true}
]}`

// asks is an invitation signed by a pinned coordinator.
func asks(who, data, hash string) Invitation {
	return Invitation{
		Kind: request.KindSign, SessionID: "s", KeyID: "k1", Coordinator: who, Curve: pubkey.Secp256k1, Participants: []string{"bob", "carol"},
		Data: data, Hash: hash, Signer: &Signer{Pinned: true},
	}
}

// TestByPolicy: a policy decides requests signed by a pinned coordinator, and no
// others.
func TestByPolicy(t *testing.T) {
	t.Parallel()
	p, err := policy.Parse([]byte(testPolicy), nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(s *Signer) Invitation {
		inv := asks("alice", "pay 12 to bob", "eip191")
		inv.Signer = s
		return inv
	}
	for name, tc := range map[string]struct {
		inv  Invitation
		want string // of the refusal
	}{
		"allowed":     {asks("alice", "pay 12 to bob", "eip191"), ""},
		"not allowed": {asks("alice", "pay bob", "eip191"), "matches no pattern"},
		"not signed":  {with(nil), "not signed"},
		"not pinned":  {with(&Signer{}), "not pinned"},
	} {
		ok, reason, err := ByPolicy(p)(t.Context(), tc.inv)
		if err != nil || ok != (tc.want == "") || !strings.Contains(reason, tc.want) {
			t.Errorf("%s: got %t, %q, %v, want %q", name, ok, reason, err, tc.want)
		}
	}
}

// FuzzByPolicy: no policy allows an unsigned request.
func FuzzByPolicy(f *testing.F) {
	f.Add(testPolicy, "pay 12 to bob", "eip191")
	f.Add(testPolicy, "0x00", "none")
	f.Add(`{"version": 1, "rules": []}`, "", "")
	f.Fuzz(func(t *testing.T, text, data, hash string) {
		p, err := policy.Parse([]byte(text), nil)
		if err != nil {
			return
		}
		for _, who := range []string{"alice", "frank"} {
			inv := asks(who, data, hash)
			inv.Signer = nil
			if ok, _, _ := ByPolicy(p)(t.Context(), inv); ok {
				t.Error("allowed what is not signed")
			}
		}
	})
}
