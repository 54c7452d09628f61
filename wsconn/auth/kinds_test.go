package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/auth"
)

var b64 = base64.RawURLEncoding

// issuer is another issuer: a key of each kind, and one more that is not in its
// JWKS.
type issuer struct {
	rsa, stranger *rsa.PrivateKey
	ec            *ecdsa.PrivateKey
	ed            ed25519.PrivateKey
}

var newIssuer = sync.OnceValue(func() issuer {
	var i issuer
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if i.stranger, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		panic(err)
	}
	if _, i.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	return i
})

type jwk = map[string]any

func rsaJWK(kid string, key *rsa.PublicKey) jwk {
	return jwk{"kty": "RSA", "kid": kid, "n": b64.EncodeToString(key.N.Bytes()), "e": b64.EncodeToString(big.NewInt(int64(key.E)).Bytes())}
}

func ecJWK(kid, crv string, key *ecdsa.PublicKey) jwk {
	point, err := key.Bytes() // 4, x, y
	if err != nil {
		panic(err)
	}
	half := len(point) / 2
	return jwk{"kty": "EC", "kid": kid, "crv": crv, "x": b64.EncodeToString(point[1 : 1+half]), "y": b64.EncodeToString(point[1+half:])}
}

func edJWK(kid string, key ed25519.PublicKey) jwk {
	return jwk{"kty": "OKP", "kid": kid, "crv": "Ed25519", "x": b64.EncodeToString(key)}
}

// with returns k with members set, or removed if nil.
func with(k jwk, members jwk) jwk {
	changed := jwk{}
	for name, v := range k {
		changed[name] = v
	}
	for name, v := range members {
		if changed[name] = v; v == nil {
			delete(changed, name)
		}
	}
	return changed
}

// published is the set that the issuer publishes: beside a key of each kind, keys
// that must verify nothing.
func (i issuer) published() []jwk {
	return []jwk{
		rsaJWK("r1", &i.rsa.PublicKey),
		ecJWK("e1", "P-256", &i.ec.PublicKey),
		edJWK("d1", i.ed.Public().(ed25519.PublicKey)),
		{"kty": "oct", "kid": "sym", "alg": "HS256", "k": b64.EncodeToString(symmetric)},
		with(rsaJWK("enc", &i.rsa.PublicKey), jwk{"use": "enc"}),
		with(rsaJWK("ops", &i.rsa.PublicKey), jwk{"key_ops": []string{"encrypt"}}),
		with(rsaJWK("ps", &i.rsa.PublicKey), jwk{"alg": "PS256"}),
		with(rsaJWK("mixed", &i.rsa.PublicKey), jwk{"alg": "ES256"}),
		rsaJWK("twin", &i.rsa.PublicKey), ecJWK("twin", "P-256", &i.ec.PublicKey),
	}
}

var symmetric = []byte("a secret that an issuer published!")

func jwksText(t testing.TB, keys ...jwk) []byte {
	t.Helper()
	text, err := json.Marshal(jwk{"keys": append([]jwk{}, keys...)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jwksFile is a JWKS verifier of a file with these keys.
func jwksFile(t testing.TB, c *clock, keys ...jwk) *auth.JWKS {
	t.Helper()
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, jwksText(t, keys...), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := auth.NewJWKS(auth.JWKSConfig{Source: file, Issuer: "conclave", Audience: "mpc", Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j
}

// kind is a verifier and how to sign for it.
type kind struct {
	name     string
	verifier auth.Verifier
	alg, kid string
	sign     func(text []byte) []byte
}

// header is a valid token's, with more members.
func (k kind) header(more string) string {
	kid := ""
	if k.kid != "" {
		kid = fmt.Sprintf(`,"kid":%q`, k.kid)
	}
	return fmt.Sprintf(`{"alg":%q%s%s}`, k.alg, kid, more)
}

// seal signs two parts unchanged.
func (k kind) seal(header, claims string) string {
	text := header + "." + claims
	return text + "." + b64.EncodeToString(k.sign([]byte(text)))
}

// token signs any header and any claims.
func (k kind) token(header, claims string) string {
	return k.seal(b64.EncodeToString([]byte(header)), b64.EncodeToString([]byte(claims)))
}

// claims signs any claims under a valid header.
func (k kind) claims(claims string) string { return k.token(k.header(""), claims) }

func hmacOf(key []byte) func([]byte) []byte { return hmacWith(sha256.New, key) }

func hmacWith(sum func() hash.Hash, key []byte) func([]byte) []byte {
	return func(text []byte) []byte {
		mac := hmac.New(sum, key)
		mac.Write(text)
		return mac.Sum(nil)
	}
}

func rsaSigner(key *rsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		digest := sha256.Sum256(text)
		sig, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
		if err != nil {
			panic(err)
		}
		return sig
	}
}

func ecSigner(key *ecdsa.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte {
		digest := sha256.Sum256(text)
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
}

func edSigner(key ed25519.PrivateKey) func([]byte) []byte {
	return func(text []byte) []byte { return ed25519.Sign(key, text) }
}

// kinds are all verifiers, by every kind of key.
func kinds(t testing.TB, c *clock) []kind {
	i := newIssuer()
	own := newHS256(t, c, "conclave", "mpc")
	other := jwksFile(t, c, i.published()...)
	both := auth.Issuers{Own: own, Other: other}
	signers := []kind{
		{alg: "HS256", sign: hmacOf(secret)},
		{alg: "RS256", kid: "r1", sign: rsaSigner(i.rsa)},
		{alg: "ES256", kid: "e1", sign: ecSigner(i.ec)},
		{alg: "EdDSA", kid: "d1", sign: edSigner(i.ed)},
	}
	var all []kind
	for _, k := range signers {
		k.name, k.verifier = "secret", own
		if k.kid != "" {
			k.name, k.verifier = "jwks-"+k.alg, other
		}
		all = append(all, k)
		k.name, k.verifier = "both-"+k.alg, both
		all = append(all, k)
	}
	return all
}

func verify(k kind, token string) (auth.Claims, error) {
	return k.verifier.Verify(context.Background(), token)
}
