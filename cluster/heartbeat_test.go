package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// cutOff starts a node whose connection to Redis the test can cut.
func (w *world) cutOff(id string) (*running, *cutter) {
	opt := *w.rdb.(*redis.Client).Options()
	proxy := newCutter(w.t, opt.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: proxy.addr(), DB: opt.DB, ContextTimeoutEnabled: true, MaxRetries: -1})
	w.t.Cleanup(func() { _ = rdb.Close() })
	return w.node(id, func(c *Config) { c.Redis = rdb }), proxy
}

func TestNodesAreListed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx := context.Background()
		w.join(a, "alice", 0, 1)
		a.SetDraining(true)
		w.eventually("the record follows", func() bool {
			nodes, err := b.Nodes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return len(nodes) == 2 && nodes[0].Connections == 1 && nodes[0].Draining
		})
		nodes, err := b.Nodes(ctx)
		if err != nil {
			t.Fatal(err)
		}
		got := nodes[0]
		if got.ID != "a" || got.Address != "10.0.0.1:8080" || got.Version != "test" ||
			time.Since(got.StartedAt) > time.Minute || time.Since(got.Seen) > time.Minute || nodes[1].Draining {
			t.Errorf("got %+v", nodes)
		}
		ttl := rdb.PTTL(ctx, w.keys().node("a")).Val()
		if ttl <= 0 || ttl > 400*time.Millisecond {
			t.Errorf("the record lives %v, want at most the lease", ttl)
		}

		// A stopping node removes its record.
		b.end()
		if n := rdb.Exists(ctx, w.keys().node("b")).Val(); n != 0 {
			t.Error("the record is there after Run has ended")
		}
		if nodes, err := a.Nodes(ctx); err != nil || len(nodes) != 1 {
			t.Errorf("got %+v, %v, want one node", nodes, err)
		}
		if _, err := b.Join(ctx, "bob", "participant", 0, w.socket(1)); !errors.Is(err, ErrStopped) {
			t.Errorf("join after the end: got %v, want ErrStopped", err)
		}
	})
}

func TestDeadNode(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		dead, proxy := w.cutOff("dead")
		ctx := context.Background()
		_, s := w.join(dead, "alice", 0, 10)
		w.send(a, "alice", "one")
		seq := s.want("one")

		proxy.setDown(true) // as far as others can see, it is dead
		w.send(a, "alice", "two", "three")
		w.eventually("presence is void after the lease", func() bool {
			p, err := a.Present(ctx, "alice")
			return err == nil && len(p) == 0
		})
		w.eventually("the list is pruned", func() bool {
			return rdb.ZScore(ctx, w.keys().nodes(), "dead").Err() == redis.Nil
		})
		select {
		case <-dead.Lost():
		case <-time.After(patience):
			t.Error("the node that was cut off does not know it")
		}
		if err := dead.Ready(ctx); err == nil {
			t.Error("the node that was cut off says it is ready")
		}
		_, s = w.join(a, "alice", seq, 10)
		s.want("two", "three")
		w.wantNothing(a, "alice", s)

		// It returns, and learns that it has lost the member.
		proxy.setDown(false)
		w.eventually("ready again", func() bool { return dead.Ready(ctx) == nil })
		w.eventually("listed again", func() bool { return rdb.Exists(ctx, w.keys().node("dead")).Val() == 1 })
		w.wantNothing(dead, "alice", s)
	})
}

// A node process that restarts under the id of a dead one does not take the dead
// one's members for its own.
func TestPresenceOfEarlierProcessIsVoid(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		ctx := context.Background()
		first, proxy := w.cutOff("a")
		w.join(first, "alice", 0, 1)
		joined := time.Now().UnixMilli() // the compared times have milliseconds
		w.eventually("the clock goes on", func() bool { return time.Now().UnixMilli() > joined })
		proxy.setDown(true)
		second := w.node("a")
		w.eventually("the presence is void", func() bool {
			p, err := second.Present(ctx, "alice")
			return err == nil && len(p) == 0
		})
		// The first one's retirement does not affect the second one's record.
		proxy.setDown(false)
		first.end()
		if n := rdb.Exists(ctx, w.keys().node("a")).Val(); n != 1 {
			t.Error("the process that ended removed the record of the other")
		}
	})
}

// A Leave that did not reach Redis is repeated later.
func TestLeaveWhileCutOff(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, proxy := w.cutOff("a")
		ctx := context.Background()
		gone, _ := w.join(a, "alice", 0, 1)
		w.join(a, "bob", 0, 1)
		proxy.setDown(true)
		if err := gone.Leave(ctx); err == nil {
			t.Error("Leave without Redis: got nil")
		}
		if _, err := a.Join(ctx, "carol", "participant", 0, w.socket(1)); err == nil {
			t.Error("Join without Redis: got nil")
		}
		proxy.setDown(false)
		w.eventually("alice's presence is removed", func() bool {
			return rdb.Exists(ctx, w.keys().presence("alice")).Val() == 0
		})
		w.eventually("bob is present again", func() bool {
			p, err := a.Present(ctx, "alice", "bob", "carol")
			return err == nil && len(p) == 1 && p["bob"].Node == "a"
		})
	})
}

func TestReadyNeedsRun(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		n, err := New(Config{Redis: rdb, Prefix: prefix, NodeID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Ready(context.Background()); !errors.Is(err, ErrNotReady) {
			t.Errorf("before Run: got %v, want ErrNotReady", err)
		}
	})
}
