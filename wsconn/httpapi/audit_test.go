package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// trust is a verifier that knows one token.
type trust struct{ err error }

func (v trust) Verify(_ context.Context, token string) (auth.Claims, error) {
	if token == "good" {
		return auth.Claims{Subject: "alice"}, nil
	}
	return auth.Claims{}, v.err
}

// book is an Auditor.
type book struct{ entries []audit.Decision }

func (b *book) Record(d audit.Decision) { b.entries = append(b.entries, d) }

// TestBadTokensAreRecorded: only some of a flood, and no text of the client's own.
func TestBadTokensAreRecorded(t *testing.T) {
	t.Parallel()
	b := new(book)
	bad := wire.Errorf(wire.CodeUnauthenticated, "token is not valid")
	a := &api{cfg: Config{Audit: b}, strangers: newStrangers()}
	ask := func(v auth.Verifier, authorization, from string) int {
		t.Helper()
		r := httptest.NewRequest("GET", "/v1/keys/secret-key", nil)
		r.RemoteAddr = from
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		auth.Middleware(v, a.unauthenticated)(http.NotFoundHandler()).ServeHTTP(w, r)
		return w.Code
	}
	// Refusals that are not decisions, or not of a bad token.
	for _, tc := range []struct {
		v             auth.Verifier
		authorization string
		status        int
	}{
		{trust{bad}, "", 401},
		{trust{bad}, "Bearer good", 404},
		{trust{wire.ErrUnavailable}, "Bearer stolen", 503},
		{trust{fmt.Errorf("disk on fire")}, "Bearer stolen", 500},
	} {
		if status := ask(tc.v, tc.authorization, "192.0.2.1:1"); status != tc.status || len(b.entries) != 0 {
			t.Errorf("%q: status %d, recorded %v", tc.authorization, status, b.entries)
		}
	}
	for range 100 {
		ask(trust{bad}, "Bearer stolen", "192.0.2.1:1")
	}
	if len(b.entries) != strangerEntries {
		t.Fatalf("%d entries for 100 tries from one address, want %d", len(b.entries), strangerEntries)
	}
	want := audit.Decision{What: audit.TokenCheck, Outcome: audit.Refused, Code: "unauthenticated", Detail: "token is not valid"}
	if b.entries[0] != want {
		t.Errorf("got %+v, want %+v", b.entries[0], want)
	}
	for i := range 100 {
		ask(trust{bad}, "Bearer stolen", fmt.Sprintf("192.0.2.%d:1", i+2))
	}
	if len(b.entries) != strangersEntries {
		t.Errorf("%d entries for 200 tries from anywhere, want %d", len(b.entries), strangersEntries)
	}
	if b.entries[strangerEntries].Detail != "token is not valid (and 96 before it that were not recorded)" {
		t.Errorf("what was left out of the first is not told: %+v", b.entries)
	}
	// Later there is room again.
	omitted := a.strangers.omitted
	a.strangers = newStrangers()
	a.strangers.omitted = omitted
	ask(trust{wire.Errorf(wire.CodeTokenExpired, "token has expired")}, "Bearer stolen", "192.0.2.1:1")
	ask(trust{bad}, "Bearer stolen", "192.0.2.1:1")
	last := b.entries[len(b.entries)-2:]
	if last[0].Code != "token_expired" || last[0].Detail != "token has expired (and 94 before it that were not recorded)" || last[1] != want {
		t.Errorf("afterwards: %+v", last)
	}
	if text := fmt.Sprint(b.entries); strings.Contains(text, "stolen") || strings.Contains(text, "secret-key") {
		t.Errorf("a stranger's words are recorded: %s", text)
	}
}
