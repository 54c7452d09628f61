package party

import (
	"errors"
	"fmt"
	"math/big"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// SignConfig describes a signing.
type SignConfig struct {
	// Binding must equal the share's in everything but the parties, which are any
	// quorum of the share's, with the same users and identities.
	Binding  Binding
	Identity *identity.Identity
	Share    *share.Share
	// Digest is signed: 32 bytes on secp256k1; on ed25519 the message itself, 1 byte to
	// 1 MiB.
	Digest []byte
	// Concurrency is as in [KeygenConfig].
	Concurrency int
}

// NewSign prepares a signing. A share can serve many runs, also concurrently.
func NewSign(c SignConfig) (*Run, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	pub, err := pubkey.Decode(c.Share.Public().PublicKey)
	if err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	digest := append([]byte(nil), c.Digest...)
	secret := c.Share.Secret()
	b := &c.Binding
	run := b.run(kindSign, digest, pub)
	com, err := tss.NewCommittee(run.Curve, run.KeyID, run.Epoch, run.Parties)
	if err != nil {
		return nil, fmt.Errorf("prepare signing: %w", err)
	}
	var moduli map[int]*big.Int
	if run.Curve == pubkey.Secp256k1 {
		moduli = secret.Moduli(c.Share.Key())
	}
	r, err := newRun(run, b.Self, c.Identity, protocol{
		places: com.Places(),
		guard:  tss.NewGuard(run.Curve, run.Threshold, b.Self, parts(run), moduli),
		build:  tss.Sign(run.Curve, com.Params(b.Self, run.Threshold, c.Concurrency), secret, pub, digest),
	})
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
	if c.Share.IsZero() {
		return errors.New("the share is missing")
	}
	s := c.Share.Public()
	switch {
	case b.KeyID != s.KeyID || b.Curve != s.Curve:
		return errors.New("the share is of another key")
	case b.epoch() != s.Epoch:
		return fmt.Errorf("the share is of epoch %d", s.Epoch)
	case b.Threshold != s.Threshold || b.TotalParts != s.TotalParts:
		return fmt.Errorf("the share is of a %d-of-%d key", s.Threshold, s.TotalParts)
	case b.Self != s.PartIndex:
		return fmt.Errorf("the share is that of part %d", s.PartIndex)
	case b.Curve == pubkey.Secp256k1 && len(c.Digest) != 32:
		return fmt.Errorf("a digest of %d bytes cannot be signed on secp256k1", len(c.Digest))
	case len(c.Digest) == 0 || len(c.Digest) > maxDigestSize:
		return fmt.Errorf("a message of %d bytes cannot be signed", len(c.Digest))
	}
	// tss-lib panics on a signer that it does not know, and a party with an identity
	// other than at key generation is not the same party.
	for _, m := range b.Parties {
		if m != s.Parties[m.Index-1] {
			return fmt.Errorf("part %d has another user or identity than when the key was created", m.Index)
		}
	}
	return nil
}
