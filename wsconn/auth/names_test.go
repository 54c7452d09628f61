package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// formerNames could once be those of accounts.
var formerNames = []string{"..", "-rf", "--help", "alice\u3164", "\u0430lice", "ａｌｉｃｅ"}

// TestNamesInTokens: nobody who comes anew has a name that can be taken for
// another's, whoever issued the token; an account from before keeps its own.
func TestNamesInTokens(t *testing.T) {
	secret := []byte(strings.Repeat("s", auth.MinSecretBytes))
	h, err := auth.NewHS256(secret, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range formerNames {
		claims := jwt.MapClaims{"sub": name, "roles": []string{"coordinator"}, "exp": time.Now().Add(time.Hour).Unix()}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Verify(t.Context(), token); codeOf(err) != wire.CodeUnauthenticated {
			t.Errorf("a token of another issuer for %q: %+v, %v", name, got, err)
		}
		if _, _, err := h.Issue(name, []wire.Role{wire.RoleCoordinator}, time.Hour); codeOf(err) != wire.CodeBadRequest {
			t.Errorf("issue a token for %q: %v", name, err)
		}
		own, _, err := h.IssueFor(auth.Account{User: name, Roles: []wire.Role{wire.RoleCoordinator}, Generation: 1}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := h.Verify(t.Context(), own); err != nil || got.Subject != name {
			t.Errorf("the token of the account %q: %+v, %v", name, got, err)
		}
	}
}

func TestNamesOfAccounts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		a := newAccounts(t, rdb, prefix, cheap)
		roles := []wire.Role{wire.RoleParticipant}
		for _, name := range formerNames {
			for _, replace := range []bool{false, true} {
				if err := a.Add(t.Context(), name, password, roles, replace); codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), "user must") {
					t.Errorf("add %q (replace: %v): got %v, want bad_request", name, replace, err)
				}
			}
		}
		if err := a.Add(t.Context(), "bob", "password \xff", roles, false); codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("a password that no login can give: %v", err)
		}
		// One from before.
		if err := a.Add(t.Context(), "bob", password, roles, false); err != nil {
			t.Fatal(err)
		}
		old := prefix + "account:{alice\u3164}"
		if err := rdb.HSet(t.Context(), old, rdb.HGetAll(t.Context(), prefix+"account:{bob}").Val()).Err(); err != nil {
			t.Fatal(err)
		}
		const name = "alice\u3164"
		if _, err := a.Authenticate(t.Context(), name, password, auth.Turn{}); err != nil {
			t.Errorf("log in as %q: %v", name, err)
		}
		if err := a.Add(t.Context(), name, "another password", roles, true); err != nil {
			t.Errorf("replace %q: %v", name, err)
		}
		if err := a.SetDisabled(t.Context(), name, true); err != nil {
			t.Errorf("disable %q: %v", name, err)
		}
	})
}
