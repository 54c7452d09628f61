// Package sessiontest has whole keys and identities for tests of sessions and of their
// stores: start with [NewSoloKey] and [Identity]. Only tests use it.
package sessiontest

import (
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// SoloKey is an unshared secp256k1 key. Its signatures equal those of a key's parties.
type SoloKey struct {
	priv    *secp256k1.PrivateKey
	Address string // as in Key.AccountAddr
	Public  string // compressed SEC1, 33 bytes, 0x hex
}

// NewSoloKey returns the key whose private half is n.
func NewSoloKey(n byte) SoloKey {
	priv := secp256k1.PrivKeyFromBytes([]byte{n})
	pub := priv.PubKey().SerializeCompressed()
	addr, err := pubkey.Secp256k1.Address(pub)
	if err != nil {
		panic(err)
	}
	return SoloKey{priv: priv, Address: addr, Public: pubkey.Encode(pub)}
}

// Sign returns r‖s‖v over a digest, both as 0x hex.
func (k SoloKey) Sign(digest string) string {
	raw, err := pubkey.Decode(digest)
	if err != nil {
		panic(err)
	}
	compact := ecdsa.SignCompact(k.priv, raw, false)
	return pubkey.Encode(append(compact[1:], compact[0]))
}
