// Package deploy_test checks the files of deploy/ against the programs: each file is
// parsed, linted by its own tool if installed, and sets only what conclaved and
// conclave know. Files that can run are run for real, in cluster/node.
//
// A tool that is not on the PATH skips its test, unless CONCLAVE_REQUIRE_REAL=1.
package deploy_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

// object is a mapping of a YAML file.
type object = map[string]any

// need returns the path of a tool.
func need(t *testing.T, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
			t.Fatalf("%s is not on the PATH and CONCLAVE_REQUIRE_REAL=1", tool)
		}
		t.Skipf("%s is not on the PATH", tool)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents parses a YAML stream; a duplicate key is an error.
func documents(t *testing.T, name, text string) []object {
	t.Helper()
	var all []object
	for d := yaml.NewDecoder(strings.NewReader(text)); ; {
		var one object
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("%s: %v", name, err)
		case one != nil:
			all = append(all, one)
		}
	}
}

// dig follows a path of keys, and of indexes of lists, through a document; nil if
// the path does not exist.
func dig(v any, path ...any) any {
	for _, step := range path {
		switch at := v.(type) {
		case object:
			v = at[fmt.Sprint(step)]
		case []any:
			i, ok := step.(int)
			if !ok || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

func list(v any) []any { l, _ := v.([]any); return l }

func words(v any) []string {
	var all []string
	for _, w := range list(v) {
		all = append(all, fmt.Sprint(w))
	}
	return all
}

// programs are conclaved and conclave, built once when a test needs them: as the
// Dockerfile builds them in the full set, else with the defaults, because the
// Dockerfile's build may recompile the standard library.
var programs = sync.OnceValues(func() (string, error) {
	var err error
	if built, err = os.MkdirTemp("", "conclave-deploy-"); err != nil {
		return "", err
	}
	if sample.Full() {
		return built, buildImage("..", built)
	}
	cmd := exec.Command("go", "build", "-o", built+"/", "./cmd/conclaved", "./cmd/conclave")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return built, nil
})

var built string // the directory of programs; TestMain removes it

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// help is a program's help text.
func help(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program(t, name), append(args, "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v --help: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// start has conclaved read arguments and an environment as if it were to run: its
// own flags report unknown names and values of the wrong form.
func start(t *testing.T, env map[string]string, args ...string) {
	t.Helper()
	known := daemonVariables(t)
	cmd := exec.Command(program(t, "conclaved"), append(args, "--version")...)
	for name, value := range env {
		if strings.HasPrefix(name, "CONCLAVE_") && !slices.Contains(known, name) {
			t.Errorf("%s is set, which conclaved does not know", name)
		}
		if strings.HasSuffix(name, "_FILE") { // the file is read at once
			file := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(file, []byte("c2VjcmV0"), 0o600); err != nil {
				t.Fatal(err)
			}
			value = file
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("conclaved %v with %v: %v\n%s", args, slices.Sorted(maps.Keys(env)), err, out)
	}
}

// startClient has conclave read a command line.
func startClient(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(program(t, "conclave"), append(args, "-h")...).CombinedOutput(); err != nil {
		t.Errorf("conclave %v: %v\n%s", args, err, out)
	}
}

var flagLine = regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`)

// daemonVariables are the variables of conclaved's flags.
func daemonVariables(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, m := range flagLine.FindAllStringSubmatch(help(t, "conclaved"), -1) {
		names = append(names, "CONCLAVE_"+strings.ToUpper(strings.ReplaceAll(m[1], "-", "_")))
	}
	if len(names) < 20 {
		t.Fatalf("conclaved --help names only %v", names)
	}
	return names
}

var (
	variable = regexp.MustCompile(`\bCONCLAVE_[A-Z0-9_]*[A-Z0-9]`)
	preset   = regexp.MustCompile(`presetenv (CONCLAVE_[A-Z0-9_]+)`)
)

// shipped calls do with every file of deploy/, except tests, secrets and files that
// npm has fetched.
func shipped(do func(path string) error) error {
	return filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "secrets"):
			return fs.SkipDir
		case d.IsDir(), strings.HasSuffix(path, "_test.go"):
			return nil
		}
		return do(filepath.ToSlash(path))
	})
}

// TestSettings checks every variable that is named anywhere in deploy/ against those
// that the programs know, including HAProxy's file.
func TestSettings(t *testing.T) {
	t.Parallel()
	known := daemonVariables(t)
	known = append(known, variable.FindAllString(help(t, "conclave", "participant"), -1)...)
	for _, m := range preset.FindAllStringSubmatch(read(t, "haproxy.cfg"), -1) {
		known = append(known, m[1])
	}
	known = append(known, "CONCLAVE_FULL", "CONCLAVE_REQUIRE_REAL", "CONCLAVE_SOAK", "CONCLAVE_MATRIX", "CONCLAVE_MINIREDIS", "CONCLAVE_SECRETS") // the tests', and compose.sh's own
	found := 0
	err := shipped(func(path string) error {
		for _, name := range variable.FindAllString(read(t, path), -1) {
			if found++; !slices.Contains(known, name) {
				t.Errorf("%s names %s, which no program knows", path, name)
			}
		}
		return nil
	})
	if err != nil || found < 40 {
		t.Errorf("%d variables found, %v", found, err)
	}
}

// TestFilesParse parses all shipped YAML, JSON and shell. Templates of the chart are
// parsed when they are rendered.
func TestFilesParse(t *testing.T) {
	t.Parallel()
	kinds := map[string]int{}
	err := shipped(func(path string) error {
		if strings.Contains(path, "/templates/") {
			return nil
		}
		kind := filepath.Ext(path)
		kinds[kind]++
		switch kind {
		case ".yaml", ".yml":
			documents(t, path, read(t, path))
		case ".json":
			if !json.Valid([]byte(read(t, path))) {
				t.Errorf("%s is not JSON", path)
			}
		case ".sh":
			if out, err := exec.Command("sh", "-n", path).CombinedOutput(); err != nil {
				t.Errorf("sh -n %s: %v\n%s", path, err, out)
			}
		}
		return nil
	})
	if err != nil || kinds[".yaml"] < 4 || kinds[".json"] == 0 || kinds[".sh"] < 2 {
		t.Errorf("parsed %v, %v", kinds, err)
	}
}

// pinned reports whether an image has an exact version with a patch level.
var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*$`)

func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

var (
	flagInText = regexp.MustCompile(`--([a-z][a-z-]+[a-z])`)
	link       = regexp.MustCompile(`\]\(([^)#:]+)(#[a-z-]+)?\)`)
)

// TestChineseReadme checks the flags and links of the Chinese README against the
// programs, redis-server and the files.
func TestChineseReadme(t *testing.T) {
	t.Parallel()
	text := read(t, "docs/README.zh-CN.md")
	known := []string{"port", "appendonly", "maxmemory-policy", "role"} // redis-server's, and user add's
	for _, command := range [][]string{{"conclaved"}, {"conclave", "participant"}, {"conclave", "keygen"}, {"conclave", "sign"}, {"conclave", "verify"}, {"conclave", "users", "add"}} {
		for _, m := range flagLine.FindAllStringSubmatch(help(t, command[0], command[1:]...), -1) {
			known = append(known, m[1])
		}
	}
	flags := flagInText.FindAllStringSubmatch(text, -1)
	for _, m := range flags {
		if !slices.Contains(known, m[1]) {
			t.Errorf("--%s is a flag of nothing", m[1])
		}
	}
	links := link.FindAllStringSubmatch(text, -1)
	for _, m := range links {
		if _, err := os.Stat(filepath.Join("docs", m[1])); err != nil {
			t.Error(err)
		}
	}
	if len(flags) < 20 || len(links) < 8 {
		t.Errorf("found %d flags and %d links", len(flags), len(links))
	}
}
