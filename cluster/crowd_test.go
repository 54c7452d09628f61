package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// slowScripts is a redis.Hook that slows joins and leaves, and records how many run
// at once.
type slowScripts struct {
	hang  atomic.Bool // until the call's context ends
	calls atomic.Int64

	mu        sync.Mutex
	now, most map[string]int
}

func (s *slowScripts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *slowScripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *slowScripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		kind := ""
		switch {
		case joinScript.Is(cmd):
			kind = "join"
		case leaveScript.Is(cmd):
			kind = "leave"
		}
		if kind == "" {
			return next(ctx, cmd)
		}
		s.note(kind, 1)
		defer s.note(kind, -1)
		if s.hang.Load() && kind == "join" {
			<-ctx.Done()
			cmd.SetErr(ctx.Err())
			return ctx.Err()
		}
		time.Sleep(2 * time.Millisecond) // a slow Redis
		return next(ctx, cmd)
	}
}

func (s *slowScripts) note(kind string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now[kind] += n
	s.most[kind] = max(s.most[kind], s.now[kind])
	if n > 0 {
		s.calls.Add(1)
	}
}

func (w *world) slowed() (*slowScripts, func(*Config)) {
	s := &slowScripts{now: map[string]int{}, most: map[string]int{}}
	rdb := redis.NewClient(&redis.Options{Addr: w.rdb.(*redis.Client).Options().Addr})
	rdb.AddHook(s)
	w.t.Cleanup(func() { _ = rdb.Close() })
	return s, func(cfg *Config) { cfg.Redis = rdb }
}

// TestCrowd lets many members join at once, and leave: few of them call Redis at a
// time, all get a slot, and nothing is left behind.
func TestCrowd(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		const crowd = 400
		w := newWorld(t, rdb, prefix)
		slow, slowed := w.slowed()
		n := w.node("n1", slowed)
		members := make([]*Membership, crowd)
		var all sync.WaitGroup
		for i := range crowd {
			all.Go(func() {
				deadline := time.Now().Add(patience)
				for time.Now().Before(deadline) { // retry as refused clients do
					m, err := n.Join(t.Context(), fmt.Sprint("member-", i), "participant", 0, w.socket(1))
					if err == nil {
						members[i] = m
						return
					}
				}
				t.Errorf("member %d has not joined within %s", i, patience)
			})
		}
		all.Wait()
		if most := slow.most["join"]; most > maxJoins || most < 2 {
			t.Errorf("%d joins at one time, want at most %d (and some)", most, maxJoins)
		}
		slow.mu.Lock()
		slow.most["leave"] = 0 // late joins were undone by leaves
		slow.mu.Unlock()
		for _, m := range members {
			all.Go(func() {
				if m != nil {
					_ = m.Leave(t.Context()) // the heartbeat does late ones
				}
			})
		}
		all.Wait()
		if most := slow.most["leave"]; most > maxLeaves+1 || most < 2 {
			t.Errorf("%d leaves at one time, want at most %d, one of the heartbeat's, and some", most, maxLeaves+1)
		}
		w.eventually("nobody is present", func() bool {
			keys, err := rdb.Keys(t.Context(), w.keys().presence("*")).Result()
			return err == nil && len(keys) == 0
		})
		n.mu.Lock()
		defer n.mu.Unlock()
		if len(n.conns) != 0 || len(n.joinSlots) != 0 || len(n.leaveSlots) != 0 {
			t.Errorf("left: %d connections, %d and %d slots", len(n.conns), len(n.joinSlots), len(n.leaveSlots))
		}
	})
}

// TestCrowdBeforeHangingRedis: members without a slot do not call the overloaded
// Redis, and fail soon.
func TestCrowdBeforeHangingRedis(t *testing.T) {
	t.Parallel()
	const crowd = 200
	w := newWorld(t, redistest.Mini(t), redistest.Prefix())
	slow, slowed := w.slowed()
	n := w.node("n1", slowed)
	slow.hang.Store(true)
	var all sync.WaitGroup
	for i := range crowd {
		all.Go(func() {
			if _, err := n.Join(t.Context(), fmt.Sprint("member-", i), "participant", 0, w.socket(1)); err == nil {
				t.Error("joined without Redis")
			}
		})
	}
	all.Wait()
	// Each that had a slot has cleaned up after itself.
	if calls := slow.calls.Load(); calls > crowd/2 {
		t.Errorf("%d calls for %d members who could not join", calls, crowd)
	}
	slow.hang.Store(false)
	m, err := n.Join(t.Context(), "alice", "participant", 0, w.socket(1))
	if err != nil {
		t.Fatalf("after that: %v", err)
	}
	if err := m.Leave(t.Context()); err != nil {
		t.Error(err)
	}
}
