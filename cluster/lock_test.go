package cluster

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

func TestLock(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		short := func(c *Config) { c.LockTTL, c.LockWait = 10*time.Second, 30*time.Millisecond }
		a, b := w.node("a", short), w.node("b", short)
		ctx := context.Background()

		held, err := a.Lock(ctx, "s1")
		if err != nil {
			t.Fatal(err)
		}
		if got := rdb.Get(ctx, a.LockKey("s1")).Val(); got != held.Token() || !strings.HasPrefix(got, "a/") {
			t.Errorf("the key holds %q, want the token %q", got, held.Token())
		}
		if _, err := b.Lock(ctx, "s1"); !errors.Is(err, ErrLocked) {
			t.Errorf("the second: got %v, want ErrLocked", err)
		}
		if _, err := b.Lock(ctx, "s2"); err != nil {
			t.Errorf("another id: %v", err)
		}
		done, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := b.Lock(done, "s1"); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: got %v", err)
		}
		if err := held.Release(ctx); err != nil {
			t.Fatal(err)
		}
		again, err := b.Lock(ctx, "s1")
		if err != nil {
			t.Fatalf("after the release: %v", err)
		}
		if err := held.Release(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("released twice: got %v, want ErrLockLost", err)
		}
		if got := rdb.Get(ctx, a.LockKey("s1")).Val(); got != again.Token() {
			t.Error("the late release took the other's lock")
		}
	})
}

func TestLockExpires(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.LockTTL, c.LockWait = 50*time.Millisecond, patience })
		ctx := context.Background()
		first, err := a.Lock(ctx, "s1")
		if err != nil {
			t.Fatal(err)
		}
		second, err := a.Lock(ctx, "s1")
		if err != nil {
			t.Fatalf("after the first's time: %v", err)
		}
		if first.Token() == second.Token() {
			t.Error("two holders have one token")
		}
		if err := first.Release(ctx); !errors.Is(err, ErrLockLost) {
			t.Errorf("the first's release: got %v, want ErrLockLost", err)
		}
	})
}

func TestLockContenders(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		long := func(c *Config) { c.LockTTL, c.LockWait = patience, patience }
		nodes := []*running{w.node("a", long), w.node("b", long)}
		ctx := context.Background()
		var wg sync.WaitGroup
		var inside atomic.Int32
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					l, err := nodes[i%2].Lock(ctx, "s1")
					if err != nil {
						t.Errorf("lock: %v", err)
						return
					}
					if n := inside.Add(1); n != 1 {
						t.Errorf("%d holders at once", n)
					}
					inside.Add(-1)
					if err := l.Release(ctx); err != nil {
						t.Errorf("release: %v", err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// A try in flight when LockWait ends is waited for: if abandoned, it could leave a
// lock without a holder.
func TestLockOnTheWay(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	strict := strictClient(t, rdb)
	n, err := New(Config{Redis: strict, Prefix: redistest.Prefix(), NodeID: "a", LockTTL: 10 * time.Second, LockWait: 30 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if l, err := n.Lock(ctx, "s1"); err != nil || l.Release(ctx) != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() { _, err := n.Lock(ctx, "s1"); taken <- err }()
	time.Sleep(150 * time.Millisecond)
	if err := syscall.Kill(server.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Errorf("%v, and %q has the lock", err, rdb.Get(ctx, n.LockKey("s1")).Val())
	}
}
