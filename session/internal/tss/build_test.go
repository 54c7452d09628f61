package tss

import (
	"bytes"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// TestFinishSignature: r and s are accepted with and without their leading zeros, and a
// wrong signature is refused.
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
