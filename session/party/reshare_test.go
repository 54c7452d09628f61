package party_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// TestReshare leads one key through every change of a committee, in a row: a refresh, a
// lost device replaced, a member added and removed, the threshold up and down. After each
// the new committee signs, and the address is the first one. On secp256k1 the sample has
// a refresh only, which other tests use too.
func TestReshare(t *testing.T) {
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			if curve == pubkey.Secp256k1 && testing.Short() {
				t.Skip("takes long")
			}
			t.Parallel()
			c, shares := reshareKey(t, curve)
			first := shares[0].Public()
			if curve == pubkey.Secp256k1 && !sample.Full() {
				r := recordOf(t, "ecdsa/reshare")
				checkEpoch(t, "refresh", first, r.committee, r.shares, 2)
				return
			}
			for i, step := range []struct {
				name      string
				quorum    []int // of the old committee
				keep      []int
				newcomers int
				threshold int
			}{
				{"refresh", []int{1, 3}, []int{1, 2, 3}, 0, 2},
				{"refresh by all", []int{1, 2, 3}, []int{1, 2, 3}, 0, 2},
				{"replace part 2", []int{1, 3}, []int{1, 3}, 1, 2},
				{"add a member", []int{2, 3}, []int{1, 2, 3}, 1, 2},
				{"remove a member", []int{1, 4}, []int{1, 2, 3}, 0, 2},
				{"threshold up", []int{1, 2}, []int{3, 2, 1}, 0, 3},
				{"threshold down", []int{1, 2, 3}, []int{1, 2, 3}, 0, 2},
				{"three of five", []int{2, 3}, []int{1, 2, 3}, 2, 3},
				{"two of two", []int{1, 3, 5}, []int{2, 5}, 0, 2},
				{"all others", []int{1, 2}, nil, 3, 2},
			} {
				to := c.Keep(t, step.keep, step.newcomers)
				fresh := c.Reshare(t, shares, step.quorum, to, step.threshold)
				checkEpoch(t, step.name, first, to, fresh, i+2)
				c, shares = to, fresh
			}
		})
	}
}

// TestManyEpochs refreshes a key again and again, each time by another quorum, and signs
// with each epoch: twenty on ed25519; on secp256k1 three, in the full set.
func TestManyEpochs(t *testing.T) {
	for curve, epochs := range map[pubkey.Curve]int{pubkey.Ed25519: 20, pubkey.Secp256k1: 3} {
		t.Run(string(curve), func(t *testing.T) {
			if curve == pubkey.Secp256k1 && !sample.Full() {
				t.Skip(sample.Reason)
			}
			t.Parallel()
			c, shares := reshareKey(t, curve)
			first := shares[0].Public()
			for i := range epochs {
				shares = c.Reshare(t, shares, quorums(3, 2)[i%3], c, 2)
				checkEpoch(t, fmt.Sprint("epoch ", i+2), first, c, shares, i+2)
			}
		})
	}
}

func reshareKey(t testing.TB, curve pubkey.Curve) (*partytest.Committee, []*share.Share) {
	t.Helper()
	if curve == pubkey.Secp256k1 {
		return partytest.Key(t)
	}
	c := partytest.NewCommittee(t, 3)
	return c, c.Keygen(t, curve, 2)
}

// checkEpoch checks the shares of an epoch, and signs with one quorum; on ed25519 with
// every one.
func checkEpoch(t *testing.T, step string, first share.Public, c *partytest.Committee, shares []*share.Share, epoch int) {
	t.Helper()
	for i, s := range shares {
		p := s.Public()
		if p.AccountAddr != first.AccountAddr || p.PublicKey != first.PublicKey || p.KeyID != first.KeyID {
			t.Fatalf("%s: part %d has a share of %s", step, i+1, p.AccountAddr)
		}
		if p.Epoch != epoch || p.PartIndex != i+1 || p.User != c.Members[i].User || !slices.Equal(p.Parties, c.Members) {
			t.Fatalf("%s: got the share of part %d, %s, of epoch %d", step, p.PartIndex, p.User, p.Epoch)
		}
		if err := s.Verify(); err != nil {
			t.Errorf("%s: part %d: %v", step, i+1, err)
		}
	}
	sets := quorums(len(shares), shares[0].Public().Threshold)
	if first.Curve == pubkey.Secp256k1 {
		sets = sets[len(sets)-1:]
	}
	for _, quorum := range sets {
		digest := digestOf(first.Curve, fmt.Sprint(step, quorum))
		for _, sig := range c.Sign(t, shares, quorum, digest) {
			verify(t, shares[0], digest, sig)
		}
	}
}
