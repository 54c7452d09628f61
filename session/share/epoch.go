package share

import (
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session/statement"
)

// Points returns the public points of the key's shares by part: 0x hex of compressed
// SEC1, or of 32 bytes. Threshold of them determine the public key and all others.
func (s *Share) Points() ([]string, error) { return s.secret.Points(s.public.key()) }

// Epoch returns what the members of a committee attest about the epoch of their shares:
// the same for all of them. Parent is the certificate that it follows, nil for an
// imported key's first; origin and chain code are the key's.
func (s *Share) Epoch(sessionID, coordinator string, parent *statement.Parent, origin, chainCode string) (*statement.Epoch, error) {
	points, err := s.Points()
	if err != nil {
		return nil, fmt.Errorf("state epoch: %w", err)
	}
	p := s.Public()
	e := &statement.Epoch{
		KeyID: p.KeyID, SessionID: sessionID, Curve: p.Curve, Number: p.Epoch, Parent: parent,
		Threshold: p.Threshold, Members: p.Parties, AccountAddr: p.AccountAddr, PublicKey: p.PublicKey,
		Points: points, Origin: origin, Coordinator: coordinator, ChainCode: chainCode,
	}
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("state epoch: %w", err)
	}
	return e, nil
}

// CheckEpoch returns an error unless the share is one of an epoch: of the same key,
// committee and threshold, with the same public points, of which any threshold determine
// the public key, and with the secret number of its own. An epoch that a key generation
// has attested has no points; its share is checked against its own. With threshold such
// shares the committee can sign, so shares of lower epochs may be deleted.
func (s *Share) CheckEpoch(e *statement.Epoch) error {
	if err := s.checkEpoch(e); err != nil {
		return fmt.Errorf("check share against epoch %d: %w", e.Number, err)
	}
	return nil
}

func (s *Share) checkEpoch(e *statement.Epoch) error {
	p := &s.public
	switch {
	case p.KeyID != e.KeyID || p.Curve != e.Curve || p.PublicKey != e.PublicKey || p.AccountAddr != e.AccountAddr:
		return errors.New("it is of another key")
	case p.Epoch != e.Number:
		return fmt.Errorf("it is of epoch %d", p.Epoch)
	case p.Threshold != e.Threshold || !slices.Equal(p.Parties, e.Members):
		return errors.New("it is of another committee")
	}
	if err := s.check(); err != nil {
		return err
	}
	if err := s.secret.CheckQuorums(p.key()); err != nil {
		return err
	}
	points, err := s.Points()
	if err != nil {
		return err
	}
	if (len(e.Points) > 0 || e.Parent != nil) && !slices.Equal(points, e.Points) {
		return errors.New("its public points are others")
	}
	return nil
}
