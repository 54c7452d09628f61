package cluster

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Subscriptions are dropped repeatedly while messages flow: those published into
// the gap are read from the mailbox.
func TestSubscriptionDropped(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a, b := w.node("a"), w.node("b")
	_, s := w.join(b, "alice", 0, 10)
	const total = 600
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range total {
			if err := a.Send(context.Background(), Message{To: "alice", Payload: fmt.Appendf(nil, "msg-%d", i+1)}); err != nil {
				t.Errorf("send: %v", err)
				return
			}
			if i%40 == 20 {
				if err := rdb.ClientKillByFilter(context.Background(), "TYPE", "pubsub").Err(); err != nil {
					t.Errorf("kill: %v", err)
				}
			}
		}
	})
	s.want(texts(1, total)...)
	w.wantNothing(a, "alice", s)
}

// A message that is published without a subscriber, and none after it.
func TestMissedPublication(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a, b := w.node("a"), w.node("b")
	ctx := context.Background()
	_, s := w.join(b, "alice", 0, 10)
	for i := range 20 {
		tx := rdb.TxPipeline() // no interleaving between the two
		tx.Do(ctx, "client", "kill", "type", "pubsub")
		k := w.keys()
		p := fmt.Sprint("missed-", i)
		tx.Eval(ctx, usageLua+generationsLua+appendLua, []string{k.mailbox("alice"), k.seen("alice"), k.seenBefore("alice"), k.presence("alice"), k.usage("alice"), k.joined("alice"), k.generations("alice")},
			k.channelPrefix(), 100, 1<<20, 60000, 100, 1<<20, 60000, 100, 1<<20, 60000, 100, 0, 0, "alice", 16, "", "", "", 0, 0, p)
		if _, err := tx.Exec(ctx); err != nil {
			t.Fatal(err)
		}
		s.want(p)
	}
	w.wantNothing(a, "alice", s)
}

// A notice of supersession is missed: the restored subscription detects it.
func TestMissedSupersession(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	w.node("a")
	b := w.node("b")
	ctx := context.Background()
	_, s := w.join(b, "alice", 0, 10)
	tx := rdb.TxPipeline()
	tx.Do(ctx, "client", "kill", "type", "pubsub")
	k := w.keys()
	tx.Eval(ctx, generationsLua+mailboxLua+joinLua, []string{k.presence("alice"), k.mailbox("alice"), k.usage("alice"), k.seen("alice"), k.joined("alice"), k.generations("alice")},
		"a", "newer", "participant", "", 0, k.channelPrefix(), 1<<52, 60000, 60000, "")
	if _, err := tx.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	w.eventually("superseded", s.isClosed)
}

// Redis is killed and restarts with its file: sockets stay, confirmed messages are
// delivered once, and everything continues.
func TestRedisKilledAndRestarted(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a, b := w.node("a"), w.node("b")
	ctx := context.Background()
	m, s := w.join(b, "alice", 0, 10)
	for round := range 3 {
		w.send(a, "alice", texts(1, 20)...)
		seq := s.want(texts(1, 15)...)
		if err := m.Ack(ctx, seq); err != nil {
			t.Fatal(err)
		}
		server.Kill()
		failing, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		if err := a.Send(failing, Message{To: "alice", Payload: []byte("nobody hears")}); err == nil {
			t.Error("sent without Redis")
		}
		if err := a.Ready(failing); err == nil {
			t.Error("ready without Redis")
		}
		cancel()
		server.Restart(t)
		s.want(texts(16, 20)...)
		w.eventually("ready", func() bool { return a.Ready(ctx) == nil && b.Ready(ctx) == nil })
		// The pools hold connections to the dead server.
		id := fmt.Sprint("again-", round)
		w.eventually("sends", func() bool {
			return a.Send(ctx, Message{To: "alice", Payload: []byte(id), ID: id}) == nil
		})
		s.want(id)
		if s.isClosed() {
			t.Fatal("the socket was closed")
		}
		w.eventually("present", func() bool {
			p, err := a.Present(ctx, "alice")
			return err == nil && p["alice"].Conn == s.id
		})
	}
	w.eventually("sends", func() bool { return rdb.Ping(ctx).Err() == nil })
	w.wantNothing(a, "alice", s)
}

// Redis hangs: connections stay open, and nothing answers.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = rdb.Close() })
	w := newWorld(t, rdb, redistest.Prefix())
	a := w.node("a")
	ctx := context.Background()
	_, s := w.join(a, "alice", 0, 10)
	w.send(a, "alice", "one")
	s.want("one")
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Lost():
	case <-time.After(patience):
		t.Error("the node does not notice")
	}
	w.eventually("not ready", func() bool {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		return a.Ready(short) != nil
	})
	if since := a.Contact(); a.Now().Sub(since) > time.Second {
		t.Errorf("contact since %s while there is none", since)
	}
	resumed := a.Now()
	if err := syscall.Kill(server.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.eventually("ready again", func() bool { return a.Ready(ctx) == nil })
	w.eventually("the contact begins anew", func() bool {
		since := a.Contact()
		return since.After(resumed.Add(-time.Second)) && a.Contact().Equal(since)
	})
	w.send(a, "alice", "two")
	s.want("two")
}

// A subscription that is open and dead is detected and renewed: here the connection
// to Redis drops all of Redis's publications.
func TestSilentSubscription(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		opt := *rdb.(*redis.Client).Options()
		proxy := newCutter(t, opt.Addr)
		through := redis.NewClient(&redis.Options{Addr: proxy.addr(), DB: opt.DB})
		t.Cleanup(func() { _ = through.Close() })
		w := newWorld(t, rdb, prefix)
		// Only the subscription uses the proxy.
		a := w.node("a", func(c *Config) { c.Redis = subscribesElsewhere{rdb, through} })
		_, s := w.join(a, "alice", 0, 10)
		w.send(a, "alice", "one")
		s.want("one")
		proxy.swallow.Store(true)
		w.send(a, "alice", "two")
		w.eventually("noticed", func() bool { return a.Ready(context.Background()) != nil })
		proxy.swallow.Store(false)
		s.want("two")
		w.eventually("ready again", func() bool { return a.Ready(context.Background()) == nil })
		w.wantNothing(a, "alice", s)
	})
}

type subscribesElsewhere struct {
	redis.UniversalClient
	other redis.UniversalClient
}

func (c subscribesElsewhere) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return c.other.Subscribe(ctx, channels...)
}
