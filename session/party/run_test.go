package party_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// TestMain detects leaked goroutines. The exempted one is started by the import of
// tss-lib, whose logger keeps it for the life of the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"))
}

// digestOf is an arbitrary digest; on ed25519 it is a message that begins with zeros,
// which tss-lib would cut off.
func digestOf(curve pubkey.Curve, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	if curve == pubkey.Ed25519 {
		return append([]byte{0, 0, 0}, []byte(text)...)
	}
	return sum[:]
}

// verify checks a signature without tss-lib and package pubkey.
func verify(t *testing.T, signer *share.Share, digest, sig []byte) {
	t.Helper()
	pub, err := pubkey.Decode(signer.Public().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if signer.Public().Curve == pubkey.Ed25519 {
		if !ed25519.Verify(pub, digest, sig) {
			t.Errorf("signature %x does not verify", sig)
		}
		return
	}
	if len(sig) != 65 {
		t.Fatalf("got %d bytes, want 65", len(sig))
	}
	recovered, _, err := ecdsa.RecoverCompact(append([]byte{sig[64]}, sig[:64]...), digest)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(recovered.SerializeCompressed(), pub) {
		t.Error("signature recovers another key")
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:64]) || s.IsOverHalfOrder() {
		t.Error("signature is not in its lowest form")
	}
	if !ecdsa.NewSignature(&r, &s).Verify(digest, recovered) {
		t.Error("signature does not verify")
	}
}

// quorums lists the subsets of 1..n with size parts.
func quorums(n, size int) [][]int {
	var out [][]int
	for mask := range 1 << n {
		var q []int
		for i := range n {
			if mask>>i&1 == 1 {
				q = append(q, i+1)
			}
		}
		if len(q) == size {
			out = append(out, q)
		}
	}
	return out
}

// TestEveryThreshold generates a key for every (threshold, parties) on both curves. Of
// three parties every quorum signs, of the others two: one from the middle of the list
// and the last, which is not a prefix of the committee. On secp256k1 the sample has
// only 2 of 2; the demonstration, which is tested too, makes 2 of 3.
func TestEveryThreshold(t *testing.T) {
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		for total := 2; total <= 5; total++ {
			for threshold := 2; threshold <= min(total, 3); threshold++ {
				t.Run(fmt.Sprintf("%s/%d-of-%d", curve, threshold, total), func(t *testing.T) {
					if curve == pubkey.Secp256k1 && testing.Short() {
						t.Skip("takes long")
					}
					if curve == pubkey.Secp256k1 && total > 2 && !sample.Full() {
						t.Skip(sample.Reason)
					}
					t.Parallel()
					var committee *partytest.Committee
					var shares []*share.Share
					if curve == pubkey.Secp256k1 && total == 2 {
						committee, shares = someKey(t, curve)
					} else {
						committee = partytest.NewCommittee(t, total)
						shares = committee.Keygen(t, curve, threshold)
					}
					for i, s := range shares {
						if s.Public().PublicKey != shares[0].Public().PublicKey || s.Public().PartIndex != i+1 {
							t.Fatalf("share %d is of part %d of key %s", i+1, s.Public().PartIndex, s.Public().PublicKey)
						}
					}
					sets := quorums(total, threshold)
					if total > 3 {
						sets = [][]int{sets[len(sets)/2], sets[len(sets)-1]}
					}
					for _, quorum := range sets {
						digest := digestOf(curve, fmt.Sprint("for ", quorum))
						for _, sig := range committee.Sign(t, shares, quorum, digest) {
							verify(t, shares[0], digest, sig)
						}
					}
				})
			}
		}
	}
}
