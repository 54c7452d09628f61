package participant

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// MemStore is an EpochStore, Journal, trust.Store and EvidenceStore in memory, for tests
// and demonstrations: when the process ends, the shares are gone. The zero value
// is ready.
type MemStore struct {
	memJournal

	mu    sync.Mutex
	keys  []*memKey // in the order of their first shares
	known map[string]trust.Known

	evidence []*statement.Evidence
}

const maxMemEvidence = 256 // pieces of evidence in a MemStore

// memKey is what a MemStore holds of a key id with an account address.
type memKey struct {
	keyID, accountAddr string

	shares       map[int]memShare // by epoch
	certificates []*statement.Certificate
	lineage      *statement.Lineage
	numbers      Numbers
}

type memShare struct {
	public share.Public
	json   string
}

// key returns the key with that id and address, with an empty one if it is new.
func (s *MemStore) key(keyID, accountAddr string) *memKey {
	for _, k := range s.keys {
		if k.keyID == keyID && k.accountAddr == accountAddr {
			return k
		}
	}
	k := &memKey{keyID: keyID, accountAddr: accountAddr, shares: map[int]memShare{}}
	s.keys = append(s.keys, k)
	return k
}

// epoch is the current epoch.
func (k *memKey) epoch() int {
	if k.lineage == nil {
		return 1
	}
	return k.lineage.Epoch().Number
}

// current returns the share of the current epoch.
func (k *memKey) current() (memShare, bool) {
	held, ok := k.shares[k.epoch()]
	if ok && k.lineage != nil && !IsShareOf(held.public, k.lineage.Epoch()) {
		return memShare{}, false
	}
	return held, ok
}

// Put implements [ShareStore] and [EpochStore].
func (s *MemStore) Put(_ context.Context, shareJSON string) error {
	public, err := share.ParsePublic(shareJSON)
	if err != nil {
		return fmt.Errorf("store share: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(public.KeyID, public.AccountAddr)
	if other, ok := k.shares[public.Epoch]; ok && public.Epoch > 1 && other.json != shareJSON {
		return fmt.Errorf("store share of key %s: %w", public.KeyID, ErrEpochTaken)
	}
	k.shares[public.Epoch] = memShare{public, shareJSON}
	return nil
}

// Get implements [ShareStore].
func (s *MemStore) Get(_ context.Context, keyID, accountAddr string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range slices.Backward(s.keys) {
		if k.keyID == keyID && (accountAddr == "" || k.accountAddr == accountAddr) {
			if held, ok := k.current(); ok {
				return held.json, nil
			}
		}
	}
	return "", ErrNoShare
}

// List implements [ShareStore].
func (s *MemStore) List(context.Context) ([]share.Public, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []share.Public
	for _, k := range slices.Backward(s.keys) {
		if held, ok := k.current(); ok {
			list = append(list, held.public)
		}
	}
	SortShares(list)
	return list, nil
}

// Epochs implements [EpochStore].
func (s *MemStore) Epochs(_ context.Context, keyID, accountAddr string) ([]share.Public, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key(keyID, accountAddr).publics(), nil
}

// publics returns the public parts of all shares, ascending by epoch.
func (k *memKey) publics() []share.Public {
	var list []share.Public
	for _, epoch := range slices.Sorted(maps.Keys(k.shares)) {
		list = append(list, k.shares[epoch].public)
	}
	return list
}

// GetEpoch implements [EpochStore].
func (s *MemStore) GetEpoch(_ context.Context, keyID, accountAddr string, epoch int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.key(keyID, accountAddr).shares[epoch]
	if !ok {
		return "", ErrNoShare
	}
	return held.json, nil
}

// DeleteEpoch implements [EpochStore].
func (s *MemStore) DeleteEpoch(_ context.Context, keyID, accountAddr string, epoch int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(keyID, accountAddr)
	if epoch == k.epoch() && !(k.lineage != nil && k.lineage.Destroyed()) {
		return fmt.Errorf("delete share of key %s: %w", keyID, ErrCurrentEpoch)
	}
	delete(k.shares, epoch)
	return nil
}

// PutCertificate implements [EpochStore].
func (s *MemStore) PutCertificate(_ context.Context, c *statement.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(c.Key())
	add, err := AddCertificate(k.certificates, k.publics(), c)
	if err != nil || !add {
		return err
	}
	k.certificates = append(k.certificates, c)
	k.lineage, err = statement.Head(k.certificates)
	return err
}

// Lineage implements [EpochStore].
func (s *MemStore) Lineage(_ context.Context, keyID, accountAddr string) (*statement.Lineage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key(keyID, accountAddr).lineage, nil
}

// Numbers implements [EpochStore].
func (s *MemStore) Numbers(_ context.Context, keyID, accountAddr string, change func(*Numbers) error) (Numbers, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key(keyID, accountAddr)
	n := k.numbers
	n.Consents = maps.Clone(n.Consents)
	for epoch := range k.shares {
		n.Highest = max(n.Highest, epoch)
	}
	for _, c := range k.certificates {
		n.Highest = max(n.Highest, c.Number())
	}
	if change != nil {
		if err := change(&n); err != nil {
			return Numbers{}, err
		}
		k.numbers = n
		k.numbers.Consents = maps.Clone(n.Consents)
	}
	return n, nil
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

// Adopt implements [trust.Adopter].
func (s *MemStore) Adopt(user string, id identity.Public) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.know(trust.Known{User: user, Fingerprint: id.Fingerprint(), Pinned: s.known[user].Pinned})
	return nil
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
