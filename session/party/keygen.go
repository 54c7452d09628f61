package party

import (
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// KeygenConfig describes a key generation.
type KeygenConfig struct {
	Binding Binding
	// Identity is the party's own, listed in the binding under Self.
	Identity *identity.Identity
	// PreParams are needed on secp256k1 and used up by the run; on ed25519 they are
	// ignored.
	PreParams *preparams.Set
	// Concurrency is how many cores tss-lib may use, as far as it can be limited. Zero
	// means all.
	Concurrency int
}

// NewKeygen prepares a key generation. Once the binding is found valid the
// pre-parameters are used up, even if the run fails. [preparams.ErrUsed],
// [preparams.ErrTestOnly].
func NewKeygen(c KeygenConfig) (*Run, error) {
	if err := c.Binding.check(kindKeygen, c.Identity); err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	var pre *tss.PreParams
	if c.Binding.Curve == pubkey.Secp256k1 {
		var err error
		if pre, err = c.PreParams.Take(); err != nil {
			return nil, fmt.Errorf("prepare key generation: %w", err)
		}
	}
	p := protocol{concurrency: c.Concurrency, build: tss.Keygen(c.Binding.Curve, pre)}
	r, err := newRun(kindKeygen, c.Binding, c.Identity, p)
	if err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	return r, nil
}

// newShare makes the share from the result of a key generation, with the same checks as
// for a share that is read back.
func newShare(b *Binding, secret *tss.Secret) (*share.Share, error) {
	public := share.Public{
		KeyID: b.KeyID, Epoch: b.epoch(), PartIndex: b.Self, Threshold: b.Threshold, TotalParts: b.TotalParts, Curve: b.Curve, Parties: b.Parties,
	}
	for _, m := range b.Parties {
		if m.Index == b.Self {
			public.User = m.User
		}
	}
	s, err := share.New(public, secret)
	if err != nil {
		return nil, fmt.Errorf("key generation: %w", err)
	}
	return s, nil
}
