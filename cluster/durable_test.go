package cluster

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// A write that the durable client does not confirm is not sent.
func TestSendThroughDurable(t *testing.T) {
	t.Parallel()
	rdb := redistest.Mini(t)
	strict := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	if err := strict.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := New(Config{Redis: rdb, Durable: strict, Prefix: redistest.Prefix(), NodeID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Send(context.Background(), Message{To: "alice", Payload: []byte("1"), ID: "m"}); err == nil {
		t.Error("a message was sent without the durable client's word")
	}
}

// A failover leaves a master without the scripts and a dead server; then nothing
// may depend on reaching every server.
func TestSendWithoutScriptsAndAServer(t *testing.T) {
	t.Parallel()
	shards := redistest.StartShards(t, 1, 1)
	n, err := New(Config{Redis: shards.Client(t), Prefix: redistest.Prefix(), NodeID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if err := n.Send(ctx, Message{To: "alice", Payload: []byte("1"), ID: "1"}); err != nil {
		t.Fatal(err)
	}
	shards.Servers[1].Kill()
	if err := shards.Servers[0].Client(t).ScriptFlush(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := n.Send(ctx, Message{To: "alice", Payload: []byte("2"), ID: "2"}); err != nil {
		t.Errorf("with a replica dead and the scripts gone: %v", err)
	}
}
