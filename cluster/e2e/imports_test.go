package e2e_test

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/conclave-mpc/conclave/"

// allowed is the import graph: this module's packages that each one may import.
// Tests may import more.
var allowed = map[string][]string{
	"cluster/store/accounts/accountstest": {"cluster/store/accounts", "wsconn/auth", "wsconn/wire"},
	"cluster/store/accounts":              {"cluster/internal/redisx", "wsconn/auth", "wsconn/limit", "wsconn/wire"},
	"session/audit":                       {},
	"cluster/store/audit":                 {"cluster/internal/redisx", "session/audit"},
	"wsconn/wire":                         {},
	"session/pubkey":                      {},
	"wsconn/secret":                       {},
	"wsconn/limit":                        {},
	"wsconn/auth":                         {"wsconn/limit", "wsconn/wire"},
	"cluster/internal/redisx":             {},
	"cluster":                             {"cluster/internal/redisx"},
	"cluster/node/metrics":                {"cluster", "cluster/internal/redisx", "session", "wsconn/auth", "wsconn/webhook", "wsconn/wire", "session/service"}, // counts events of these, in their words
	"cluster/node/tracing":                {"cluster/internal/redisx", "session", "wsconn/wire"},                                                                // likewise
	"session/internal/testonly":           {},
	"session/internal/codec":              {},
	"session/identity":                    {"session/internal/codec", "session/internal/testonly"},
	"session/statement":                   {"session/identity", "session/internal/codec", "session/pubkey"},
	"session/internal/tss":                {"session/identity", "session/internal/codec", "session/pubkey"},
	"session/preparams":                   {"session/internal/codec", "session/internal/testonly", "session/internal/tss"},
	"session/share":                       {"session/identity", "session/internal/codec", "session/internal/tss", "session/pubkey", "session/statement"},
	"session/party":                       {"session/identity", "session/internal/tss", "session/preparams", "session/pubkey", "session/share", "session/statement"},
	"session":                             {"session/identity", "session/pubkey", "session/statement", "wsconn/wire"},
	"session/service":                     {"session", "session/audit", "session/pubkey", "session/statement", "wsconn/wire"},
	"cluster/store/sessions":              {"cluster/internal/redisx", "session", "session/pubkey", "wsconn/wire", "session/service"},
	"wsconn":                              {"session/audit", "wsconn/auth", "wsconn/limit", "wsconn/wire"},
	"wsconn/httpapi":                      {"session", "session/audit", "session/service", "wsconn/auth", "wsconn/limit", "wsconn/wire"},
	"wsconn/webhook":                      {"session", "wsconn/wire", "session/service"}, // the outgoing edge, as httpapi is the incoming one
	"session/policy":                      {"session/pubkey", "session/statement", "wsconn/wire"},

	// The SDK: for coordinators, over a WebSocket or the web API alone, and for
	// participants.
	"wsconn/client":                   {"session/identity", "wsconn/client/internal/quiet", "wsconn/client/internal/servers", "wsconn/client/request", "wsconn/client/rest", "wsconn/client/trust", "wsconn/wire"},
	"wsconn/client/rest":              {"session/audit", "session/identity", "wsconn/client/internal/servers", "wsconn/client/request", "wsconn/client/trust", "wsconn/secret", "wsconn/wire"},
	"wsconn/client/request":           {"session/identity", "session/pubkey", "session/statement", "wsconn/client/trust", "wsconn/wire"},
	"wsconn/client/trust":             {"session/identity", "session/pubkey", "session/statement", "wsconn/wire"},
	"wsconn/client/participant":       {"session/identity", "session/party", "session/policy", "session/preparams", "session/pubkey", "session/share", "session/statement", "wsconn/client", "wsconn/client/internal/quiet", "wsconn/client/request", "wsconn/client/trust", "wsconn/wire"},
	"wsconn/client/dirstore":          {"session/identity", "session/policy", "session/preparams", "session/share", "session/statement", "wsconn/client/participant", "wsconn/client/trust", "wsconn/secret"},
	"wsconn/client/internal/livetest": {"cluster/node", "session/identity", "wsconn/auth", "wsconn/client", "wsconn/client/participant", "wsconn/wire"}, // a node, for examples
	"wsconn/client/clienttest":        {"session", "session/pubkey", "session/statement", "wsconn/wire"},
	"wsconn/client/internal/servers":  {"wsconn/wire"},
	"wsconn/client/internal/quiet":    {},

	"cluster/e2e":             {}, // tests
	"cluster/node":            {"cluster", "cluster/internal/redisx", "cluster/node/metrics", "cluster/node/tracing", "cluster/store/accounts", "cluster/store/audit", "cluster/store/sessions", "session", "session/audit", "session/identity", "session/service", "wsconn", "wsconn/auth", "wsconn/httpapi", "wsconn/limit", "wsconn/webhook", "wsconn/wire"},
	"cmd/internal/spell":      {},
	"cmd/internal/proc":       {},
	"cmd/conclaved":           {"cluster/node", "cmd/internal/proc", "cmd/internal/spell", "wsconn/secret"},
	"cmd/conclave":            {"cmd/internal/proc", "cmd/internal/spell", "session/audit", "wsconn/secret", "session/identity", "session/party", "session/preparams", "session/policy", "session/pubkey", "session/share", "session/statement", "wsconn/client", "wsconn/client/dirstore", "wsconn/client/participant", "wsconn/client/request", "wsconn/client/rest", "wsconn/client/trust", "wsconn/wire"},
	"cmd/conclave-demo":       {"cluster/node", "session/identity", "session/party", "session/preparams", "session/pubkey", "session/share", "wsconn/client", "wsconn/client/dirstore", "wsconn/client/participant", "wsconn/client/rest", "wsconn/client/trust", "wsconn/secret", "wsconn/wire"},
	"cmd/conclave-bench":      {"cluster/node", "session/identity", "session/party", "session/preparams", "session/pubkey", "session/share", "session/statement", "wsconn/client", "wsconn/client/participant", "wsconn/wire"},
	"cluster/redistest":       {"cluster/redistest/sample"},
	"session/party/partytest": {"session/identity", "session/internal/testonly", "session/party", "session/preparams", "session/pubkey", "session/share", "session/statement"},
	"session/sessiontest":     {"session/identity", "session/pubkey"},
	"deploy":                  {}, // tests of the files around the programs

	"cluster/redistest/docstest":    {}, // the documents, for tests that compare them with the programs
	"cluster/redistest/sample":      {}, // the tests of every package ask it
	"cluster/node/tracing/otlptest": {}, // tests against the collector's parser
}

// modules are the packages that are modules of their own, because of their own
// dependencies. Their tests are not read.
var modules = []string{"cmd/conclave-bench", "cluster/node/tracing/otlptest", "deploy"}

func TestImports(t *testing.T) {
	t.Parallel()
	lines := goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...")
	for _, dir := range modules {
		lines = append(lines, module+dir+" "+strings.Join(importsIn(t, "../../"+dir), " "))
	}
	for _, line := range lines {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module)
		may, known := allowed[name]
		if !known {
			t.Errorf("package %s has no place in the import graph", name)
		}
		for _, imported := range fields[1:] {
			if imported == "testing" && !strings.HasSuffix(name, "test") {
				t.Errorf("%s imports testing", name)
			}
			// The benchmark measures the library alone beside our use of it.
			if strings.Contains(imported, "/tss-lib/") && name != "session/internal/tss" && name != "cmd/conclave-bench" {
				t.Errorf("%s imports %s; session/internal/tss alone may", name, imported)
			}
			if strings.HasPrefix(imported, "github.com/redis/go-redis") && !mayUseRedis(name) {
				t.Errorf("%s imports %s; only cluster talks to Redis", name, imported)
			}
			ours, ok := strings.CutPrefix(imported, module)
			if ok && !slices.Contains(may, ours) {
				t.Errorf("%s may not import %s", name, ours)
			}
		}
	}
	// The rule for names needs Unicode's normal forms, which are not in the standard
	// library.
	for leaf, more := range map[string]string{"wsconn/wire": "golang.org/x/text/unicode/norm", "session/audit": ""} {
		for _, line := range goList(t, "-f", `{{join .Imports "\n"}}`, module+leaf) {
			if strings.Contains(strings.Split(line, "/")[0], ".") && line != more {
				t.Errorf("%s imports %s; it may use the standard library only", leaf, line)
			}
		}
	}
}

// mayUseRedis reports whether a package may import the client of Redis: cluster and
// the packages below it, and the bench, which measures Redis alone.
func mayUseRedis(name string) bool {
	return name == "cluster" || strings.HasPrefix(name, "cluster/") || name == "cmd/conclave-bench"
}

// TestMainModule checks that this module does not require the libraries for drawing
// charts or for judging alerts, or gRPC.
func TestMainModule(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, never := range []string{"gonum.org/", "github.com/prometheus/prometheus ", "google.golang.org/grpc ", "go.opentelemetry.io/collector/"} {
		if strings.Contains(string(text), never) {
			t.Errorf("go.mod requires %s", never)
		}
	}
}

// TestServerCannotSign checks that the daemon does not link the library that
// computes with shares, nor the in-memory Redis, nor gRPC, which would be a third of
// it.
func TestServerCannotSign(t *testing.T) {
	t.Parallel()
	deps := goList(t, "-deps", module+"cmd/conclaved")
	if !slices.Contains(deps, module+"cluster/node") {
		t.Fatalf("the list of dependencies is not one: %v", deps)
	}
	for _, dep := range deps {
		for _, never := range []string{"tss-lib", "miniredis", "google.golang.org/grpc", module + "session/internal/tss", module + "session/party", module + "wsconn/client", "testing"} {
			if strings.Contains(dep, never) && dep != "internal/testlog" {
				t.Errorf("conclaved links %s", dep)
			}
		}
	}
}

// TestStatementsNeedNoShares checks that programs that sign and verify statements do
// not link the library that computes with shares.
func TestStatementsNeedNoShares(t *testing.T) {
	t.Parallel()
	deps := goList(t, "-deps", module+"session/statement", module+"session/identity")
	for _, dep := range deps {
		if strings.Contains(dep, "tss-lib") {
			t.Errorf("session/statement or session/identity links %s", dep)
		}
	}
}

// TestAskersLinkNoShares checks that coordinators and nodes link neither the library
// that computes with shares nor, with the web API alone, a WebSocket.
func TestAskersLinkNoShares(t *testing.T) {
	t.Parallel()
	for name, never := range map[string][]string{
		"wsconn/client":      {"tss-lib", module + "session/party", module + "wsconn/client/participant"},
		"wsconn/client/rest": {"tss-lib", module + "session/party", "gorilla/websocket"},
		"cluster/node":       {"tss-lib", module + "session/party", module + "wsconn/client"},
	} {
		deps := goList(t, "-deps", module+name)
		for _, dep := range goList(t, "-deps", "-test", module+name) { // go mod tidy reads the tests
			if strings.Contains(dep, "tss-lib") || strings.Contains(dep, "agl/ed25519") {
				t.Errorf("a test of %s links %s, for which a module that imports it would need a replace line", name, dep)
			}
		}
		if !slices.Contains(deps, module+"wsconn/wire") {
			t.Fatalf("the list of dependencies of %s is not one: %v", name, deps)
		}
		for _, dep := range deps {
			for _, never := range never {
				if strings.Contains(dep, never) {
					t.Errorf("%s links %s", name, dep)
				}
			}
		}
	}
}

// importsIn returns the imports of a directory's files, except tests: go list would
// need that module's requirements.
func importsIn(t *testing.T, dir string) (all []string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files in %s: %v", dir, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range file.Imports {
			all = append(all, strings.Trim(one.Path.Value, `"`))
		}
	}
	return all
}

func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
