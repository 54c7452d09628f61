package tss

import (
	"fmt"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func members(t testing.TB, n int) []identity.Member {
	t.Helper()
	var out []identity.Member
	for i := 1; i <= n; i++ {
		out = append(out, identity.Member{Index: i, User: fmt.Sprintf("user-%d", i), Identity: newIdentity(t).Public()})
	}
	return out
}

func TestThresholdBecomesTSSLibs(t *testing.T) {
	t.Parallel()
	c, err := NewCommittee(pubkey.Secp256k1, "key", 1, members(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	for _, threshold := range []int{2, 3, 5} {
		p := c.Params(4, threshold, 3)
		// tss-lib's threshold t lets t+1 sign.
		if p.Threshold()+1 != threshold || p.PartyCount() != 5 || p.Concurrency() != 3 || p.PartyID() != c.ByPart[4] {
			t.Errorf("threshold %d: got %d of %d", threshold, p.Threshold(), p.PartyCount())
		}
		if p.NoProofMod() || p.NoProofFac() {
			t.Error("a proof is switched off")
		}
	}
}

// TestCommitteeOrder: tss-lib's order is by key and differs from ours; both directions
// of the map agree, in subsets too.
func TestCommitteeOrder(t *testing.T) {
	t.Parallel()
	all := members(t, 7)
	differs := false
	for i := range 5 {
		for _, parties := range [][]identity.Member{all, all[2:], {all[1], all[4], all[6]}} {
			c, err := NewCommittee(pubkey.Ed25519, fmt.Sprint("key", i), 1, parties)
			if err != nil {
				t.Fatal(err)
			}
			for j, m := range parties {
				id := c.ByPart[m.Index]
				if c.PartOf[id.Index] != m.Index || c.Sorted[id.Index] != id {
					t.Errorf("part %d is mapped to part %d", m.Index, c.PartOf[id.Index])
				}
				if want := PartyKey(pubkey.Ed25519, fmt.Sprint("key", i), 1, m.User, m.Index); id.KeyInt().Cmp(want) != 0 {
					t.Errorf("part %d has another party's key", m.Index)
				}
				differs = differs || id.Index != j
			}
			for j := 1; j < len(c.Sorted); j++ {
				if c.Sorted[j-1].KeyInt().Cmp(c.Sorted[j].KeyInt()) >= 0 {
					t.Error("tss-lib's order is not ascending")
				}
			}
		}
	}
	if !differs {
		t.Error("tss-lib's order was ours every time: the test shows nothing")
	}
}

const pinnedPartyKey = "708fb6cf70cb48b18498a245a49d6453b04f7b8be940a102505cbce4f69c943c"

func TestPartyKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, curve := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		for _, key := range []string{"a", "b", "au"} {
			for _, user := range []string{"u", "v", "uu"} {
				for index := 1; index <= 3; index++ {
					for epoch := 0; epoch <= 3; epoch++ {
						k := PartyKey(curve, key, epoch, user, index)
						if k.Sign() <= 0 || k.Cmp(Curve(curve).Params().N) >= 0 {
							t.Errorf("key %x is out of range", k)
						}
						name := fmt.Sprint(curve, key, epoch, user, index)
						if other, taken := seen[k.String()]; taken {
							t.Errorf("%s and %s share a key", name, other)
						}
						seen[k.String()] = name
					}
				}
			}
		}
	}
	// A key's shares depend on these numbers: they may never change.
	if got := PartyKey(pubkey.Secp256k1, "key", 1, "user", 1).Text(16); got != pinnedPartyKey {
		t.Errorf("got %s, want %s", got, pinnedPartyKey)
	}
}
