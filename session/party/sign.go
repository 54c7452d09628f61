package party

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/common"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// SignConfig describes a signing.
type SignConfig struct {
	// Binding must agree with the share in everything but the parties, which are
	// any quorum of the share's, with the same users and identities.
	Binding  Binding
	Identity *identity.Identity
	Share    *Share
	// Digest is what is signed: 32 bytes on secp256k1; on ed25519 the message
	// itself, 1 byte to 1 MiB.
	Digest []byte
	// Concurrency is as in [KeygenConfig].
	Concurrency int
}

// NewSign prepares a signing. A share can serve many runs, also at once.
func NewSign(c SignConfig) (*Run, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	pub, err := pubkey.Decode(c.Share.public.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	digest := append([]byte(nil), c.Digest...)
	p := protocol{digest: digest, publicKey: pub, concurrency: c.Concurrency}
	if c.Binding.Curve == pubkey.Ed25519 {
		p.build = eddsaSign(c.Share.secret, pub, digest)
	} else {
		p.build = ecdsaSign(c.Share.secret, pub, digest)
		p.moduli = c.Share.moduli()
	}
	r, err := newRun(kindSign, c.Binding, c.Identity, p)
	if err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	return r, nil
}

func (c *SignConfig) check() error {
	b := &c.Binding
	if err := b.check(kindSign, c.Identity); err != nil {
		return err
	}
	if c.Share == nil || c.Share.secret == nil {
		return errors.New("the share is missing")
	}
	s := &c.Share.public
	switch {
	case b.KeyID != s.KeyID || b.Curve != s.Curve:
		return errors.New("the share is of another key")
	case b.Threshold != s.Threshold || b.TotalParts != s.TotalParts:
		return fmt.Errorf("the share is of a %d-of-%d key", s.Threshold, s.TotalParts)
	case b.Self != s.PartIndex:
		return fmt.Errorf("the share is that of part %d", s.PartIndex)
	case b.Curve == pubkey.Secp256k1 && len(c.Digest) != 32:
		return fmt.Errorf("a digest of %d bytes cannot be signed on secp256k1", len(c.Digest))
	case len(c.Digest) == 0 || len(c.Digest) > maxDigestSize:
		return fmt.Errorf("a message of %d bytes cannot be signed", len(c.Digest))
	}
	// tss-lib panics when asked for a signer it has never heard of, and an
	// identity that changed since the key was made is not the party it was.
	for _, m := range b.Parties {
		if m != s.Parties[m.Index-1] {
			return fmt.Errorf("part %d is not who it was when the key was made", m.Index)
		}
	}
	return nil
}

func ecdsaSign(secret *shareSecret, pub, digest []byte) func(*tss.Parameters, chan<- tss.Message) (tss.Party, func() (*result, error)) {
	return func(params *tss.Parameters, out chan<- tss.Message) (tss.Party, func() (*result, error)) {
		// tss-lib refuses a digest that is not below the group order. ECDSA uses
		// it only modulo the order, so reducing it first signs the same digest.
		m := new(big.Int).SetBytes(digest)
		m.Mod(m, params.EC().Params().N)
		end := make(chan *common.SignatureData, 1)
		party := ecdsasigning.NewLocalParty(m, params, *secret.ECDSA, out, end, len(digest))
		return party, collectSignature(pubkey.Secp256k1, end, pub, digest)
	}
}

func eddsaSign(secret *shareSecret, pub, digest []byte) func(*tss.Parameters, chan<- tss.Message) (tss.Party, func() (*result, error)) {
	return func(params *tss.Parameters, out chan<- tss.Message) (tss.Party, func() (*result, error)) {
		end := make(chan *common.SignatureData, 1)
		// Without the length tss-lib would sign the message less its leading zeros.
		m := new(big.Int).SetBytes(digest)
		party := eddsasigning.NewLocalParty(m, params, *secret.EdDSA, out, end, len(digest))
		return party, collectSignature(pubkey.Ed25519, end, pub, digest)
	}
}

// collectSignature takes the signature that tss-lib made, and believes none of
// it: package pubkey verifies it with other code and finds v itself.
func collectSignature(curve pubkey.Curve, end <-chan *common.SignatureData, pub, digest []byte) func() (*result, error) {
	return func() (*result, error) {
		select {
		case data := <-end:
			sig, err := finishSignature(curve, data, pub, digest)
			if err != nil {
				return nil, fmt.Errorf("signing: check the signature made: %w", err)
			}
			return &result{signature: sig}, nil
		default:
			return nil, nil
		}
	}
}

func finishSignature(curve pubkey.Curve, data *common.SignatureData, pub, digest []byte) ([]byte, error) {
	if curve == pubkey.Ed25519 {
		return curve.Complete(pub, digest, data.Signature)
	}
	// tss-lib has padded R and S in some versions and not in others.
	if len(data.R) > 32 || len(data.S) > 32 {
		return nil, pubkey.ErrSignature
	}
	rs := make([]byte, 64)
	copy(rs[32-len(data.R):], data.R)
	copy(rs[64-len(data.S):], data.S)
	return curve.Complete(pub, digest, rs)
}
