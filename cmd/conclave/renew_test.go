package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

const renewSecret = "a secret of tests, of 32 bytes and more"

// testNode is a node process whose tokens live 3 seconds.
func testNode() {
	n, err := node.New(node.Config{
		Listen: os.Getenv("TESTNODE_LISTEN"), Redis: os.Getenv("TESTNODE_REDIS"), JWTSecret: []byte(renewSecret), TokenTTL: 3 * time.Second,
		DrainSpread: time.Millisecond,
	})
	if err == nil {
		err = n.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// output is a process's output so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// renewLab is two nodes, each a process, and homes of users.
type renewLab struct {
	t     *testing.T
	cfg   node.Config
	dir   string
	nodes [2]*exec.Cmd
	urls  [2]string
}

func newRenewLab(t *testing.T) *renewLab {
	t.Helper()
	l := &renewLab{t: t, dir: t.TempDir()}
	l.cfg = node.Config{Redis: "redis://" + redistest.StartMini(t).Addr()}
	for user, role := range map[string]string{"alice": "coordinator", "bob": "participant", "carol": "participant"} {
		if err := node.AddUser(t.Context(), l.cfg, user, "open sesame", []string{role}, false); err != nil {
			t.Fatal(err)
		}
	}
	for i := range l.nodes {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := free.Addr().String()
		_ = free.Close()
		cmd := exec.Command("testnode")
		cmd.Env = append(os.Environ(), "TESTNODE_LISTEN="+addr, "TESTNODE_REDIS="+l.cfg.Redis)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		l.nodes[i], l.urls[i] = cmd, "http://"+addr
		l.wait("the node listens", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	return l
}

func (l *renewLab) wait(what string, until func() bool) {
	l.t.Helper()
	again, deadline := time.NewTicker(20*time.Millisecond), time.After(90*time.Second)
	defer again.Stop()
	for !until() {
		select {
		case <-again.C:
		case <-deadline:
			l.t.Fatalf("not within 90s: %s", what)
		}
	}
}

// command is conclave in a user's home.
func (l *renewLab) command(user, stdin string, args ...string) *exec.Cmd {
	cmd := exec.Command("conclave", args...)
	cmd.Env = []string{"CONCLAVE_HOME=" + filepath.Join(l.dir, user), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + l.dir}
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// run runs a command that must succeed.
func (l *renewLab) run(user, stdin string, args ...string) string {
	l.t.Helper()
	out, err := l.command(user, stdin, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s: conclave %v: %v\n%s", user, args, err, out)
	}
	return string(out)
}

// saved is the login in a user's home.
func (l *renewLab) saved(user string) (p profile) {
	l.t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, user, profileFile))
	if err != nil || json.Unmarshal(text, &p) != nil {
		l.t.Fatalf("login of %s: %v\n%s", user, err, text)
	}
	return p
}

// renewals waits until a user's login has been renewed n times.
func (l *renewLab) renewals(user string, n int) {
	l.t.Helper()
	for range n {
		before := l.saved(user).Token
		l.wait("the login of "+user+" is renewed", func() bool { return l.saved(user).Token != before })
	}
}

// TestParticipantRenewsItsLogin: a participant runs for many lifetimes of a token,
// through the death of a node, signs all the while, and ends when its login is
// revoked.
func TestParticipantRenewsItsLogin(t *testing.T) {
	if !sample.Turn("logins and restores", 1, 3) {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	l := newRenewLab(t)
	urls := strings.Join(l.urls[:], ",")
	for _, user := range []string{"alice", "bob", "carol"} {
		l.run(user, "open sesame\n", "login", urls, user)
	}
	fields := strings.Fields(l.run("alice", "", "identity"))
	fingerprint := fields[len(fields)-1]
	said, ended := map[string]*output{}, map[string]chan error{}
	for _, user := range []string{"bob", "carol"} {
		l.run(user, "", "trust", "add", "alice", fingerprint)
		cmd := l.command(user, "", "participant", "--approve", "always", "--preparams", "0")
		said[user], ended[user] = &output{}, make(chan error, 1)
		cmd.Stderr = said[user]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		end := ended[user]
		go func() { end <- cmd.Wait() }()
	}
	l.run("alice", "", "keygen", "--key-id", "treasury", "--curve", "ed25519", "--threshold", "2", "bob", "carol")
	l.renewals("bob", 3)
	l.run("alice", "", "sign", "treasury", "--data", "after three lives")
	if err := l.nodes[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	l.renewals("carol", 2)
	l.renewals("bob", 1)
	l.run("alice", "", "sign", "treasury", "--data", "after the death of a node")
	if n := strings.Count(said["bob"].String(), "connected to"); n > 4 {
		t.Errorf("bob has connected %d times, want once, and again after the node's death:\n%s", n, said["bob"])
	}
	if err := node.SetUserDisabled(t.Context(), l.cfg, "bob", true); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended["bob"]:
		status := err.(*exec.ExitError).ExitCode()
		if text := said["bob"].String(); status != exitUnauthenticated || !strings.Contains(text, "log in") {
			t.Errorf("bob's participant ends with status %d:\n%s", status, text)
		}
	case <-time.After(90 * time.Second):
		t.Errorf("bob's participant goes on:\n%s", said["bob"])
	}
	for user, out := range said {
		if p := l.saved(user); strings.Contains(out.String(), p.Token) || strings.Contains(out.String(), p.Refresh) {
			t.Errorf("%s's participant has printed a token", user)
		}
	}
}

// TestLogout ends a login at the servers and here.
func TestLogout(t *testing.T) {
	if !sample.Turn("logins and restores", 2, 3) {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	l := newRenewLab(t)
	l.run("alice", "open sesame\n", "login", l.urls[0], "alice")
	p := l.saved("alice")
	if out := l.run("alice", "", "whoami"); !strings.Contains(out, "alice (coordinator)") || !strings.Contains(out, l.urls[0]) || strings.Contains(out, p.Token) {
		t.Errorf("whoami:\n%s", out)
	}
	l.run("alice", "", "logout")
	if out, err := l.command("alice", "", "keys").CombinedOutput(); err == nil || !strings.Contains(string(out), "not logged in") {
		t.Errorf("keys after logout: %v\n%s", err, out)
	}
	// A copy of the home from before is useless.
	path := filepath.Join(l.dir, "alice", profileFile)
	if err := writeJSON(path, p); err != nil {
		t.Fatal(err)
	}
	out, err := l.command("alice", "", "keys").CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitUnauthenticated {
		t.Errorf("keys with a copy of the login: %v\n%s", err, out)
	}
	l.run("alice", "", "logout") // of a login that has ended
	if _, err := os.Stat(path); err == nil {
		t.Error("the login is still here")
	}
}
