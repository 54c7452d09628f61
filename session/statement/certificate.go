package statement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
)

const (
	certificateVersion  = 1
	maxCertificateBytes = 2 << 20 // the largest committee, 256 parties, needs 1.3 MB
)

// Certificate is an [Epoch] with the signatures that make it true: the attestations of
// all its members and, unless it is the first, the consents of at least the threshold
// of the committee that it follows. Or it is an [Entry], which needs consents only. It
// is immutable once it is verified.
type Certificate struct {
	Epoch *Epoch // nil in the certificate of an Entry
	Entry *Entry // nil in the certificate of an Epoch
	// Attestations are the members' by part index less one. An entry has none.
	Attestations []string
	// Consents ascend by part index.
	Consents []PartConsent
	// Deletions ascend by part index, and follow an entry that destroys the key. Some may
	// be missing: they are made last.
	Deletions []PartDeletion
}

// PartConsent is a member's consent.
type PartConsent struct {
	// Part is the member's part index in the committee that consents.
	Part    int    `json:"part_index"`
	Consent string `json:"consent"` // see [Epoch.Consent]
}

type certificateJSON struct {
	Version      int            `json:"version"`
	Epoch        *Epoch         `json:"epoch,omitempty"`
	Entry        *Entry         `json:"entry,omitempty"`
	Attestations []string       `json:"attestations,omitempty"`
	Consents     []PartConsent  `json:"consents,omitempty"`
	Deletions    []PartDeletion `json:"deletions,omitempty"`
}

// FirstCertificate returns the certificate of epoch 1 that the attestations of a keygen
// make, by part index less one. It has no share points: a keygen does not attest them.
func FirstCertificate(k Attested, attestations []string) (*Certificate, error) {
	e := &Epoch{
		KeyID: k.KeyID, SessionID: k.SessionID, Curve: k.Curve, Number: max(k.Epoch, 1), Threshold: k.Threshold,
		AccountAddr: k.AccountAddr, PublicKey: k.PublicKey, Origin: Generated, Coordinator: k.Coordinator,
	}
	if len(attestations) != len(k.Participants) {
		return nil, fmt.Errorf("certify epoch 1: there are %d attestations of %d parties", len(attestations), len(k.Participants))
	}
	for i, text := range attestations {
		a, err := ParseAttestation(text)
		if err != nil {
			return nil, fmt.Errorf("certify epoch 1: %w", err)
		}
		e.Members = append(e.Members, identity.Member{Index: i + 1, User: k.Participants[i], Identity: a.Identity})
	}
	c := &Certificate{Epoch: e, Attestations: attestations}
	if err := c.Verify(nil); err != nil {
		return nil, fmt.Errorf("certify epoch 1: %w", err)
	}
	return c, nil
}

// verifyKeygen checks the attestations of a keygen, of either format.
func (e *Epoch) verifyKeygen(list []string) error {
	if e.ChainCode != "" {
		return errors.New("a keygen's attestations know no chain code")
	}
	k := Attested{
		SessionID: e.SessionID, KeyID: e.KeyID, Epoch: e.Number, Coordinator: e.Coordinator, Curve: e.Curve, Threshold: e.Threshold,
		AccountAddr: e.AccountAddr, PublicKey: e.PublicKey,
	}
	var parsed []Attestation
	for i, text := range list {
		a, err := ParseAttestation(text)
		if err != nil {
			return err
		}
		if a.Identity != e.Members[i].Identity {
			return fmt.Errorf("the attestation of %s is by another identity", e.Members[i].User)
		}
		k.Participants = append(k.Participants, e.Members[i].User)
		parsed = append(parsed, a)
	}
	return k.Verify(parsed)
}

// String returns the text form, which travels as certificate: JSON, in one line.
func (c *Certificate) String() string {
	text, err := compactJSON(certificateJSON{certificateVersion, c.Epoch, c.Entry, c.Attestations, c.Consents, c.Deletions})
	if err != nil {
		panic(err) // all fields are strings and numbers, and hashes and identities always encode
	}
	return string(text)
}

// ParseCertificate reads the text form of an epoch's certificate, as of
// [Certificate.String]; only white space between its tokens may differ. It does not
// verify the signatures.
func ParseCertificate(text string) (*Certificate, error) {
	c, err := ParseAnyCertificate(text)
	if err == nil && c.Epoch == nil {
		return nil, errors.New("parse certificate: it has no epoch")
	}
	return c, err
}

// ParseAnyCertificate is ParseCertificate for entries too.
func ParseAnyCertificate(text string) (*Certificate, error) {
	c, err := parseCertificate([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	return c, nil
}

func parseCertificate(text []byte) (*Certificate, error) {
	if len(text) > maxCertificateBytes {
		return nil, errors.New("too large")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	var j certificateJSON
	if err := codec.StrictJSON(compact.Bytes(), &j); err != nil {
		return nil, err
	}
	if j.Version != certificateVersion {
		return nil, fmt.Errorf("format %d is not known", j.Version)
	}
	c := &Certificate{j.Epoch, j.Entry, j.Attestations, j.Consents, j.Deletions}
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.String() != compact.String() {
		return nil, errors.New("not in the form in which it is written")
	}
	return c, nil
}

// check checks the content.
func (c *Certificate) check() error {
	switch {
	case (c.Epoch == nil) == (c.Entry == nil):
		return errors.New("it must have either an epoch or an entry")
	case c.Epoch == nil && len(c.Attestations) > 0:
		return errors.New("nobody attests an entry")
	case c.Epoch == nil:
		return c.Entry.Check()
	}
	return c.Epoch.Check()
}

// Number is the certificate's number among those of its key.
func (c *Certificate) Number() int {
	if c.Epoch == nil {
		return c.Entry.Number
	}
	return c.Epoch.Number
}

// Key returns the id and the account address of the certificate's key.
func (c *Certificate) Key() (keyID, accountAddr string) {
	if c.Epoch == nil {
		return c.Entry.KeyID, c.Entry.AccountAddr
	}
	return c.Epoch.KeyID, c.Epoch.AccountAddr
}

// Parent is the certificate that this one follows, nil if it is the first of its key.
func (c *Certificate) Parent() *Parent {
	if c.Epoch == nil {
		return &c.Entry.Parent
	}
	return c.Epoch.Parent
}

// Hash names the certificate by its content. Two certificates that differ only in who
// has consented have the same.
func (c *Certificate) Hash() Hash {
	if c.Epoch == nil {
		return c.Entry.Hash()
	}
	return c.Epoch.Hash()
}

// Link returns the certificate as the parent of one that follows.
func (c *Certificate) Link() Parent { return Parent{c.Number(), c.Hash()} }

// Verify checks all signatures, and that the certificate follows the parent, which must
// be verified; the first of a key has none, nil. It says nothing about who the members
// of a first epoch are: the caller must know their identities. What follows an entry is
// verified with [Lineage.Next], since the committee is that of an epoch before it.
func (c *Certificate) Verify(parent *Certificate) error {
	var l *Lineage
	if parent != nil {
		if parent.Epoch == nil {
			return errors.New("verify certificate: its parent is no epoch, and has no committee")
		}
		l = &Lineage{head: parent, state: first(parent)}
	}
	if _, err := c.verify(l); err != nil {
		return fmt.Errorf("verify certificate: %w", err)
	}
	return nil
}

// verify checks the certificate as the next of a lineage, or as the first, and returns
// the state after it.
func (c *Certificate) verify(l *Lineage) (state, error) {
	if err := c.check(); err != nil {
		return state{}, err
	}
	if c.Epoch != nil {
		if err := c.Epoch.VerifyAttestations(c.Attestations); err != nil {
			return state{}, err
		}
	}
	if l == nil {
		if c.Epoch == nil || c.Epoch.Parent != nil || len(c.Consents)+len(c.Deletions) > 0 {
			return state{}, errors.New("the first certificate of a key is that of an epoch without a parent and consents")
		}
		return first(c), nil
	}
	if err := c.follows(l); err != nil {
		return state{}, err
	}
	if err := c.verifyConsents(l.Epoch()); err != nil {
		return state{}, err
	}
	if err := c.verifyDeletions(l.Epoch()); err != nil {
		return state{}, err
	}
	if c.Epoch == nil {
		return l.state.apply(c.Entry)
	}
	next := l.state
	next.current = c
	return next, nil
}

// follows checks that the certificate names the lineage's last one as its parent, and
// that nothing of the key has changed which never may.
func (c *Certificate) follows(l *Lineage) error {
	if l.state.destroyed {
		return errors.New("the key is destroyed")
	}
	switch link, parent := l.head.Link(), c.Parent(); {
	case parent == nil:
		return errors.New("it has no parent")
	case *parent != link: // check has compared its number with the parent's
		return fmt.Errorf("it follows number %d with hash %s, not %d with %s", parent.Number, parent.Hash, link.Number, link.Hash)
	}
	old := l.Epoch()
	if keyID, address := c.Key(); keyID != old.KeyID || address != old.AccountAddr {
		return fmt.Errorf("it is about the key %q with address %s, not %q with %s", keyID, address, old.KeyID, old.AccountAddr)
	}
	if c.Epoch == nil {
		return nil
	}
	for _, field := range []struct{ name, before, now string }{
		{"curve", string(old.Curve), string(c.Epoch.Curve)},
		{"public key", old.PublicKey, c.Epoch.PublicKey},
		{"origin", old.Origin, c.Epoch.Origin},
		{"chain code", old.ChainCode, c.Epoch.ChainCode},
	} {
		if field.now != field.before {
			return fmt.Errorf("the key's %s has changed from %q to %q", field.name, field.before, field.now)
		}
	}
	return nil
}

// verifyConsents checks that enough members of a committee have consented, the
// threshold or, to destroy the key, all, and that every consent given is valid.
func (c *Certificate) verifyConsents(committee *Epoch) error {
	verify, needed := c.Epoch.VerifyConsent, committee.Threshold // of nil, it is not called
	if c.Entry != nil {
		verify = c.Entry.VerifyConsent
		if c.Entry.Type == Destroy {
			needed = len(committee.Members)
		}
	}
	last := 0
	for _, p := range c.Consents {
		if p.Part <= last {
			return fmt.Errorf("the consent of part %d is out of order or there twice", p.Part)
		}
		last = p.Part
		if err := verify(committee, p.Part, p.Consent); err != nil {
			return err
		}
	}
	if len(c.Consents) < needed {
		return fmt.Errorf("%d members have consented, and %d are needed", len(c.Consents), needed)
	}
	return nil
}

// verifyDeletions checks the statements of deletion that are there.
func (c *Certificate) verifyDeletions(committee *Epoch) error {
	if c.Entry == nil && len(c.Deletions) > 0 {
		return errors.New("an epoch is not deleted")
	}
	last := 0
	for _, d := range c.Deletions {
		if d.Part <= last {
			return fmt.Errorf("the deletion of part %d is out of order or there twice", d.Part)
		}
		last = d.Part
		if err := c.Entry.VerifyDeletion(committee, d.Part, d.Deletion); err != nil {
			return err
		}
	}
	return nil
}
