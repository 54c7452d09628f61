package party

import (
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
)

const maxDigestSize = 1 << 20 // the longest ed25519 message

// Binding identifies a run. Every message is signed, and every point-to-point body
// sealed, together with all of it, so that parties with different bindings cannot
// exchange any message.
type Binding struct {
	// SessionID and Attempt identify the run and must not be reused together.
	SessionID string
	Attempt   int
	// KeyID is the key's id.
	KeyID string
	// Epoch is the epoch of the key's shares: 1 in a key generation. 0 means 1.
	Epoch int
	Curve pubkey.Curve
	// Threshold is how many parties must sign: 2 <= Threshold <= TotalParts.
	Threshold  int
	TotalParts int
	// Parties are those of this run, ascending by Index: for keygen all
	// TotalParts, for signing at least Threshold of them.
	Parties []identity.Member
	// Self is the party's own Index.
	Self int
}

// kind is the first value that a run is bound to.
type kind string

const (
	kindKeygen  kind = statement.Keygen
	kindSign    kind = statement.Sign
	kindReshare kind = statement.Reshare
)

// run returns the part of the binding that all parties share: everything but Self.
// Digest and public key are empty in a key generation.
func (b *Binding) run(k kind, digest, publicKey []byte) *statement.Run {
	return &statement.Run{
		Kind: string(k), SessionID: b.SessionID, Attempt: b.Attempt, KeyID: b.KeyID, Epoch: b.epoch(), Curve: b.Curve,
		Threshold: b.Threshold, TotalParts: b.TotalParts, Parties: b.Parties,
		Digest: digest, PublicKey: publicKey,
	}
}

func (b *Binding) epoch() int {
	if b.Epoch == 0 {
		return 1
	}
	return b.Epoch
}

// check refuses invalid bindings. The identity is the party's own.
func (b *Binding) check(k kind, own *identity.Identity) error {
	if k == kindKeygen && b.epoch() != 1 {
		return errors.New("a key generation makes epoch 1")
	}
	return checkRun(b.run(k, nil, nil), b.Self, own)
}

// checkRun refuses invalid runs, and those without the own party.
func checkRun(run *statement.Run, part int, own *identity.Identity) error {
	if own.IsZero() {
		return errors.New("the identity is missing")
	}
	if err := run.Check(); err != nil {
		return err
	}
	self := run.Member(part)
	if self == nil {
		return fmt.Errorf("own part %d is not among the parties", part)
	}
	if self.Identity != own.Public() {
		return fmt.Errorf("part %d is listed with another identity than the own one", part)
	}
	return nil
}
