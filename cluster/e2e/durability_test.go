package e2e_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestRequireDurableRedis starts a node on servers that may lose data, in every
// configuration in which they may, and on ones that do not.
func TestRequireDurableRedis(t *testing.T) {
	t.Parallel()
	one := func(args ...string) func(t *testing.T) (string, redis.UniversalClient) {
		return func(t *testing.T) (string, redis.UniversalClient) {
			r := redistest.StartRedis(t, args...)
			return r.URL(), r.Client(t)
		}
	}
	sentinels := func(t *testing.T) (string, redis.UniversalClient) {
		s := redistest.StartSentinels(t, 1)
		return s.URL(), s.Client(t)
	}
	shards := func(spoil string) func(t *testing.T) (string, redis.UniversalClient) {
		return func(t *testing.T) (string, redis.UniversalClient) {
			s := redistest.StartShards(t, 3, 0)
			if spoil != "" { // one of three
				if err := s.Servers[2].Client(t).ConfigSet(context.Background(), "maxmemory-policy", spoil).Err(); err != nil {
					t.Fatal(err)
				}
			}
			return s.URL(), s.Client(t)
		}
	}
	for _, tc := range []struct {
		name  string
		redis func(t *testing.T) (string, redis.UniversalClient)
		flags []string
		says  string // "" if it starts
	}{
		{"durable", one(), nil, ""},
		{"appendfsync always", one("--appendfsync", "always"), nil, ""},
		{"no append-only file", one("--appendonly", "no"), nil, `appendonly is "no"`},
		{"never synced", one("--appendfsync", "no"), nil, `appendfsync is "no"`},
		{"evicting", one("--maxmemory-policy", "allkeys-lru"), nil, `maxmemory-policy is "allkeys-lru"`},
		{"without the replicas to wait for", one(), []string{"--redis-wait-replicas", "1"}, "0 replicas are connected, --redis-wait-replicas is 1"},
		{"sentinel", sentinels, []string{"--redis-wait-replicas", "1"}, ""},
		{"sentinel with too few replicas", sentinels, []string{"--redis-wait-replicas", "2"}, "1 replicas are connected"},
		{"cluster", shards(""), nil, ""},
		{"cluster with one master that evicts", shards("volatile-lru"), nil, `maxmemory-policy is "volatile-lru"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, rdb := tc.redis(t)
			c := newClusterAt(t, url, rdb, append(tc.flags, "--require-durable-redis")...)
			p, err := c.launch("n1")
			switch {
			case tc.says == "" && err != nil:
				t.Errorf("%v\n%s", err, c.logs)
			case tc.says != "" && err == nil:
				t.Error("the node started")
			case tc.says != "" && !strings.Contains(strings.ReplaceAll(c.logs.String(), `\"`, `"`), tc.says):
				t.Errorf("the log does not say %s:\n%s", tc.says, c.logs)
			}
			if p != nil {
				c.nodes = append(c.nodes, p)
				if !strings.Contains(c.logs.String(), `"appendfsync":"`) {
					t.Error("the log does not state appendfsync")
				}
			}
		})
	}
}

// TestConfirmedWhenReplicasHaveIt freezes the only replica at the end of a keygen:
// nothing is confirmed, however often it is requested, until the replica has the key
// and every share.
func TestConfirmedWhenReplicasHaveIt(t *testing.T) {
	inTurn(t, "replicas", 1, 4)
	t.Parallel()
	master := redistest.StartRedis(t)
	host, port, _ := net.SplitHostPort(master.Addr())
	replica := redistest.StartRedis(t, "--replicaof", host+" "+port)
	copied := replica.Client(t)
	ctx := context.Background()
	eventually(t, "the replica is level", func() bool {
		return copied.InfoMap(ctx, "replication").Val()["Replication"]["master_link_status"] == "up"
	})
	c := newClusterAt(t, master.URL(), master.Client(t), flags(safely, withKEK)...)
	c.start() // one node, which then knows the session without asking Redis when it relays
	g := gatherParts(t, c)
	g.request()
	for i := 1; i <= 3; i++ {
		g.p[i].expect("keygen_invite")
		g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	var params object
	for i := 1; i <= 3; i++ {
		params = g.p[i].expect("keygen_params")
	}
	g.complete(1)
	g.complete(2)
	record := c.prefix + "key:{" + g.keyID + "}"
	eventually(t, "two shares are on the replica", func() bool { return copied.HLen(ctx, record+":shares").Val() == 2 })

	relay := func(id string) {
		g.p[1].sendEnvelope(object{
			"type": "tss_message", "user_id": g.p[1].user, "token": g.p[1].token, "request_id": id,
			"payload": object{"session_id": params["session_id"], "attempt": 1, "from": 1, "to": 2, "body": "cm91bmQ="},
		})
	}
	relay("round-1")
	g.p[1].expect("ack")

	if err := syscall.Kill(replica.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	thaw := func() { _ = syscall.Kill(replica.Pid(), syscall.SIGCONT) }
	t.Cleanup(thaw)
	relay("round-2")
	g.p[1].expectError(wire.CodeUnavailable)
	for range 4 { // the last ones find everything written already
		g.complete(3)
		g.p[3].expectError(wire.CodeUnavailable)
	}
	g.request() // repeating the request does not give the outcome either
	g.coordinator.expectError(wire.CodeUnavailable)
	if n := g.coordinator.count("keygen_confirm"); n != 0 {
		t.Error("the keygen was confirmed though only the master has it")
	}
	thaw()
	g.complete(3)
	g.confirmed(t)
	if status := copied.HGet(ctx, record, "status").Val(); status != "active" {
		t.Errorf("the keygen is confirmed, and its key on the replica is %q", status)
	}
	if n := copied.HLen(ctx, record+":shares").Val(); n != 3 {
		t.Errorf("the keygen is confirmed, and the replica has %d of 3 shares", n)
	}

	// The replica takes over, with everything.
	master.Kill()
	if err := copied.SlaveOf(ctx, "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	after := newClusterAt(t, replica.URL(), copied, withKEK...)
	after.prefix = c.prefix
	after.start()
	h := gatherParts(t, after)
	h.key = g.key
	h.sign(t, "after the failover", 1, 3)
}

// TestNothingMoreIsAcknowledged freezes the only replica under every kind of message
// that clients are told has taken effect.
func TestNothingMoreIsAcknowledged(t *testing.T) {
	inTurn(t, "replicas", 0, 4)
	t.Parallel()
	master := redistest.StartRedis(t)
	host, port, _ := net.SplitHostPort(master.Addr())
	replica := redistest.StartRedis(t, "--replicaof", host+" "+port)
	ctx := context.Background()
	eventually(t, "the replica is level", func() bool {
		return replica.Client(t).InfoMap(ctx, "replication").Val()["Replication"]["master_link_status"] == "up"
	})
	c := newClusterAt(t, master.URL(), master.Client(t), flags(arenaFlags, safely)...)
	var bases []string
	for range 2 {
		bases = append(bases, c.start().base)
	}
	a := arenaAt(t, c, 2, bases...)
	a.load(2, 10*time.Millisecond)
	a.more(3)
	for i := range 3 {
		if err := syscall.Kill(replica.Pid(), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		// Messages that the replica has already may be acknowledged late, so only
		// later ones count, and there must be some.
		stopped := time.Now()
		waitFor(ctx, 100*time.Millisecond)
		for _, g := range a.groups {
			id := fmt.Sprintf("%s-frozen-%d", g.name, i)
			g.asks.say(&wire.KeygenRequest{KeyID: id, Threshold: 2, TotalParts: 3, Participants: g.users}, g.key.address, nil)
		}
		waitFor(ctx, time.Second)
		said, told := a.since(stopped)
		for _, e := range told {
			t.Errorf("acknowledged %s after the replica stopped: %s", e.at.Sub(stopped), e)
		}
		if said == 0 {
			t.Error("nobody said anything")
		}
		_ = syscall.Kill(replica.Pid(), syscall.SIGCONT)
		a.more(3)
	}
	report(t, a, a.settle())
}

// since returns how many messages the arena's users have sent since then, and which
// of these were acknowledged as having taken effect.
func (a *arena) since(then time.Time) (said int, told []event) {
	for _, u := range a.users {
		fresh := map[string]bool{}
		u.mu.Lock()
		for _, e := range u.events {
			switch {
			case e.what == asked && e.at.After(then):
				fresh[e.request] = true
			case e.what == answered && e.code == "" && fresh[e.request]:
				told = append(told, e)
			}
		}
		u.mu.Unlock()
		said += len(fresh)
	}
	return said, told
}
