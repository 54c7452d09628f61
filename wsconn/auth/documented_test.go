package auth_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/docstest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestDocumentedIssuers verifies the tokens shown in INTEGRATION with the settings
// above them.
func TestDocumentedIssuers(t *testing.T) {
	t.Parallel()
	section := docstest.Section(t, docstest.Integration, "## Tokens")
	claims := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(section, -1)
	commands := docstest.Commands(t, docstest.Integration, "## Tokens")
	if len(claims) != 2 || len(commands) != 2 {
		t.Fatalf("INTEGRATION has %d sets of claims and %d commands", len(claims), len(commands))
	}
	for i, want := range []struct {
		user string
		role wire.Role
	}{
		{"f3c2a1d0-93cf-4bd1-9a4e-0f4f6a9d7f11", wire.RoleParticipant},
		{"_x_auth0_7c5f7c8ec7c33c6c004bbafe82", wire.RoleCoordinator},
	} {
		set := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+)\s+([^\s\\]+)`).FindAllStringSubmatch(commands[i], -1) {
			set[m[1]] = m[2]
		}
		issuer := newIssuer()
		cfg := auth.JWKSConfig{
			Source: filepath.Join(t.TempDir(), "jwks.json"), Issuer: set["jwks-issuer"], Audience: set["jwks-audience"], RolesClaim: set["jwks-roles-claim"],
			MaxLife: 720 * time.Hour, Now: func() time.Time { return time.Unix(1795444913, 0) },
		}
		if set["jwks-roles"] != "" {
			cfg.Roles = map[string]string{}
			for pair := range strings.SplitSeq(set["jwks-roles"], ",") {
				name, role, _ := strings.Cut(pair, "=")
				cfg.Roles[name] = role
			}
		}
		if cfg.Issuer == "" || cfg.Audience == "" || cfg.RolesClaim == "" || set["jwks"] == "" {
			t.Fatalf("the command is %q", commands[i])
		}
		if err := os.WriteFile(cfg.Source, jwksText(t, issuer.published()...), 0o600); err != nil {
			t.Fatal(err)
		}
		verifier, err := auth.NewJWKS(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		token := kind{alg: "EdDSA", kid: "d1", sign: edSigner(issuer.ed)}.claims(claims[i][1])
		got, err := verifier.Verify(t.Context(), token)
		if err != nil || got.Subject != want.user || !slices.Equal(got.Roles, []wire.Role{want.role}) {
			t.Errorf("%s: is %q in %v, %v; want %q in %v", set["jwks-issuer"], got.Subject, got.Roles, err, want.user, want.role)
		}
	}
}
