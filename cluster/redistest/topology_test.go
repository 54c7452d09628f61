package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestShardFailsOver(t *testing.T) {
	t.Parallel()
	c := StartShards(t, 3, 1)
	rdb := c.Client(t)
	ctx := context.Background()
	for _, k := range []string{"a", "b", "c", "d"} {
		if err := rdb.Set(ctx, k, k, 0).Err(); err != nil {
			t.Fatal(err)
		}
		replicate(t, c.Master(t, k), k, 1)
	}
	begun := time.Now()
	dead := c.KillMaster(t, "a")
	t.Logf("taken over after %s", time.Since(begun))
	if c.Master(t, "a") == dead {
		t.Error("the dead server is still the master")
	}
	fresh := c.Client(t)
	for _, k := range []string{"a", "b", "c", "d"} {
		if got, err := fresh.Get(ctx, k).Result(); err != nil || got != k {
			t.Errorf("got %q, %v, want %s", got, err, k)
		}
	}
	c.Rejoin(t, dead)
}

func TestSentinelsFailOver(t *testing.T) {
	t.Parallel()
	s := StartSentinels(t, 2)
	rdb := s.Client(t)
	ctx := context.Background()
	if err := rdb.Set(ctx, "k", "k", 0).Err(); err != nil {
		t.Fatal(err)
	}
	replicate(t, s.Master(t), "k", 2)
	begun := time.Now()
	dead := s.KillMaster(t)
	t.Logf("failed over after %s", time.Since(begun))
	if s.Master(t) == dead || len(s.Replicas(t)) != 2 {
		t.Error("the dead server is still the master")
	}
	fresh := s.Client(t)
	if got, err := fresh.Get(ctx, "k").Result(); err != nil || got != "k" {
		t.Errorf("got %q, %v, want k", got, err)
	}
}

// replicate writes a key to a master and waits until so many replicas have it, and
// all earlier writes: later writes are lost with the master.
func replicate(t *testing.T, master *RealRedis, key string, replicas int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), failoverWithin)
	defer cancel()
	one := redis.NewClient(&redis.Options{Addr: master.Addr()})
	defer one.Close()
	conn := one.Conn() // WAIT covers its own connection's writes
	defer conn.Close()
	must(t, conn.Set(ctx, key, key, 0).Err())
	await(t, ctx, "the replicas have it", func() bool { return conn.Wait(ctx, replicas, time.Second).Val() == int64(replicas) })
}
