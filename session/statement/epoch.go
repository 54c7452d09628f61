package statement

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// A key's shares have epochs. A key generation makes epoch 1, and each reshare leads to
// an epoch with a higher number, in which another committee may hold the same key. What
// makes an epoch true is its [Certificate]; an [Epoch] is the content that its
// signatures cover.

// The origins of a key.
const (
	// Generated is the origin of a key that no single party has ever known.
	Generated = "generated"
	// Imported is the origin of a key that somebody knew before the committee held it.
	Imported = "imported"
)

const (
	maxEpochBytes     = 1 << 20 // of JSON; 256 parties need half of it
	epochSigPrefix    = "conclave-att3."
	consentPrefix     = "conclave-con1."
	chainCodeSize     = 32
	epochSigTextSize  = len(epochSigPrefix) + (ed25519.SignatureSize*8+5)/6
	consentTextSize   = len(consentPrefix) + (ed25519.SignatureSize*8+5)/6
	epochTranscript   = "conclave/party/epoch/v1"
	epochAttestation  = "conclave/party/attestation/v3"
	consentTranscript = "conclave/party/consent/v1"
)

// Hash is the SHA-256 of a statement's transcript. Its text form is 0x and 64 hex digits.
type Hash [sha256.Size]byte

// ParseHash reads exactly the text form of a hash.
func ParseHash(text string) (Hash, error) {
	raw, err := pubkey.Decode(text)
	if err != nil || len(raw) != sha256.Size || pubkey.Encode(raw) != text {
		return Hash{}, fmt.Errorf("a hash is 0x and %d lower-case hex digits", 2*sha256.Size)
	}
	return Hash(raw), nil
}

// String returns the text form.
func (h Hash) String() string { return pubkey.Encode(h[:]) }

// MarshalText returns the text form, for encoding/json.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads the text form like [ParseHash].
func (h *Hash) UnmarshalText(text []byte) (err error) {
	*h, err = ParseHash(string(text))
	return err
}

// Parent names the certificate that another one follows.
type Parent struct {
	Number int  `json:"number"`
	Hash   Hash `json:"hash"` // of the certificate: [Certificate.Hash]
}

// Epoch is the content of an epoch's certificate. Its fields must not change after its
// first use.
type Epoch struct {
	KeyID string `json:"key_id"`
	// SessionID is that of the session, a keygen or a reshare, that made the shares.
	SessionID string       `json:"session_id"`
	Curve     pubkey.Curve `json:"curve"`
	// Number is the epoch's: 1 for a key generation. Numbers of failed reshares are
	// left out.
	Number int `json:"epoch"`
	// Parent is the certificate that this one follows: nil in the first of a key.
	Parent    *Parent `json:"parent,omitempty"`
	Threshold int     `json:"threshold"`
	// Members is the committee; Members[i].Index is i+1.
	Members     []identity.Member `json:"members"`
	AccountAddr string            `json:"account_addr"` // EIP-55, or base58
	PublicKey   string            `json:"public_key"`   // 0x hex: compressed SEC1, or 32 bytes
	// Points are the public share points of the members, in the form of PublicKey. An
	// epoch that was attested by a keygen has none.
	Points []string `json:"points,omitempty"`
	// Origin is Generated or Imported, of the key and therefore in all its epochs.
	Origin string `json:"origin"`
	// Coordinator is the user id that requested the keygen or the reshare.
	Coordinator string `json:"coordinator"`
	// ChainCode is 0x hex of 32 bytes, or empty, in all epochs of a key.
	ChainCode string `json:"chain_code,omitempty"`
}

// Check returns an error if no epoch can have these values, or if one of them is not in
// the form in which it is written.
func (e *Epoch) Check() error {
	if err := checkNames(e.SessionID, e.KeyID, e.Coordinator); err != nil {
		return err
	}
	if e.Curve != pubkey.Secp256k1 && e.Curve != pubkey.Ed25519 {
		return pubkey.ErrCurve
	}
	if err := identity.CheckEpoch(e.Number); err != nil {
		return err
	}
	if e.Origin != Generated && e.Origin != Imported {
		return errors.New("the origin must be " + Generated + " or " + Imported)
	}
	switch {
	case e.Parent != nil && (e.Parent.Number < 1 || e.Parent.Number >= e.Number):
		return fmt.Errorf("epoch %d cannot follow number %d", e.Number, e.Parent.Number)
	case e.Parent == nil && e.Number != 1 && e.Origin == Generated:
		return fmt.Errorf("epoch %d must have a parent", e.Number)
	}
	if err := checkCommittee(e.Threshold, e.Members); err != nil {
		return err
	}
	pub, err := e.Curve.ParseKey(e.PublicKey)
	if err != nil {
		return fmt.Errorf("its public key: %w", err)
	}
	if address, err := e.Curve.Address(pub); err != nil || address != e.AccountAddr || pubkey.Encode(pub) != e.PublicKey {
		return errors.New("its address is not that of its public key")
	}
	if err := e.checkPoints(); err != nil {
		return err
	}
	if e.ChainCode != "" {
		if code, err := pubkey.Decode(e.ChainCode); err != nil || len(code) != chainCodeSize || pubkey.Encode(code) != e.ChainCode {
			return fmt.Errorf("a chain code is 0x and %d lower-case hex digits", 2*chainCodeSize)
		}
	}
	return nil
}

// checkPoints checks the public share points one by one. That they belong to the key
// only the holder of a share can say: see share.Share.CheckEpoch.
func (e *Epoch) checkPoints() error {
	if len(e.Points) == 0 && e.Parent == nil && e.Origin == Generated {
		return nil
	}
	if len(e.Points) != len(e.Members) {
		return fmt.Errorf("there are %d share points of %d members", len(e.Points), len(e.Members))
	}
	seen := map[string]bool{}
	for i, text := range e.Points {
		point, err := e.Curve.ParseKey(text)
		if err != nil || pubkey.Encode(point) != text || seen[text] {
			return fmt.Errorf("the share point of part %d is not valid, or is another's", i+1)
		}
		seen[text] = true
	}
	return nil
}

// checkCommittee checks the whole committee of a key.
func checkCommittee(threshold int, members []identity.Member) error {
	if err := identity.CheckThreshold(threshold, len(members)); err != nil {
		return err
	}
	if err := identity.CheckMembers(members, len(members)); err != nil {
		return err
	}
	for _, m := range members {
		if !utf8.ValidString(m.User) {
			return errNotText
		}
	}
	return nil
}

var errNotText = errors.New("an id must be valid UTF-8")

// checkNames checks the ids of a statement that has a JSON form: other bytes than UTF-8
// would not survive it.
func checkNames(ids ...string) error {
	for _, id := range ids {
		if id == "" || len(id) > identity.MaxNameBytes {
			return fmt.Errorf("an id must be 1 to %d bytes", identity.MaxNameBytes)
		}
		if !utf8.ValidString(id) {
			return errNotText
		}
	}
	return nil
}

// Hash is the hash of the epoch's certificate. It covers every field and no signature,
// so it does not depend on which members have consented.
func (e *Epoch) Hash() Hash {
	var t codec.Transcript
	t.Text(epochTranscript)
	t.Text(e.KeyID)
	t.Text(e.SessionID)
	t.Text(string(e.Curve))
	t.Number(e.Number)
	appendParent(&t, e.Parent)
	t.Number(e.Threshold)
	appendMembers(&t, e.Members)
	t.Text(e.AccountAddr)
	t.Text(e.PublicKey)
	t.Number(len(e.Points))
	for _, point := range e.Points {
		t.Text(point)
	}
	t.Text(e.Origin)
	t.Text(e.Coordinator)
	t.Text(e.ChainCode)
	return sha256.Sum256(t.Buf)
}

// appendParent appends number and hash of a parent, or 0 and an empty string.
func appendParent(t *codec.Transcript, p *Parent) {
	if p == nil {
		t.Number(0)
		t.Bytes(nil)
		return
	}
	t.Number(p.Number)
	t.Bytes(p.Hash[:])
}

// appendMembers appends how many members there are, and each with its whole identity.
func appendMembers(t *codec.Transcript, members []identity.Member) {
	t.Number(len(members))
	for _, m := range members {
		t.Number(m.Index)
		t.Text(m.User)
		t.Bytes(m.Identity.SignKey())
		t.Bytes(m.Identity.SealKey())
	}
}

// Marshal returns the epoch as JSON, the form in which it travels as statement. There
// is one text for one epoch.
func (e *Epoch) Marshal() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("encode epoch: %w", err)
	}
	return compactJSON(e)
}

// ParseEpoch reads exactly the output of [Epoch.Marshal].
func ParseEpoch(text []byte) (*Epoch, error) {
	if len(text) > maxEpochBytes {
		return nil, errors.New("parse epoch: too large")
	}
	var e Epoch
	if err := codec.StrictJSON(text, &e); err != nil {
		return nil, fmt.Errorf("parse epoch: %w", err)
	}
	again, err := e.Marshal()
	if err != nil {
		return nil, fmt.Errorf("parse epoch: %w", err)
	}
	if !bytes.Equal(again, text) {
		return nil, errors.New("parse epoch: not in the form in which it is written")
	}
	return &e, nil
}

// compactJSON is json.Marshal without its escapes for HTML, as other languages write it.
func compactJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Attest signs the epoch as one of its members and returns the attestation's text, one
// line. A member must have stored its share durably before.
func (e *Epoch) Attest(id *identity.Identity) (string, error) {
	if id.IsZero() {
		return "", errors.New("attest epoch: the identity is missing")
	}
	if err := e.Check(); err != nil {
		return "", fmt.Errorf("attest epoch: %w", err)
	}
	if partOf(e.Members, id) == 0 {
		return "", errors.New("attest epoch: the identity is not that of a member")
	}
	return epochSigPrefix + base64.RawURLEncoding.EncodeToString(id.Sign(attested(e.Hash()))), nil
}

// attested is what the attestations of an epoch with that hash sign.
func attested(hash Hash) []byte {
	var t codec.Transcript
	t.Text(epochAttestation)
	t.Bytes(hash[:])
	return t.Buf
}

// VerifyAttestation checks one member's attestation, as a text of [Epoch.Attest].
func (e *Epoch) VerifyAttestation(part int, text string) error {
	return e.verifyAttestation(part, text, attested(e.Hash()))
}

func (e *Epoch) verifyAttestation(part int, text string, signed []byte) error {
	if part < 1 || part > len(e.Members) {
		return fmt.Errorf("the epoch has no part %d", part)
	}
	sig, err := signatureText(text, epochSigPrefix, epochSigTextSize)
	if err != nil {
		return fmt.Errorf("parse attestation: %w", err)
	}
	if m := e.Members[part-1]; !m.Identity.Verify(signed, sig) {
		return fmt.Errorf("verify attestation: something else than this has been signed by %s", m.User)
	}
	return nil
}

// VerifyAttestations checks the attestations of all members, in the order of their
// parts: of an epoch that a keygen attested, those of the keygen.
func (e *Epoch) VerifyAttestations(list []string) error {
	if err := e.Check(); err != nil {
		return err
	}
	if len(list) != len(e.Members) {
		return fmt.Errorf("there are %d attestations of %d members", len(list), len(e.Members))
	}
	if len(e.Points) == 0 {
		return e.verifyKeygen(list)
	}
	signed := attested(e.Hash())
	for i, text := range list {
		if err := e.verifyAttestation(i+1, text, signed); err != nil {
			return err
		}
	}
	return nil
}

// Consent signs that the epoch may follow its parent, as a member of the parent's
// committee, and returns the consent's text, one line. The caller must have verified
// all attestations, and stored durably that it consents.
func (e *Epoch) Consent(id *identity.Identity, committee *Epoch) (string, error) {
	if e.Parent == nil {
		return "", errors.New("consent to epoch: it has no parent")
	}
	if err := e.Check(); err != nil {
		return "", fmt.Errorf("consent to epoch: %w", err)
	}
	return consent(id, committee, e.KeyID, e.Number, e.Hash(), *e.Parent)
}

// VerifyConsent checks the consent of a member of the committee that the epoch
// follows: see [Epoch.Consent]. Part is the member's part index there.
func (e *Epoch) VerifyConsent(committee *Epoch, part int, text string) error {
	if e.Parent == nil {
		return errors.New("the first epoch needs no consent")
	}
	return verifyConsent(committee, part, text, e.KeyID, e.Number, e.Hash(), *e.Parent)
}

func consent(id *identity.Identity, committee *Epoch, keyID string, number int, hash Hash, parent Parent) (string, error) {
	if id.IsZero() {
		return "", errors.New("consent: the identity is missing")
	}
	if committee.KeyID != keyID || partOf(committee.Members, id) == 0 {
		return "", errors.New("consent: the identity is not that of a member of the key's committee")
	}
	return consentPrefix + base64.RawURLEncoding.EncodeToString(id.Sign(consented(keyID, number, hash, parent))), nil
}

func verifyConsent(committee *Epoch, part int, text, keyID string, number int, hash Hash, parent Parent) error {
	if part < 1 || part > len(committee.Members) || committee.KeyID != keyID {
		return fmt.Errorf("the committee has no part %d", part)
	}
	sig, err := signatureText(text, consentPrefix, consentTextSize)
	if err != nil {
		return fmt.Errorf("parse consent: %w", err)
	}
	if m := committee.Members[part-1]; !m.Identity.Verify(consented(keyID, number, hash, parent), sig) {
		return fmt.Errorf("verify consent: something else than this has been signed by %s", m.User)
	}
	return nil
}

// consented is what a consent signs.
func consented(keyID string, number int, hash Hash, parent Parent) []byte {
	var t codec.Transcript
	t.Text(consentTranscript)
	t.Text(keyID)
	t.Number(number)
	t.Bytes(hash[:])
	appendParent(&t, &parent)
	return t.Buf
}

// partOf returns the part index of the member with that identity, 0 if there is none.
func partOf(members []identity.Member, id *identity.Identity) int {
	for _, m := range members {
		if m.Identity == id.Public() {
			return m.Index
		}
	}
	return 0
}

// signatureText reads a prefix and a signature in unpadded URL-safe base64.
func signatureText(text, prefix string, size int) ([]byte, error) {
	body, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) != size {
		return nil, errors.New("must begin with " + prefix + " and be whole")
	}
	// The decoder skips line breaks; but then the result is too short.
	sig, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, errors.New("not of the right length and alphabet")
	}
	return sig, nil
}
