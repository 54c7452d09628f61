package client

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// ShareStore keeps sealed shares. A share is named by its key id and its
// account address: a key id whose keygen failed on the server's word may be
// used again, and no share is ever lost to that. Implementations are safe for
// concurrent use and need not keep anything secret, for shares are sealed.
type ShareStore interface {
	// Put stores a share_json durably, beside any others of the same key id.
	Put(ctx context.Context, shareJSON string) error
	// Get returns the share of a key with that account address, or the newest of
	// that key if the address is empty. ErrNoShare.
	Get(ctx context.Context, keyID, accountAddr string) (shareJSON string, err error)
	// List returns the public parts of all shares, by key id, then newest first.
	List(ctx context.Context) ([]share.Public, error)
}

// EvidenceStore is a store that keeps evidence against parties.
type EvidenceStore interface {
	// PutEvidence stores evidence durably and returns where it is, for people. The
	// same again is the same.
	PutEvidence(ctx context.Context, e *statement.Evidence) (where string, err error)
}

// MemStore is a ShareStore, Journal, Truster, KnownStore and EvidenceStore in memory, for tests
// and demonstrations: when the process ends, the shares are gone. The zero value
// is ready.
type MemStore struct {
	memJournal

	mu     sync.Mutex
	shares []memShare
	known  map[string]Known

	evidence []*statement.Evidence
}

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
	for _, share := range slices.Backward(s.shares) {
		if share.public.KeyID == keyID && (accountAddr == "" || share.public.AccountAddr == accountAddr) {
			return share.json, nil
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
	sortShares(list)
	return list, nil
}

func sortShares(list []share.Public) {
	slices.SortStableFunc(list, func(a, b share.Public) int {
		if c := strings.Compare(a.KeyID, b.KeyID); c != 0 {
			return c
		}
		return b.Created.Compare(a.Created)
	})
}

// PutEvidence implements [EvidenceStore].
func (s *MemStore) PutEvidence(_ context.Context, e *statement.Evidence) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.evidence) >= maxEvidence {
		return "", errEvidenceFull
	}
	s.evidence = append(s.evidence, e)
	return "memory", nil
}

// Evidence returns what PutEvidence has stored.
func (s *MemStore) Evidence() []*statement.Evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.evidence)
}

// Trust implements [Truster]: it trusts on first use.
func (s *MemStore) Trust(user string, id identity.Public) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.known[user]; ok {
		return known.holds(id)
	}
	s.know(Known{User: user, Fingerprint: id.Fingerprint()})
	return nil
}

// Pin implements [KnownStore].
func (s *MemStore) Pin(user, fingerprint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, err := s.known[user].pinned(user, fingerprint)
	if err == nil {
		s.know(k)
	}
	return err
}

func (s *MemStore) know(k Known) {
	if s.known == nil {
		s.known = map[string]Known{}
	}
	s.known[k.User] = k
}

// Known implements [KnownStore].
func (s *MemStore) Known(user string) (Known, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.known[user]
	return known, ok, nil
}
