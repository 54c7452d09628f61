package party

import (
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/tss"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// ReshareBinding identifies a reshare, as [Binding] does other runs. All parties have the
// same but for Self.
type ReshareBinding struct {
	// SessionID and Attempt identify the run and must not be reused together.
	SessionID string
	Attempt   int
	KeyID     string
	Curve     pubkey.Curve
	// Epoch is the new epoch. A number must not be used for two attempts.
	Epoch int
	// From is the old committee.
	From statement.From
	// Threshold and TotalParts are those of the new committee.
	Threshold  int
	TotalParts int
	// Parties are at least From.Threshold members of the old committee, then all of the
	// new one; Index is the place: see [statement.Run].
	Parties []identity.Member
	// Self is the party's own place.
	Self int
	// PublicKey is the key's: 0x hex of compressed SEC1, or 32 bytes.
	PublicKey string
}

func (b *ReshareBinding) run() (*statement.Run, error) {
	pub, err := b.Curve.ParseKey(b.PublicKey)
	if err != nil {
		return nil, err
	}
	from := b.From
	return &statement.Run{
		Kind: statement.Reshare, SessionID: b.SessionID, Attempt: b.Attempt, KeyID: b.KeyID, Epoch: b.Epoch, Curve: b.Curve,
		Threshold: b.Threshold, TotalParts: b.TotalParts, Parties: b.Parties, PublicKey: pub, From: &from,
	}, nil
}

// ReshareConfig describes one party's side of a reshare.
type ReshareConfig struct {
	Binding ReshareBinding
	// Identity is the party's own, listed in the binding under Self.
	Identity *identity.Identity
	// Share is the share of the old epoch. A party of the old committee needs it; it
	// remains unchanged and usable, whatever comes of the run. A party of the new
	// committee uses the one that its user may have, to know who is at fault if an old
	// member gives something else than its share.
	Share *share.Share
	// OldPoints are the public share points of the old epoch by part, as
	// [share.Share.Points] returns them, for a party of the new committee without an old
	// share. If it has neither, a wrong contribution fails the run and blames nobody.
	OldPoints []string
	// PreParams are needed on secp256k1 by a party of the new committee, and used up.
	// They must be fresh: never those of an older share.
	PreParams *preparams.Set
	// Concurrency is as in [KeygenConfig].
	Concurrency int
}

// NewReshare prepares one party's side of a reshare; which one Self says. The run of a
// party of the new committee ends with its new share ([Run.Share]); that of the old
// committee without a result, when the new members have all received their shares.
// Neither says that the new epoch is valid: only its certificate does, and until then the
// old shares must be kept.
//
// A user in both committees has two runs, one for each place. Messages between them must
// be delivered like all others, and a broadcast of a third party is for both.
//
// Once the configuration is found valid the pre-parameters are used up, even if the run
// fails. [preparams.ErrUsed], [preparams.ErrTestOnly].
func NewReshare(c ReshareConfig) (*Run, error) {
	r, err := newReshare(&c)
	if err != nil {
		return nil, fmt.Errorf("prepare reshare: %w", err)
	}
	return r, nil
}

func newReshare(c *ReshareConfig) (*Run, error) {
	run, err := c.Binding.run()
	if err != nil {
		return nil, err
	}
	self := c.Binding.Self
	if err := checkRun(run, self, c.Identity); err != nil {
		return nil, err
	}
	if !c.Share.IsZero() {
		if err := c.checkShare(run); err != nil {
			return nil, err
		}
	}
	both, err := committees(run)
	if err != nil {
		return nil, err
	}
	var p protocol
	if p.places, err = both.Places(); err != nil {
		return nil, err
	}
	if run.Side(self) == statement.Old {
		if c.Share.IsZero() {
			return nil, errors.New("the old share is missing")
		}
		if part := c.Share.Public().PartIndex; part != self {
			return nil, fmt.Errorf("the share is that of part %d", part)
		}
		p.guard = tss.NewGuard(run.Curve, run.Threshold, self, parts(run), nil)
		p.build, p.wipe = both.Give(self, c.Concurrency, c.Share.Secret())
		return newRun(run, self, c.Identity, p)
	}
	giving, err := c.giving(run, both)
	if err != nil {
		return nil, err
	}
	var pre *tss.PreParams
	if run.Curve == pubkey.Secp256k1 {
		if pre, err = c.PreParams.Take(); err != nil {
			return nil, err
		}
	}
	p.guard = tss.NewReceiverGuard(run.Curve, run.Threshold, self, parts(run), giving)
	p.build = both.Take(self-run.From.TotalParts, c.Concurrency, pre)
	return newRun(run, self, c.Identity, p)
}

// committees returns the committees of a reshare.
func committees(run *statement.Run) (*tss.Reshare, error) {
	old, err := tss.NewCommittee(run.Curve, run.KeyID, run.From.Epoch, run.Committee(statement.Old))
	if err != nil {
		return nil, err
	}
	fresh, err := tss.NewCommittee(run.Curve, run.KeyID, run.Epoch, run.Committee(statement.New))
	if err != nil {
		return nil, err
	}
	return &tss.Reshare{
		Curve: run.Curve, Old: old, New: fresh,
		OldThreshold: run.From.Threshold, NewThreshold: run.Threshold, OldTotal: run.From.TotalParts,
	}, nil
}

// checkShare checks the old share against the binding.
func (c *ReshareConfig) checkShare(run *statement.Run) error {
	s := c.Share.Public()
	switch {
	case run.KeyID != s.KeyID || run.Curve != s.Curve || pubkey.Encode(run.PublicKey) != s.PublicKey:
		return errors.New("the share is of another key")
	case run.From.Epoch != s.Epoch:
		return fmt.Errorf("the share is of epoch %d", s.Epoch)
	case run.From.Threshold != s.Threshold || run.From.TotalParts != s.TotalParts:
		return fmt.Errorf("the share is of a %d-of-%d key", s.Threshold, s.TotalParts)
	}
	for _, m := range run.Committee(statement.Old) {
		if m != s.Parties[m.Index-1] {
			return fmt.Errorf("part %d of the old committee has another user or identity than in the share", m.Index)
		}
	}
	return nil
}

// giving returns what a party of the new committee knows of the old one.
func (c *ReshareConfig) giving(run *statement.Run, both *tss.Reshare) (*tss.Giving, error) {
	points := c.OldPoints
	if run.From.Epoch == 0 { // a committee of one, whose share is the key
		points = []string{pubkey.Encode(run.PublicKey)}
	}
	if c.Share.IsZero() {
		return both.Giving(run.PublicKey, points, nil)
	}
	if points == nil {
		var err error
		if points, err = c.Share.Points(); err != nil {
			return nil, err
		}
	}
	return both.Giving(run.PublicKey, points, c.Share.Secret())
}

// ImportConfig describes the side of a reshare that has a whole private key: an old
// committee of one, which exists for this run only.
type ImportConfig struct {
	// Binding is that of the others, whose From has epoch 0 and threshold 1 of 1 parts.
	// Self is 1.
	Binding ReshareBinding
	// Identity is listed in the binding under place 1.
	Identity *identity.Identity
	// Key is the private key. The run does not change it, and keeps a copy until it ends.
	Key *share.PrivateKey
	// Concurrency is as in [KeygenConfig].
	Concurrency int
}

// NewImport prepares the side of a reshare that gives a private key to a committee; the
// others use [NewReshare]. Afterwards the committee can sign with it, under the same
// address, and so can everybody who has known it.
func NewImport(c ImportConfig) (*Run, error) {
	r, err := newImport(&c)
	if err != nil {
		return nil, fmt.Errorf("prepare import: %w", err)
	}
	return r, nil
}

func newImport(c *ImportConfig) (*Run, error) {
	run, err := c.Binding.run()
	if err != nil {
		return nil, err
	}
	if err := checkRun(run, c.Binding.Self, c.Identity); err != nil {
		return nil, err
	}
	if run.From.Epoch != 0 || c.Binding.Self != 1 {
		return nil, errors.New("an import is from place 1 of a committee of one")
	}
	if c.Key == nil || c.Key.Curve() != run.Curve || c.Key.PublicKey() != c.Binding.PublicKey {
		return nil, errors.New("the private key is missing or another")
	}
	both, err := committees(run)
	if err != nil {
		return nil, err
	}
	var p protocol
	if p.places, err = both.Places(); err != nil {
		return nil, err
	}
	scalar := c.Key.Scalar()
	defer tss.Wipe(scalar) // the run has its own copy
	secret, err := tss.Whole(run.Curve, both.Old, run.PublicKey, scalar)
	if err != nil {
		return nil, err
	}
	p.guard = tss.NewGuard(run.Curve, run.Threshold, 1, parts(run), nil)
	p.build, p.wipe = both.Give(1, c.Concurrency, secret)
	return newRun(run, 1, c.Identity, p)
}
