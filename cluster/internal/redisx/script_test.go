package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Scripts that Redis does not have are sent with their text, by any method, and
// those beside them do not run twice.
func TestScriptIsMissing(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, key := context.Background(), prefix+"count"
		salt := "-- " + prefix // unique to this test
		known := redisx.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])", salt, " known")
		missing := redisx.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1])", salt, " missing")
		wrong := redisx.NewScript("return redis.call('LPUSH', KEYS[1], ARGV[1])", salt)
		if n, err := known.Run(ctx, rdb, []string{key}, 1).Int(); err != nil || n != 1 {
			t.Fatalf("alone: got %d, %v", n, err)
		}
		for i, once := range []bool{false, true} {
			calls := []*redisx.Call{missing.Call([]string{key}, 100), known.Call([]string{key}, 10), wrong.Call([]string{key}, 1)}
			redisx.RunCalls(ctx, rdb, once, calls)
			for _, call := range calls[:2] {
				if err := call.Err(); err != nil {
					t.Errorf("once %v: %v", once, err)
				}
			}
			if err := calls[2].Err(); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
				t.Errorf("once %v: got %v, want the script's own error", once, calls[2].Err())
			}
			if n, err := rdb.Get(ctx, key).Int(); err != nil || n != 1+110*(i+1) {
				t.Errorf("once %v: got %d, %v, want each script carried out once", once, n, err)
			}
		}
		redisx.RunCalls(ctx, rdb, true, nil)
	})
}

// A script recognises its runs, by hash and with their text.
func TestScriptIs(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	one, other := redisx.NewScript("return ", "1"), redisx.NewScript("return 2")
	for name, cmd := range map[string]redis.Cmder{
		"a call":    one.Call(nil),
		"with text": redis.NewCmd(ctx, "eval", "return 1", 0),
	} {
		if !one.Is(cmd) || other.Is(cmd) {
			t.Errorf("%s is not told from another's", name)
		}
	}
	if one.Is(redis.NewCmd(ctx, "ping")) {
		t.Error("a ping is taken for a script")
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	for _, none := range []error{nil, redis.Nil, fmt.Errorf("get: %w", redis.Nil)} {
		if redisx.Failed(none) {
			t.Errorf("%v is taken for a failure", none)
		}
	}
	if !redisx.Failed(errors.New("broken")) {
		t.Error("a failure is not one")
	}
	rdb := redistest.StartRedis(t).Client(t)
	if err := rdb.EvalSha(context.Background(), "0000000000000000000000000000000000000000", nil).Err(); err == nil || redisx.Failed(err) {
		t.Errorf("got %v, want that a missing script is no failure", err)
	}
}
