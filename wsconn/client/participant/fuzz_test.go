package participant

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzParams gives a participant any parameters of a run that a captured server may
// send: only the approved ones are run.
func FuzzParams(f *testing.F) {
	c := partytest.NewCommittee(f, 3)
	var parties []wire.Party
	for _, m := range c.Members {
		parties = append(parties, wire.Party{PartIndex: m.Index, UserID: m.User, Identity: m.Identity.String()})
	}
	users := []string{"user-1", "user-2", "user-3"}
	keygen := Invitation{Kind: request.KindKeygen, KeyID: "k", Threshold: 2, Participants: users, PartIndex: 1, Curve: pubkey.Ed25519}
	sign, err := digested(Invitation{Kind: request.KindSign, KeyID: "k", Participants: users, PartIndex: 1, Curve: pubkey.Ed25519, Data: "pay bob"})
	if err != nil {
		f.Fatal(err)
	}
	add := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add(wire.KeygenParams{KeyID: "k", Threshold: 2, TotalParts: 3, PartIndex: 1, Curve: "ed25519", Parties: parties})
	add(wire.KeygenParams{KeyID: "k", Threshold: 2, TotalParts: 3, PartIndex: 1, Curve: "ed25519", Parties: []wire.Party{parties[1], parties[0], parties[2]}})
	add(wire.SignParams{KeyID: "k", Data: "pay bob", PartIndex: 1, Participants: "1,3", Hash: sign.Hash, Digest: sign.Digest, Parties: []wire.Party{parties[0], parties[2]}})
	add(wire.SignParams{KeyID: "k", Data: "pay eve", PartIndex: 1, Participants: "1,3", Hash: sign.Hash, Digest: sign.Digest, Parties: parties})
	f.Fuzz(func(t *testing.T, data []byte) {
		var k wire.KeygenParams
		if json.Unmarshal(data, &k) == nil {
			if members, err := checkKeygenParams(keygen, &k); err == nil && (len(members) != 3 || members[2].User != "user-3" || k.Threshold != 2) {
				t.Errorf("took %+v", k)
			}
		}
		var s wire.SignParams
		if json.Unmarshal(data, &s) == nil {
			members, err := checkSignParams(sign, &s)
			if err != nil {
				return
			}
			for _, m := range members {
				if !slices.Contains(users, m.User) {
					t.Errorf("took %+v", s)
				}
			}
			if s.Data != sign.Data || s.Digest != sign.Digest {
				t.Errorf("took %+v", s)
			}
		}
	})
}
