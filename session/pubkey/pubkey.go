// Package pubkey has the operations that need only a key's public half: its curve and
// address, the digest of data to be signed, and the verification of signatures. Servers
// and participants share it, so that both compute the same digest of the same request
// and neither has to trust the other.
//
// It has no secrets and makes no signatures, does no I/O, and does not use tss-lib:
// signatures are verified by other code than made them.
package pubkey

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/mr-tron/base58"
	"golang.org/x/crypto/sha3"
)

// Curve names a key's curve and with it its signature scheme.
type Curve string

// The curves.
const (
	Secp256k1 Curve = "secp256k1" // ECDSA, Ethereum addresses
	Ed25519   Curve = "ed25519"   // EdDSA (RFC 8032), base58 addresses
)

// Errors of this package. Callers add context.
var (
	ErrCurve     = errors.New("curve must be secp256k1 or ed25519")
	ErrPublicKey = errors.New("not a valid public key of its curve")
	ErrAddress   = errors.New("not a valid account address of its curve")
	ErrSignature = errors.New("signature does not verify under the key")
	ErrHex       = errors.New("0x must be followed by an even number of hex digits")
)

// ParseCurve returns the curve named s; the empty string is secp256k1. It
// returns ErrCurve for any other name.
func ParseCurve(s string) (Curve, error) {
	switch Curve(s) {
	case "", Secp256k1:
		return Secp256k1, nil
	case Ed25519:
		return Ed25519, nil
	}
	return "", ErrCurve
}

// Encode returns b as 0x and lower-case hex, the text form of keys, digests and
// signatures in all of Conclave.
func Encode(b []byte) string { return "0x" + hex.EncodeToString(b) }

// Decode reads the text form that Encode writes, in either case. It returns
// ErrHex for anything else.
func Decode(s string) ([]byte, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return nil, ErrHex
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, ErrHex
	}
	return b, nil
}

// Address returns the account address of a public key: on secp256k1 (pub is compressed
// SEC1, 33 bytes) an EIP-55 Ethereum address, on ed25519 (32 bytes) the key in base58.
// It returns ErrPublicKey if pub is not a key of the curve.
func (c Curve) Address(pub []byte) (string, error) {
	switch c {
	case Secp256k1:
		key, err := parseSecp256k1(pub)
		if err != nil {
			return "", err
		}
		sum := keccak256(key.SerializeUncompressed()[1:])
		return checksumAddress(sum[12:]), nil
	case Ed25519:
		if len(pub) != ed25519.PublicKeySize {
			return "", ErrPublicKey
		}
		return base58.Encode(pub), nil
	}
	return "", ErrCurve
}

// Verify checks sig over digest, which is 32 bytes on secp256k1 and the message itself
// on ed25519. On secp256k1 sig is r‖s‖v, 65 bytes with low s and a v of 27 or 28 that
// recovers pub; on ed25519 it is R‖S, 64 bytes. It returns ErrSignature for any other
// signature.
func (c Curve) Verify(pub, digest, sig []byte) error {
	switch c {
	case Secp256k1:
		whole, err := c.Complete(pub, digest, sig)
		if err != nil {
			return err
		}
		if !bytes.Equal(whole, sig) {
			return ErrSignature
		}
		return nil
	case Ed25519:
		if len(pub) != ed25519.PublicKeySize {
			return ErrPublicKey
		}
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(pub, digest, sig) {
			return ErrSignature
		}
		return nil
	}
	return ErrCurve
}

// Complete verifies sig like Verify, but on secp256k1 also takes r‖s without v, a high
// s, or a v of 0 or 1, and returns Conclave's canonical form: 65 bytes, s at most half
// the order (EIP-2), v of 27 or 28. A wrong v is refused, not corrected.
func (c Curve) Complete(pub, digest, sig []byte) ([]byte, error) {
	if c != Secp256k1 {
		if err := c.Verify(pub, digest, sig); err != nil {
			return nil, err
		}
		return bytes.Clone(sig), nil
	}
	key, err := parseSecp256k1(pub)
	if err != nil {
		return nil, err
	}
	whole, _, err := complete(digest, sig, key.IsEqual)
	return whole, err
}

// complete recovers the wanted key from the 64 bytes r‖s, or 65 with v, and returns the
// signature in its canonical form. Recovery solves the verification equation for the
// key: finding it proves the signature. It costs as much as a verification, so a given
// v is tried first.
func complete(digest, sig []byte, wanted func(*secp256k1.PublicKey) bool) (whole []byte, key *secp256k1.PublicKey, err error) {
	if len(digest) != 32 || len(sig) != 64 && len(sig) != 65 {
		return nil, nil, ErrSignature
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(sig[:32]) || s.SetByteSlice(sig[32:64]) || r.IsZero() || s.IsZero() {
		return nil, nil, ErrSignature
	}
	high := s.IsOverHalfOrder()
	if high {
		s.Negate()
	}
	var given byte // the required v; 0 if not given
	if len(sig) == 65 {
		if given = sig[64]; given < 27 {
			given += 27
		}
		if high { // v names R's parity; negating s mirrors it
			given = 27 + 28 - given
		}
		if given != 27 && given != 28 {
			return nil, nil, ErrSignature
		}
	}
	compact := make([]byte, 65)
	r.PutBytesUnchecked(compact[1:33])
	s.PutBytesUnchecked(compact[33:])
	for v := byte(27); v <= 28; v++ {
		if given != 0 && v != given {
			continue // refused, not corrected
		}
		compact[0] = v
		key, _, err := ecdsa.RecoverCompact(compact, digest)
		if err == nil && wanted(key) {
			return append(compact[1:], v), key, nil
		}
	}
	return nil, nil, ErrSignature
}

func parseSecp256k1(pub []byte) (*secp256k1.PublicKey, error) {
	if len(pub) != secp256k1.PubKeyBytesLenCompressed {
		return nil, ErrPublicKey
	}
	key, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		return nil, ErrPublicKey
	}
	return key, nil
}

// checksumAddress writes a 20-byte address with the capitals of EIP-55.
func checksumAddress(addr []byte) string {
	digits := []byte(hex.EncodeToString(addr))
	sum := hex.EncodeToString(keccak256(digits))
	for i, d := range digits {
		if d >= 'a' && sum[i] >= '8' {
			digits[i] = d - 'a' + 'A'
		}
	}
	return "0x" + string(digits)
}

func keccak256(parts ...[]byte) []byte {
	h := sha3.NewLegacyKeccak256()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// ParseKey reads a public key's text form and checks that it is a key of c.
func (c Curve) ParseKey(text string) ([]byte, error) {
	pub, err := Decode(text)
	if err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	if _, err := c.Address(pub); err != nil {
		return nil, err
	}
	return pub, nil
}

// ParseAddress returns the canonical form of an account address of c: on
// secp256k1 hex of either case becomes EIP-55 (mixed case must already have the
// right checksum). It returns ErrAddress for anything else.
func (c Curve) ParseAddress(text string) (string, error) {
	switch c {
	case Secp256k1:
		raw, err := Decode(text)
		if err != nil || len(raw) != 20 {
			return "", ErrAddress
		}
		digits := text[2:]
		canonical := checksumAddress(raw)
		if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && text != canonical {
			return "", ErrAddress
		}
		return canonical, nil
	case Ed25519:
		raw, err := base58.Decode(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return "", ErrAddress
		}
		return text, nil
	}
	return "", ErrCurve
}

// CompleteFor is Complete for a key with only its address known: the public key is
// recovered from the signature (secp256k1) or is the address itself (ed25519), and
// returned too.
func (c Curve) CompleteFor(address string, digest, sig []byte) (whole, pub []byte, err error) {
	if c == Ed25519 {
		pub, err := base58.Decode(address)
		if err != nil {
			return nil, nil, ErrAddress
		}
		whole, err := c.Complete(pub, digest, sig)
		return whole, pub, err
	}
	whole, key, err := complete(digest, sig, func(key *secp256k1.PublicKey) bool {
		got, err := c.Address(key.SerializeCompressed())
		return err == nil && got == address
	})
	if err != nil {
		return nil, nil, err
	}
	return whole, key.SerializeCompressed(), nil
}

// CurveOf returns the curve of an account address, and the address in its canonical
// form: an Ethereum address begins with 0x, which no base58 text does.
func CurveOf(address string) (Curve, string, error) {
	for _, curve := range []Curve{Secp256k1, Ed25519} {
		if canonical, err := curve.ParseAddress(address); err == nil {
			return curve, canonical, nil
		}
	}
	return "", "", errors.New("the account address belongs to no known curve")
}
