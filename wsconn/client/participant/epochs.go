package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// Errors of an [EpochStore] and of [Numbers].
var (
	// ErrEpochTaken is returned by Put for another share of an epoch that has one: a
	// number is used for one attempt only.
	ErrEpochTaken = errors.New("client: there is another share of that epoch")
	// ErrCurrentEpoch is returned by DeleteEpoch for the share that signs.
	ErrCurrentEpoch = errors.New("client: the share of the current epoch is not deleted")
	// ErrNumberUsed is returned by [Numbers.See] and [Numbers.Consent].
	ErrNumberUsed = errors.New("client: that number of the key was used before")
)

// EpochStore is a [ShareStore] that keeps the shares of several epochs of a key, the
// certificates of its lineage, and the numbers that the participant has used. Which
// share signs is derived and not stored: that of the current epoch, which is the
// highest one whose certificate is held, and epoch 1 without certificates. Shares above
// it are pending and those below retired.
//
// Put stores the share of any epoch. It replaces one of epoch 1 only: for another share
// of a higher epoch the error is ErrEpochTaken. Get and List return shares of current
// epochs only; a key whose current share is not held has none.
//
// What a method stores or deletes is durable when it returns.
type EpochStore interface {
	ShareStore
	// Epochs returns the public parts of all shares of a key with that account
	// address, ascending by epoch.
	Epochs(ctx context.Context, keyID, accountAddr string) ([]share.Public, error)
	// GetEpoch returns the share of an epoch. Without one the error is ErrNoShare.
	GetEpoch(ctx context.Context, keyID, accountAddr string, epoch int) (shareJSON string, err error)
	// DeleteEpoch deletes the share of an epoch; deleting none has no effect. That of
	// the current epoch is kept, ErrCurrentEpoch, unless the key is destroyed.
	DeleteEpoch(ctx context.Context, keyID, accountAddr string, epoch int) error
	// PutCertificate verifies a certificate and stores it beside the others of its key
	// and address. It must follow one of those held, or be the first, and that of the
	// share held of its epoch, if there is one. Storing it again has no effect.
	PutCertificate(ctx context.Context, certificate *statement.Certificate) error
	// Lineage returns the lineage that counts among the certificates held, nil if there
	// are none.
	Lineage(ctx context.Context, keyID, accountAddr string) (*statement.Lineage, error)
	// Numbers returns what is known of a key's numbers. If change is not nil, it is
	// called with them, alone, and what it changes is stored, unless it returns an error.
	Numbers(ctx context.Context, keyID, accountAddr string, change func(*Numbers) error) (Numbers, error)
}

// Numbers is what a participant must not forget about the numbers of a key's
// certificates. The zero value knows of none.
type Numbers struct {
	// Highest is the greatest number of which the participant has seen an attempt or a
	// consent, or holds a share or a certificate.
	Highest int `json:"highest"`
	// GivenUp is the greatest number that was given up, by a deadline or a cancel.
	GivenUp int `json:"given_up,omitempty"`
	// Consents are what the participant has consented to, by number.
	Consents map[int]statement.Hash `json:"consents,omitempty"`
}

// See records that an attempt begins under a number. The error is ErrNumberUsed unless
// it is above all seen before.
func (n *Numbers) See(number int) error {
	if number <= n.Highest {
		return fmt.Errorf("%w: %d, after %d", ErrNumberUsed, number, n.Highest)
	}
	n.Highest = number
	return nil
}

// Consent records a consent, which may leave the participant only after it is stored.
// The same one may be given again. The error is ErrNumberUsed if another was given for
// that number, any for a higher one, or if the number was given up.
func (n *Numbers) Consent(number int, hash statement.Hash) error {
	given, again := n.Consents[number]
	for consented := range n.Consents {
		if consented > number || consented == number && given != hash {
			return fmt.Errorf("%w: consented to %d before, now asked for %d", ErrNumberUsed, consented, number)
		}
	}
	if number <= n.GivenUp {
		return fmt.Errorf("%w: %d is given up", ErrNumberUsed, number)
	}
	if !again {
		if n.Consents == nil {
			n.Consents = map[int]statement.Hash{}
		}
		n.Consents[number] = hash
	}
	n.Highest = max(n.Highest, number)
	return nil
}

// GiveUp records that no consent is given any more for a number, or for one below it.
func (n *Numbers) GiveUp(number int) {
	n.GivenUp = max(n.GivenUp, number)
	n.Highest = max(n.Highest, number)
}

// AddCertificate is [EpochStore.PutCertificate] for a store that holds those
// certificates and shares of the key. It reports whether the store must add it.
func AddCertificate(held []*statement.Certificate, shares []share.Public, c *statement.Certificate) (add bool, err error) {
	hash := c.Hash()
	if slices.ContainsFunc(held, func(other *statement.Certificate) bool { return other.Hash() == hash }) {
		return false, nil
	}
	if _, err := statement.Head(append(slices.Clip(held), c)); err != nil {
		return false, fmt.Errorf("store certificate: %w", err)
	}
	// Anybody can make a first certificate of identities of their own. Believed, it would
	// retire the share.
	if c.Parent() == nil && slices.ContainsFunc(shares, func(p share.Public) bool { return p.Epoch == c.Number() && !IsShareOf(p, c.Epoch) }) {
		return false, fmt.Errorf("store certificate: epoch %d of key %s has another committee here", c.Number(), c.Epoch.KeyID)
	}
	return true, nil
}

// IsShareOf reports whether a share belongs to an epoch, as far as its public part
// shows. Only the holder can check the rest: see share.Share.CheckEpoch.
func IsShareOf(p share.Public, e *statement.Epoch) bool {
	return p.KeyID == e.KeyID && p.Curve == e.Curve && p.Epoch == e.Number && p.Threshold == e.Threshold &&
		p.PublicKey == e.PublicKey && p.AccountAddr == e.AccountAddr && slices.Equal(p.Parties, e.Members)
}
