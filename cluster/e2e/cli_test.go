package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// cli is the command line of one user, with its own home.
type cli struct {
	t      *testing.T
	binary string
	home   string

	env     []string  // more of the environment
	running *exec.Cmd // the participant
}

// conclave is the command line's binary, built once for this test binary.
var conclave = sync.OnceValues(func() (string, error) {
	return build("conclave")
})

func conclaveBinary(t *testing.T) string {
	t.Helper()
	binary, err := conclave()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func (u *cli) command(args ...string) *exec.Cmd {
	cmd := exec.Command(u.binary, args...)
	cmd.Env = append(append(os.Environ(), "CONCLAVE_HOME="+u.home, "NO_COLOR=1"), u.env...)
	tie(cmd)
	return cmd
}

// run runs a command to its end and returns its stdout.
func (u *cli) run(stdin string, args ...string) string {
	u.t.Helper()
	cmd := u.command(args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		u.t.Fatalf("conclave %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// fails runs a command that must end with a failure status listed by conclave help
// exit-codes, and returns its output.
func (u *cli) fails(args ...string) (stdout, stderr string) {
	u.t.Helper()
	cmd := u.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() > 6 {
		u.t.Fatalf("conclave %s: got %v, want a failure\n%s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), errs.String()
}

const cliPassword = "correct horse battery"

// enrol creates accounts, the first a coordinator and the others participants, logs
// them in, and has the participants pin the coordinator.
func enrol(t *testing.T, c *testCluster, names ...string) map[string]*cli {
	t.Helper()
	binary := conclaveBinary(t)
	users := make(map[string]*cli)
	for i, user := range names {
		role := wire.RoleParticipant
		if i == 0 {
			role = wire.RoleCoordinator
		}
		accountstest.AddUser(t, c.rdb, c.prefix, user, cliPassword, role)
		users[user] = &cli{t: t, binary: binary, home: filepath.Join(t.TempDir(), "home")}
		users[user].run(cliPassword+"\n", "login", c.nodes[i%len(c.nodes)].base, user)
		if i > 0 {
			users[user].pin(names[0], users[names[0]])
		}
	}
	return users
}

// pin trusts another user's identity, as if its fingerprint had been read out.
func (u *cli) pin(name string, other *cli) {
	u.t.Helper()
	var id struct {
		Fingerprint string `json:"fingerprint"`
	}
	decode(u.t, other.run("", "identity", "-json"), &id)
	u.run("", "trust", "add", name, id.Fingerprint)
}

// participate starts a participant that approves every request. It ends with the
// test. Its output is in the buffer.
func (u *cli) participate(user string, flags ...string) (*exec.Cmd, *lockedBuffer) {
	u.t.Helper()
	p := u.command(append([]string{"participant", "--approve", "always", "--preparams", "0"}, flags...)...)
	out := &lockedBuffer{}
	p.Stdout, p.Stderr = out, out
	if err := p.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
		if u.t.Failed() {
			u.t.Logf("%s:\n%s", user, out.String())
		}
	})
	return p, out
}

// TestCommandLine follows README's quick start: accounts, logins, participants, a
// key and a signature, each by the real programs.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		users := enrol(t, c, "alice", "bob", "carol", "dave")
		for _, user := range []string{"bob", "carol", "dave"} {
			users[user].participate(user)
		}
		var key client.Key
		for _, user := range []string{"bob", "carol", "dave"} {
			if _, stderr := users["alice"].fails("keygen", "--trust", "pinned", "bob", "carol", "dave"); !strings.Contains(stderr, "not pinned here: "+user) {
				t.Errorf("keygen with %s not pinned:\n%s", user, stderr)
			}
			users["alice"].pin(user, users[user])
		}
		decode(t, users["alice"].run("", "keygen", "--threshold", "2", "--curve", "ed25519", "--trust", "pinned", "-json", "bob", "carol", "dave"), &key)
		if !key.Attested() || len(key.AttestedBy) != 3 {
			t.Errorf("the key is attested by %+v", key.AttestedBy)
		}
		shown := filepath.Join(t.TempDir(), "key.json")
		if err := os.WriteFile(shown, []byte(users["alice"].run("", "keys", key.KeyID, "-json")), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := users["alice"].run("", "verify", "--key", shown, "--trust", "pinned"); !strings.Contains(out, "by bob (pinned), carol (pinned), dave (pinned)") {
			t.Errorf("verify --key:\n%s", out)
		}
		var sig struct {
			SessionID string `json:"session_id"`
			Signature string `json:"signature"`
		}
		decode(t, users["alice"].run("", "sign", key.KeyID, "--data", "by command", "-json"), &sig)
		users["alice"].run("", "verify", "--curve", "ed25519", "--address", key.AccountAddr, "--data", "by command", "--signature", sig.Signature)
		if out := users["alice"].run("", "keys"); !strings.Contains(out, key.KeyID) || !strings.Contains(out, key.AccountAddr) {
			t.Errorf("keys:\n%s", out)
		}
		if out := users["bob"].run("", "sessions"); !strings.Contains(out, sig.SessionID) || !strings.Contains(out, "completed") {
			t.Errorf("sessions:\n%s", out)
		}
		wrong := users["alice"].command("verify", "--curve", "ed25519", "--address", key.AccountAddr, "--data", "by another", "--signature", sig.Signature)
		if err := wrong.Run(); err == nil {
			t.Error("verify takes a signature over other data")
		}
		for user, u := range users {
			if info, err := os.Stat(u.home); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("home of %s: %v, %v", user, info.Mode(), err)
			}
		}
	})
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(fmt.Errorf("output is not JSON: %w\n%s", err, text))
	}
}
