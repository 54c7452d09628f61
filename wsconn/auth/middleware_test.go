package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestMiddleware(t *testing.T) {
	c := &clock{t: epoch}
	h := newHS256(t, c, "", "")
	token, _, err := h.Issue("alice", []wire.Role{wire.RoleAdmin}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	old := raw(secret, hsHeader, fmt.Sprintf(`{"sub":"alice","exp":%d}`, epoch.Unix()-1))
	guarded := auth.Middleware(h, nil)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := auth.FromContext(r.Context())
		fmt.Fprintln(w, c.Subject, ok, c.Has(wire.RoleAdmin))
	}))
	for _, tt := range []struct {
		name   string
		header []string
		query  string
		status int
		code   wire.Code
	}{
		{"good", []string{"Bearer " + token}, "", 200, ""},
		{"scheme in other case", []string{"bEaReR  " + token}, "", 200, ""},
		{"none", nil, "", 401, wire.CodeUnauthenticated},
		{"none, in the address instead", nil, "?access_token=" + token, 401, wire.CodeUnauthenticated},
		{"basic", []string{"Basic " + token}, "", 401, wire.CodeUnauthenticated},
		{"without scheme", []string{token}, "", 401, wire.CodeUnauthenticated},
		{"empty", []string{"Bearer "}, "", 401, wire.CodeUnauthenticated},
		{"two headers", []string{"Bearer " + token, "Bearer " + token}, "", 401, wire.CodeUnauthenticated},
		{"forged", []string{"Bearer " + token + "x"}, "", 401, wire.CodeUnauthenticated},
		{"expired", []string{"Bearer " + old}, "", 401, wire.CodeTokenExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/v1/keys"+tt.query, nil)
			for _, v := range tt.header {
				r.Header.Add("Authorization", v)
			}
			w := httptest.NewRecorder()
			guarded.ServeHTTP(w, r)
			body, _ := io.ReadAll(w.Body)
			if w.Code != tt.status {
				t.Fatalf("got %d %s, want %d", w.Code, body, tt.status)
			}
			if tt.status == 200 {
				if string(body) != "alice true true\n" {
					t.Errorf("got %q", body)
				}
				return
			}
			var p auth.Problem
			if err := json.Unmarshal(body, &p); err != nil {
				t.Fatal(err)
			}
			if p.Code != tt.code || p.Status != tt.status || p.Title == "" || p.Detail == "" || p.Type != "about:blank" {
				t.Errorf("got %+v", p)
			}
			if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
			if w.Header().Get("WWW-Authenticate") == "" {
				t.Error("no WWW-Authenticate")
			}
			if strings.Contains(string(body), token) {
				t.Error("the token is in the answer")
			}
		})
	}
}

type verifierFunc func(ctx context.Context, token string) (auth.Claims, error)

func (f verifierFunc) Verify(ctx context.Context, token string) (auth.Claims, error) {
	return f(ctx, token)
}

func TestMiddlewareReports(t *testing.T) {
	down := fmt.Errorf("fetch keys: %w: %w", wire.Errorf(wire.CodeUnavailable, "cannot tell now"), errors.New("10.0.0.7 refused"))
	for _, tt := range []struct {
		err    error
		status int
	}{
		{down, 503},
		{errors.New("disk on fire"), 500},
		{wire.Errorf(wire.CodeUnauthenticated, "no"), 401},
	} {
		var reported error
		v := verifierFunc(func(context.Context, string) (auth.Claims, error) { return auth.Claims{}, tt.err })
		h := auth.Middleware(v, func(_ *http.Request, err error) { reported = err })(http.NotFoundHandler())
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer x")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.status || reported != tt.err {
			t.Errorf("%v: got %d, reported %v", tt.err, w.Code, reported)
		}
		if body := w.Body.String(); strings.Contains(body, "10.0.0.7") || strings.Contains(body, "fire") {
			t.Errorf("the inside is told outside: %s", body)
		}
	}
}

func TestWriteProblem(t *testing.T) {
	e := wire.Errorf(wire.CodeSessionEnded, "session s-1 has ended")
	e.KeyID, e.SessionID = "k-1", "s-1"
	w := httptest.NewRecorder()
	auth.WriteProblem(w, fmt.Errorf("sign: %w", e))
	want := `{"type":"about:blank","title":"Conflict","status":409,"detail":"session s-1 has ended","code":"session_ended","key_id":"k-1","session_id":"s-1"}` + "\n"
	if got := w.Body.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for code, want := range map[wire.Code]int{
		wire.CodeBadRequest: 400, wire.CodeUnknownType: 400, wire.CodeNotRegistered: 400, wire.CodeUnauthenticated: 401, wire.CodeTokenExpired: 401,
		wire.CodeForbidden: 403, wire.CodeNotFound: 404, wire.CodeConflict: 409, wire.CodeAmbiguous: 409, wire.CodeSessionEnded: 409,
		wire.CodeTooLarge: 413, wire.CodeInvalidSignature: 422, wire.CodeShareNotSealed: 422, wire.CodeRateLimited: 429,
		wire.CodeUnavailable: 503, wire.CodeMailboxFull: 503, wire.CodeInternal: 500, "other": 500,
	} {
		w := httptest.NewRecorder()
		auth.WriteProblem(w, wire.Errorf(code, "x"))
		if w.Code != want {
			t.Errorf("%s: got %d, want %d", code, w.Code, want)
		}
		if retry := w.Header().Get("Retry-After"); (retry != "") != (want == 429 || want == 503) {
			t.Errorf("%s: Retry-After %q", code, retry)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{
		0: "1", time.Millisecond: "1", time.Second: "1", 1001 * time.Millisecond: "2", 5900 * time.Millisecond: "6",
	} {
		e := wire.Errorf(wire.CodeRateLimited, "slowly")
		e.RetryAfter = wait
		w := httptest.NewRecorder()
		auth.WriteProblem(w, fmt.Errorf("log in: %w", e))
		if got := w.Header().Get("Retry-After"); got != want || w.Code != http.StatusTooManyRequests {
			t.Errorf("after %s: status %d, Retry-After %q, want %q", wait, w.Code, got, want)
		}
	}
}
