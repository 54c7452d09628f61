package party

import (
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
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
	b := &c.Binding
	run := b.run(kindKeygen, nil, nil)
	com, err := tss.NewCommittee(run.Curve, run.KeyID, run.Epoch, run.Parties)
	if err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	r, err := newRun(run, b.Self, c.Identity, protocol{
		places: com.Places(),
		guard:  tss.NewGuard(run.Curve, run.Threshold, b.Self, parts(run), nil),
		build:  tss.Keygen(run.Curve, com.Params(b.Self, run.Threshold, c.Concurrency), pre),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare key generation: %w", err)
	}
	return r, nil
}

// newShare makes the share of a run's party from the result, with the same checks as for
// a share that is read back; after a reshare with all that can be checked of the public
// points, and that the key is the one that it was.
func newShare(run *statement.Run, self int, secret *tss.Secret) (*share.Share, error) {
	part, members := self, run.Parties
	if run.From != nil {
		part, members = self-run.From.TotalParts, run.Committee(statement.New)
	}
	s, err := share.New(share.Public{
		KeyID: run.KeyID, Epoch: run.Epoch, User: members[part-1].User, PartIndex: part,
		Threshold: run.Threshold, TotalParts: run.TotalParts, Curve: run.Curve, Parties: members,
	}, secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", run.Kind, err)
	}
	if run.From != nil {
		if err := secret.CheckQuorums(s.Key()); err != nil {
			return nil, fmt.Errorf("%s: %w", run.Kind, err)
		}
		if s.Public().PublicKey != pubkey.Encode(run.PublicKey) {
			return nil, fmt.Errorf("%s: the new share is of another key", run.Kind)
		}
	}
	return s, nil
}
