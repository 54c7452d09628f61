package participant

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestKeygenAndSign(t *testing.T) {
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			if curve == pubkey.Secp256k1 && testing.Short() {
				t.Skip("a real keygen takes a while")
			}
			if curve == pubkey.Secp256k1 && !sample.Full() {
				t.Skip(sample.Reason)
			}
			_, peers, c := trio(t)
			key := makeKey(t, c, curve)
			for _, parties := range [][]string{nil, {"alice", "carol"}, {"bob", "carol"}} {
				sig, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob", Participants: parties})
				if err != nil {
					t.Fatal(err)
				}
				raw, _ := pubkey.Decode(sig.Signature)
				digest, _, _ := pubkey.Digest(curve, "pay bob", "")
				pub, _ := curve.ParseKey(key.PublicKey)
				if err := curve.Verify(pub, digest, raw); err != nil || sig.PublicKey != key.PublicKey {
					t.Errorf("%v: signature %s of key %s: %v", parties, sig.Signature, sig.PublicKey, err)
				}
			}
			for _, p := range peers {
				shares, err := p.store.List(context.Background())
				if err != nil || len(shares) != 1 || shares[0].AccountAddr != key.AccountAddr {
					t.Errorf("%s has shares %v, %v", p.user, shares, err)
				}
				clienttest.WaitFor(t, "all sessions end", func() bool {
					open, err := p.store.Open(context.Background())
					return err == nil && len(open) == 0
				})
				if rounds := all[Round](p); len(rounds) == 0 || rounds[0].Of == 0 {
					t.Errorf("%s told of rounds %v", p.user, rounds)
				}
			}
		})
	}
}

// Every answer of the server is lost at first, and the socket with it.
func TestEachAnswerLostOnce(t *testing.T) {
	f, peers, c := trio(t)
	lost := map[string]bool{}
	f.Mu.Lock()
	f.Cut = func(user string, m wire.Message) bool {
		first := !lost[m.RequestID]
		lost[m.RequestID] = true
		return first
	}
	f.Mu.Unlock()
	key := makeKey(t, c, pubkey.Ed25519)
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if n := count[Invited](p); n != 2 {
			t.Errorf("%s was invited %d times, want 2", p.user, n)
		}
		if n := count[client.Connected](p); n < 3 {
			t.Errorf("%s connected %d times, want more", p.user, n)
		}
	}
}

func TestRefusedForTheTimeBeing(t *testing.T) {
	t.Parallel()
	f, _, c := trio(t)
	tries := map[string]int{}
	f.Mu.Lock()
	f.Refuse = func(_ string, m wire.Message, _ wire.Payload) *wire.Error {
		tries[m.RequestID]++
		if tries[m.RequestID] == 1 {
			return wire.Errorf(wire.CodeUnavailable, "not now")
		}
		return nil
	}
	f.Mu.Unlock()
	makeKey(t, c, pubkey.Ed25519)
}

func TestDeclined(t *testing.T) {
	f := clienttest.New(t)
	for _, name := range names {
		p := newPeer(t, f, name)
		if name == "bob" {
			p.approve = func(context.Context, Invitation) (bool, string, error) { return false, "not\ntoday", nil }
		}
		p.start()
	}
	_, err := coordinator(t, f).Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names})
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusRejected || !strings.Contains(out.Reason, "not today") {
		t.Errorf("got %v, want rejected with bob's reason on one line", err)
	}
}
