package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// plainKey is an ed25519 key made by unmodified tss-lib, through a relay that passes
// messages on: what a server would see without sealing.
type plainKey struct {
	places map[int]*big.Int
	seen   []sighting
	public *crypto.ECPoint
	saves  []string // save data of each party, in JSON
}

func plainKeygen(t *testing.T, threshold, total int) *plainKey {
	t.Helper()
	k := &plainKey{places: map[int]*big.Int{}}
	var ids tss.UnSortedPartyIDs
	for i := 1; i <= total; i++ {
		ids = append(ids, tss.NewPartyID(fmt.Sprint(i), "", big.NewInt(int64(1000+i))))
	}
	sorted := tss.SortPartyIDs(ids)
	out := make(chan tss.Message, 16*total*total)
	end := make(chan *eddsakeygen.LocalPartySaveData, total)
	var parties []tss.Party
	for i, id := range sorted {
		k.places[i+1] = id.KeyInt()
		params := tss.NewParameters(tss.Edwards(), tss.NewPeerContext(sorted), id, total, threshold-1)
		parties = append(parties, eddsakeygen.NewLocalParty(params, out, end))
	}
	for _, p := range parties {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	for len(out) > 0 {
		m := <-out
		raw, routing, err := m.WireBytes()
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range parties {
			if i == m.GetFrom().Index || !m.IsBroadcast() && routing.To[0].Index != i {
				continue
			}
			k.seen = append(k.seen, sighting{m.GetFrom().Index + 1, i + 1, raw})
			if _, err := p.UpdateFromBytes(raw, m.GetFrom(), m.IsBroadcast()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range parties {
		save := <-end
		text, err := json.Marshal(save)
		if err != nil {
			t.Fatal(err)
		}
		k.public, k.saves = save.EDDSAPub, append(k.saves, string(text))
	}
	return k
}

// TestCaptureUnsealed shows that the attack works: tss-lib's own messages reveal the
// key to their relay.
func TestCaptureUnsealed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		threshold, total int
		falls            bool
	}{
		{2, 3, true},
		{3, 5, true},
		{3, 3, false}, // with n of n the relay misses one point of each polynomial
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.threshold, tc.total), func(t *testing.T) {
			t.Parallel()
			k := plainKeygen(t, tc.threshold, tc.total)
			private, err := recoverKey(pubkey.Ed25519, tc.threshold, k.places, k.seen, k.public)
			if (err == nil) != tc.falls {
				t.Fatalf("got %v, want the key to fall out: %v", err, tc.falls)
			}
			if tc.falls && !fits(pubkey.Ed25519, private, k.public) {
				t.Error("it is not the key")
			}
		})
	}
}

// recording is everything available to an attacker who holds a node and Redis.
type recording struct {
	frames, redis, logs [][]byte
}

func (h *hostile) recording(k *link) recording {
	r := recording{redis: k.recorded(), logs: [][]byte{[]byte(h.c.logs.String())}}
	for _, f := range h.since(0) {
		r.frames = append(r.frames, f.raw)
	}
	for key, content := range h.c.everything() {
		r.redis = append(r.redis, []byte(key+" "+content))
	}
	return r
}

func (r recording) all() [][]byte { return slices.Concat(r.frames, r.redis, r.logs) }

// tappedCluster is a captured node whose link to Redis is recorded too.
func tappedCluster(t *testing.T, flags ...string) (*hostile, *link) {
	t.Helper()
	rdb := redistest.Mini(t)
	c := newCluster(t, rdb, redistest.Prefix(), flags...)
	k := newLink(t, rdb.(*redis.Client).Options().Addr)
	k.record()
	c.url = k.url()
	c.start()
	return capture(t, c), k
}

// TestCapture records a keygen and signings at the node and at Redis, completely,
// and analyses the recording. It holds no share, no part of a share, no private key
// and no identity; the attack that works on an unsealed keygen gets nothing; there
// are no signatures but those approved. With the identities, the recording yields
// the key: it is their seals that protect it.
func TestCapture(t *testing.T) {
	t.Parallel()
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			t.Parallel()
			if curve == pubkey.Secp256k1 && testing.Short() {
				t.Skip("real secp256k1 MPC is left out with -short")
			}
			if curve == pubkey.Secp256k1 && !sample.Full() {
				t.Skip(sample.Reason)
			}
			captureRun(t, curve)
		})
	}
}

func captureRun(t *testing.T, curve pubkey.Curve) {
	h, k := tappedCluster(t)
	h.gather(true)
	key := h.honest(curve)
	approved := []string{"Pay 5 ether to Bob", "Pay 6 ether to Bob"}
	if curve == pubkey.Secp256k1 {
		approved = nil // a signing here reveals no part of a key, and costs seconds
	}
	for _, data := range approved {
		h.stillSigns(key, data, "bob", "carol")
	}
	h.settle(1 + len(approved))
	rec := h.recording(k)

	places, secrets, texts, public := h.secrets(key)
	sealed, opened := h.keygenSightings(key)
	for name, seen := range map[string][]sighting{"the frames": sealed, "Redis": roundsIn(rec.redis)} {
		if len(seen) < 6 {
			t.Errorf("%s show %d round messages only", name, len(seen))
		}
		if _, err := recoverKey(curve, 2, places, seen, public); err == nil {
			t.Errorf("%s give the key", name)
		}
	}
	// One participant's machine beside the servers is not enough, as the threshold
	// is two: its share, and one point of each polynomial.
	bobs := slices.DeleteFunc(slices.Clone(opened), func(s sighting) bool { return s.to != 1 })
	if _, err := recoverKey(curve, 2, places, bobs, public); err == nil || len(bobs) != 2 {
		t.Errorf("bob's identity gives the key, from %d messages", len(bobs))
	}
	private, err := recoverKey(curve, 2, places, opened, public)
	if err != nil {
		t.Fatalf("with the identities: %v", err)
	}
	secrets["the private key"] = private
	for _, s := range opened {
		if share, ok := bareShare(s.body); ok {
			secrets[fmt.Sprintf("what part %d gave part %d", s.from, s.to)] = share
		}
	}
	// Shares, identities, points and the key; on secp256k1 Paillier's primes too.
	if want := map[pubkey.Curve]int{pubkey.Ed25519: 3 + 6 + 6 + 1, pubkey.Secp256k1: 3 + 6 + 6 + 1 + 3}[curve]; len(secrets) != want {
		t.Errorf("%d secrets are known, want %d", len(secrets), want)
	}
	if found := leaks(rec.all(), secrets, texts); len(found) != 0 {
		t.Errorf("the recording holds %s", strings.Join(found, "; "))
	}
	if _, values := sharesIn(rec.all()); len(values) != 0 {
		t.Errorf("the recording holds %d open shares", len(values))
	}
	h.approvedOnly(rec, key, approved)
	h.freshNonces()

	// The same search finds secrets that are present.
	sealedShare, _ := h.share("bob", key)
	planted := slices.Concat(rec.all(), [][]byte{[]byte(h.openShare("bob", sealedShare))})
	if _, values := sharesIn(planted); len(values) != 1 || len(leaks(planted, secrets, nil)) == 0 {
		t.Error("a share put there in the open is not found")
	}
}

// settle waits until all messages of so many sessions have passed.
func (h *hostile) settle(sessions int) {
	h.t.Helper()
	for _, user := range partUsers[:2] {
		eventually(h.t, user+" hears the ends", func() bool { return len(toldTo[wire.SessionEnded](h, 0, user)) == sessions })
	}
}
