package auth_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// mapped is the verifier of an issuer's tokens under a configuration, and a key
// to sign them with.
func mapped(t *testing.T, cfg auth.JWKSConfig) (auth.Verifier, kind) {
	t.Helper()
	i := newIssuer()
	cfg.Source = filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(cfg.Source, jwksText(t, i.published()...), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Now = func() time.Time { return epoch }
	j, err := auth.NewJWKS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j, kind{alg: "EdDSA", kid: "d1", sign: edSigner(i.ed)}
}

// TestSubjects verifies tokens as common issuers make them.
func TestSubjects(t *testing.T) {
	t.Parallel()
	const participant = `"roles":["participant"]`
	for name, tc := range map[string]struct {
		cfg    auth.JWKSConfig
		claims string
		user   string
		roles  []wire.Role
	}{
		"a plain name": {claims: `"sub":"bob",` + participant, user: "bob", roles: []wire.Role{wire.RoleParticipant}},
		"Auth0, roles under a URL": {
			cfg:    auth.JWKSConfig{RolesClaim: "https://example.org/claims.roles"},
			claims: `"sub":"auth0|5f7c8ec7c33c6c004bbafe82","https://example.org/claims.roles":["participant","editor"],` + `"roles":["admin"]`,
			user:   "_x_auth0_7c5f7c8ec7c33c6c004bbafe82", roles: []wire.Role{wire.RoleParticipant},
		},
		"Keycloak, nested roles": {
			cfg:    auth.JWKSConfig{RolesClaim: "/realm_access/roles", UserClaim: "preferred_username"},
			claims: `"sub":"f:1bd4:77","preferred_username":"carol","realm_access":{"roles":["offline_access","coordinator"]},"resource_access":{"x":{"roles":["admin"]}}`,
			user:   "carol", roles: []wire.Role{wire.RoleCoordinator},
		},
		"Keycloak, a client's roles under other names": {
			cfg:    auth.JWKSConfig{RolesClaim: "/resource_access/conclave~1prod/roles", Roles: map[string]string{"signers": "participant", "ops": "admin"}},
			claims: `"sub":"f3c2a1d0-93cf-4bd1-9a4e-0f4f6a9d7f11","resource_access":{"conclave/prod":{"roles":["signers","admin","coordinator"]}}`,
			user:   "f3c2a1d0-93cf-4bd1-9a4e-0f4f6a9d7f11", roles: []wire.Role{wire.RoleParticipant},
		},
		"Google, an e-mail address with +": {
			cfg:    auth.JWKSConfig{UserClaim: "email"},
			claims: `"sub":"110169484474386276334","email":"bob+keys@example.org","email_verified":true,` + participant,
			user:   "_x_bob_2bkeys@example.org", roles: []wire.Role{wire.RoleParticipant},
		},
		"Kubernetes": {
			claims: `"sub":"system:serviceaccount:prod:participant-bob","kubernetes.io":{"namespace":"prod"},` + participant,
			user:   "_x_system_3aserviceaccount_3aprod_3aparticipant-bob", roles: []wire.Role{wire.RoleParticipant},
		},
		"Kubernetes, by pointer": {
			cfg:    auth.JWKSConfig{UserClaim: "/kubernetes.io/serviceaccount/name", RolesClaim: "/kubernetes.io/namespace", Roles: map[string]string{"prod": "participant"}},
			claims: `"sub":"system:serviceaccount:prod:bob","kubernetes.io":{"namespace":"prod","serviceaccount":{"name":"bob"}}`,
			user:   "bob", roles: []wire.Role{wire.RoleParticipant},
		},
		"SPIFFE": {
			claims: `"sub":"spiffe://example.org/ns/prod/sa/bob",` + participant,
			user:   "_x_spiffe_3a_2f_2fexample.org_2fns_2fprod_2fsa_2fbob", roles: []wire.Role{wire.RoleParticipant},
		},
		"a subject that looks mapped": {claims: `"sub":"_x_auth0_7c1",` + participant, user: "_x__5fx_5fauth0_5f7c1", roles: []wire.Role{wire.RoleParticipant}},
		"no such claim":               {cfg: auth.JWKSConfig{UserClaim: "email"}, claims: `"sub":"bob",` + participant},
		"no such object":              {cfg: auth.JWKSConfig{UserClaim: "/user/name"}, claims: `"sub":"bob","user":"carol",` + participant},
		"roles that are none":         {cfg: auth.JWKSConfig{RolesClaim: "/realm_access/roles"}, claims: `"sub":"bob","realm_access":{"roles":{"admin":true}}`},
		"a list of users":             {cfg: auth.JWKSConfig{UserClaim: "emails"}, claims: `"sub":"bob","emails":["bob@example.org"]`},
		"not ASCII":                   {claims: `"sub":"auth0|böb",` + participant},
		"a space":                     {claims: `"sub":"bob smith",` + participant},
		"too long":                    {claims: `"sub":"auth0|` + strings.Repeat("x", 120) + `",` + participant},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, k := mapped(t, tc.cfg)
			token := k.claims(fmt.Sprintf(`{%s,"iss":"https://issuer.example","exp":%d}`, tc.claims, epoch.Add(time.Hour).Unix()))
			c, err := v.Verify(t.Context(), token)
			if tc.user == "" {
				if codeOf(err) != wire.CodeUnauthenticated {
					t.Errorf("got %+v, %v, want a refusal", c, err)
				}
				return
			}
			if err != nil || c.Subject != tc.user || !slices.Equal(c.Roles, tc.roles) {
				t.Errorf("got %s %v, %v, want %s %v", c.Subject, c.Roles, err, tc.user, tc.roles)
			}
		})
	}
	for _, bad := range []auth.JWKSConfig{{UserClaim: "/"}, {RolesClaim: "/a//b"}, {RolesClaim: "/a~2b"}, {Roles: map[string]string{"x": "king"}}} {
		bad.Source = "https://issuer.example/jwks.json"
		if _, err := auth.NewJWKS(bad); err == nil {
			t.Errorf("%q %q %v is taken", bad.UserClaim, bad.RolesClaim, bad.Roles)
		}
	}
}
