// Package identity is a client's identity: an Ed25519 key to sign with, an HPKE key to
// seal messages to, and an age key to seal its shares to.
//
// Start here: [New] makes an [Identity], [Identity.Protect] and [Open] store it in a
// file under a passphrase, and [Identity.Public] is its public part: a [Public], whose
// text form others parse with [ParsePublic] and whose [Public.Fingerprint] two people
// compare.
//
// The package stores nothing and decides nothing about trust: the caller must know
// whose identity a Public is.
package identity

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// Identity is a client's private identity: an Ed25519 key that signs its round
// messages, an HPKE key (ML-KEM-768 with X25519) to which others seal messages for it,
// and a post-quantum age key to which its shares are sealed. The three are independent.
// An Identity is immutable and safe for concurrent use.
//
// Its [Identity.Secret] is enough to impersonate the client: printing, formatting or
// encoding an Identity as JSON shows the fingerprint only.
type Identity struct {
	public  Public
	private **privateKeys // see keys
}

type privateKeys struct {
	sign ed25519.PrivateKey
	seal hpke.PrivateKey
	age  *age.HybridIdentity
}

// keys returns the private keys. They are behind two pointers because fmt, in an
// unexported field, cannot call methods and prints the target of a pointer if the verb
// does not fit pointers.
func (id *Identity) keys() *privateKeys { return *id.private }

// The suite of point-to-point bodies. It is fixed: without negotiation there is no
// downgrade.
func sealKEM() hpke.KEM   { return hpke.MLKEM768X25519() }
func sealKDF() hpke.KDF   { return hpke.HKDFSHA256() }
func sealAEAD() hpke.AEAD { return hpke.ChaCha20Poly1305() }

// New makes a fresh identity.
func New() (*Identity, error) {
	_, sign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make signing key: %w", err)
	}
	seal, err := sealKEM().GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("make sealing key: %w", err)
	}
	own, err := age.GenerateHybridIdentity()
	if err != nil {
		return nil, fmt.Errorf("make age key: %w", err)
	}
	return newFrom(sign, seal, own)
}

func newFrom(sign ed25519.PrivateKey, seal hpke.PrivateKey, own *age.HybridIdentity) (*Identity, error) {
	keys := &privateKeys{sign: sign, seal: seal, age: own}
	id := &Identity{private: &keys}
	copy(id.public.sign[:], sign.Public().(ed25519.PublicKey))
	if n := copy(id.public.seal[:], seal.PublicKey().Bytes()); n != sealKeySize {
		return nil, errors.New("sealing key has an unexpected size")
	}
	copy(id.public.proof[:], ed25519.Sign(sign, id.public.claim()))
	return id, nil
}

// Public returns the public part of the identity.
func (id Identity) Public() Public { return id.public }

// IsZero reports whether the identity is nil or its zero value, which has no keys
// and must not be used.
func (id *Identity) IsZero() bool { return id == nil || id.private == nil }

// Sign returns the Ed25519 signature of a message by the identity's signing key.
func (id Identity) Sign(message []byte) []byte { return ed25519.Sign(id.keys().sign, message) }

// OpenSealed decrypts the output of this identity's [Sealer] with the same info. Its
// error says nothing about the reason.
func (id Identity) OpenSealed(info, sealed []byte) ([]byte, error) {
	return hpke.Open(id.keys().seal, sealKDF(), sealAEAD(), info, sealed)
}

// Recipient returns the age recipient (age1pq1…) to which the identity's shares
// are sealed.
func (id Identity) Recipient() *age.HybridRecipient { return id.keys().age.Recipient() }

// Unwrap implements [age.Identity] with the identity's age key, so that an *Identity
// can be passed to any age decryption.
func (id Identity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	return id.keys().age.Unwrap(stanzas)
}

const identityHeader = "conclave-identity-v1"

// Secret returns the private text form, four lines of printable text that [Parse]
// reads: the header, the signing key's seed and the sealing key in base64, and the age
// key in age's own form. Keep it only in a file of mode 0600.
func (id Identity) Secret() (string, error) {
	seal, err := id.keys().seal.Bytes()
	if err != nil {
		return "", fmt.Errorf("encode sealing key: %w", err)
	}
	return fmt.Sprintf("%s\nsign %s\nseal %s\nage %s\n", identityHeader,
		base64.StdEncoding.EncodeToString(id.keys().sign.Seed()),
		base64.StdEncoding.EncodeToString(seal),
		id.keys().age), nil
}

// Parse reads the output of [Identity.Secret]. Text in any other form, even of the same
// keys, is refused. Its errors quote nothing of the text.
func Parse(text string) (*Identity, error) {
	lines := strings.Split(text, "\n")
	if len(text) > 4096 || len(lines) != 5 || lines[0] != identityHeader {
		return nil, errors.New("parse identity: not a " + identityHeader + " file")
	}
	seed, err := secretLine(lines[1], "sign ", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	raw, err := secretLine(lines[2], "seal ", sealSeedSize)
	if err != nil {
		return nil, err
	}
	seal, err := sealKEM().NewPrivateKey(raw)
	if err != nil {
		return nil, errors.New("parse identity: sealing key is not valid")
	}
	ageText, ok := strings.CutPrefix(lines[3], "age ")
	if !ok {
		return nil, errors.New("parse identity: the age line is missing")
	}
	own, err := age.ParseHybridIdentity(ageText)
	if err != nil {
		return nil, errors.New("parse identity: age key is not valid")
	}
	id, err := newFrom(ed25519.NewKeyFromSeed(seed), seal, own)
	if err != nil {
		return nil, err
	}
	if again, err := id.Secret(); err != nil || again != text {
		return nil, errors.New("parse identity: not in the form in which it is written")
	}
	return id, nil
}

// sealSeedSize is the size of the sealing key's private form (X-Wing, a seed).
const sealSeedSize = 32

func secretLine(line, name string, size int) ([]byte, error) {
	text, ok := strings.CutPrefix(line, name)
	if !ok {
		return nil, fmt.Errorf("parse identity: the %sline is missing", name)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != size {
		return nil, fmt.Errorf("parse identity: the %sline is not %d bytes of base64", name, size)
	}
	return raw, nil
}

// String names the identity by its fingerprint.
func (id Identity) String() string { return "identity.Identity(" + id.public.Fingerprint() + ")" }

// Format writes what String returns, whatever the verb.
func (id Identity) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, id.String()) }

// MarshalJSON writes what String returns.
func (id Identity) MarshalJSON() ([]byte, error) { return json.Marshal(id.String()) }
