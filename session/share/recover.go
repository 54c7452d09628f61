package share

import (
	"crypto/rand"
	"crypto/sha512"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/decred/dcrd/dcrec/edwards/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// PrivateKey is the whole private key of a committee, which normally exists nowhere:
// see [Recover]. Printing, formatting or encoding it as JSON shows only the public key;
// [PrivateKey.Secret] is the only export.
type PrivateKey struct {
	curve  pubkey.Curve
	public []byte
	scalar **[32]byte // big-endian; behind two pointers for the reason of [identity.Identity]'s keys
}

// Recover rebuilds a private key from shares of different parts of one key generation,
// at least as many as its threshold. It checks, without tss-lib, that the result is the
// private key of the public one. The result can sign alone: use Recover only at the end
// of a key's life, in a disaster or to move its assets.
func Recover(shares []*Share) (*PrivateKey, error) {
	if err := sameKey(shares); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	p := &shares[0].public
	shares = shares[:p.Threshold]
	secrets := make([]*tss.Secret, len(shares))
	for i, s := range shares {
		secrets[i] = s.secret
	}
	sum := tss.Rebuild(p.Curve, secrets)
	defer tss.Wipe(sum)
	public, err := pubkey.Decode(p.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	k := &PrivateKey{curve: p.Curve, public: public, scalar: new(new([32]byte))}
	sum.FillBytes(k.bytes()[:])
	if err := k.check(); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("recover: %w", err)
	}
	return k, nil
}

// sameKey returns an error unless there are enough shares and they belong together.
func sameKey(shares []*Share) error {
	if len(shares) == 0 || slices.ContainsFunc(shares, (*Share).IsZero) {
		return errors.New("a share is missing")
	}
	first := shares[0]
	p := &first.public
	seen := map[int]bool{}
	for _, s := range shares {
		q := &s.public
		switch {
		case q.KeyID != p.KeyID:
			return fmt.Errorf("the shares are of different keys: %q and %q", p.KeyID, q.KeyID)
		case q.PublicKey != p.PublicKey || q.Curve != p.Curve || q.Threshold != p.Threshold || !slices.Equal(q.Parties, p.Parties):
			return fmt.Errorf("the shares of parts %d and %d are of different key generations of %q: one for %s, the other for %s",
				p.PartIndex, q.PartIndex, p.KeyID, p.AccountAddr, q.AccountAddr)
		case q.Epoch != p.Epoch:
			return fmt.Errorf("the shares of parts %d and %d are of different epochs of %q: %d and %d", p.PartIndex, q.PartIndex, p.KeyID, p.Epoch, q.Epoch)
		case seen[q.PartIndex]:
			return fmt.Errorf("the share of part %d was given twice", q.PartIndex)
		}
		seen[q.PartIndex] = true
		if !first.secret.SamePoints(s.secret) {
			return fmt.Errorf("the shares of parts %d and %d are of different key generations of %q", p.PartIndex, q.PartIndex, p.KeyID)
		}
	}
	if len(shares) < p.Threshold {
		return fmt.Errorf("%d of the shares of key %q given, %d needed", len(shares), p.KeyID, p.Threshold)
	}
	return nil
}

// ParsePrivateKey reads the output of [PrivateKey.Secret] and checks it against the
// public key. Its errors quote nothing of the text.
func ParsePrivateKey(curve pubkey.Curve, publicKey, secret string) (*PrivateKey, error) {
	public, err := curve.ParseKey(publicKey)
	if err != nil {
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	raw, err := pubkey.Decode(secret)
	defer clear(raw)
	if err != nil || len(raw) != 32 {
		return nil, errors.New("parse private key: not 0x and 32 bytes of hex")
	}
	k := &PrivateKey{curve: curve, public: public, scalar: new(new([32]byte))}
	copy(k.bytes()[:], raw)
	if curve == pubkey.Ed25519 {
		slices.Reverse(k.bytes()[:])
	}
	if err := k.check(); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("parse private key: %w", err)
	}
	return k, nil
}

// NewPrivateKey returns the private key with a scalar of 32 bytes: on secp256k1 the number
// in big-endian order, between 1 and the group order; on ed25519 the scalar in
// little-endian order, also one that is clamped and not reduced. The caller may overwrite
// it afterwards. Somebody has known such a key: it is for the import of one.
func NewPrivateKey(curve pubkey.Curve, scalar []byte) (*PrivateKey, error) {
	if len(scalar) != 32 {
		return nil, fmt.Errorf("import private key: it has %d bytes, not 32", len(scalar))
	}
	raw := slices.Clone(scalar)
	defer clear(raw)
	if curve == pubkey.Ed25519 {
		slices.Reverse(raw)
	}
	n := new(big.Int).SetBytes(raw)
	defer tss.Wipe(n)
	switch {
	case curve == pubkey.Ed25519: // the base point has this order, so the public key stays
		n.Mod(n, tss.Order(curve))
	case curve != pubkey.Secp256k1:
		return nil, fmt.Errorf("import private key: %w", pubkey.ErrCurve)
	}
	if n.Sign() == 0 || n.Cmp(tss.Order(curve)) >= 0 {
		return nil, errors.New("import private key: it is out of range")
	}
	k := &PrivateKey{curve: curve, scalar: new(new([32]byte))}
	n.FillBytes(k.bytes()[:])
	if curve == pubkey.Ed25519 {
		_, public, err := edwards.PrivKeyFromScalar(k.bytes()[:])
		if err != nil {
			return nil, errors.New("import private key: it is out of range")
		}
		k.public = public.Serialize()
	} else {
		key := secp256k1.PrivKeyFromBytes(k.bytes()[:])
		k.public = key.PubKey().SerializeCompressed()
		key.Zero()
	}
	if err := k.check(); err != nil {
		k.Wipe()
		return nil, fmt.Errorf("import private key: %w", err)
	}
	return k, nil
}

// NewPrivateKeyFromSeed returns the ed25519 private key of a seed of 32 bytes, which RFC
// 8032 calls the private key: its scalar, expanded and clamped as in section 5.1.5. The
// public key is that of the seed. A committee that holds the scalar signs with other
// nonces than the seed's owner; both signatures are valid.
func NewPrivateKeyFromSeed(seed []byte) (*PrivateKey, error) {
	if len(seed) != 32 {
		return nil, fmt.Errorf("import private key: the seed has %d bytes, not 32", len(seed))
	}
	h := sha512.Sum512(seed)
	defer clear(h[:])
	h[0] &= 248
	h[31] = h[31]&127 | 64
	return NewPrivateKey(pubkey.Ed25519, h[:32])
}

// Curve returns the key's curve.
func (k PrivateKey) Curve() pubkey.Curve { return k.curve }

// PublicKey returns the public key as 0x hex: compressed SEC1, or 32 bytes.
func (k PrivateKey) PublicKey() string { return pubkey.Encode(k.public) }

// Scalar returns the secret number, for package party. The caller must wipe it.
func (k PrivateKey) Scalar() *big.Int { return new(big.Int).SetBytes(k.bytes()[:]) }

func (k *PrivateKey) bytes() *[32]byte { return *k.scalar }

// check checks the scalar against the public key.
func (k *PrivateKey) check() error {
	wrong := errors.New("it is not the private key of " + pubkey.Encode(k.public))
	var got []byte
	if k.curve == pubkey.Ed25519 {
		_, pub, err := edwards.PrivKeyFromScalar(k.bytes()[:])
		if err != nil {
			return wrong
		}
		got = pub.Serialize()
	} else {
		var s secp256k1.ModNScalar
		if over := s.SetBytes(k.bytes()); over != 0 || s.IsZero() {
			return wrong
		}
		key := secp256k1.NewPrivateKey(&s)
		got = key.PubKey().SerializeCompressed()
		key.Zero()
		s.Zero()
	}
	if !slices.Equal(got, k.public) {
		return wrong
	}
	return nil
}

// Secret returns the private key as 0x and hex of 32 bytes. On secp256k1 it is the
// number in big-endian order, as programs for Ethereum and Bitcoin take it. On ed25519
// it is the secret scalar, reduced modulo the group order, in little-endian order, as
// RFC 8032 encodes scalars. That is not the 32-byte seed of RFC 8032, from which the
// scalar is hashed: a threshold key has no seed. Programs that need a seed cannot use
// it; [PrivateKey.Sign] can, and programs that multiply by an unclamped scalar.
func (k PrivateKey) Secret() string {
	raw := *k.bytes()
	defer clear(raw[:])
	if k.curve == pubkey.Ed25519 {
		slices.Reverse(raw[:])
	}
	return pubkey.Encode(raw[:])
}

// Sign signs as the committee would: digest is 32 bytes on secp256k1 and the message
// itself on ed25519; the signature has the form of [pubkey.Curve.Verify], and is
// verified with it.
func (k PrivateKey) Sign(digest []byte) ([]byte, error) {
	var sig []byte
	if k.curve == pubkey.Ed25519 {
		key, _, err := edwards.PrivKeyFromScalar(k.bytes()[:])
		if err != nil {
			return nil, errors.New("sign: the private key is out of range")
		}
		nonce, err := k.nonce(digest)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		defer clear(nonce)
		r, s, err := edwards.SignFromScalar(key, nonce, digest)
		if err != nil {
			return nil, errors.New("sign: the signature cannot be made")
		}
		sig = edwards.NewSignature(r, s).Serialize()
	} else {
		if len(digest) != 32 {
			return nil, fmt.Errorf("sign: a digest of %d bytes cannot be signed on secp256k1", len(digest))
		}
		key := secp256k1.PrivKeyFromBytes(k.bytes()[:])
		compact := ecdsa.SignCompact(key, digest, false)
		key.Zero()
		sig = append(compact[1:], compact[0])
	}
	whole, err := k.curve.Complete(k.public, digest, sig)
	if err != nil {
		return nil, fmt.Errorf("sign: check the signature made: %w", err)
	}
	return whole, nil
}

// nonce derives ed25519's nonce, big-endian, from secret, message and fresh randomness,
// so that it differs for each message even if the randomness is bad.
func (k PrivateKey) nonce(message []byte) ([]byte, error) {
	var salt [32]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return nil, err
	}
	h := sha512.New()
	for _, part := range [][]byte{[]byte("conclave/party/recovered/nonce/v1"), k.bytes()[:], salt[:], message} {
		h.Write(part)
	}
	n := new(big.Int).SetBytes(h.Sum(nil))
	defer tss.Wipe(n)
	if n.Mod(n, tss.Order(k.curve)).Sign() == 0 {
		return nil, errors.New("the nonce is zero") // once in 2^252
	}
	return n.FillBytes(make([]byte, 32)), nil
}

// Wipe overwrites the key, which is then unusable. Copies made by libraries and the
// runtime remain in memory until they happen to be overwritten.
func (k PrivateKey) Wipe() { clear(k.bytes()[:]) }

// String names the key by its public key.
func (k PrivateKey) String() string { return "share.PrivateKey(of " + pubkey.Encode(k.public) + ")" }

// Format writes what String returns, whatever the verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalJSON writes what String returns.
func (k PrivateKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }
