package redistest

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEach(t *testing.T) {
	t.Parallel()
	Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx := context.Background()
		if err := rdb.Set(ctx, prefix+"k", "v", 50*time.Millisecond).Err(); err != nil {
			t.Fatal(err)
		}
		if got := rdb.Get(ctx, prefix+"k").Val(); got != "v" {
			t.Fatalf("got %q, want v", got)
		}
		deadline := time.Now().Add(5 * time.Second)
		for rdb.Exists(ctx, prefix+"k").Val() != 0 {
			if time.Now().After(deadline) {
				t.Fatal("the key did not expire")
			}
		}
	})
}

func TestRestartKeepsData(t *testing.T) {
	t.Parallel()
	r := StartRedis(t)
	rdb := r.Client(t)
	ctx := context.Background()
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if err := rdb.Ping(ctx).Err(); err == nil {
		t.Fatal("a killed server answers")
	}
	r.Restart(t)
	if got, err := rdb.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("got %q, %v, want v", got, err)
	}
	addr := r.Addr()
	r.Stop()
	r.Restart(t)
	if r.Addr() != addr {
		t.Fatalf("got address %s, want %s", r.Addr(), addr)
	}
	if got, err := rdb.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("got %q, %v, want v", got, err)
	}
}
