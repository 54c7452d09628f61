package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestRestoredFromBackup: a participant's disk has died. From copies of its identity
// and its share it returns on a new one and signs again, even if the servers have
// lost their copy of the share.
func TestRestoredFromBackup(t *testing.T) {
	inTurn(t, "replicas", 3, 4)
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		users := enrol(t, c, "alice", "bob", "carol")
		alice, bob := users["alice"], users["bob"]
		running, _ := bob.participate("bob")
		users["carol"].participate("carol")
		var key struct {
			KeyID string `json:"key_id"`
		}
		decode(t, alice.run("", "keygen", "--threshold", "2", "--curve", "ed25519", "-json", "bob", "carol"), &key)

		// The backup.
		backup := t.TempDir()
		share := filepath.Join(backup, "share.json")
		bob.run("", "share", "export", key.KeyID, "--to", share)
		identity, err := os.ReadFile(filepath.Join(bob.home, "identity"))
		if err != nil {
			t.Fatal(err)
		}

		// The disaster.
		if err := running.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		_ = running.Wait()
		if err := os.RemoveAll(bob.home); err != nil {
			t.Fatal(err)
		}
		shares := c.prefix + "key:{" + key.KeyID + "}:shares"
		if n, err := c.rdb.HDel(context.Background(), shares, "1").Result(); err != nil || n != 1 {
			t.Fatalf("the servers had %d copies of the share in %s, %v", n, shares, err)
		}

		// A new disk. The identity alone is not enough.
		if err := os.Mkdir(bob.home, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(bob.home, "identity"), identity, 0o600); err != nil {
			t.Fatal(err)
		}
		bob.run(cliPassword+"\n", "login", c.nodes[1].base, "bob")
		bob.pin("alice", alice)
		if out, err := bob.command("share", "check", key.KeyID).CombinedOutput(); err == nil {
			t.Errorf("there is a share before it is restored:\n%s", out)
		}
		if out := bob.run("", "share", "import", share); !strings.Contains(out, "share of part 1 of key "+key.KeyID) {
			t.Errorf("import says:\n%s", out)
		}
		bob.run("", "share", "check")
		bob.participate("bob")
		var sig struct {
			Signature   string `json:"signature"`
			AccountAddr string `json:"account_addr"`
		}
		decode(t, alice.run("", "sign", key.KeyID, "--data", "after the disaster", "-json"), &sig)
		alice.run("", "verify", "--curve", "ed25519", "--address", sig.AccountAddr, "--data", "after the disaster", "--signature", sig.Signature)
	})
}
