package party

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

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
	c, err := newCommittee(pubkey.Secp256k1, "key", members(t, 5))
	if err != nil {
		t.Fatal(err)
	}
	for _, threshold := range []int{2, 3, 5} {
		p := c.params(4, threshold, 3)
		// tss-lib's threshold t lets t+1 sign.
		if p.Threshold()+1 != threshold || p.PartyCount() != 5 || p.Concurrency() != 3 || p.PartyID() != c.byPart[4] {
			t.Errorf("threshold %d: got %d of %d", threshold, p.Threshold(), p.PartyCount())
		}
		if p.NoProofMod() || p.NoProofFac() {
			t.Error("a proof is switched off")
		}
	}
}

// TestCommitteeOrder: tss-lib's order is by key and not ours; both directions of
// the map agree, in subsets too.
func TestCommitteeOrder(t *testing.T) {
	t.Parallel()
	all := members(t, 7)
	differs := false
	for i := range 5 {
		for _, parties := range [][]identity.Member{all, all[2:], {all[1], all[4], all[6]}} {
			c, err := newCommittee(pubkey.Ed25519, fmt.Sprint("key", i), parties)
			if err != nil {
				t.Fatal(err)
			}
			for j, m := range parties {
				id := c.byPart[m.Index]
				if c.partOf[id.Index] != m.Index || c.sorted[id.Index] != id {
					t.Errorf("part %d is mapped to part %d", m.Index, c.partOf[id.Index])
				}
				if want := partyKey(pubkey.Ed25519, fmt.Sprint("key", i), m.User, m.Index); id.KeyInt().Cmp(want) != 0 {
					t.Errorf("part %d has another party's key", m.Index)
				}
				differs = differs || id.Index != j
			}
			for j := 1; j < len(c.sorted); j++ {
				if c.sorted[j-1].KeyInt().Cmp(c.sorted[j].KeyInt()) >= 0 {
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
					k := partyKey(curve, key, user, index)
					if k.Sign() <= 0 || k.Cmp(tssCurve(curve).Params().N) >= 0 {
						t.Errorf("key %x is out of range", k)
					}
					name := fmt.Sprint(curve, key, user, index)
					if other, taken := seen[k.String()]; taken {
						t.Errorf("%s and %s share a key", name, other)
					}
					seen[k.String()] = name
				}
			}
		}
	}
	// A key's shares lie where these numbers say: they may never change.
	if got := partyKey(pubkey.Secp256k1, "key", "user", 1).Text(16); got != pinnedPartyKey {
		t.Errorf("got %s, want %s", got, pinnedPartyKey)
	}
}

func TestRoundTables(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, k := range []kind{kindKeygen, kindSign} {
		for _, c := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
			codes := map[byte]bool{}
			last := 1
			for _, rd := range roundsOf(k, c) {
				if codes[rd.Code] || names[rd.Name] || names[rd.protobufName()] {
					t.Errorf("%s occurs twice", rd.Name)
				}
				codes[rd.Code], names[rd.Name], names[rd.protobufName()] = true, true, true
				if rd.Number < last || rd.Number > last+1 || rd.max > MaxBodyBytes-sealOverhead-bodyHeader {
					t.Errorf("%s is in round %d after round %d", rd.Name, rd.Number, last)
				}
				last = rd.Number
			}
		}
	}
}

// TestRoundsFitAMailbox: what one party may send another in a whole keygen, or in
// two attempts of a signing, is half of what the recipient's mailbox takes of one
// sender in one session while nobody reads it.
func TestRoundsFitAMailbox(t *testing.T) {
	t.Parallel()
	const most, mostBytes, overhead = 512, 4 << 20, 256 + 512 // cluster.Config.GroupMax, GroupMaxBytes; a frame's other fields
	source, err := os.ReadFile("../../cluster/cluster.go")    // which this package does not import
	if err != nil {
		t.Fatal(err)
	}
	for _, preset := range []string{"number(&c.GroupMax, 512)", "number(&c.GroupMaxBytes, 4<<20)"} {
		if !strings.Contains(string(source), preset) {
			t.Errorf("cluster's limits are others: it has no %s", preset)
		}
	}
	for _, c := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		for k, attempts := range map[kind]int{kindKeygen: 1, kindSign: 2} {
			messages, bytes := 0, 0
			for _, rd := range roundsOf(k, c) {
				messages++
				bytes += base64.StdEncoding.EncodedLen(rd.max+sealOverhead+bodyHeader) + overhead
				if !rd.P2P { // its echo, a digest for each party
					messages++
					bytes += 4<<10 + overhead
				}
			}
			t.Logf("%s of %s: %d messages, %d bytes", c, k, messages, bytes)
			if messages *= attempts; messages > most/2 || bytes*attempts > mostBytes/2 {
				t.Errorf("%s of %s: %d messages, %d bytes in %d attempts", c, k, messages, bytes*attempts, attempts)
			}
		}
	}
}

// TestFinishSignature: r and s come with and without their leading zeros, and what
// is wrong does not come out.
func TestFinishSignature(t *testing.T) {
	t.Parallel()
	key := secp256k1.PrivKeyFromBytes(bytes.Repeat([]byte{7}, 32))
	pub := key.PubKey().SerializeCompressed()
	short := 0
	for i := 0; short < 4; i++ {
		digest := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		compact := ecdsa.SignCompact(key, digest[:], false)
		r, s := new(big.Int).SetBytes(compact[1:33]).Bytes(), new(big.Int).SetBytes(compact[33:]).Bytes()
		if len(r) == 32 && len(s) == 32 {
			continue
		}
		short++
		want := append(bytes.Clone(compact[1:]), compact[0])
		for _, data := range []*common.SignatureData{{R: r, S: s}, {R: compact[1:33], S: compact[33:]}} {
			got, err := finishSignature(pubkey.Secp256k1, data, pub, digest[:])
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %x, %v, want %x", got, err, want)
			}
		}
		for what, data := range map[string]*common.SignatureData{
			"swapped": {R: s, S: r}, "empty": {}, "long": {R: make([]byte, 33), S: s}, "cut": {R: r[:len(r)-1], S: s},
		} {
			if sig, err := finishSignature(pubkey.Secp256k1, data, pub, digest[:]); err == nil {
				t.Errorf("%s: handed out %x", what, sig)
			}
		}
	}
	if _, err := finishSignature(pubkey.Ed25519, &common.SignatureData{Signature: make([]byte, 64)}, make([]byte, 32), []byte("m")); err == nil {
		t.Error("handed out a bad ed25519 signature")
	}
}
