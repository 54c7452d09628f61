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
// of the committee that it follows. It is immutable once it is verified.
type Certificate struct {
	Epoch *Epoch
	// Attestations are the members' by part index less one.
	Attestations []string
	// Consents ascend by part index.
	Consents []PartConsent
}

// PartConsent is a member's consent.
type PartConsent struct {
	// Part is the member's part index in the committee that consents.
	Part    int    `json:"part_index"`
	Consent string `json:"consent"` // see [Epoch.Consent]
}

type certificateJSON struct {
	Version      int           `json:"version"`
	Epoch        *Epoch        `json:"epoch"`
	Attestations []string      `json:"attestations"`
	Consents     []PartConsent `json:"consents,omitempty"`
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
	text, err := compactJSON(certificateJSON{certificateVersion, c.Epoch, c.Attestations, c.Consents})
	if err != nil {
		panic(err) // all fields are strings and numbers, and hashes and identities always encode
	}
	return string(text)
}

// ParseCertificate reads the text form of [Certificate.String]; only white space
// between its tokens may differ. It does not verify the signatures.
func ParseCertificate(text string) (*Certificate, error) {
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
	if j.Epoch == nil {
		return nil, errors.New("it has no epoch")
	}
	if err := j.Epoch.Check(); err != nil {
		return nil, err
	}
	c := &Certificate{j.Epoch, j.Attestations, j.Consents}
	if c.String() != compact.String() {
		return nil, errors.New("not in the form in which it is written")
	}
	return c, nil
}

// Number is the certificate's number among those of its key.
func (c *Certificate) Number() int { return c.Epoch.Number }

// Key returns the id and the account address of the certificate's key.
func (c *Certificate) Key() (keyID, accountAddr string) { return c.Epoch.KeyID, c.Epoch.AccountAddr }

// Hash names the certificate by its content. Two certificates that differ only in who
// has consented have the same.
func (c *Certificate) Hash() Hash { return c.Epoch.Hash() }

// Link returns the certificate as the parent of one that follows.
func (c *Certificate) Link() Parent { return Parent{c.Number(), c.Hash()} }

// Verify checks all signatures, and that the certificate follows the parent, which must
// be verified; the first of a key has none, nil. It says nothing about who the members
// of a first epoch are: the caller must know their identities.
func (c *Certificate) Verify(parent *Certificate) error {
	var l *Lineage
	if parent != nil {
		l = &Lineage{head: parent, epoch: parent.Epoch}
	}
	if err := c.verify(l); err != nil {
		return fmt.Errorf("verify certificate: %w", err)
	}
	return nil
}

// verify checks the certificate as the next of a lineage, or as the first.
func (c *Certificate) verify(l *Lineage) error {
	if c.Epoch == nil {
		return errors.New("it has no epoch")
	}
	if err := c.Epoch.VerifyAttestations(c.Attestations); err != nil {
		return err
	}
	if l == nil {
		if c.Epoch.Parent != nil || len(c.Consents) > 0 {
			return errors.New("the first epoch of a key has no parent and no consents")
		}
		return nil
	}
	if err := c.follows(l); err != nil {
		return err
	}
	return c.verifyConsents(l.epoch)
}

// follows checks that the certificate names the lineage's last one as its parent, and
// that nothing of the key has changed which never may.
func (c *Certificate) follows(l *Lineage) error {
	e, old := c.Epoch, l.epoch
	switch link := l.head.Link(); {
	case e.Parent == nil:
		return errors.New("it has no parent")
	case *e.Parent != link:
		return fmt.Errorf("it follows number %d with hash %s, not %d with %s", e.Parent.Number, e.Parent.Hash, link.Number, link.Hash)
	case e.Number <= link.Number: // Check has compared it with the parent it names
		return fmt.Errorf("number %d is not above %d", e.Number, link.Number)
	}
	for _, field := range []struct{ name, before, now string }{
		{"key id", old.KeyID, e.KeyID},
		{"curve", string(old.Curve), string(e.Curve)},
		{"public key", old.PublicKey, e.PublicKey},
		{"account address", old.AccountAddr, e.AccountAddr},
		{"origin", old.Origin, e.Origin},
		{"chain code", old.ChainCode, e.ChainCode},
	} {
		if field.now != field.before {
			return fmt.Errorf("the key's %s has changed from %q to %q", field.name, field.before, field.now)
		}
	}
	return nil
}

// verifyConsents checks that at least the threshold of a committee has consented, and
// that every consent given is valid.
func (c *Certificate) verifyConsents(committee *Epoch) error {
	last := 0
	for _, p := range c.Consents {
		if p.Part <= last {
			return fmt.Errorf("the consent of part %d is out of order or there twice", p.Part)
		}
		last = p.Part
		if err := c.Epoch.VerifyConsent(committee, p.Part, p.Consent); err != nil {
			return err
		}
	}
	if len(c.Consents) < committee.Threshold {
		return fmt.Errorf("%d members have consented, and the threshold is %d", len(c.Consents), committee.Threshold)
	}
	return nil
}
