package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/docstest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// needPrograms skips or fails the test if a program is missing.
func needPrograms(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CONCLAVE_REQUIRE_REAL") == "1" {
				t.Fatalf("%v and CONCLAVE_REQUIRE_REAL=1", err)
			}
			t.Skip(err)
		}
	}
}

const drillPassword = "open sesame"

// drill is a real Redis, nodes on it, and homes of users in which shells run the
// pages' commands.
type drill struct {
	t        *testing.T
	dir      string // of everything
	redisDir string
	redis    *redistest.RealRedis
	cfg      node.Config
	urls     []string
	env      map[string]string
	exits    map[string]*exec.Cmd // participants by home
	said     map[string]*output
}

func newDrill(t *testing.T) *drill {
	t.Helper()
	needPrograms(t, "bash", "redis-server", "redis-cli", "redis-check-rdb")
	d := &drill{t: t, dir: t.TempDir(), exits: map[string]*exec.Cmd{}, said: map[string]*output{}}
	d.redisDir = filepath.Join(d.dir, "redis")
	for _, dir := range []string{"redis", "backup"} {
		if err := os.Mkdir(filepath.Join(d.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d.redis = redistest.StartRedis(t, "--dir", d.redisDir, "--appendfsync", "always")
	d.cfg = node.Config{
		Listen: "127.0.0.1:0", Redis: d.redis.URL(), JWTSecret: []byte("a secret of tests, of 32 bytes and more"), DrainSpread: time.Millisecond,
	}
	rdb := d.redis.Client(t)
	for user, role := range map[string]wire.Role{"alice": wire.RoleCoordinator, "bob": wire.RoleParticipant, "carol": wire.RoleParticipant} {
		accountstest.AddUser(t, rdb, "", user, drillPassword, role)
	}
	d.startNode()
	return d
}

func (d *drill) startNode() {
	d.t.Helper()
	n, err := node.New(d.cfg)
	if err == nil {
		err = n.Start()
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.urls = append(d.urls, "http://"+n.Addr())
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_ = n.Stop(ctx) // the test has been judged by then
	})
}

// awaitReady waits until all nodes are.
func (d *drill) awaitReady() {
	d.t.Helper()
	for _, url := range d.urls {
		d.wait(url+" is ready", func() bool {
			resp, err := http.Get(url + "/readyz")
			if err != nil {
				return false
			}
			_ = resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

func (d *drill) wait(what string, until func() bool) {
	d.t.Helper()
	again, deadline := time.NewTicker(20*time.Millisecond), time.After(90*time.Second)
	defer again.Stop()
	for !until() {
		select {
		case <-again.C:
		case <-deadline:
			for home, said := range d.said {
				d.t.Logf("%s: %s", home, said)
			}
			d.t.Fatalf("not within 90s: %s", what)
		}
	}
}

// shell is a line typed in a home, which has a file password.
func (d *drill) shell(home, line string) *exec.Cmd {
	d.t.Helper()
	dir := filepath.Join(d.dir, home)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(drillPassword+"\n"), 0o600); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("bash", "-e", "-o", "pipefail", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "BACKUP="+filepath.Join(d.dir, "backup"), "REDIS_DIR="+d.redisDir, "REDIS_URL="+d.cfg.Redis,
		"CONCLAVE_HOME=", "CONCLAVE_PASSPHRASE_FILE=", "CONCLAVE_URL="+d.env["CONCLAVE_URL"], "CONCLAVE_TOKEN=", "CONCLAVE_PROFILE=")
	return cmd
}

// run runs a line, which must end with that status, and returns its output.
func (d *drill) run(home string, status int, line string) string {
	d.t.Helper()
	cmd := d.shell(home, line)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != status {
		d.t.Fatalf("%s$ %s\n%v, want exit status %d\n%s", home, line, err, status, text)
	}
	return string(text)
}

// participate runs a line that starts a participant, and waits until it is
// connected.
func (d *drill) participate(home, line string) {
	d.t.Helper()
	cmd := d.shell(home, "exec "+line)
	said := new(output)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.exits[home], d.said[home] = cmd, said
	d.t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM); _ = cmd.Wait() })
	d.wait(home+" is connected", func() bool { return strings.Contains(said.String(), "connected to") })
}

// typed runs the lines of a section of a page in a home; those that start a
// participant run in the background.
func (d *drill) typed(home string, lines []string) {
	d.t.Helper()
	for _, line := range lines {
		if strings.HasPrefix(line, "conclave participant") {
			d.participate(home, line)
			continue
		}
		d.run(home, 0, line)
	}
}

const drillPolicy = `{"version": 1, "rules": [
  {"name": "words", "coordinators": ["alice"], "kinds": ["sign"], "keys": ["treasury"], "hashes": ["none"], "text": ["pay [0-9] to bob"],
   "rate": {"count": 2, "per": "24h"}},
  {"name": "new keys", "coordinators": ["alice"], "kinds": ["keygen"], "keys": ["*"], "participants": ["bob", "carol"]}
]}`

// pinAlice logs all users in, and has the participants pin alice.
func (d *drill) pinAlice() {
	d.t.Helper()
	for _, user := range []string{"alice", "bob", "carol"} {
		d.run(user, 0, fmt.Sprintf("conclave login %s %s < ~/password", strings.Join(d.urls, ","), user))
	}
	fingerprint := strings.Fields(d.run("alice", 0, "conclave identity 2>/dev/null"))[1]
	for _, user := range []string{"bob", "carol"} {
		d.run(user, 0, "conclave trust add alice "+fingerprint)
	}
}

// begin starts the participants and generates a key.
func (d *drill) begin() {
	d.t.Helper()
	d.pinAlice()
	if err := os.WriteFile(filepath.Join(d.dir, "bob", "rules.json"), []byte(drillPolicy), 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.participate("bob", "conclave participant --preparams 0 --approve rules.json")
	d.participate("carol", "conclave participant --preparams 0 --approve always")
	d.run("alice", 0, "conclave keygen --key-id treasury --curve ed25519 bob carol")
}

// lose kills bob's participant and Redis, like dead machines, and removes their files.
func (d *drill) lose() {
	d.t.Helper()
	_ = d.exits["bob"].Process.Kill()
	_ = d.exits["bob"].Wait()
	d.redis.Kill()
	for _, dir := range []string{filepath.Join(d.dir, "bob", ".conclave"), d.redisDir} {
		if err := os.RemoveAll(dir); err != nil {
			d.t.Fatal(err)
		}
	}
	_ = os.Remove(filepath.Join(d.dir, "bob", "rules.json"))
	if err := os.Mkdir(d.redisDir, 0o700); err != nil {
		d.t.Fatal(err)
	}
}

// split returns the lines that make backups and those that restore them, from the
// first line that begins with restoring.
func split(t *testing.T, lines []string, restoring string) (before, after []string) {
	t.Helper()
	for i, line := range lines {
		if strings.HasPrefix(line, restoring) {
			return lines[:i], lines[i:]
		}
	}
	t.Fatalf("the page has no line that begins with %q among %q", restoring, lines)
	return nil, nil
}

// TestRestoreDrill backs a participant and Redis up with the commands printed in
// PARTICIPANTS and OPERATIONS, loses both, restores both with the printed commands, without
// a terminal, and continues: the participant signs with its share, refuses what its policy
// does not allow, continues its counts, and keeps its pins. A node and another participant
// are up all the time, another node comes later.
func TestRestoreDrill(t *testing.T) {
	if !sample.Turn("logins and restores", 0, 3) {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	d := newDrill(t)
	own, restoreOwn := split(t, docstest.Commands(t, docstest.Participants, "## Backups, and the day it is needed"), "conclave backup restore")
	restoreOwn, gone := split(t, restoreOwn, "conclave recover")
	if len(gone) != 1 { // shares of several people, see testdata/recover.txt
		t.Errorf("PARTICIPANTS has commands that nothing tries: %q", gone[1:])
	}
	redis, restoreRedis := split(t, docstest.Commands(t, docstest.Operations, "## Backup"), "mkdir")
	d.begin()
	d.run("alice", 0, "conclave sign treasury --data 'pay 1 to bob'")
	d.typed("bob", own)
	d.typed("operator", redis)

	d.lose()
	d.typed("operator", restoreRedis)
	d.redis.Restart(t)
	d.startNode()
	d.awaitReady()
	d.typed("bob", restoreOwn)

	alice := "conclave sign --url " + d.urls[1] + " treasury --data "
	if text := d.run("alice", 3, alice+"'pay 100 to bob'"); !strings.Contains(text, "bob") {
		t.Errorf("what the policy does not allow: %s", text)
	}
	d.run("alice", 0, alice+"'pay 2 to bob'")
	if text := d.run("alice", 3, alice+"'pay 3 to bob'"); !strings.Contains(text, "2 in 24h") {
		t.Errorf("more than the policy's rate: %s", text)
	}
	d.run("mallory", 0, "conclave login "+d.urls[0]+" alice < ~/password")
	if text := d.run("mallory", 3, alice+"'pay 4 to bob'"); !strings.Contains(text, "identity has changed: alice was pinned") {
		t.Errorf("with an identity that is not the pinned one: %s", text)
	}
}

// TestCurl requests a key and a signature as in INTEGRATION, with curl against a node, from
// participants that approve only requests signed by a pinned coordinator.
func TestCurl(t *testing.T) {
	t.Parallel()
	needPrograms(t, "bash", "curl", "sed")
	url, err := realNode(t)
	if err != nil {
		t.Fatal(err)
	}
	d := &drill{
		t: t, dir: t.TempDir(), urls: []string{url}, env: map[string]string{"CONCLAVE_URL": url}, exits: map[string]*exec.Cmd{}, said: map[string]*output{},
	}
	d.pinAlice()
	for _, user := range []string{"bob", "carol"} {
		d.participate(user, "conclave participant --preparams 0 --approve always")
	}
	login := fmt.Sprintf(`{"username":"alice","password":%q}`, drillPassword)
	if err := os.WriteFile(filepath.Join(d.dir, "alice", "login.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := docstest.Commands(t, docstest.Integration, "## A signature that pinned participants approve, by curl")
	if len(lines) < 5 {
		t.Fatalf("INTEGRATION has only %q", lines)
	}
	text := d.run("alice", 0, strings.Join(lines, "\n"))
	var answer wire.Task
	if err := json.Unmarshal([]byte(text[strings.LastIndex(text, "\n{")+1:]), &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	s := answer.Session
	if s == nil || s.Phase != "completed" {
		t.Fatalf("the outcome is %+v, want completed", s)
	}
	d.run("alice", 0, fmt.Sprintf("conclave verify --address %s --data 'Pay 5 ether to Bob' --signature %s", s.AccountAddr, s.Signature))

	// The same again starts nothing. A request that alice has not signed is
	// declined.
	last := lines[len(lines)-1]
	if text := d.run("alice", 0, last); !strings.Contains(text, s.SessionID) || !strings.Contains(text, s.Signature) {
		t.Errorf("the same again: %s", text)
	}
	unsigned := strings.NewReplacer("order-4711", "order-4712", "-d @body.json", `-d '{"data":"Pay 5 ether to Bob"}'`).Replace(last)
	if text := d.run("alice", 0, unsigned); !strings.Contains(text, `"phase":"rejected"`) {
		t.Errorf("without a signature: %s", text)
	}
}
