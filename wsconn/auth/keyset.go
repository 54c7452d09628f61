package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeys       = 100 // of one set
	minRSABits    = 2048
	maxRSABits    = 8192
	maxKeyIDBytes = 256
)

// jwksAlgorithms are the algorithms that a key in a JWKS may verify.
var jwksAlgorithms = []string{algRS256, algES256, algEdDSA}

const (
	algRS256 = "RS256"
	algES256 = "ES256"
	algEdDSA = "EdDSA"
)

// keySet is one state of an issuer's JWKS: its usable keys by kid, and the tokens
// found valid under them. It is immutable; tokens verified under one set are
// verified again under the next.
type keySet struct {
	keys  map[string]publicKey
	cache *tokenCache
}

// publicKey is a key of a set, with the one algorithm that it verifies.
type publicKey struct {
	key        crypto.PublicKey
	alg        string
	thumbprint string
}

// of returns the key if a token's header names its algorithm. It is a jwt.Keyfunc.
func (k publicKey) of(token *jwt.Token) (any, error) {
	if token.Method.Alg() != k.alg {
		return nil, fmt.Errorf("the key verifies %s", k.alg)
	}
	return k.key, nil
}

// parseKeySet reads a JWKS (RFC 7517 section 5). It skips keys that cannot verify a
// token here, each with a reason for the operator: a set may serve several
// purposes. Text that is not a set is an error.
func parseKeySet(raw []byte) (set *keySet, passedOver []error, err error) {
	if _, err := decodeObject(raw); err != nil {
		return nil, nil, fmt.Errorf("not a JWKS: %w", err)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Keys == nil {
		return nil, nil, errors.New("not a JWKS: it has no list of keys")
	}
	if len(doc.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("the JWKS has %d keys, at most %d are read", len(doc.Keys), maxKeys)
	}
	usable := make(map[string][]publicKey)
	for i, raw := range doc.Keys {
		kid, key, err := parseKey(raw)
		if err != nil {
			passedOver = append(passedOver, fmt.Errorf("key %d (%.64q): %w", i+1, kid, err))
			continue
		}
		usable[kid] = append(usable[kid], key)
	}
	set = &keySet{keys: make(map[string]publicKey), cache: newTokenCache(maxCachedTokens)}
	for kid, keys := range usable {
		if len(keys) > 1 {
			passedOver = append(passedOver, fmt.Errorf("%d keys have the kid %.64q: it must be unique", len(keys), kid))
			continue
		}
		set.keys[kid] = keys[0]
	}
	return set, passedOver, nil
}

// jwk is a JSON Web Key, as far as it is used. A certificate beside the key (x5c,
// x5u, x5t) is ignored and not fetched.
type jwk struct {
	KTY    string   `json:"kty"`
	KID    string   `json:"kid"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Alg    string   `json:"alg"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`

	// Secrets.
	K   string            `json:"k"`
	D   string            `json:"d"`
	P   string            `json:"p"`
	Q   string            `json:"q"`
	DP  string            `json:"dp"`
	DQ  string            `json:"dq"`
	QI  string            `json:"qi"`
	OTH []json.RawMessage `json:"oth"`
}

// parseKey reads one key and pins its algorithm: the one that it names, or the only
// one that its type allows.
func parseKey(raw json.RawMessage) (kid string, key publicKey, err error) {
	var m jwk
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", key, errors.New("not a JWK")
	}
	private := m.D != "" || m.P != "" || m.Q != "" || m.DP != "" || m.DQ != "" || m.QI != "" || len(m.OTH) > 0
	switch {
	case m.KID == "" || len(m.KID) > maxKeyIDBytes:
		return m.KID, key, errors.New("it has no kid, or a very long one")
	case m.KTY == "oct" || m.K != "":
		// A published symmetric key is not secret; and a set that may hold one
		// invites tokens signed with any published value.
		return m.KID, key, errors.New("a symmetric key is not taken from a JWKS")
	case private:
		return m.KID, key, errors.New("its private part is in the set: replace this key")
	case m.Use != "" && m.Use != "sig":
		return m.KID, key, fmt.Errorf("its use is %q", m.Use)
	case m.KeyOps != nil && !slices.Contains(m.KeyOps, "verify"):
		return m.KID, key, errors.New("its key_ops have no verify")
	}
	if key.key, key.alg, err = m.public(); err != nil {
		return m.KID, key, err
	}
	if m.Alg != "" && m.Alg != key.alg {
		return m.KID, key, fmt.Errorf("its alg is %q; a key of its type verifies %s here", m.Alg, key.alg)
	}
	key.thumbprint, err = thumbprint(key.key, m.KID)
	return m.KID, key, err
}

var errParameters = errors.New("its parameters are not those of a supported key")

// public returns the key and the one algorithm that it may verify (RFC 7518
// section 6, RFC 8037 section 2).
func (m jwk) public() (key crypto.PublicKey, alg string, err error) {
	switch m.KTY {
	case "RSA":
		key, err = m.rsa()
		return key, algRS256, err
	case "EC":
		key, err = m.ec()
		return key, algES256, err
	case "OKP":
		x, err := coordinate(m.X)
		switch {
		case err != nil:
			return nil, "", err
		case m.Crv == "X25519":
			return nil, "", errors.New("not a key that verifies signatures")
		case m.Crv != "Ed25519" || len(x) != ed25519.PublicKeySize:
			return nil, "", errParameters
		}
		return ed25519.PublicKey(x), algEdDSA, nil
	}
	return nil, "", errParameters
}

func (m jwk) rsa() (*rsa.PublicKey, error) {
	n, err := coordinate(m.N)
	if err != nil {
		return nil, err
	}
	e, err := coordinate(m.E)
	if err != nil {
		return nil, err
	}
	modulus, exponent := new(big.Int).SetBytes(n), new(big.Int).SetBytes(e)
	if bits := modulus.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, fmt.Errorf("an RSA key of %d bits; it must have from %d to %d", bits, minRSABits, maxRSABits)
	}
	if !exponent.IsInt64() || exponent.Int64() < 3 || exponent.Int64() > math.MaxInt32 || exponent.Bit(0) == 0 {
		return nil, errors.New("an RSA key with an invalid exponent")
	}
	return &rsa.PublicKey{N: modulus, E: int(exponent.Int64())}, nil
}

func (m jwk) ec() (*ecdsa.PublicKey, error) {
	if m.Crv == "P-384" || m.Crv == "P-521" {
		return nil, errors.New("an EC key on another curve than P-256")
	}
	x, err := coordinate(m.X)
	if err != nil {
		return nil, err
	}
	y, err := coordinate(m.Y)
	if err != nil {
		return nil, err
	}
	const size = 32
	if x, y := new(big.Int).SetBytes(x), new(big.Int).SetBytes(y); m.Crv == "P-256" && x.BitLen() <= 8*size && y.BitLen() <= 8*size {
		point := make([]byte, 1+2*size)
		point[0] = 4 // uncompressed
		x.FillBytes(point[1 : 1+size])
		y.FillBytes(point[1+size:])
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			return key, nil
		}
	}
	return nil, errParameters
}

// coordinate decodes a required parameter: base64url, with or without padding.
func coordinate(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(b) == 0 {
		return nil, errParameters
	}
	return b, nil
}

// thumbprint distinguishes a key from a later one with the same kid.
func thumbprint(key crypto.PublicKey, kid string) (string, error) {
	text, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("key thumbprint: %w", err)
	}
	sum := sha256.Sum256(append(text, kid...)) // DER marks its own end
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// find returns the key with that kid. A nil set has none.
func (s *keySet) find(kid string) (publicKey, bool) {
	if s == nil {
		return publicKey{}, false
	}
	key, ok := s.keys[kid]
	return key, ok
}

// holds reports whether the set has the key with that thumbprint.
func (s *keySet) holds(thumbprint string) bool {
	for _, key := range s.keys {
		if key.thumbprint == thumbprint {
			return true
		}
	}
	return false
}
