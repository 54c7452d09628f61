package cluster

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// On Redis Cluster every script and transaction keeps to one slot, publishing is
// sharded, and delivery is the same as elsewhere.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedisCluster(t)
	w := newWorld(t, rdb, redistest.Prefix())
	testHopping(t, w, func(*Config) {})

	a, b := w.node("a"), w.node("b")
	ctx := context.Background()
	m, first := w.join(a, "bob", 0, 10)
	_, second := w.join(b, "bob", 0, 10)
	w.eventually("superseded", first.isClosed)
	w.send(a, "bob", texts(1, 5)...)
	second.want(texts(1, 5)...)
	if err := m.Ack(ctx, 1<<60); err != nil {
		t.Fatal(err)
	}
	p, err := a.Present(ctx, "alice", "bob", "carol")
	if err != nil || p["bob"].Node != "b" || len(p) > 2 {
		t.Errorf("got presence %+v, %v, want bob on b", p, err)
	}
	nodes, err := a.Nodes(ctx)
	if err != nil || len(nodes) != 5 {
		t.Errorf("got nodes %+v, %v, want 5", nodes, err)
	}
	l, err := a.Lock(ctx, "s1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(ctx); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.rdb.(*redis.ClusterClient); !ok || !a.cfg.Sharded {
		t.Error("the node does not use sharded pub/sub on Redis Cluster")
	}
}
