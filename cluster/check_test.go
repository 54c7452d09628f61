package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Redis loses presences while idle: their sockets are found, the presences are
// restored, and messages sent meanwhile are delivered.
func TestLostPresence(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		patient := func(c *Config) { c.LeaseTTL = patience } // the machine may be busy
		a, b := w.node("a", patient), w.node("b", patient)
		ctx := context.Background()
		sockets := map[string]*socket{}
		members := checkLeast + 20 // more than one round checks
		if strings.HasSuffix(t.Name(), "/miniredis") {
			members = 20 // its scripts cost a hundred times as much
		}
		for i := range members {
			member := fmt.Sprint("member-", i)
			_, sockets[member] = w.join(a, member, 0, 10)
			if err := rdb.Del(ctx, w.keys().presence(member)).Err(); err != nil {
				t.Fatal(err)
			}
			w.send(b, member, "unheard")
		}
		for member, s := range sockets {
			s.want("unheard")
			w.eventually("present again", func() bool {
				p, err := b.Present(ctx, member)
				return err == nil && p[member].Conn == s.id
			})
			w.send(b, member, "heard")
			s.want("heard")
		}
	})
}

// Redis reverts to an earlier connection's presence: the newer one is not
// superseded by it, and the older one is.
func TestOlderPresence(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx, key := context.Background(), w.keys().presence("alice")
		m, older := w.join(a, "alice", 0, 10)
		before := rdb.HGetAll(ctx, key).Val()
		_, newer := w.join(b, "alice", 0, 10)
		w.eventually("the older one is superseded", older.isClosed)
		if err := rdb.HSet(ctx, key, before).Err(); err != nil {
			t.Fatal(err)
		}
		w.send(a, "alice", "unheard")
		newer.want("unheard")
		w.eventually("the newer one is there", func() bool { return rdb.HGet(ctx, key, "conn").Val() == newer.id })
		if newer.isClosed() {
			t.Error("the newer socket was superseded by the record of the older one")
		}
		if err := m.Ack(ctx, 1); err != nil { // by the older one: it has no effect
			t.Fatal(err)
		}
		if conn := rdb.HGet(ctx, key, "conn").Val(); conn != newer.id {
			t.Errorf("presence names %s, want the newer connection %s", conn, newer.id)
		}
	})
}

// A newer socket of which a node was not notified.
func TestUnheardSupersession(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		_, s := w.join(a, "alice", 0, 10)
		if err := rdb.HSet(context.Background(), w.keys().presence("alice"), "node", "b", "conn", "newer", "at", "9000000000000000").Err(); err != nil {
			t.Fatal(err)
		}
		w.eventually("superseded", s.isClosed)
	})
}

// withoutRights starts a Redis whose clients' permissions change, and nodes on it.
func withoutRights(t *testing.T) (w *world, change func(rights ...any)) {
	rdb := redistest.StartRedis(t).Client(t)
	return newWorld(t, rdb, redistest.Prefix()), func(rights ...any) {
		t.Helper()
		if err := rdb.Do(context.Background(), append([]any{"acl", "setuser", "default"}, rights...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// The permission to publish is withdrawn: sent messages are in the mailbox and
// found, a newer socket supersedes the older, and once it is restored nothing is
// missing.
func TestWithdrawnPublish(t *testing.T) {
	t.Parallel()
	w, change := withoutRights(t)
	a, b := w.node("a"), w.node("b")
	_, s := w.join(b, "alice", 0, 10)
	w.send(a, "alice", "heard")
	s.want("heard")
	change("-publish")
	w.send(a, "alice", numbered("unheard", 3)...)
	s.want(numbered("unheard", 3)...)
	w.eventually("the node knows", a.mute.Load)
	_, newer := w.join(a, "alice", s.last, 10)
	w.eventually("the older socket is superseded", s.isClosed)
	change("+publish")
	w.eventually("the nodes know", func() bool { return !a.mute.Load() && !b.mute.Load() })
	w.send(b, "alice", "again")
	newer.want("again")
	w.wantNothing(b, "alice", newer)
}

// Whichever permission is withdrawn, and whichever foreign key type is in the way:
// once restored, a refused message can be sent again and arrives once; an accepted
// one arrives.
func TestAppendThatFails(t *testing.T) {
	t.Parallel()
	w, change := withoutRights(t)
	a := w.node("a")
	ctx, k := context.Background(), w.keys()
	m, s := w.join(a, "alice", 0, 100)
	w.send(a, "alice", "first")
	if err := m.Ack(ctx, s.want("first")); err != nil {
		t.Fatal(err)
	}
	try := func(what string) error {
		return a.Send(ctx, Message{To: "alice", Payload: []byte(what), ID: what}, Message{To: "alice", Payload: []byte(what + "'"), ID: what + "'"})
	}
	for _, command := range []string{"xadd", "sadd", "sismember", "get", "xlen", "hmget"} {
		change("-" + command)
		if try(command) == nil {
			t.Errorf("-%s: sent", command)
		}
		change("+" + command)
		if err := try(command); err != nil {
			t.Errorf("-%s and back: %v", command, err)
		}
		s.want(command, command+"'")
	}
	for _, command := range []string{"pexpire", "info", "set", "time"} { // not needed to append
		change("-" + command)
		a.renewed.forget("alice")
		if err := try(command); err != nil {
			t.Errorf("-%s: %v", command, err)
		}
		change("+" + command)
		s.want(command, command+"'")
	}
	for _, command := range []string{"xadd", "sadd", "sismember", "get", "hget", "hset", "xrange", "publish", "del"} { // with messages accepted before
		if err := try("before -" + command); err != nil {
			t.Errorf("before -%s: %v", command, err)
		}
		change("-" + command)
		_ = try("before -" + command)
		_ = try("under -" + command)
		change("+" + command)
		for _, what := range []string{"before -" + command, "under -" + command} {
			if err := try(what); err != nil {
				t.Errorf("%s and back: %v", what, err)
			}
			s.want(what, what+"'")
		}
	}
	for _, key := range []string{k.seenBefore("alice"), k.seen("bob")} {
		if err := w.rdb.Set(ctx, key, "somebody's", 0).Err(); err != nil {
			t.Fatal(err)
		}
		bob := a.Send(ctx, Message{To: "bob", Payload: []byte(key), ID: key})
		if try(key) == nil && bob == nil {
			t.Errorf("a string at %s: sent", key)
		}
		if err := w.rdb.Del(ctx, key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := try(key); err != nil {
			t.Errorf("a string at %s and gone: %v", key, err)
		}
		s.want(key, key+"'")
	}
	w.wantNothing(a, "alice", s)
}

// A message is sent again while Redis is full, because its sender does not know
// that it was accepted. It arrives once.
func TestSentAgainWhileFull(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a, ctx := w.node("a"), context.Background()
	_, s := w.join(a, "alice", 0, 10)
	again := func() error { return a.Send(ctx, Message{To: "alice", Payload: []byte("one"), ID: "one"}) }
	if err := again(); err != nil {
		t.Fatal(err)
	}
	s.want("one")
	if err := rdb.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_ = again()
	if err := rdb.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	w.wantNothing(a, "alice", s)
}
