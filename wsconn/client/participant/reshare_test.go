package participant

import (
	"context"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// resharing is a key of names whose epoch 1 is certified, with a coordinator that has
// pinned everybody.
type resharing struct {
	t       *testing.T
	f       *clienttest.Server
	peers   map[string]*peer
	store   *MemStore // the coordinator's
	c       *client.Client
	lineage *statement.Lineage
	signed  int
}

func newResharing(t *testing.T, change func(*Config)) *resharing {
	t.Helper()
	f, peers, key := threeWithKey(t, change)
	w := &resharing{t: t, f: f, peers: map[string]*peer{}, store: &MemStore{}}
	for _, p := range peers {
		w.add(p)
	}
	var texts []string
	for i, p := range peers {
		held, err := share.Open(made.shares[i], p.identity)
		if err != nil {
			t.Fatal(err)
		}
		a, err := held.Attest(p.identity, "made", "coord")
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, a.String())
	}
	first, err := statement.FirstCertificate(statement.Attested{
		SessionID: "made", KeyID: "made", Coordinator: "coord", Curve: key.Curve, Threshold: 2, Participants: names, AccountAddr: key.AccountAddr, PublicKey: key.PublicKey,
	}, texts)
	if err != nil {
		t.Fatal(err)
	}
	f.Mu.Lock()
	f.Certify(first)
	f.Mu.Unlock()
	w.lineage, err = statement.VerifyLineage([]*statement.Certificate{first})
	if err != nil {
		t.Fatal(err)
	}
	w.c = coordinatorWith(t, f, func(cfg *client.Config) { cfg.Trust = trust.Pinned(w.store) })
	return w
}

// add pins a new participant with the coordinator and with all others.
func (w *resharing) add(p *peer) {
	w.t.Helper()
	fingerprint := p.identity.Public().Fingerprint()
	if err := w.store.Pin(p.user, fingerprint); err != nil {
		w.t.Fatal(err)
	}
	w.peers[p.user] = p
	for _, other := range w.peers {
		for _, user := range []string{p.user, other.user} {
			if err := other.store.Pin(user, w.peers[user].identity.Public().Fingerprint()); err != nil {
				w.t.Fatal(err)
			}
			if err := p.store.Pin(user, w.peers[user].identity.Public().Fingerprint()); err != nil {
				w.t.Fatal(err)
			}
		}
		_ = other.store.Pin(p.user, fingerprint)
	}
}

// joins starts another participant.
func (w *resharing) joins(user string) *peer {
	p := newPeer(w.t, w.f, user)
	w.add(p)
	return p.start()
}

func (w *resharing) member(user string) identity.Member {
	return identity.Member{User: user, Identity: w.peers[user].identity.Public()}
}

// asks returns a request for a committee of these users.
func (w *resharing) asks(threshold int, users ...string) request.Reshare {
	r := request.Reshare{Lineage: w.lineage, Threshold: threshold}
	for _, user := range users {
		r.Members = append(r.Members, w.member(user))
	}
	return r
}

// reshare requests an epoch, which must come, and waits until all its members have moved
// to it.
func (w *resharing) reshare(r request.Reshare) {
	w.t.Helper()
	done, err := w.c.Reshare(clienttest.Within(w.t), r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.lineage = done.Lineage
	w.settled()
}

// settled waits until every user of the current epoch holds its share and no other.
func (w *resharing) settled() {
	w.t.Helper()
	e := w.lineage.Epoch()
	for _, m := range e.Members {
		clienttest.WaitFor(w.t, m.User+" is at the epoch", func() bool { return slices.Equal(w.shares(m.User), []int{e.Number}) })
	}
}

// shares returns the epochs of a user's shares.
func (w *resharing) shares(user string) []int {
	w.t.Helper()
	e := w.lineage.Epoch()
	list, err := w.peers[user].store.(EpochStore).Epochs(context.Background(), e.KeyID, e.AccountAddr)
	if err != nil {
		w.t.Fatal(err)
	}
	numbers := []int{}
	for _, s := range list {
		numbers = append(numbers, s.Epoch)
	}
	return numbers
}

// sign has the key sign, and returns the error.
func (w *resharing) trySign(users ...string) error {
	w.t.Helper()
	e := w.lineage.Epoch()
	w.signed++
	_, err := w.c.Sign(clienttest.Within(w.t), request.Sign{
		KeyID: e.KeyID, AccountAddr: e.AccountAddr, Data: "pay " + string(rune('0'+w.signed)), Participants: users, MinEpoch: e.Number,
	})
	return err
}

func (w *resharing) sign(users ...string) {
	w.t.Helper()
	if err := w.trySign(users...); err != nil {
		w.t.Fatalf("under epoch %d: %v", w.lineage.Epoch().Number, err)
	}
}

// A key goes through a refresh, a replacement of a lost participant, a larger and a
// smaller committee, and signs under each epoch, with one address.
func TestReshare(t *testing.T) {
	w := newResharing(t, nil)
	w.sign()
	w.reshare(request.Refresh(w.lineage))
	w.sign("alice", "bob")

	w.peers["carol"].end() // its share is lost
	w.joins("dave")
	r, err := request.Replace(w.lineage, "carol", w.member("dave"))
	if err != nil {
		t.Fatal(err)
	}
	w.reshare(r)
	w.sign("alice", "dave")

	w.joins("erin")
	w.reshare(w.asks(3, "alice", "bob", "dave", "erin"))
	w.sign("alice", "bob", "erin")

	w.reshare(w.asks(2, "erin", "dave"))
	w.sign("erin", "dave")
	for _, user := range []string{"alice", "bob"} {
		clienttest.WaitFor(t, user+" has no share", func() bool { return len(w.shares(user)) == 0 })
	}
	if n := w.lineage.Epoch().Number; n != 5 {
		t.Errorf("the key is at epoch %d, want 5", n)
	}
}

// A key on secp256k1 is refreshed, with fresh pre-parameters.
func TestReshareSecp256k1(t *testing.T) {
	if !sample.Full() {
		t.Skip("set CONCLAVE_FULL=1; package party's tests refresh a key on secp256k1")
	}
	f, peers := three(t)
	w := &resharing{t: t, f: f, peers: map[string]*peer{}, store: &MemStore{}}
	for _, p := range peers {
		w.add(p)
	}
	w.c = coordinatorWith(t, f, func(cfg *client.Config) { cfg.Trust = trust.Pinned(w.store) })
	key := makeKey(t, w.c, pubkey.Secp256k1)
	f.Mu.Lock()
	first := f.Lineages[key.KeyID]
	f.Mu.Unlock()
	var err error
	if w.lineage, err = statement.VerifyLineage(first); err != nil {
		t.Fatal(err)
	}
	w.reshare(request.Refresh(w.lineage))
	w.sign("alice", "carol")
}
