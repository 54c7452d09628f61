package statement

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
)

// EntryType says what an [Entry] changes.
type EntryType string

// The types of entries.
const (
	Archive           EntryType = "archive"            // the key signs no more,
	Unarchive         EntryType = "unarchive"          // and signs again
	AddCoordinator    EntryType = "add_coordinator"    // User may request from now on,
	RemoveCoordinator EntryType = "remove_coordinator" // and no more
	// Destroy ends the key: all members delete their shares. It takes the consents of
	// all members of the committee, and nothing follows it.
	Destroy EntryType = "destroy"
)

const (
	deletionPrefix     = "conclave-del1."
	deletionTextSize   = len(deletionPrefix) + (ed25519.SignatureSize*8+5)/6
	entryTranscript    = "conclave/party/entry/v1"
	deletionTranscript = "conclave/party/deletion/v1"
)

// Entry is the content of a certificate that changes something else of a key than its
// epoch. Entries have numbers of their own among those of the epochs. Its fields must
// not change after its first use.
type Entry struct {
	KeyID       string    `json:"key_id"`
	AccountAddr string    `json:"account_addr"` // of the key
	SessionID   string    `json:"session_id"`   // of the session in which the members consent
	Number      int       `json:"number"`
	Parent      Parent    `json:"parent"` // the certificate that this one follows
	Type        EntryType `json:"type"`
	// User is the user id of a coordinator that is added or removed, empty otherwise.
	User string `json:"user_id,omitempty"`
	// Coordinator is the user id that requested the entry.
	Coordinator string `json:"coordinator"`
}

// Check returns an error if no entry can have these values.
func (e *Entry) Check() error {
	if err := checkNames(e.KeyID, e.AccountAddr, e.SessionID, e.Coordinator); err != nil {
		return err
	}
	if err := identity.CheckEpoch(e.Number); err != nil {
		return err
	}
	if e.Parent.Number < 1 || e.Parent.Number >= e.Number {
		return fmt.Errorf("number %d cannot follow number %d", e.Number, e.Parent.Number)
	}
	switch e.Type {
	case AddCoordinator, RemoveCoordinator:
		return checkNames(e.User)
	case Archive, Unarchive, Destroy:
		if e.User != "" {
			return errors.New("only an entry about a coordinator names one")
		}
		return nil
	}
	return fmt.Errorf("the type of entry %q is not known", e.Type)
}

// Hash is the hash of the entry's certificate. It covers every field and no signature.
func (e *Entry) Hash() Hash {
	var t codec.Transcript
	t.Text(entryTranscript)
	t.Text(e.KeyID)
	t.Text(e.AccountAddr)
	t.Text(e.SessionID)
	t.Number(e.Number)
	appendParent(&t, &e.Parent)
	t.Text(string(e.Type))
	t.Text(e.User)
	t.Text(e.Coordinator)
	return sha256.Sum256(t.Buf)
}

// Consent signs the entry as a member of the current committee and returns the
// consent's text. The caller must have stored durably that it consents.
func (e *Entry) Consent(id *identity.Identity, committee *Epoch) (string, error) {
	if err := e.Check(); err != nil {
		return "", fmt.Errorf("consent to entry: %w", err)
	}
	return consent(id, committee, e.KeyID, e.Number, e.Hash(), e.Parent)
}

// VerifyConsent checks the consent of a member of the committee by its part index.
func (e *Entry) VerifyConsent(committee *Epoch, part int, text string) error {
	return verifyConsent(committee, part, text, e.KeyID, e.Number, e.Hash(), e.Parent)
}

// Delete signs, as a member of the last committee of a destroyed key, that all its
// shares are deleted, and returns the text. The caller must have deleted them.
func (e *Entry) Delete(id *identity.Identity, committee *Epoch) (string, error) {
	if e.Type != Destroy || id.IsZero() || partOf(committee.Members, id) == 0 {
		return "", errors.New("only a member of a destroyed key's committee states that its shares are deleted")
	}
	return deletionPrefix + base64.RawURLEncoding.EncodeToString(id.Sign(deleted(e.Hash()))), nil
}

// VerifyDeletion checks the statement of one member that its shares are deleted.
func (e *Entry) VerifyDeletion(committee *Epoch, part int, text string) error {
	if e.Type != Destroy || part < 1 || part > len(committee.Members) {
		return fmt.Errorf("part %d has nothing to delete", part)
	}
	sig, err := signatureText(text, deletionPrefix, deletionTextSize)
	if err != nil {
		return fmt.Errorf("parse deletion: %w", err)
	}
	if m := committee.Members[part-1]; !m.Identity.Verify(deleted(e.Hash()), sig) {
		return fmt.Errorf("verify deletion: something else than this has been signed by %s", m.User)
	}
	return nil
}

// deleted is what a statement of deletion signs.
func deleted(hash Hash) []byte {
	var t codec.Transcript
	t.Text(deletionTranscript)
	t.Bytes(hash[:])
	return t.Buf
}

// PartDeletion is a member's statement that its shares of a destroyed key are deleted.
type PartDeletion struct {
	Part     int    `json:"part_index"`
	Deletion string `json:"deletion"` // see [Entry.Delete]
}

// apply returns the lineage's state after an entry.
func (s state) apply(e *Entry) (state, error) {
	named := slices.Contains(s.coordinators, e.User)
	switch {
	case s.archived && e.Type == Archive, !s.archived && e.Type == Unarchive:
		return s, fmt.Errorf("the key cannot be changed by %q as it is", e.Type)
	case named && e.Type == AddCoordinator:
		return s, fmt.Errorf("%s is a coordinator already", e.User)
	case !named && e.Type == RemoveCoordinator:
		return s, fmt.Errorf("%s is not a coordinator", e.User)
	case e.Type == RemoveCoordinator && len(s.coordinators) == 1:
		return s, fmt.Errorf("%s is the only coordinator", e.User)
	}
	switch e.Type {
	case Archive:
		s.archived = true
	case Unarchive:
		s.archived = false
	case AddCoordinator:
		s.coordinators = append(slices.Clone(s.coordinators), e.User)
		slices.Sort(s.coordinators)
	case RemoveCoordinator:
		s.coordinators = slices.DeleteFunc(slices.Clone(s.coordinators), func(u string) bool { return u == e.User })
	case Destroy:
		s.destroyed = true
	}
	return s, nil
}
