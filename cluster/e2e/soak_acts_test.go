package e2e_test

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Faults of the soak that TestMatrix has too. Faults in which Redis loses accepted
// writes (a failover without its tail, an older file) are not among them: the
// checker treats every loss as Conclave's.

// newArenaWithReplica is newArena on a master and its replica, behind one address
// for each node, and another for the test itself.
func newArenaWithReplica(t *testing.T, seed uint64, nodes, groups int, flags ...string) *arena {
	t.Helper()
	// In the soak Redis has a fault most of the time.
	a := &arena{t: t, seed: seed, figures: newFigures(), within: 3 * time.Minute, waits: true}
	args := []string{"--appendfsync", "always", "--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
	a.redis = redistest.StartRedis(t, args...)
	a.replica = redistest.StartRedis(t, args...)
	host, port, _ := net.SplitHostPort(a.redis.Addr())
	// Not in its arguments: a killed master starts again as a master.
	if err := a.replica.Client(t).Do(context.Background(), "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	a.way = newLink(t, a.redis.Addr())
	opt, err := redis.ParseURL(a.way.url())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	a.rdb = rdb
	a.populate(nodes, groups, flags...)
	return a
}

// operate gives a fault of Redis its turn, and a connection to the master that the
// fault does not close.
func (a *arena) operate(do func(op *redis.Conn)) bool {
	if !a.redisTurn.TryLock() {
		return false
	}
	defer a.redisTurn.Unlock()
	rdb := redis.NewClient(&redis.Options{Addr: a.redis.Addr()})
	defer rdb.Close()
	op := rdb.Conn()
	defer op.Close()
	do(op)
	return true
}

// must reports a refused command of an operator's connection.
func (a *arena) must(op *redis.Conn, args ...any) {
	if err := op.Do(context.Background(), args...).Err(); err != nil {
		a.t.Errorf("%v: %v", args, err)
	}
}

// switchMaster swaps the master and the replica. Nodes keep their connections; the
// test's own reconnect.
func switchMaster(a *arena, _ *rand.Rand) bool {
	if a.replica == nil || !a.redisTurn.TryLock() {
		return false
	}
	defer a.redisTurn.Unlock()
	if !exchange(a.t, a.redis, a.replica) { // it has not caught up after another fault
		return false
	}
	a.redis, a.replica = a.replica, a.redis
	for _, n := range a.nodes {
		n.link.turn(a.redis.Addr())
	}
	a.way.turn(a.redis.Addr())
	a.way.suffer(linkFault{cut: true})
	a.way.suffer(linkFault{})
	return true
}

// forgetPresence removes all presences.
func forgetPresence(a *arena, _ *rand.Rand) bool {
	return a.operate(func(op *redis.Conn) {
		ctx := context.Background()
		for it := op.Scan(ctx, 0, a.c.prefix+"presence:*", 1000).Iterator(); it.Next(ctx); {
			a.must(op, "del", it.Val())
		}
	})
}

// turnAway closes all connections and accepts none for a while.
func turnAway(a *arena, r *rand.Rand) bool {
	return a.operate(func(op *redis.Conn) {
		a.must(op, "config", "set", "maxclients", 1)
		a.must(op, "client", "kill", "type", "normal", "skipme", "yes")
		a.must(op, "client", "kill", "type", "pubsub")
		waitFor(a.life, a.between(r, time.Second, 8*time.Second))
		a.must(op, "config", "set", "maxclients", 10000)
	})
}

// withdrawRights takes away one of the nodes' rights, and gives it back.
func withdrawRights(a *arena, r *rand.Rand) bool {
	rights := []string{"publish", "xadd", "hset", "zadd", "evalsha", "subscribe", "pexpire", "persist", "xdel", "del", "zrem", "hget", "sadd"}
	right := rights[r.IntN(len(rights))]
	return a.operate(func(op *redis.Conn) {
		a.must(op, "acl", "setuser", "default", "-"+right)
		waitFor(a.life, a.between(r, time.Second, 4*time.Second))
		a.must(op, "acl", "setuser", "default", "+"+right)
	})
}

// fillRedis fills Redis beyond its limit, for a while.
func fillRedis(a *arena, r *rand.Rand) bool {
	return a.operate(func(op *redis.Conn) {
		a.must(op, "config", "set", "maxmemory", "1mb")
		waitFor(a.life, a.between(r, 2*time.Second, 9*time.Second))
		a.must(op, "config", "set", "maxmemory", "0")
	})
}

func forgetScripts(a *arena, r *rand.Rand) bool {
	return a.operate(func(op *redis.Conn) {
		for range 5 {
			a.must(op, "script", "flush")
			waitFor(a.life, a.between(r, 0, 50*time.Millisecond))
		}
	})
}
