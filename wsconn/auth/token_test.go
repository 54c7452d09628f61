package auth_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

	// It is valid until that moment, cached or not, and not longer.
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

// TestAccepted are unusual and valid tokens.
func TestAccepted(t *testing.T) {
	h := newHS256(t, &clock{t: epoch}, "conclave", "mpc")
	at := func(exp any, more string) string {
		return raw(secret, hsHeader, fmt.Sprintf(`{"sub":"alice","role":"participant","iss":"conclave","aud":"mpc","exp":%v%s}`, exp, more))
	}
	claims, soon := good(`,"iss":"conclave","aud":["other","mpc"]`), epoch.Unix()+60
	for name, token := range map[string]string{
		"exp a fraction": at(fmt.Sprintf("%d.5", soon), ""),
		"nbf now":        at(soon, fmt.Sprintf(`,"nbf":%d`, epoch.Unix())),
		"iat a little ahead, by another node's clock": at(soon, fmt.Sprintf(`,"iat":%d`, epoch.Unix()+5)),
		"kid and typ do not matter":                   raw(secret, `{"alg":"HS256","kid":"k1","typ":"at+jwt"}`, claims),
		"names of other cases say nothing":            at(soon, `,"SUB":"admin","Exp":1,"ROLES":["admin"]`),
	} {
		c, err := h.Verify(t.Context(), token)
		if err != nil || c.Subject != "alice" || c.Has(wire.RoleAdmin) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for _, ago := range []int64{1, 60, 1e6} {
		if _, err := h.Verify(t.Context(), at(epoch.Unix()-ago, "")); codeOf(err) != wire.CodeTokenExpired {
			t.Errorf("expired %d s ago: %v", ago, err)
		}
	}
}

// TestMaxLife holds a token to the longest life, from iat and from now.
func TestMaxLife(t *testing.T) {
	c := &clock{t: epoch}
	h := newHS256(t, c, "", "", auth.WithMaxLife(time.Hour))
	for name, tt := range map[string]struct {
		iat, exp int64 // after epoch, seconds; iat 0 for none
		ok       bool
	}{
		"as long as may be":              {iat: -10, exp: 3590, ok: true},
		"a second more":                  {iat: -10, exp: 3591},
		"nearly over, but long":          {iat: -86400, exp: 60},
		"does not say when it was made":  {exp: 3600, ok: true},
		"does not say, and lives longer": {exp: 3612},
	} {
		claims := fmt.Sprintf(`{"sub":"alice","exp":%d`, epoch.Unix()+tt.exp)
		if tt.iat != 0 {
			claims += fmt.Sprintf(`,"iat":%d`, epoch.Unix()+tt.iat)
		}
		_, err := h.Verify(t.Context(), raw(secret, hsHeader, claims+"}"))
		if want := map[bool]wire.Code{true: "", false: wire.CodeUnauthenticated}[tt.ok]; codeOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := h.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Hour); err != nil {
		t.Error(err)
	}
	if _, _, err := h.Issue("alice", []wire.Role{wire.RoleParticipant}, time.Hour+time.Second); codeOf(err) != wire.CodeBadRequest {
		t.Errorf("issued a token that would be refused: %v", err)
	}
	for _, d := range []time.Duration{-1, auth.MaxTTL + 1} {
		if _, err := auth.NewHS256(secret, "", "", auth.WithMaxLife(d)); err == nil {
			t.Errorf("a longest life of %s", d)
		}
	}
}

// TestIssuerAndAudienceUnset: unconfigured claims are not checked.
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
