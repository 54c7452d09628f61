package auth_test

import (
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// formerNames were once valid for accounts.
var formerNames = []string{"..", "-rf", "--help", "alice\u3164", "\u0430lice", "ａｌｉｃｅ"}

// TestNamesInTokens: a new user cannot have a name that can be taken for another's,
// whoever issued the token; an older account keeps its own.
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
