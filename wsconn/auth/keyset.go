package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

const (
	maxKeys       = 100 // of one set
	minRSABits    = 2048
	maxRSABits    = 8192
	maxKeyIDBytes = 256
)

// jwksAlgorithms are those that a key in a JWKS may verify.
var jwksAlgorithms = []string{jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg()}

// keySet is one state of an issuer's JWKS: its usable keys, each with the one
// algorithm it verifies, and the tokens found good under them. It does not
// change; what is verified under one set is not believed under the next.
type keySet struct {
	keys   map[string]string // kid to thumbprint
	lookup keyfunc.Keyfunc
	cache  *tokenCache
}

// parseKeySet reads a JWKS (RFC 7517 section 5). Keys that cannot verify a token
// here are passed over, each with a reason for the operator: a set may serve
// several purposes. That it is a set at all is demanded.
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
	usable := make(map[string][]jwkset.JWK)
	for i, raw := range doc.Keys {
		kid, key, err := parseKey(raw)
		if err != nil {
			passedOver = append(passedOver, fmt.Errorf("key %d (%.64q): %w", i+1, kid, err))
			continue
		}
		usable[kid] = append(usable[kid], key)
	}
	set = &keySet{keys: make(map[string]string), cache: newTokenCache(maxCachedTokens)}
	store := jwkset.NewMemoryStorage()
	for kid, keys := range usable {
		if len(keys) > 1 {
			passedOver = append(passedOver, fmt.Errorf("%d keys are named %.64q: which is meant cannot be told", len(keys), kid))
			continue
		}
		if set.keys[kid], err = thumbprint(keys[0]); err != nil {
			return nil, nil, err
		}
		if err := store.KeyWrite(context.Background(), keys[0]); err != nil {
			return nil, nil, fmt.Errorf("keep key: %w", err)
		}
	}
	set.lookup, err = keyfunc.New(keyfunc.Options{Storage: store, UseWhitelist: []jwkset.USE{jwkset.UseSig}})
	return set, passedOver, err
}

// parseKey reads one key and pins its algorithm: the one that it names, or the
// only one its type allows. The key that it returns always has kid, alg and use,
// so that the lookup compares them.
func parseKey(raw json.RawMessage) (kid string, key jwkset.JWK, err error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", key, errors.New("not a JWK")
	}
	private := m.D != "" || m.P != "" || m.Q != "" || m.DP != "" || m.DQ != "" || m.QI != "" || len(m.OTH) > 0
	switch {
	case m.KID == "" || len(m.KID) > maxKeyIDBytes:
		return m.KID, key, errors.New("it has no kid, or a very long one")
	case m.KTY == jwkset.KtyOct || m.K != "":
		// Published, it is no secret; and a set that may hold one invites tokens
		// signed with whatever it publishes.
		return m.KID, key, errors.New("a symmetric key is not taken from a JWKS")
	case private:
		return m.KID, key, errors.New("its private part is in the set: replace this key")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return m.KID, key, fmt.Errorf("its use is %q", m.USE)
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return m.KID, key, errors.New("its key_ops have no verify")
	}
	// A certificate beside the key is not looked at, nor fetched.
	m.X5C, m.X5U, m.X5T, m.X5TS256 = nil, "", "", ""
	parsed, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return m.KID, key, errors.New("its parameters are not those of a supported key")
	}
	alg, err := algorithmOf(parsed.Key())
	if err != nil {
		return m.KID, key, err
	}
	if m.ALG != "" && m.ALG != alg {
		return m.KID, key, fmt.Errorf("its alg is %q; a key of its type verifies %s here", m.ALG, alg)
	}
	key, err = jwkset.NewJWKFromKey(parsed.Key(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{KID: m.KID, ALG: alg, USE: jwkset.UseSig},
	})
	return m.KID, key, err
}

// algorithmOf returns the one algorithm that a key may verify.
func algorithmOf(key any) (jwkset.ALG, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return "", fmt.Errorf("an RSA key of %d bits; it must have from %d to %d", bits, minRSABits, maxRSABits)
		}
		if key.E < 3 || key.E%2 == 0 {
			return "", errors.New("an RSA key with an exponent that is none")
		}
		return jwkset.AlgRS256, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return "", errors.New("an EC key on another curve than P-256")
		}
		return jwkset.AlgES256, nil
	case ed25519.PublicKey:
		return jwkset.AlgEdDSA, nil
	}
	return "", errors.New("not a key that verifies signatures")
}

// thumbprint tells a key from another that later has its kid.
func thumbprint(key jwkset.JWK) (string, error) {
	text, err := json.Marshal(key.Marshal())
	if err != nil {
		return "", fmt.Errorf("key thumbprint: %w", err)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}

// has reports whether the set has a key of that name.
func (s *keySet) has(kid string) bool {
	_, ok := s.keys[kid]
	return ok
}

// holds reports whether the set has the key with that thumbprint.
func (s *keySet) holds(thumbprint string) bool {
	for _, t := range s.keys {
		if t == thumbprint {
			return true
		}
	}
	return false
}
