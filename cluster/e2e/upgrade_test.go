package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// protocolLine is the line with the version of the nodes' protocol.
var protocolLine = regexp.MustCompile(`(?m)^const protocol = (\d+)$`)

// later builds a conclaved whose version of the nodes' protocol is by later than
// that of these sources, and returns it with the version.
func later(t *testing.T, by int) (binary, version string) {
	t.Helper()
	path, err := filepath.Abs("../agree.go")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := protocolLine.FindSubmatch(source)
	if m == nil {
		t.Fatal("the version of the nodes' protocol is not where it was")
	}
	today, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	version = strconv.Itoa(today + by)
	other := filepath.Join(t.TempDir(), "agree.go")
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{path: other}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		other: bytes.Replace(source, m[0], []byte("const protocol = "+version), 1), overlay: text,
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if binary, err = build("conclaved", "-overlay", overlay); err != nil {
		t.Fatal(err)
	}
	return binary, version
}

// refusesToServe waits until a process that differs from others is not ready and says
// why, in its answers and its log. A client with a token that the others accept is
// sent to them, from the first moment on and not for good.
func (c *testCluster) refusesToServe(p *process, id, why string) {
	c.t.Helper()
	eventually(c.t, "the node says that it is not ready, and why", func() bool {
		status, answer := c.call(p, "GET", "/readyz", "", nil)
		return status == http.StatusServiceUnavailable && strings.Contains(fmt.Sprint(answer), why)
	})
	if status, answer := c.call(p, "GET", "/v1/keys", c.token("bob", wire.RoleParticipant), nil); status == http.StatusUnauthorized {
		c.t.Errorf("a token that others take: %d %v", status, answer)
	}
	said := false
	for line := range strings.Lines(c.logs.String()) {
		said = said || strings.Contains(line, `"level":"error"`) && strings.Contains(line, `"node":"`+id+`"`)
	}
	if !said {
		c.t.Errorf("nothing at level error in the log of %s", id)
	}
}

// TestRollingUpgrade replaces each node of a running cluster by one of the next
// version of the nodes' protocol, as a deployment does, under load: nothing is lost.
// Nodes of the two versions serve side by side; one that is two versions apart from
// any does not.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("two more programs are built")
	}
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	next, version := later(t, 1)
	afterNext, _ := later(t, 2)
	a := newArena(t, soakSeed(t), 2, 2)
	spoken := func(id string) string {
		return a.rdb.HGet(context.Background(), a.c.prefix+"node:{"+id+"}", "protocol").Val()
	}
	old := spoken("n1")
	a.load(2, a.think())
	a.more(3)
	for i, n := range []*arenaNode{a.nodes[1], a.nodes[0]} {
		a.c.binary = next
		if err := n.process().terminate(); err != nil {
			t.Errorf("%s after SIGTERM: %v, want exit 0", n.id, err)
		}
		n.revive()
		n.healthy()
		if now := spoken(n.id); now != version {
			t.Errorf("%s speaks version %q, want %s", n.id, now, version)
		}
		a.more(5)
		if i > 0 {
			continue
		}
		// One node is of each version: a node adjacent to one of them only is refused.
		if now := spoken("n1"); now != old {
			t.Errorf("n1 speaks version %q before it is replaced, want %s", now, old)
		}
		a.c.binary = afterNext
		p, err := a.c.launch("n3", "--redis", a.redis.URL())
		if err != nil {
			t.Fatal(err)
		}
		a.c.refusesToServe(p, "n3", "version "+old+" of the nodes' protocol")
		p.kill()
		for _, n := range a.nodes {
			if status := n.process().status("/readyz"); status != http.StatusOK {
				t.Errorf("%s is not ready: %d", n.id, status)
			}
		}
	}
	report(t, a, a.settle())
}

// TestNodesThatDisagree starts real nodes that must not serve beside a running one:
// with another secret, another key-encryption key, or its id.
func TestNodesThatDisagree(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		c := newCluster(t, rdb, prefix, withKEK...)
		first := c.start()
		for _, row := range []struct {
			id, why string
			flags   []string
		}{
			{"n2", "n1: another jwt-secret", []string{"--jwt-secret", "another secret, of 32 bytes or more"}},
			{"n3", "n1: another share-kek", []string{"--share-kek", "YW5vdGhlciBrZXksIGFuZCAzMiBieXRlcyBsb25nISE="}},
		} {
			p, err := c.launch(row.id, row.flags...)
			if err != nil {
				t.Fatal(err)
			}
			c.refusesToServe(p, row.id, row.why)
			s := c.client("bob", wire.RoleParticipant)
			s.dial(p)
			s.send("register", object{"user_id": "bob", "role": "participant"})
			if row.id == "n2" {
				s.expectError(wire.CodeUnavailable)
				s.expectClosed(wire.CloseUnavailable)
			}
			if status := first.status("/readyz"); status != http.StatusOK {
				t.Errorf("the first node is not ready beside %s: %d", row.id, status)
			}
			p.kill()
		}
		// The same id: the later process takes it over.
		second, err := c.launch("n1")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(second.kill)
		c.refusesToServe(first, "n1", "another process has the same node id")
		eventually(t, "the later process is ready", func() bool { return second.status("/readyz") == http.StatusOK })
	})
}
