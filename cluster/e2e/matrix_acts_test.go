package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// acts are those of TestMatrix.
var acts = append([]act{
	{name: "switchover behind one address", on: onPair, lasts: time.Second, do: switchOver},
	{name: "failover that loses a tail", on: onPair, lasts: time.Second, loses: true, prepare: standBy, do: failOver},
	{name: "older file restored", lasts: time.Second, loses: true, closes: true, prepare: putFileAside, do: restoreOlderFile},
	{name: "presence lost", lasts: time.Second, do: losePresence},
	{name: "presence lost on Redis Cluster", on: onShards, lasts: time.Second, do: losePresence},
	{name: "password changed", lasts: 2 * time.Second, do: changePassword, undo: changePasswordBack},
	{name: "password changed for longer than a lease", lasts: 8 * time.Second, closes: true, do: changePassword, undo: changePasswordBack},
	{name: "connections refused", lasts: 2 * time.Second, do: refuseConnections, undo: takeConnections},
	{name: "maxmemory reached", lasts: 2 * time.Second, do: fillUp, undo: emptyOut},
	{name: "maxmemory reached for longer than a lease", lasts: 8 * time.Second, do: fillUp, undo: emptyOut},
	{name: "maxmemory reached on one shard", on: onShards, lasts: 4 * time.Second, do: fillUp, undo: emptyOut},
	{name: "all connections killed", lasts: time.Second, do: killConnections},
	{name: "all connections killed on Redis Cluster", on: onShards, lasts: time.Second, do: killConnections},
	{name: "idle connections closed", lasts: 2 * time.Second, do: closeIdle, undo: leaveIdle},
	{name: "scripts flushed", lasts: time.Second, do: flushScripts},
	{name: "Redis restarted", lasts: 1500 * time.Millisecond, do: func(w *stage) { w.redis.Kill() }, undo: func(w *stage) { w.redis.Restart(w.t) }},
	{name: "Redis hung", lasts: 2 * time.Second, do: stopRedis, undo: continueRedis},
	{name: "Redis hung for longer than a lease", lasts: 8 * time.Second, closes: true, do: stopRedis, undo: continueRedis},
	{name: "one shard hung", on: onShards, lasts: 4 * time.Second, closes: true, do: stopShard, undo: continueShard},
	{name: "a shard fails over", on: onDoubles, lasts: time.Second, closes: true, do: killShard, undo: func(w *stage) { w.shards.Rejoin(w.t, w.dead) }},
	{name: "links cut for longer than a lease", lasts: 8 * time.Second, closes: true, do: cutLinks, undo: mendLinks},
	{name: "subscription deafened", lasts: 1500 * time.Millisecond, do: deafen, undo: mendLinks},
	{name: "subscription deafened for longer than a lease", lasts: 8 * time.Second, closes: true, do: deafen, undo: mendLinks},
	{name: "node hung", lasts: 2 * time.Second, do: stopOne, undo: continueOne},
	{name: "node hung for longer than its lease", lasts: 8 * time.Second, closes: true, do: stopOne, undo: continueOne},
	{name: "node killed", lasts: time.Second, closes: true, do: func(w *stage) { w.nodes[1].process().kill() }, undo: reviveOne},
	{name: "clock of a node 300 s behind", lasts: 4 * time.Second, do: setClock(300 * time.Second), undo: mendLinks},
	{name: "clock of a node 300 s ahead", lasts: 4 * time.Second, do: setClock(-300 * time.Second), undo: mendLinks},
}, slotAndRights()...)

// slotAndRights are the acts on one unwritable slot, and on rights that are
// withdrawn and given back.
func slotAndRights() []act {
	all := []act{stuckSlot("mailbox of an invitee cannot be written", func(w *stage) string { return w.c.prefix + "joined:{" + w.main.users[1] + "}" })}
	for _, rights := range []string{
		"publish", "xadd", "hset", "zadd", "evalsha", "subscribe", "pexpire persist", "xdel xtrim del unlink", "xrange hgetall hmget hget get", "time info wait",
	} {
		names := strings.Fields(rights)
		all = append(all, act{
			name: "-" + strings.Join(names, " -"), lasts: 2 * time.Second,
			do:   func(w *stage) { w.rights("-", names) },
			undo: func(w *stage) { w.rights("+", names) },
		})
	}
	return all
}

func (w *stage) rights(sign string, names []string) {
	w.t.Helper()
	args := []any{"acl", "setuser", "default"}
	for _, name := range names {
		args = append(args, sign+name)
	}
	w.tell(args...)
}

// switchOver exchanges the roles of master and replica; the connections stay open.
func switchOver(w *stage) {
	w.t.Helper()
	w.level()
	if !exchange(w.t, w.servers[0], w.servers[1]) {
		w.t.Error("the replica was not made the master")
	}
	w.turn(w.servers[1])
	w.servers[0], w.servers[1] = w.servers[1], w.servers[0]
}

// exchange swaps a master and its replica, as a planned switchover does: nothing is
// lost. It reports whether they have swapped.
func exchange(t *testing.T, master, replica *redistest.RealRedis) bool {
	t.Helper()
	ctx := context.Background()
	one := redis.NewClient(&redis.Options{Addr: master.Addr()})
	defer one.Close()
	host, port, _ := strings.Cut(replica.Addr(), ":")
	if err := one.Do(ctx, "failover", "to", host, port, "timeout", 5000).Err(); err != nil {
		t.Logf("failover: %v", err)
		return false
	}
	done := false
	eventually(t, "the switchover is over", func() bool {
		now := one.InfoMap(ctx, "replication").Val()["Replication"]
		done = now["role"] == "slave"
		return done || now["master_failover_state"] == "no-failover"
	})
	return done
}

// level waits until the replica has caught up with the master.
func (w *stage) level() {
	w.t.Helper()
	ctx, master, replica := context.Background(), w.servers[0].Client(w.t), w.servers[1].Client(w.t)
	eventually(w.t, "the replica is level", func() bool {
		its := replica.InfoMap(ctx, "replication").Val()["Replication"]
		return its["master_link_status"] == "up" && its["slave_repl_offset"] == master.InfoMap(ctx, "replication").Val()["Replication"]["master_repl_offset"]
	})
}

// standBy waits for the replica to follow.
func standBy(w *stage) { w.level() }

// failOver loses the writes of group lost, with the master.
func failOver(w *stage) {
	w.t.Helper()
	w.level()
	if err := w.servers[1].Client(w.t).Do(context.Background(), "replicaof", "no", "one").Err(); err != nil {
		w.t.Error(err)
	}
	w.useWhatIsLost()
	w.turn(w.servers[1])
	w.servers[0].Kill()
	w.servers[0], w.servers[1] = w.servers[1], w.servers[0]
}

// useWhatIsLost makes signatures, so that their parties have messages that Redis
// loses.
func (w *stage) useWhatIsLost() {
	w.t.Helper()
	for _, data := range []string{"lost one", "lost two", "lost three"} {
		if err := success(w.life, data, w.ask(w.lost, data, 0, w.lost.users[:2]...)); err != nil {
			w.t.Error(err)
		}
	}
}

// putFileAside makes a directory for a copy of Redis's file.
func putFileAside(w *stage) { w.backup = filepath.Join(w.t.TempDir(), "appendonlydir") }

// restoreOlderFile starts Redis with its data from before the lost writes.
func restoreOlderFile(w *stage) {
	w.t.Helper()
	dir := filepath.Join(w.rdb.ConfigGet(context.Background(), "dir").Val()["dir"], "appendonlydir")
	if err := os.CopyFS(w.backup, os.DirFS(dir)); err != nil {
		w.t.Fatal(err)
	}
	w.useWhatIsLost()
	w.redis.Kill()
	if err := os.RemoveAll(dir); err != nil {
		w.t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(w.backup)); err != nil {
		w.t.Fatal(err)
	}
	w.redis.Restart(w.t)
}

func losePresence(w *stage) {
	for _, key := range w.keys("presence:*") {
		if err := w.rdb.Del(context.Background(), key).Err(); err != nil {
			w.t.Error(err)
		}
	}
}

// operate runs a command on a connection that no act closes.
func (w *stage) operate(args ...any) {
	w.t.Helper()
	if w.operator == nil {
		rdb, ok := w.servers[0].Client(w.t).(*redis.Client)
		if !ok {
			w.t.Fatal("not one server")
		}
		w.operator = rdb.Conn()
		w.t.Cleanup(func() { _ = w.operator.Close() })
	}
	if err := w.operator.Do(context.Background(), args...).Err(); err != nil {
		w.t.Errorf("%v: %v", args, err)
	}
}

// killOthers ends all connections but the operator's.
func (w *stage) killOthers() {
	w.operate("client", "kill", "type", "normal", "skipme", "yes")
	w.operate("client", "kill", "type", "pubsub")
}

func changePassword(w *stage) {
	w.operate("config", "set", "requirepass", "another")
	w.killOthers()
}

func changePasswordBack(w *stage) { w.operate("config", "set", "requirepass", "") }

func refuseConnections(w *stage) {
	w.operate("config", "set", "maxclients", 1)
	w.killOthers()
}

func takeConnections(w *stage) { w.operate("config", "set", "maxclients", 10000) }

// fillUp makes the first master full.
func fillUp(w *stage) { w.memory("1mb") }

func emptyOut(w *stage) { w.memory("0") }

func (w *stage) memory(most string) {
	w.t.Helper()
	if err := w.masters()[0].ConfigSet(context.Background(), "maxmemory", most).Err(); err != nil {
		w.t.Error(err)
	}
}

func killConnections(w *stage) {
	for range 5 {
		for _, rdb := range w.masters() {
			for _, kind := range []string{"normal", "pubsub"} {
				_ = rdb.Do(context.Background(), "client", "kill", "type", kind, "skipme", "yes").Err()
			}
		}
		waitFor(w.life, 50*time.Millisecond)
	}
}

func closeIdle(w *stage) { w.tell("config", "set", "timeout", 1) }
func leaveIdle(w *stage) { w.tell("config", "set", "timeout", 0) }

func flushScripts(w *stage) {
	for range 5 {
		w.tell("script", "flush")
		waitFor(w.life, 20*time.Millisecond)
	}
}

func (w *stage) signalRedis(r *redistest.RealRedis, sig syscall.Signal) {
	if err := syscall.Kill(r.Pid(), sig); err != nil {
		w.t.Error(err)
	}
}

func stopRedis(w *stage)     { w.signalRedis(w.redis, syscall.SIGSTOP) }
func continueRedis(w *stage) { w.signalRedis(w.redis, syscall.SIGCONT) }

// killShard kills the master of a shard; a replica takes over, and is alone then.
func killShard(w *stage) {
	w.dead = w.shards.KillMaster(w.t, w.c.prefix+"presence:{"+w.main.users[0]+"}")
}

func stopShard(w *stage)     { w.signalRedis(w.shards.Servers[1], syscall.SIGSTOP) }
func continueShard(w *stage) { w.signalRedis(w.shards.Servers[1], syscall.SIGCONT) }

func (w *stage) suffer(f linkFault) {
	for _, n := range w.nodes {
		n.link.suffer(f)
	}
}

func cutLinks(w *stage)  { w.suffer(linkFault{cut: true}) }
func mendLinks(w *stage) { w.suffer(linkFault{}) }
func deafen(w *stage)    { w.suffer(linkFault{deaf: true}) }

func setClock(redisAhead time.Duration) func(*stage) {
	return func(w *stage) { w.nodes[1].link.suffer(linkFault{clock: redisAhead}) }
}

func stopOne(w *stage)     { w.nodes[1].process().hang() }
func continueOne(w *stage) { w.nodes[1].process().goOn() }

func reviveOne(w *stage) {
	w.nodes[1].revive()
	w.nodes[1].healthy()
}

// stuckSlot lets scripts that name a key's slot fail for a while.
func stuckSlot(name string, key func(w *stage) string) act {
	var heal func()
	return act{
		name: name, on: onShards, lasts: 3 * time.Second,
		do:   func(w *stage) { heal = stick(w.t, w.shards, key(w)) },
		undo: func(*stage) { heal() },
	}
}
