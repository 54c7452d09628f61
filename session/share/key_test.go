package share_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// TestMain detects leaked goroutines. The exempted one is started by the import of
// tss-lib, whose logger keeps it for the life of the process.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"))
}

// someKey is one 2-of-3 key of each curve for all tests that need any key.
func someKey(t testing.TB, curve pubkey.Curve) (*partytest.Committee, []*share.Share) {
	t.Helper()
	if curve == pubkey.Secp256k1 {
		return partytest.Key(t)
	}
	key := &ed25519Key
	key.once.Do(func() {
		committee := partytest.NewCommittee(t, 3)
		key.shares = committee.Keygen(t, curve, 2)
		key.committee = committee
	})
	if key.committee == nil {
		t.Fatal("the key could not be generated")
	}
	return key.committee, key.shares
}

var ed25519Key struct {
	once      sync.Once
	committee *partytest.Committee
	shares    []*share.Share
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
