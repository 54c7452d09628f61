package auth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
	epoch  = time.Date(2026, 5, 6, 7, 8, 9, 500e6, time.UTC)
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
}

func newHS256(t testing.TB, c *clock, issuer, audience string, options ...auth.Option) *auth.HS256 {
	t.Helper()
	h, err := auth.NewHS256(secret, issuer, audience, append(options, auth.WithClock(c.now))...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func codeOf(err error) wire.Code {
	var e *wire.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return "not a *wire.Error"
}

// raw makes a token of any header and claims, signed with HMAC-SHA256.
func raw(key []byte, header, claims string) string {
	b64 := base64.RawURLEncoding
	text := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(claims))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return text + "." + b64.EncodeToString(mac.Sum(nil))
}

const hsHeader = `{"alg":"HS256","typ":"JWT"}`

func good(more string) string {
	return fmt.Sprintf(`{"sub":"alice","role":"participant","exp":%d%s}`, epoch.Unix()+60, more)
}

func TestIssueVerify(t *testing.T) {
	c := &clock{t: epoch}
	h := newHS256(t, c, "conclave", "mpc")
	token, issued, err := h.Issue("参与方1", []wire.Role{wire.RoleCoordinator, wire.RoleAdmin}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // from the signature, then from the cache
		got, err := h.Verify(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if got.Subject != "参与方1" || !slices.Equal(got.Roles, issued.Roles) || got.ID == "" || got.ID != issued.ID ||
			!got.ExpiresAt.Equal(issued.ExpiresAt) || !got.IssuedAt.Equal(epoch.Truncate(time.Second)) {
			t.Errorf("got %+v, want %+v", got, issued)
		}
		if !got.Has(wire.RoleAdmin) || got.Has(wire.RoleParticipant) {
			t.Errorf("Has is wrong for %v", got.Roles)
		}
	}
	if want := epoch.Truncate(time.Second).Add(time.Minute); !issued.ExpiresAt.Equal(want) {
		t.Errorf("expires %s, want %s", issued.ExpiresAt, want)
	}

	// It is good until that moment, cached or not, and not a moment longer.
	for _, v := range []*auth.HS256{h, newHS256(t, c, "conclave", "mpc")} {
		c.set(issued.ExpiresAt.Add(-time.Nanosecond))
		if _, err := v.Verify(t.Context(), token); err != nil {
			t.Errorf("just before it expires: %v", err)
		}
	}
	for _, v := range []*auth.HS256{h, newHS256(t, c, "conclave", "mpc")} {
		c.set(issued.ExpiresAt)
		if _, err := v.Verify(t.Context(), token); codeOf(err) != wire.CodeTokenExpired {
			t.Errorf("when it expires: %v", err)
		}
	}
}

func TestIssueRefuses(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "", "")
	coordinator := []wire.Role{wire.RoleCoordinator}
	for _, tt := range []struct {
		name, sub string
		roles     []wire.Role
		ttl       time.Duration
	}{
		{"no user", "", coordinator, time.Minute},
		{"user with a colon", "a:b", coordinator, time.Minute},
		{"no role", "alice", nil, time.Minute},
		{"unknown role", "alice", []wire.Role{"root"}, time.Minute},
		{"no life", "alice", coordinator, 0},
		{"negative life", "alice", coordinator, -time.Hour},
		{"life too long", "alice", coordinator, auth.MaxTTL + 1},
	} {
		if token, _, err := h.Issue(tt.sub, tt.roles, tt.ttl); token != "" || codeOf(err) != wire.CodeBadRequest {
			t.Errorf("%s: got %q, %v", tt.name, token, err)
		}
	}
}

func TestShortSecret(t *testing.T) {
	for _, options := range [][]auth.Option{nil, {auth.WithPrevious([]byte("too short"))}} {
		key := secret
		if options == nil {
			key = secret[:31]
		}
		_, err := auth.NewHS256(key, "", "", options...)
		if err == nil || strings.Contains(err.Error(), string(key)) {
			t.Errorf("got error %v", err)
		}
	}
}

func TestPreviousSecret(t *testing.T) {
	c := &clock{t: epoch}
	before, err := auth.NewHS256([]byte(strings.Repeat("p", 32)), "", "", auth.WithClock(c.now))
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := before.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newHS256(t, c, "", "").Verify(t.Context(), token); codeOf(err) != wire.CodeUnauthenticated {
		t.Errorf("another secret: %v", err)
	}
	now := newHS256(t, c, "", "", auth.WithPrevious([]byte(strings.Repeat("p", 32))))
	if _, err := now.Verify(t.Context(), token); err != nil {
		t.Errorf("previous secret: %v", err)
	}
	fresh, _, _ := now.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Minute)
	if _, err := before.Verify(t.Context(), fresh); codeOf(err) != wire.CodeUnauthenticated {
		t.Errorf("the previous secret still signs: %v", err)
	}
}

func TestRoles(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "", "")
	for _, tt := range []struct {
		claims string
		want   []wire.Role
		code   wire.Code
	}{
		{`,"roles":["coordinator","participant"]`, []wire.Role{"participant", "coordinator"}, ""},
		{`,"roles":"admin"`, []wire.Role{"participant", "admin"}, ""},
		{`,"roles":["participant","participant","user","offline_access"]`, []wire.Role{"participant"}, ""},
		{`,"roles":[]`, []wire.Role{"participant"}, ""},
		{`,"roles":null`, []wire.Role{"participant"}, ""},
		{`,"Roles":["admin"]`, []wire.Role{"participant"}, ""},
		{`,"ROLE":"admin"`, []wire.Role{"participant"}, ""},
		{`,"roles":{"admin":true}`, nil, wire.CodeUnauthenticated},
		{`,"roles":[1]`, nil, wire.CodeUnauthenticated},
		{`,"roles":7`, nil, wire.CodeUnauthenticated},
	} {
		got, err := h.Verify(t.Context(), raw(secret, hsHeader, good(tt.claims)))
		if codeOf(err) != tt.code || !slices.Equal(got.Roles, tt.want) {
			t.Errorf("%s: got %v, %v", tt.claims, got.Roles, err)
		}
	}
	if c, err := h.Verify(t.Context(), raw(secret, hsHeader, fmt.Sprintf(`{"sub":"a","exp":%d}`, epoch.Unix()+1))); err != nil || len(c.Roles) != 0 {
		t.Errorf("no roles at all: %v, %v", c.Roles, err)
	}
}

// TestTricks tries what has broken other verifiers.
func TestTricks(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "conclave", "mpc")
	b64 := base64.RawURLEncoding
	claims := good(`,"iss":"conclave","aud":["other","mpc"]`)
	valid := raw(secret, hsHeader, claims)
	if _, err := h.Verify(t.Context(), valid); err != nil {
		t.Fatalf("the token that the tricks are made of: %v", err)
	}
	parts := strings.Split(valid, ".")
	signed := func(claims string) string { return raw(secret, hsHeader, claims) }
	at := func(exp any, more string) string {
		return signed(fmt.Sprintf(`{"sub":"alice","role":"participant","iss":"conclave","aud":"mpc","exp":%v%s}`, exp, more))
	}
	soon := epoch.Unix() + 60

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	spki, _ := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	with := func(method jwt.SigningMethod, key any) string {
		var c jwt.MapClaims
		if err := json.Unmarshal([]byte(claims), &c); err != nil {
			t.Fatal(err)
		}
		token, err := jwt.NewWithClaims(method, c).SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}

	tests := map[string]string{
		"empty":                          "",
		"blank":                          " ",
		"not a token":                    "JWT令牌",
		"two parts":                      parts[0] + "." + parts[1],
		"four parts":                     valid + ".x",
		"no signature":                   parts[0] + "." + parts[1] + ".",
		"signature of nothing":           parts[0] + "." + parts[1] + "." + b64.EncodeToString(nil),
		"cut signature":                  valid[:len(valid)-4],
		"padded":                         valid + "=",
		"blank at the end":               valid + " ",
		"claims changed":                 parts[0] + "." + b64.EncodeToString([]byte(strings.Replace(claims, "alice", "admin", 1))) + "." + parts[2],
		"other secret":                   raw([]byte("another secret of thirty-two byte"), hsHeader, claims),
		"empty secret":                   raw(nil, hsHeader, claims),
		"alg none":                       b64.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + ".",
		"alg none, signature kept":       b64.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "." + parts[2],
		"alg None":                       b64.EncodeToString([]byte(`{"alg":"None"}`)) + "." + parts[1] + ".",
		"alg nOnE":                       b64.EncodeToString([]byte(`{"alg":"nOnE"}`)) + "." + parts[1] + ".",
		"alg none by the library":        with(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"alg empty":                      raw(secret, `{"alg":""}`, claims),
		"alg missing":                    raw(secret, `{"typ":"JWT"}`, claims),
		"alg a number":                   raw(secret, `{"alg":256}`, claims),
		"alg hs256":                      raw(secret, `{"alg":"hs256"}`, claims),
		"header not an object":           raw(secret, `"HS256"`, claims),
		"HS384":                          with(jwt.SigningMethodHS384, secret),
		"HS512":                          with(jwt.SigningMethodHS512, secret),
		"RS256":                          with(jwt.SigningMethodRS256, rsaKey),
		"PS256":                          with(jwt.SigningMethodPS256, rsaKey),
		"ES256":                          with(jwt.SigningMethodES256, ecKey),
		"EdDSA":                          with(jwt.SigningMethodEdDSA, edKey),
		"HS256 under an RSA public key":  raw(rsaPEM, hsHeader, claims),
		"RS256 header, HMAC signature":   raw(secret, `{"alg":"RS256"}`, claims),
		"crit":                           raw(secret, `{"alg":"HS256","crit":["exp"]}`, claims),
		"crit null":                      raw(secret, `{"alg":"HS256","crit":null}`, claims),
		"unencoded payload":              raw(secret, `{"alg":"HS256","b64":false,"crit":["b64"]}`, claims),
		"key in the header":              raw([]byte("attacker's key, long enough to be one"), `{"alg":"HS256","jwk":{"kty":"oct","k":"YXR0YWNrZXI"}}`, claims),
		"key id of a path":               raw(nil, `{"alg":"HS256","kid":"../../dev/null"}`, claims),
		"key URL":                        raw([]byte("x"), `{"alg":"HS256","jku":"http://127.0.0.1/keys"}`, claims),
		"claims not an object":           signed(`["alice"]`),
		"claims null":                    signed(`null`),
		"claims cut short":               signed(claims[:len(claims)-1]),
		"something after the claims":     signed(claims + claims),
		"sub missing":                    signed(fmt.Sprintf(`{"role":"participant","iss":"conclave","aud":"mpc","exp":%d}`, soon)),
		"sub empty":                      strings.Clone(at(soon, `,"sub":""`)),
		"sub a number":                   signed(fmt.Sprintf(`{"sub":7,"iss":"conclave","aud":"mpc","exp":%d}`, soon)),
		"sub with a colon":               signed(fmt.Sprintf(`{"sub":"a:b","iss":"conclave","aud":"mpc","exp":%d}`, soon)),
		"sub with braces":                signed(fmt.Sprintf(`{"sub":"{a}","iss":"conclave","aud":"mpc","exp":%d}`, soon)),
		"sub only as SUB":                signed(fmt.Sprintf(`{"SUB":"alice","iss":"conclave","aud":"mpc","exp":%d}`, soon)),
		"sub twice":                      at(soon, `,"sub":"admin"`),
		"sub twice, once escaped":        at(soon, `,"\u0073ub":"admin"`),
		"exp missing":                    signed(`{"sub":"alice","iss":"conclave","aud":"mpc"}`),
		"exp null":                       at("null", ""),
		"exp a string":                   at(`"4102444800"`, ""),
		"exp a list":                     at(`[4102444800]`, ""),
		"exp beyond all time":            at("1e300", ""),
		"exp beyond a number":            at("1e999", ""),
		"exp beyond int64":               at("9223372036854775808", ""),
		"exp beyond RFC 3339":            at("253402300800", ""),
		"nbf ahead":                      at(soon, fmt.Sprintf(`,"nbf":%d`, epoch.Unix()+30)),
		"nbf a string":                   at(soon, `,"nbf":"now"`),
		"iat ahead":                      at(soon, fmt.Sprintf(`,"iat":%d`, epoch.Unix()+30)),
		"jti a number":                   at(soon, `,"jti":7`),
		"issuer missing":                 signed(fmt.Sprintf(`{"sub":"alice","aud":"mpc","exp":%d}`, soon)),
		"issuer other":                   signed(fmt.Sprintf(`{"sub":"alice","iss":"x","aud":"mpc","exp":%d}`, soon)),
		"issuer other, and expired":      signed(fmt.Sprintf(`{"sub":"alice","iss":"x","aud":"mpc","exp":%d}`, epoch.Unix()-60)),
		"audience missing":               signed(fmt.Sprintf(`{"sub":"alice","iss":"conclave","exp":%d}`, soon)),
		"audience other":                 signed(fmt.Sprintf(`{"sub":"alice","iss":"conclave","aud":["x","mp"],"exp":%d}`, soon)),
		"audience a number":              signed(fmt.Sprintf(`{"sub":"alice","iss":"conclave","aud":7,"exp":%d}`, soon)),
		"huge":                           at(soon, `,"x":"`+strings.Repeat("x", wire.MaxTokenBytes)+`"`),
		"huge and not a token":           strings.Repeat(".", 10<<20),
		"expired, with another's secret": raw(secret[1:], hsHeader, fmt.Sprintf(`{"sub":"alice","exp":%d}`, epoch.Unix()-60)),
	}
	for name, token := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := h.Verify(t.Context(), token)
			if codeOf(err) != wire.CodeUnauthenticated || got.Subject != "" {
				t.Fatalf("got %+v, %v; want unauthenticated", got, err)
			}
			for _, part := range strings.Split(token, ".") {
				if len(part) > 8 && strings.Contains(err.Error(), part) {
					t.Errorf("the error holds the token: %v", err)
				}
			}
		})
	}

	for name, token := range map[string]string{
		"exp a fraction": at(fmt.Sprintf("%d.5", soon), ""),
		"nbf now":        at(soon, fmt.Sprintf(`,"nbf":%d`, epoch.Unix())),
		"iat a little ahead, by another node's clock": at(soon, fmt.Sprintf(`,"iat":%d`, epoch.Unix()+5)),
		"kid and typ do not matter":                   raw(secret, `{"alg":"HS256","kid":"k1","typ":"at+jwt"}`, claims),
	} {
		if _, err := h.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, ago := range []int64{1, 60, 1e6} {
		if _, err := h.Verify(t.Context(), at(epoch.Unix()-ago, "")); codeOf(err) != wire.CodeTokenExpired {
			t.Errorf("expired %d s ago: %v", ago, err)
		}
	}
}

// TestIssuerAndAudienceUnset: what is not configured is not looked at.
func TestIssuerAndAudienceUnset(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "", "")
	if _, err := h.Verify(t.Context(), raw(secret, hsHeader, good(`,"iss":"anyone","aud":"anything"`))); err != nil {
		t.Error(err)
	}
}

func TestVerifyConcurrently(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "", "")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 200 {
				user := fmt.Sprintf("user-%d", (i+n)%50)
				token, _, err := h.Issue(user, []wire.Role{wire.RoleParticipant}, time.Minute)
				if err != nil {
					t.Error(err)
					return
				}
				for range 2 {
					if c, err := h.Verify(context.Background(), token); err != nil || c.Subject != user {
						t.Errorf("got %s, %v; want %s", c.Subject, err, user)
					}
				}
			}
		})
	}
	wg.Wait()
}

func FuzzVerify(f *testing.F) {
	c := &clock{t: epoch}
	h := newHS256(f, c, "", "")
	token, _, err := h.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Minute)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(hsHeader, good(""))
	f.Add(`{"alg":"none"}`, good(`,"roles":["admin"]`))
	f.Add(`{"alg":"HS256","crit":["x"]}`, `{"sub":"a","sub":"b","exp":1e300}`)
	f.Fuzz(func(t *testing.T, header, claims string) {
		// Signed with the right secret, so that parsing gets as far as it can.
		got, err := h.Verify(t.Context(), raw(secret, header, claims))
		switch code := codeOf(err); {
		case code == "":
			if !wire.ValidID(got.Subject) || !got.ExpiresAt.After(epoch) {
				t.Fatalf("accepted %+v", got)
			}
		case code != wire.CodeUnauthenticated && code != wire.CodeTokenExpired:
			t.Fatalf("got %s: %v", code, err)
		}
		// Unsigned, nothing but the issued token is good.
		if forged := header + "." + claims; forged != token {
			if _, err := h.Verify(t.Context(), forged); err == nil {
				t.Fatalf("accepted %q", forged)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	h, err := auth.NewHS256(secret, "conclave", "")
	if err != nil {
		b.Fatal(err)
	}
	token, _, err := h.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := h.Verify(context.Background(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			h, _ := auth.NewHS256(secret, "conclave", "")
			b.StartTimer()
			if _, err := h.Verify(context.Background(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}
