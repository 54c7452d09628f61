package identity

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/internal/codec"
)

// PublicSize is the size of [Public.AppendTo]'s form in bytes.
const PublicSize = ed25519.PublicKeySize + sealKeySize + ed25519.SignatureSize

const (
	sealKeySize    = 1216 // X-Wing: ML-KEM-768 encapsulation key and X25519 key
	publicPrefix   = "conclave-id1."
	publicTextSize = len(publicPrefix) + PublicSize*4/3
)

// Public is a client's public identity: its Ed25519 signing key, its HPKE sealing key,
// and the first's signature over the second, so that neither can be replaced alone. It
// is a comparable value; two are equal exactly if their text forms are. The zero value
// is not an identity.
type Public struct {
	sign  [ed25519.PublicKeySize]byte
	seal  [sealKeySize]byte
	proof [ed25519.SignatureSize]byte
}

// ParsePublic reads the text form of [Public.String] and checks that its keys belong
// together. It accepts only that exact text.
func ParsePublic(text string) (Public, error) {
	var p Public
	body, ok := strings.CutPrefix(text, publicPrefix)
	if !ok || len(text) > publicTextSize+3 {
		return p, errors.New("parse public identity: must begin with " + publicPrefix + " and be whole")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != PublicSize {
		return p, errors.New("parse public identity: not of the right length and alphabet")
	}
	p.set(raw)
	// The decoder skips line breaks; the comparison keeps the form unique.
	if p.String() != text {
		return Public{}, errors.New("parse public identity: not in the form in which it is written")
	}
	if err := p.check(); err != nil {
		return Public{}, fmt.Errorf("parse public identity: %w", err)
	}
	return p, nil
}

func (p Public) check() error {
	if !ed25519.Verify(p.sign[:], p.claim(), p.proof[:]) {
		return errors.New("its signing key has not signed its sealing key")
	}
	if _, err := p.sealKey(); err != nil {
		return errors.New("its sealing key is not valid")
	}
	return nil
}

// claim is the statement that an identity's signing key signs about its sealing key.
func (p Public) claim() []byte {
	var t codec.Transcript
	t.Text("conclave/party/identity/v1")
	t.Bytes(p.sign[:])
	t.Bytes(p.seal[:])
	return t.Buf
}

func (p Public) sealKey() (hpke.PublicKey, error) { return sealKEM().NewPublicKey(p.seal[:]) }

// PublicFromBytes reads the form of [Public.AppendTo] and checks it as
// [ParsePublic] does.
func PublicFromBytes(raw []byte) (Public, error) {
	var p Public
	if len(raw) != PublicSize {
		return p, errors.New("not of the right length")
	}
	p.set(raw)
	if err := p.check(); err != nil {
		return Public{}, err
	}
	return p, nil
}

func (p *Public) set(raw []byte) {
	raw = raw[copy(p.sign[:], raw):]
	raw = raw[copy(p.seal[:], raw):]
	copy(p.proof[:], raw)
}

// AppendTo appends the binary form, PublicSize bytes, to b: the signing key, the
// sealing key, and the signature of the first over the second.
func (p Public) AppendTo(b []byte) []byte {
	b = append(b, p.sign[:]...)
	b = append(b, p.seal[:]...)
	return append(b, p.proof[:]...)
}

// SignKey returns a copy of the Ed25519 public key, 32 bytes.
func (p Public) SignKey() []byte { return p.sign[:] }

// SealKey returns a copy of the HPKE public key, 1216 bytes (X-Wing).
func (p Public) SealKey() []byte { return p.seal[:] }

// Verify reports whether sig is the identity's Ed25519 signature of the message.
func (p Public) Verify(message, sig []byte) bool { return ed25519.Verify(p.sign[:], message, sig) }

// Sealer seals to one identity. It is immutable and safe for concurrent use.
type Sealer struct{ key hpke.PublicKey }

// SealOverhead is how many bytes [Sealer.Seal] adds: an X-Wing encapsulation and a
// Poly1305 tag.
const SealOverhead = 1120 + 16

// Sealer returns a Sealer to the identity.
func (p Public) Sealer() (*Sealer, error) {
	key, err := p.sealKey()
	if err != nil {
		return nil, err
	}
	return &Sealer{key}, nil
}

// Seal encrypts content with HPKE so that only the identity's
// [Identity.OpenSealed] can read it, given the same info.
func (s *Sealer) Seal(info, content []byte) ([]byte, error) {
	return hpke.Seal(s.key, sealKDF(), sealAEAD(), info, content)
}

// IsZero reports whether p is the zero value.
func (p Public) IsZero() bool { return p == Public{} }

// String returns the text form: one line of some 1800 printable characters, a
// versioned prefix and unpadded URL-safe base64. The zero value's is empty.
func (p Public) String() string {
	if p.IsZero() {
		return ""
	}
	return publicPrefix + base64.RawURLEncoding.EncodeToString(p.AppendTo(nil))
}

// Fingerprint returns eight groups of five letters and digits (base32) that two people
// can read to each other: the first 200 bits of a SHA-256 over both keys. Making
// another identity with the same fingerprint is infeasible.
func (p Public) Fingerprint() string {
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

// ParseFingerprint returns the canonical form of a fingerprint typed by a person: case,
// spaces and hyphens are ignored.
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
func (p Public) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text form like [ParsePublic]; empty text is
// the zero value.
func (p *Public) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Public{}
		return nil
	}
	parsed, err := ParsePublic(string(text))
	if err == nil {
		*p = parsed
	}
	return err
}
