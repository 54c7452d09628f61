package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/docstest"
	"github.com/conclave-mpc/conclave/cmd/internal/spell"
)

// try runs the command with an environment and returns its output.
func try(t *testing.T, env map[string]string, stdin string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	status = run(args, lookup, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "test-only secret of 32 bytes or more"
	for _, tc := range []struct {
		name   string
		env    map[string]string
		args   []string
		status int
		says   string
	}{
		{"without a secret", nil, nil, 1, "CONCLAVE_JWT_SECRET"},
		{"with an empty secret file", nil, []string{"--jwt-secret-file", empty}, 1, "CONCLAVE_JWT_SECRET"},
		{"with a short secret", nil, []string{"--jwt-secret", "short", "--listen", "127.0.0.1:0"}, 1, "at least 32"},
		{"with two secrets", map[string]string{"CONCLAVE_JWT_SECRET": secret}, []string{"--jwt-secret-file", empty}, 2, "exclude each other"},
		{"with an unknown flag", nil, []string{"--no-such-flag"}, 2, "no-such-flag"},
		{"with an argument", nil, []string{"serve"}, 2, `unexpected argument "serve"`},
		{"with a bad variable", map[string]string{"CONCLAVE_INVITE_TIMEOUT": "soon"}, nil, 2, "CONCLAVE_INVITE_TIMEOUT"},
		{"with a short kek", nil, []string{"--jwt-secret", secret, "--share-kek", "c2hvcnQ="}, 2, "openssl rand -base64 32"},
		{"with a bad log level", nil, []string{"--jwt-secret", secret, "--log-level", "loud"}, 2, "log level"},
		{"with a bad node id", nil, []string{"--jwt-secret", secret, "--node-id", "a:b"}, 1, "node id"},
		{"with two previous secrets", map[string]string{"CONCLAVE_JWT_SECRET_PREVIOUS": secret}, []string{"--jwt-secret", secret, "--jwt-secret-previous-file", empty}, 2, "exclude each other"},
		{"with a previous secret alone", nil, []string{"--jwks", empty, "--jwt-secret-previous", secret}, 1, "needs a current one"},
		{"with a short previous secret", nil, []string{"--jwt-secret", secret, "--jwt-secret-previous", "short", "--listen", "127.0.0.1:0"}, 1, "at least 32"},
		{"with a jwks that is no URL", nil, []string{"--jwks", "ftp://host/keys", "--jwks-issuer", "x", "--jwks-audience", "*", "--listen", "127.0.0.1:0"}, 1, "want a file"},
		{"with a jwks of no issuer", nil, []string{"--jwks", empty, "--jwks-audience", "x"}, 1, "an issuer and an audience must be required"},
		{"with a jwks of no audience", nil, []string{"--jwks", empty, "--jwt-issuer", "x"}, 1, "an issuer and an audience must be required"},
		{"with an issuer of no jwks", nil, []string{"--jwt-secret", secret, "--jwks-issuer", "x"}, 1, "no JWKS"},
		{"with logins that live too long", nil, []string{"--jwt-secret", secret, "--token-ttl", "2h", "--token-max-life", "1h"}, 1, "none may live longer"},
		{"with certificates for a plain Redis", nil, []string{"--jwt-secret", secret, "--redis-ca", empty}, 1, "rediss://"},
		{"with half of a certificate for Redis", nil, []string{"--jwt-secret", secret, "--redis", "rediss://127.0.0.1:1/0", "--redis-cert", empty}, 1, "or neither"},
		{"with no traces by ratio", nil, []string{"--jwt-secret", secret, "--trace-ratio", "0"}, 2, "--otlp-endpoint"},
		{"with a collector that is none", nil, []string{"--jwt-secret", secret, "--listen", "127.0.0.1:0", "--otlp-endpoint", "grpc://collector:4317"}, 1, "otlp endpoint"},
		{"with a collector's password", nil, []string{"--jwt-secret", secret, "--listen", "127.0.0.1:0", "--otlp-endpoint", "http://me:hunter2@collector:4318"}, 1, "OTEL_EXPORTER_OTLP_HEADERS"},
		{"with an admin address that is none", nil, []string{"--jwt-secret", secret, "--listen", "127.0.0.1:0", "--admin-addr", "127.0.0.1:none"}, 1, "for the admin"},
		{"with half of TLS", nil, []string{"--jwt-secret", secret, "--tls-cert", "x.pem"}, 1, "both a certificate and a key"},
		{"with another database", nil, []string{"--jwt-secret", secret, "--redis", "postgres://:hunter2@db/0"}, 1, "unknown scheme"},
		{"without redis", nil, []string{"--jwt-secret", secret, "--listen", "127.0.0.1:0", "--redis", "redis://127.0.0.1:1/0"}, 1, "redis does not answer"},
		{"with user and no name", nil, []string{"user", "add", "--role", "coordinator"}, 2, "want a name"},
		{"with user and no role", nil, []string{"user", "add", "alice"}, 2, "--role"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			status, _, stderr := try(t, tc.env, "", tc.args...)
			if status != tc.status || !strings.Contains(stderr, tc.says) {
				t.Errorf("status %d, want %d; stderr:\n%s\nwant it to say %q", status, tc.status, stderr, tc.says)
			}
			for _, s := range []string{secret, "hunter2"} {
				if strings.Contains(stderr, s) {
					t.Errorf("stderr repeats a secret: %s", stderr)
				}
			}
		})
	}
}

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"conclaved": main})
}

// TestScripts runs the real program against a Redis in memory.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("CONCLAVE_REDIS", "redis://"+redistest.StartMini(t).Addr()+"/0")
			return nil
		},
	})
}

func TestUserAdd(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		client, ok := rdb.(*redis.Client)
		if !ok {
			t.Fatalf("unexpected client %T", rdb)
		}
		env := map[string]string{"CONCLAVE_REDIS": "redis://" + client.Options().Addr + "/0", "CONCLAVE_REDIS_PREFIX": prefix}
		const password = "correct horse battery"
		status, stdout, stderr := try(t, env, password+"\n", "user", "add", "alice", "--role", "coordinator,participant")
		if status != 0 || !strings.Contains(stdout, "alice") {
			t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, password) {
			t.Error("the password is repeated")
		}
		account := client.HGetAll(context.Background(), prefix+"account:{alice}").Val()
		if !strings.HasPrefix(account["password_hash"], "$argon2id$") || account["roles"] != "coordinator,participant" {
			t.Errorf("account is %v", account)
		}
		if status, _, stderr = try(t, env, password, "user", "add", "--role", "admin", "alice"); status != 1 || !strings.Contains(stderr, "exists") {
			t.Errorf("a second alice: status %d, %s", status, stderr)
		}
		if status, _, stderr = try(t, env, password, "user", "add", "--role", "admin", "--replace", "alice"); status != 0 {
			t.Errorf("replace: status %d, %s", status, stderr)
		}
		for _, bad := range [][]string{{"a:b", "--role", "admin"}, {"bob", "--role", "king"}} {
			if status, _, _ := try(t, env, password, append([]string{"user", "add"}, bad...)...); status != 1 {
				t.Errorf("user add %v: status %d, want 1", bad, status)
			}
		}
	})
}

// TestDocsNameEveryFlag: each flag has its row in the table of settings, and in no
// other table; and the table has no other flags.
func TestDocsNameEveryFlag(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	newOptions(&bytes.Buffer{}).flags.VisitAll(func(f *flag.Flag) {
		known["`--"+f.Name+"`"] = true
		if rows := docstest.Rows(t, "`--"+f.Name+"`"); f.Name != "version" && (len(rows) != 1 || !strings.HasPrefix(rows[0], docstest.Operations)) {
			t.Errorf("--%s has %d rows in tables, want one, in %s: %q", f.Name, len(rows), docstest.Operations, rows)
		}
	})
	for _, row := range strings.Split(docstest.Section(t, docstest.Operations, "## Configuration"), "\n| ") {
		for _, name := range regexp.MustCompile("`--[a-z-]+`").FindAllString(strings.Split(row, " | ")[0], -1) {
			if strings.HasPrefix(row, "`") && !known[name] {
				t.Errorf("conclaved has no flag %s", name)
			}
		}
	}
}

// TestVariablesAreKnown: both programs know each flag's variable, so that neither
// warns of it.
func TestVariablesAreKnown(t *testing.T) {
	t.Parallel()
	newOptions(&bytes.Buffer{}).flags.VisitAll(func(f *flag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if !slices.Contains(spell.Variables, name) {
			t.Errorf("--%s: add %q to Variables in cmd/internal/spell/variables.go", f.Name, name)
		}
	})
}

func TestHelp(t *testing.T) {
	t.Parallel()
	status, _, stderr := try(t, nil, "", "--help")
	if status != 0 || !strings.Contains(stderr, "conclaved user add") || !strings.Contains(stderr, "-share-kek") {
		t.Errorf("status %d:\n%s", status, stderr)
	}
	if status, stdout, _ := try(t, nil, "", "--version"); status != 0 || strings.TrimSpace(stdout) == "" {
		t.Errorf("--version: status %d, %q", status, stdout)
	}
}
