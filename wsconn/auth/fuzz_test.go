package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzVerify signs any header and claims with the right key of each kind, so that
// parsing gets as far as possible, and sends them unsigned as well.
func FuzzVerify(f *testing.F) {
	all := kinds(f, &clock{t: epoch})
	for i, k := range all {
		f.Add(byte(i), k.header(""), goodClaims())
		f.Add(byte(i), k.header(`,"typ":"at+jwt"`), goodClaims())
		for _, a := range append(headerAttacks(), claimAttacks()...) {
			if parts := strings.Split(a.make(k), "."); len(parts) == 3 {
				header, err1 := b64.DecodeString(parts[0])
				claims, err2 := b64.DecodeString(parts[1])
				if err1 == nil && err2 == nil {
					f.Add(byte(i), string(header), string(claims))
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, which byte, header, claims string) {
		k := all[int(which)%len(all)]
		got, err := verify(k, k.token(header, claims))
		switch code := codeOf(err); {
		case code == "":
			if !wire.ValidID(got.Subject) || !got.ExpiresAt.After(epoch) || got.ExpiresAt.After(epoch.Add(auth.MaxTTL+time.Minute)) {
				t.Fatalf("accepted %+v", got)
			}
		case code != wire.CodeUnauthenticated && code != wire.CodeTokenExpired:
			t.Fatalf("got %s: %v", code, err)
		}
		if _, err := verify(k, header+"."+claims); err == nil {
			t.Fatalf("accepted %q", header+"."+claims)
		}
	})
}

// FuzzJWKS reads any file as a JWKS: it never panics, and an accepted one verifies
// only tokens of its own keys.
func FuzzJWKS(f *testing.F) {
	i := newIssuer()
	f.Add(jwksText(f, i.published()...))
	for _, k := range i.published() {
		f.Add(jwksText(f, k))
	}
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`{"keys":[{}],"keys":null}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","kid":"e1","crv":"P-256","x":"AA","y":"AA"}]}`))
	c := &clock{t: epoch}
	stranger := signedBy("RS256", "r1", rsaSigner(i.stranger))
	file := filepath.Join(f.TempDir(), "jwks.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := auth.NewJWKS(auth.JWKSConfig{Source: file, Issuer: "conclave", Audience: "mpc", Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		loaded := j.Load(t.Context())
		_, err = j.Verify(t.Context(), stranger)
		if err == nil || loaded == nil && codeOf(err) != wire.CodeUnauthenticated {
			t.Fatalf("loaded %v, verified %v", loaded, err)
		}
	})
}
