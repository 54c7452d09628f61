package node

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// door is one address before several servers: its target can be changed, and the
// connections through it stay open.
type door struct {
	listen net.Listener
	to     atomic.Value // string
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newDoor(t *testing.T, to string) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{listen: l}
	d.to.Store(to)
	d.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", d.to.Load().(string))
			if err != nil {
				_ = in.Close()
				continue
			}
			d.mu.Lock()
			d.conns = append(d.conns, in, out)
			d.mu.Unlock()
			for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
				d.wg.Go(func() {
					_, _ = io.Copy(way[1], way[0])
					_, _ = way[0].Close(), way[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		d.mu.Lock()
		for _, conn := range d.conns {
			_ = conn.Close()
		}
		d.mu.Unlock()
		d.wg.Wait()
	})
	return d
}

// pair is a master and its replica.
func pair(t *testing.T) (master, replica *redistest.RealRedis) {
	t.Helper()
	master, replica = redistest.StartRedis(t, "--repl-diskless-sync-delay", "0"), redistest.StartRedis(t, "--repl-diskless-sync-delay", "0")
	follow(t, replica, master)
	return master, replica
}

func follow(t *testing.T, replica, master *redistest.RealRedis) {
	t.Helper()
	host, port, _ := strings.Cut(master.Addr(), ":")
	ctx, rdb, source := context.Background(), replica.Client(t), master.Client(t)
	if err := rdb.Do(ctx, "replicaof", host, port).Err(); err != nil {
		t.Fatal(err)
	}
	// The master sends a replica what is written only once it counts it as online,
	// which may be a second after the replica says that its link is up.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		info, err := rdb.Info(ctx, "replication").Result()
		list, listErr := source.Info(ctx, "replication").Result()
		if err == nil && listErr == nil && strings.Contains(info, "master_link_status:up") && strings.Contains(list, "state=online") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the replica does not follow: %v, %s", err, info)
		}
	}
}

// switchover swaps the roles of a master and its replica.
func switchover(t *testing.T, d *door, master, replica *redistest.RealRedis) {
	t.Helper()
	if err := replica.Client(t).Do(context.Background(), "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	follow(t, master, replica)
	d.to.Store(replica.Addr())
}

// ways are the methods by which a node calls Redis: each increments a key, after a
// read that any server answers if possible.
var ways = map[string]func(ctx context.Context, rdb redis.UniversalClient, key string) error{
	"command": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return rdb.Incr(ctx, key).Err()
	},
	"script": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return redis.NewScript("redis.call('GET', KEYS[1]) return redis.call('INCR', KEYS[1])").Run(ctx, rdb, []string{key}).Err()
	},
	"pipeline": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		pipe := rdb.Pipeline()
		pipe.Incr(ctx, key)
		pipe.Expire(ctx, key, time.Minute)
		return redisx.Exec(ctx, pipe)
	},
	"transaction": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		pipe := rdb.TxPipeline()
		pipe.Incr(ctx, key)
		pipe.Expire(ctx, key, time.Minute)
		return redisx.Exec(ctx, pipe)
	},
	"shared round trip": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		return redisx.New(rdb).Do(ctx, redis.NewStringCmd(ctx, "get", key), redis.NewIntCmd(ctx, "incr", key))
	},
	"what must not be said twice": func(ctx context.Context, rdb redis.UniversalClient, key string) error {
		pipe := rdb.Pipeline()
		_ = pipe.Process(ctx, onceOnly{redis.NewIntCmd(ctx, "incr", key)})
		return redisx.Exec(ctx, pipe)
	},
}

type onceOnly struct{ *redis.IntCmd }

func (onceOnly) NoRetry() bool { return true }

// A master is demoted behind its address, and the connections to it stay open. By
// any method, the node's next call is answered by the new master, at once and once,
// and no connection to the old one is used again, not even for reads.
func TestSwitchoverBehindOneAddress(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master, replica := pair(t)
			d := newDoor(t, master.Addr())
			rdb, err := newRedis(Config{Redis: "redis://" + d.listen.Addr().String() + "/0"})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = rdb.Close() })
			ctx := context.Background()
			idle(t, rdb, 12)
			switchover(t, d, master, replica)
			if err := way(ctx, rdb, "n"); err != nil {
				t.Errorf("the first that asks: %v", err)
			}
			if n, err := replica.Client(t).Get(ctx, "n").Int(); err != nil || n != 1 {
				t.Errorf("counted %d, %v at the new master, want 1", n, err)
			}
			if id, want := ids(t, rdb, 16), runID(t, replica.Client(t)); id[want] != 16 {
				t.Errorf("connections are lent to %v, want only %s", id, want)
			}
		})
	}
}

// A client that waits for replicas notices too, also by its reads alone.
func TestSwitchoverWithReplicas(t *testing.T) {
	t.Parallel()
	master, replica := pair(t)
	d := newDoor(t, master.Addr())
	rdb, err := newRedis(Config{Redis: "redis://" + d.listen.Addr().String() + "/0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	waitForReplicas(rdb, 1)
	ctx := context.Background()
	// By a script, which waits for the replica: HSET alone, which no node sends, does
	// not. On a busy machine a replica may take longer than a command waits.
	for deadline := time.Now().Add(30 * time.Second); ; {
		err := rdb.Eval(ctx, "return redis.call('HSET', KEYS[1], 'f', 'v')", []string{"h"}).Err()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	idle(t, rdb, 8)
	switchover(t, d, master, replica)
	v, err := rdb.HGet(ctx, "h", "f").Result()
	for deadline := time.Now().Add(30 * time.Second); err != nil && strings.Contains(err.Error(), "replicas have it") && time.Now().Before(deadline); {
		v, err = rdb.HGet(ctx, "h", "f").Result()
	}
	if err != nil || v != "v" {
		t.Errorf("got %q, %v", v, err)
	}
	if id, want := ids(t, rdb, 10), runID(t, replica.Client(t)); id[want] != 10 {
		t.Errorf("connections are lent to %v, want only %s", id, want)
	}
}

// idle makes connections and leaves them in the pool.
func idle(t *testing.T, rdb redis.UniversalClient, n int) { ids(t, rdb, n) }

// ids asks over that many concurrent connections which server they reach.
func ids(t *testing.T, rdb redis.UniversalClient, n int) map[string]int {
	t.Helper()
	one, ctx := rdb.(*redis.Client), context.Background()
	found := map[string]int{}
	var held []*redis.Conn
	for range n {
		conn := one.Conn()
		held = append(held, conn)
		info, err := conn.Info(ctx, "server").Result()
		if err != nil {
			t.Fatal(err)
		}
		found[field(info, "run_id")]++
	}
	for _, conn := range held {
		_ = conn.Close()
	}
	return found
}

func runID(t *testing.T, rdb redis.UniversalClient) string {
	t.Helper()
	info, err := rdb.Info(context.Background(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	return field(info, "run_id")
}

func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return fmt.Sprintf("no %s", name)
}
