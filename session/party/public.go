package party

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	sealKeySize    = 1216 // X-Wing: ML-KEM-768 encapsulation key and X25519 key
	publicPrefix   = "conclave-id1."
	publicTextSize = len(publicPrefix) + (ed25519.PublicKeySize+sealKeySize+ed25519.SignatureSize)*4/3
)

// PublicIdentity is what others know of a client: its Ed25519 signing key, its
// HPKE sealing key, and the first's signature over the second, so that neither
// can be replaced alone. It is a comparable value; two are equal exactly if
// their text forms are. The zero value is no identity.
type PublicIdentity struct {
	sign  [ed25519.PublicKeySize]byte
	seal  [sealKeySize]byte
	proof [ed25519.SignatureSize]byte
}

// ParsePublicIdentity reads the text form of [PublicIdentity.String] and checks
// that its keys belong together. Nothing but that exact text is accepted.
func ParsePublicIdentity(text string) (PublicIdentity, error) {
	var p PublicIdentity
	body, ok := strings.CutPrefix(text, publicPrefix)
	if !ok || len(text) > publicTextSize+3 {
		return p, errors.New("parse public identity: must begin with " + publicPrefix + " and be whole")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != len(p.sign)+len(p.seal)+len(p.proof) {
		return p, errors.New("parse public identity: not of the right length and alphabet")
	}
	raw = raw[copy(p.sign[:], raw):]
	raw = raw[copy(p.seal[:], raw):]
	copy(p.proof[:], raw)
	// The decoder skips line breaks, so equality is what keeps the form unique.
	if p.String() != text {
		return PublicIdentity{}, errors.New("parse public identity: not in the form in which it is written")
	}
	if err := p.check(); err != nil {
		return PublicIdentity{}, fmt.Errorf("parse public identity: %w", err)
	}
	return p, nil
}

func (p PublicIdentity) check() error {
	if !ed25519.Verify(p.sign[:], p.claim(), p.proof[:]) {
		return errors.New("its signing key has not signed its sealing key")
	}
	if _, err := p.sealKey(); err != nil {
		return errors.New("its sealing key is not valid")
	}
	return nil
}

// claim is what an identity's signing key signs about its sealing key.
func (p PublicIdentity) claim() []byte {
	var t transcript
	t.text("conclave/party/identity/v1")
	t.bytes(p.sign[:])
	t.bytes(p.seal[:])
	return t.buf
}

func (p PublicIdentity) sealKey() (hpke.PublicKey, error) { return sealKEM().NewPublicKey(p.seal[:]) }

// IsZero reports whether p is no identity at all.
func (p PublicIdentity) IsZero() bool { return p == PublicIdentity{} }

// String returns the text form: one line of some 1800 printable characters, a
// versioned prefix and unpadded URL-safe base64. The zero value's is empty.
func (p PublicIdentity) String() string {
	if p.IsZero() {
		return ""
	}
	raw := make([]byte, 0, len(p.sign)+len(p.seal)+len(p.proof))
	raw = append(raw, p.sign[:]...)
	raw = append(raw, p.seal[:]...)
	raw = append(raw, p.proof[:]...)
	return publicPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// Fingerprint returns eight groups of five letters and digits (base32) that two
// people can read to each other: the first 200 bits of a SHA-256 over both
// keys. An identity with the fingerprint of another cannot be made.
func (p PublicIdentity) Fingerprint() string {
	sum := sha256.Sum256(p.claim())
	return grouped(sum[:fingerprintSize])
}

const fingerprintSize = 25

func grouped(raw []byte) string {
	text := base32.StdEncoding.EncodeToString(raw)
	groups := make([]string, 0, 8)
	for len(text) > 0 {
		groups, text = append(groups, text[:5]), text[5:]
	}
	return strings.Join(groups, "-")
}

// ParseFingerprint returns the canonical form of a fingerprint that a person has
// typed: case, spaces and hyphens do not matter.
func ParseFingerprint(text string) (string, error) {
	bare := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(text))
	raw, err := base32.StdEncoding.DecodeString(bare)
	if err != nil || len(raw) != fingerprintSize {
		return "", errors.New("a fingerprint is eight groups of five letters and digits from 2 to 7")
	}
	return grouped(raw), nil
}

// MarshalText returns the text form, for encoding/json.
func (p PublicIdentity) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form like [ParsePublicIdentity]; empty text is
// the zero value.
func (p *PublicIdentity) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = PublicIdentity{}
		return nil
	}
	parsed, err := ParsePublicIdentity(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}

// redact and redactJSON are how the types that hold secrets print: under every
// verb, and as JSON, they show a description and nothing they hold.
func redact(w io.Writer, description string) { _, _ = io.WriteString(w, description) }

func redactJSON(description string) ([]byte, error) { return json.Marshal(description) }
