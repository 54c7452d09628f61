package deploy_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestReplaceIsStated: Go takes replace lines from the main module only, so
// importers of a package must find there which ones to copy.
func TestReplaceIsStated(t *testing.T) {
	t.Parallel()
	needed := regexp.MustCompile(`(?m)^replace .*$`).FindAllString(read(t, "../go.mod"), -1)
	if len(needed) != 1 {
		t.Fatalf("go.mod replaces %q, want one", needed)
	}
	for _, file := range []string{"../wsconn/client/participant/participant.go", "docs/INTEGRATION.md"} {
		if !strings.Contains(read(t, file), needed[0]) {
			t.Errorf("%s does not state %q", file, needed[0])
		}
	}
}

// TestExampleModulesRun runs the three example programs together: a node, three
// participants, and a coordinator that gets a signature. CI builds each as a module
// of its own.
func TestExampleModulesRun(t *testing.T) {
	if !sample.Full() {
		t.Skip("builds three programs; in the full set")
	}
	t.Parallel()
	dir := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", dir+"/", "./examples/coordinator", "./examples/participant", "./examples/node").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	const secret = "test-only secret of 32 bytes or more"
	program := func(name string, env []string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, name), args...)
		cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
		cmd.WaitDelay = 30 * time.Second
		return cmd
	}
	start := func(cmd *exec.Cmd) {
		t.Helper()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	}
	node := program("node", []string{"CONCLAVE_LISTEN=127.0.0.1:0", "CONCLAVE_JWT_SECRET=" + secret, "CONCLAVE_REDIS=redis://" + redistest.StartMini(t).Addr() + "/0"})
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(node)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	_, addr, ok := strings.Cut(strings.TrimSpace(line), "listens on ")
	if err != nil || !ok {
		t.Fatalf("the node says %q: %v", line, err)
	}
	issuer, err := auth.NewHS256([]byte(secret), "", "")
	if err != nil {
		t.Fatal(err)
	}
	env := func(user string, role wire.Role) []string {
		token, _, err := issuer.Issue(user, []wire.Role{role}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return []string{"CONCLAVE_URL=http://" + addr, "CONCLAVE_TOKEN=" + token}
	}
	for _, user := range []string{"bob", "carol", "dave"} {
		start(program("participant", env(user, wire.RoleParticipant), filepath.Join(dir, "home-"+user)))
	}
	out, err := program("coordinator", env("alice", wire.RoleCoordinator), "bob", "carol", "dave").Output()
	if fields := strings.Fields(string(out)); err != nil || len(fields) != 2 || !strings.HasPrefix(fields[1], "0x") {
		t.Errorf("the coordinator prints %q: %v", out, err)
	}
}
