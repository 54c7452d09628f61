package accounts_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// formerNames were once valid for accounts.
var formerNames = []string{"..", "-rf", "--help", "alice\u3164", "\u0430lice", "ａｌｉｃｅ"}

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
		// An account older than the rule.
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

// TestNoAccountIsMapped: no account has the user id of another issuer's subject.
func TestNoAccountIsMapped(t *testing.T) {
	t.Parallel()
	a := newAccounts(t, redistest.Mini(t), "", cheap)
	for _, replace := range []bool{false, true} {
		if err := a.Add(t.Context(), "_x_auth0_7c1", password, []wire.Role{wire.RoleAdmin}, replace); codeOf(err) != wire.CodeBadRequest {
			t.Errorf("got %v, want a refusal", err)
		}
	}
}
