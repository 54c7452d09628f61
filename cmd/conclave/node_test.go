package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// realNode starts a node on its own Redis, with accounts whose password is "open
// sesame": alice is a coordinator, bob, carol and dave are participants, erin is
// both, root is an admin.
func realNode(t *testing.T) (url string, err error) {
	t.Helper()
	mini := redistest.StartMini(t)
	cfg := node.Config{
		Listen: "127.0.0.1:0", Redis: "redis://" + mini.Addr(), NodeID: "n1",
		JWTSecret: []byte("a secret of tests, of 32 bytes and more"), DrainSpread: time.Millisecond,
	}
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	defer rdb.Close()
	for user, roles := range map[string][]wire.Role{
		"alice": {wire.RoleCoordinator}, "bob": {wire.RoleParticipant}, "carol": {wire.RoleParticipant}, "dave": {wire.RoleParticipant},
		"erin": {wire.RoleCoordinator, wire.RoleParticipant}, "root": {wire.RoleAdmin},
	} {
		accountstest.AddUser(t, rdb, "", user, "open sesame", roles...)
	}
	n, err := node.New(cfg)
	if err == nil {
		err = n.Start()
	}
	if err != nil {
		return "", err
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return "http://" + n.Addr(), nil
}

// TestScriptsOnANode runs the transcripts in testdata/node with the real program
// against a real node, $NODE.
func TestScriptsOnANode(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("testdata", "node"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(e *testscript.Env) error {
			url, err := realNode(t)
			if err != nil {
				return err
			}
			e.Setenv("NODE", url)
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("TZ", "UTC")
			return os.WriteFile(filepath.Join(e.WorkDir, "password"), []byte("open sesame\n"), 0o600)
		},
	})
}

// exits runs a command that must end with a status: exits 3 conclave sign …
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND [ARGUMENT…]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("the exit status is %d, want %d", got, want)
	}
}
