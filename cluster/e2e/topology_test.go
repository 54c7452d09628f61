package e2e_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// newClusterAt is newCluster for a Redis of several servers: the nodes get its URL,
// the test a client that sees all of it.
func newClusterAt(t *testing.T, url string, rdb redis.UniversalClient, flags ...string) *testCluster {
	t.Helper()
	tokens, err := auth.NewHS256([]byte(testSecret), "", "")
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, rdb: rdb, url: url, prefix: redistest.Prefix(), flags: flags, tokens: tokens, logs: &lockedBuffer{}}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.kill()
		}
		if t.Failed() {
			t.Logf("logs of the nodes:\n%s", c.logs.String())
		}
	})
	return c
}

// arenaAt puts groups of users under load on an existing cluster, through the given
// base URLs, without links of their own: for faults around the nodes.
func arenaAt(t *testing.T, c *testCluster, groups int, bases ...string) *arena {
	t.Helper()
	a := &arena{t: t, c: c, rdb: c.rdb, seed: soakSeed(t), figures: newFigures(), within: 90 * time.Second}
	for i, base := range bases {
		a.nodes = append(a.nodes, &arenaNode{a: a, id: fmt.Sprintf("n%d", i+1), base: base})
	}
	a.life, a.end = context.WithCancel(context.Background())
	t.Cleanup(func() { a.end(); a.lives.Wait() })
	for i := range groups {
		g := newGroup(a, i+1)
		a.groups = append(a.groups, g)
		for _, s := range g.speakers() {
			a.lives.Go(func() { s.run(a.life) })
		}
	}
	for _, g := range a.groups {
		within, cancel := context.WithTimeout(a.life, patience)
		for !g.keygen(within) { // a member may decline, on a whim
			if within.Err() != nil {
				t.Fatalf("%s has no key to begin with", g.name)
			}
		}
		cancel()
	}
	return a
}

// gatherPartsAt is gatherParts with every client behind one door.
func gatherPartsAt(t *testing.T, c *testCluster, door *process) *parts {
	t.Helper()
	g := &parts{key: newFakeKey(t), keyID: "treasury.1"}
	g.coordinator = c.client("alice", wire.RoleCoordinator).connect(door)
	for i := 1; i <= 3; i++ {
		g.p[i] = c.client(partNames[i], wire.RoleParticipant).connect(door)
	}
	return g
}
