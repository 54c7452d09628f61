package clustertest

import (
	"context"
	"testing"
	"time"
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
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	dead := s.KillMaster(t)
	t.Logf("failed over after %s", time.Since(begun))
	if s.Master(t) == dead || len(s.Replicas(t)) != 2 {
		t.Error("the dead server is still the master")
	}
	fresh := s.Client(t)
	if got, err := fresh.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Errorf("got %q, %v, want v", got, err)
	}
}
