package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// do is a call that must be answered with that status.
func (c *testCluster) do(n *process, want int, method, path, token string, body any) object {
	c.t.Helper()
	status, answer := c.call(n, method, path, token, body)
	if status != want {
		c.t.Fatalf("%s %s: got %d %v, want %d", method, path, status, answer, want)
	}
	return answer
}

// TestUsersOverHTTP has an admin manage accounts through one node. Ending an
// account's tokens closes its socket on another node, and ends its tokens on all of
// them and its login for good; and the audit names the admin.
func TestUsersOverHTTP(t *testing.T) {
	inTurn(t, "logins", 1, 3)
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		one, two := c.nodes[0], c.nodes[1]
		c.addUser("root", wire.RoleAdmin)
		root, _ := c.login(one, "root")
		made := c.do(one, http.StatusCreated, "POST", "/v1/users", root, object{"user_id": "bob", "roles": []string{"participant"}})
		word, _ := made["one_time_password"].(string)
		if made["password"] != "one_time" || len(word) < 20 {
			t.Fatalf("made %v", made)
		}
		once := object{"username": "bob", "password": word, "refresh": true}
		bob := c.do(two, http.StatusOK, "POST", "/v1/login", "", once)
		c.do(one, http.StatusUnauthorized, "POST", "/v1/login", "", once)
		c.do(one, http.StatusOK, "POST", "/v1/token/refresh", "", object{"refresh_token": bob["refresh_token"]})
		ends := func(user, method, path string, body any) {
			t.Helper()
			c.addUser(user, wire.RoleParticipant)
			login := c.do(two, http.StatusOK, "POST", "/v1/login", "", object{"username": user, "password": testPassword, "refresh": true})
			s := c.socket(two, user, fmt.Sprint(login["token"]))
			c.do(one, http.StatusOK, method, "/v1/users/"+user+path, root, body)
			s.expectClosed(wire.CloseRevoked)
			for _, n := range c.nodes {
				c.refused(n, user, s.token)
				eventually(t, user+"'s login cannot be renewed", func() bool {
					status, _ := c.call(n, "POST", "/v1/token/refresh", "", object{"refresh_token": login["refresh_token"]})
					return status == http.StatusUnauthorized
				})
			}
		}
		ends("amy", "PUT", "/roles", object{"roles": []string{"participant", "coordinator"}})
		ends("ben", "POST", "/disable?reason=laptop+lost", nil)
		ends("cat", "POST", "/password", object{"password": testPassword + "!"})
		ends("dan", "DELETE", "?reason=left", nil)
		if got := c.do(two, http.StatusOK, "GET", "/v1/users/amy", root, nil); fmt.Sprint(got["roles"]) != "[participant coordinator]" {
			t.Errorf("amy is %v", got)
		}
		barred := object{"username": "ben", "password": testPassword}
		c.do(two, http.StatusUnauthorized, "POST", "/v1/login", "", barred)
		c.do(two, http.StatusOK, "POST", "/v1/users/ben/enable", root, nil)
		c.do(one, http.StatusOK, "POST", "/v1/login", "", barred)
		c.do(two, http.StatusNotFound, "GET", "/v1/users/dan", root, nil)
		c.do(two, http.StatusConflict, "DELETE", "/v1/users/root", root, nil)
		list := c.do(two, http.StatusOK, "GET", "/v1/users?prefix=r&role=admin", root, nil)
		if items, _ := list["items"].([]any); len(items) != 1 || items[0].(map[string]any)["user_id"] != "root" {
			t.Errorf("left are %v", list)
		}

		want := []string{
			"root user_add ok bob roles participant, with a password for one login", "root user_roles ok amy roles participant,coordinator, tokens revoked",
			"root user_disable ok ben tokens revoked: laptop lost", "root user_password ok cat password set, tokens revoked", "root user_remove ok dan tokens revoked: left",
			"root user_enable ok ben tokens revoked",
		}
		eventually(t, fmt.Sprintf("the audit has %q", want), func() bool {
			var did []string
			entries, _ := c.trail(two)
			for _, f := range entries {
				did = append(did, phrase(f, "account", "detail"))
			}
			return !slices.ContainsFunc(want, func(w string) bool { return !slices.Contains(did, w) })
		})
		if strings.Contains(c.logs.String(), word) {
			t.Error("the log holds a password")
		}
	})
}

// TestNoUsersHere: if tokens come from another issuer only, an admin is told so.
func TestNoUsersHere(t *testing.T) {
	t.Parallel()
	eachCluster(t, 0, nil, func(t *testing.T, c *testCluster) {
		issuer := newOtherIssuer(t)
		n := c.start("--jwt-secret", "", "--jwks", issuer.file, "--jwks-issuer", "https://issuer.example", "--jwks-audience", "conclave")
		admin := issuer.token("root", "admin")
		for _, call := range [][2]string{{"GET", "/v1/users"}, {"POST", "/v1/users"}, {"DELETE", "/v1/users/bob"}} {
			answer := c.do(n, http.StatusNotFound, call[0], call[1], admin, nil)
			if detail := fmt.Sprint(answer["detail"]); !strings.Contains(detail, "another issuer") {
				t.Errorf("%v: %q", call, detail)
			}
		}
	})
}
