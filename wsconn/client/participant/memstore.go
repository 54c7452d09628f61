package participant

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// MemStore is a ShareStore, Journal, trust.Store and EvidenceStore in memory, for tests
// and demonstrations: when the process ends, the shares are gone. The zero value
// is ready.
type MemStore struct {
	memJournal

	mu     sync.Mutex
	shares []memShare
	known  map[string]trust.Known

	evidence []*statement.Evidence
}

const maxMemEvidence = 256 // pieces of evidence in a MemStore

type memShare struct {
	public share.Public
	json   string
}

// Put implements [ShareStore].
func (s *MemStore) Put(_ context.Context, shareJSON string) error {
	public, err := share.ParsePublic(shareJSON)
	if err != nil {
		return fmt.Errorf("store share: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shares = append(s.shares, memShare{public, shareJSON})
	return nil
}

// Get implements [ShareStore].
func (s *MemStore) Get(_ context.Context, keyID, accountAddr string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, held := range slices.Backward(s.shares) {
		if held.public.KeyID == keyID && (accountAddr == "" || held.public.AccountAddr == accountAddr) {
			return held.json, nil
		}
	}
	return "", ErrNoShare
}

// List implements [ShareStore].
func (s *MemStore) List(context.Context) ([]share.Public, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []share.Public
	for _, held := range slices.Backward(s.shares) {
		list = append(list, held.public)
	}
	SortShares(list)
	return list, nil
}

// PutEvidence implements [EvidenceStore].
func (s *MemStore) PutEvidence(_ context.Context, e *statement.Evidence) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.evidence) >= maxMemEvidence {
		return "", fmt.Errorf("the store holds %d pieces", maxMemEvidence)
	}
	s.evidence = append(s.evidence, e)
	return "memory", nil
}

// Evidence returns the evidence stored by PutEvidence.
func (s *MemStore) Evidence() []*statement.Evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.evidence)
}

// Trust implements [trust.Store]: it trusts on first use.
func (s *MemStore) Trust(user string, id identity.Public) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[user]; ok {
		return known.Holds(id)
	}
	s.know(trust.Known{User: user, Fingerprint: id.Fingerprint()})
	return nil
}

// Pin records the fingerprint of a user's identity, as given by its owner. It
// returns an [*IdentityError] if another one is known.
func (s *MemStore) Pin(user, fingerprint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.known[user].PinnedAs(user, fingerprint)
	if err == nil {
		s.know(k)
	}
	return err
}

func (s *MemStore) know(k trust.Known) {
	if s.known == nil {
		s.known = map[string]trust.Known{}
	}
	s.known[k.User] = k
}

// Known implements [trust.Store].
func (s *MemStore) Known(user string) (trust.Known, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[user]
	return known, ok, nil
}

// memJournal is a Journal in memory. The zero value is ready.
type memJournal struct {
	journal sync.Mutex
	ledger  *Ledger
}

// Write implements [Journal].
func (j *memJournal) Write(_ context.Context, r Record) error {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	j.ledger.Set(r)
	return nil
}

func (j *memJournal) init() {
	if j.ledger == nil {
		j.ledger = NewLedger()
	}
}

// Claim implements [Journal].
func (j *memJournal) Claim(_ context.Context, requestID, sessionID string, until time.Time) (string, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	if c, ok := j.ledger.Claimed(requestID); ok {
		return c.SessionID, nil
	}
	if err := j.ledger.RoomForClaim(time.Now()); err != nil {
		return "", err
	}
	j.ledger.AddClaim(requestID, Claim{sessionID, until})
	return sessionID, nil
}

// Read implements [Journal].
func (j *memJournal) Read(_ context.Context, sessionID string) (Record, bool, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	r, ok := j.ledger.Get(sessionID)
	return r, ok, nil
}

// Open implements [Journal].
func (j *memJournal) Open(context.Context) ([]Record, error) {
	j.journal.Lock()
	defer j.journal.Unlock()
	j.init()
	return j.ledger.Open(), nil
}
