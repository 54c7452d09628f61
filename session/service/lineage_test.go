package service_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// attestedKey stores an active key of alice, bob and carol, whose keygen all of them
// attest, but for those without.
func (w *world) attestedKey(id string, without ...string) session.Key {
	w.Helper()
	ok := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	solo := sessiontest.NewSoloKey(7)
	k := session.Key{
		ID: id, Status: session.KeyGenerating, Curve: pubkey.Secp256k1, Epoch: 1, Highest: 1, Threshold: 2,
		Participants: []string{"alice", "bob", "carol"}, Coordinator: "boss", Session: "kg-1",
	}
	ok(w.store.PutKey(w.ctx, k))
	attested := statement.Attested{
		SessionID: k.Session, KeyID: id, Epoch: 1, Coordinator: k.Coordinator, Curve: k.Curve, Threshold: k.Threshold, Participants: k.Participants,
		AccountAddr: solo.Address, PublicKey: solo.Public,
	}
	var members []identity.Member
	var ids []*identity.Identity
	for i, user := range k.Participants {
		own, err := identity.New()
		ok(err)
		ids, members = append(ids, own), append(members, identity.Member{Index: i + 1, User: user, Identity: own.Public()})
	}
	for i, own := range ids {
		text := ""
		if !slices.Contains(without, k.Participants[i]) {
			a, err := attested.Attest(own, members)
			ok(err)
			text = a.String()
		}
		ok(w.store.PutShare(w.ctx, id, k.Session, i+1, fmt.Sprint("share-", i+1), text))
	}
	k.Version, k.Status, k.AccountAddr, k.PublicKey = 1, session.KeyActive, solo.Address, solo.Public
	ok(w.store.PutKey(w.ctx, k))
	k.Version = 2
	return k
}

// A key's epochs and certificates are for who holds a share, held one, or requested it:
// for others it does not exist.
func TestEpochsAreShown(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		k := w.attestedKey("vault")
		caller := func(user string, roles ...wire.Role) service.Caller { return service.Caller{User: user, Roles: roles} }
		numbers := func(c service.Caller, after int, want ...int) {
			w.Helper()
			epochs, err := v.Epochs(w.ctx, c, "vault", after)
			var got []int
			for _, e := range epochs {
				got = append(got, e.Number)
			}
			if err != nil || !slices.Equal(got, want) {
				w.Errorf("%s sees the epochs %v, %v, want %v", c.User, got, err, want)
			}
		}
		hidden := func(user, key string) {
			w.Helper()
			if list, err := v.Epochs(w.ctx, caller(user, wire.RoleCoordinator), key, 0); err != service.ErrNotFound {
				w.Errorf("%s sees the epochs %v of %s, %v", user, list, key, err)
			}
			if list, err := v.Lineage(w.ctx, caller(user), key, 0, 9); err != service.ErrNotFound {
				w.Errorf("%s sees the lineage %v of %s, %v", user, list, key, err)
			}
		}
		for _, user := range []string{"boss", "alice"} {
			numbers(caller(user), 0, 1)
		}
		numbers(caller("root", wire.RoleAdmin), 0, 1)
		numbers(caller("boss"), 1)
		hidden("mallory", "vault")
		hidden("dave", "vault")
		hidden("boss", "none")
		hidden("boss", "{vault}")

		c := service.Certification{Key: k, Epochs: []session.Epoch{
			k.FirstEpoch(), {Number: 3, Parent: 1, Threshold: 2, Participants: []string{"bob", "dave"}, Certificate: "0x3"},
		}, Certificates: []service.Certificate{{Number: 1, Text: "one"}, {Number: 3, Text: "three"}}}
		c.Key.Epoch, c.Key.Participants, c.Key.Certificate = 3, []string{"bob", "dave"}, "0x3"
		if err := w.store.Certify(w.ctx, c); err != nil {
			w.Fatal(err)
		}
		for _, user := range []string{"boss", "alice", "bob", "dave"} {
			numbers(caller(user), 0, 1, 3)
		}
		numbers(caller("dave"), 1, 3)
		hidden("mallory", "vault")
		list, err := v.Lineage(w.ctx, caller("alice"), "vault", 0, 9)
		if err != nil || len(list) != 2 || list[1] != (service.Certificate{Number: 3, Text: "three"}) {
			w.Errorf("the lineage is %v, %v", list, err)
		}
		if list, err := v.KeyAttestations(w.ctx, c.Key); err != nil || list != nil {
			w.Errorf("attestations of epoch 1 as those of epoch 3: %v, %v", list, err)
		}
	})
}

// The attestations of a keygen are the certificate of epoch 1, once all are there and
// are of this key.
func TestFirstCertificate(t *testing.T) {
	each(t, func(w *world) {
		v, boss := w.node(nil), service.Caller{User: "boss"}
		first := func(key string, after, limit int) []service.Certificate {
			w.Helper()
			list, err := v.Lineage(w.ctx, boss, key, after, limit)
			if err != nil {
				w.Fatal(err)
			}
			return list
		}
		k := w.attestedKey("vault")
		list := first("vault", 0, 9)
		if len(list) != 1 || list[0].Number != 1 {
			w.Fatalf("the lineage is %v", list)
		}
		c, err := statement.ParseCertificate(list[0].Text)
		if err != nil {
			w.Fatal(err)
		}
		l, err := statement.VerifyLineage([]*statement.Certificate{c})
		if err != nil || l.Epoch().KeyID != "vault" || l.Epoch().AccountAddr != k.AccountAddr || len(l.Epoch().Members) != 3 {
			w.Errorf("%+v, %v", l, err)
		}
		if got := first("vault", 1, 9); len(got) != 0 {
			w.Errorf("after epoch 1: %v", got)
		}
		if got := first("vault", 0, 0); len(got) != 0 {
			w.Errorf("of a page of none: %v", got)
		}
		w.attestedKey("partly", "bob")
		if got := first("partly", 0, 9); len(got) != 0 {
			w.Errorf("without an attestation of bob: %v", got)
		}
		w.attestedKey("unattested", "alice", "bob", "carol")
		if got := first("unattested", 0, 9); len(got) != 0 {
			w.Errorf("without attestations: %v", got)
		}
		w.rdb.HSet(w.ctx, w.prefix+"key:{vault}:shares", "attestation:2", "nonsense")
		if got := first("vault", 0, 9); len(got) != 0 {
			w.Errorf("with nonsense of bob: %v", got)
		}
	})
}

// The request of a keygen, repeated after a reshare, is still answered with the key.
func TestKeygenRepeatedAfterReshare(t *testing.T) {
	each(t, func(w *world) {
		v, k := w.node(nil), w.attestedKey("vault")
		c := service.Certification{Key: k, Epochs: []session.Epoch{
			k.FirstEpoch(), {Number: 2, Parent: 1, Threshold: 3, Participants: []string{"bob", "dave", "erin"}, Certificate: "0x2"},
		}, Certificates: []service.Certificate{{Number: 1, Text: "one"}, {Number: 2, Text: "two"}}}
		c.Key.Epoch, c.Key.Threshold, c.Key.Participants, c.Key.Certificate = 2, 3, []string{"bob", "dave", "erin"}, "0x2"
		if err := w.store.Certify(w.ctx, c); err != nil {
			w.Fatal(err)
		}
		boss := service.Caller{User: "boss", Roles: []wire.Role{wire.RoleCoordinator}}
		p := wire.KeygenRequest{KeyID: "vault", Threshold: 2, TotalParts: 3, Participants: []string{"alice", "bob", "carol"}, Curve: "secp256k1"}
		s, err := v.RequestKeygen(w.ctx, boss, &p, "")
		if err != nil || s.Phase != session.Completed || s.AccountAddr != k.AccountAddr || !slices.Equal(s.Users(), p.Participants) {
			w.Errorf("the keygen again: %+v, %v", s, err)
		}
		p.Threshold, p.Participants = 3, []string{"bob", "dave", "erin"}
		if _, err := v.RequestKeygen(w.ctx, boss, &p, ""); err == nil {
			w.Error("a keygen for the committee of epoch 2 was taken for the key's")
		}
	})
}
