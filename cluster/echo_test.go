package cluster

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// A node's subscription is to a server that answers but receives no publications,
// such as a master cut off behind its address. The node notices, is not ready
// meanwhile, and sent messages reach its sockets without their reconnecting.
func TestDeafSubscription(t *testing.T) {
	t.Parallel()
	old, now := redistest.StartRedis(t), redistest.StartRedis(t)
	w := newWorld(t, now.Client(t), redistest.Prefix())
	// Subscriptions use their own connections: this client's first is to the old
	// server, and those of its commands are to the new one.
	client := func(r *redistest.RealRedis) *redis.Client {
		return redis.NewClient(&redis.Options{Addr: r.Addr(), ContextTimeoutEnabled: true})
	}
	rdb := &divided{Client: client(now), old: client(old)}
	t.Cleanup(func() { _, _ = rdb.Close(), rdb.old.Close() })
	n := w.unready("n1", func(c *Config) { c.Redis = rdb })
	_, s := w.join(n, "bob", 0, 10)
	w.send(n, "bob", "one", "two")
	s.want("one", "two")
	w.eventually("the node is ready", func() bool { return n.Ready(context.Background()) == nil })
	w.send(n, "bob", "three")
	s.want("three")
}

// divided is a client whose first subscription goes to another server.
type divided struct {
	*redis.Client
	old  *redis.Client
	used bool // owned by the subscriber's goroutine
}

func (d *divided) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	if !d.used {
		d.used = true
		return d.old.Subscribe(ctx, channels...)
	}
	return d.Client.Subscribe(ctx, channels...)
}
