package redisx_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// refusing starts a Redis that refuses new connections, and returns a client of it
// without a connection, and the prefix of its errors.
var refusing = map[string]func(t *testing.T) (redis.UniversalClient, string){
	"password changed": func(t *testing.T) (redis.UniversalClient, string) {
		rdb := redistest.StartRedis(t).Client(t)
		ctx := context.Background()
		if err := rdb.Set(ctx, "there", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		opt := *rdb.(*redis.Client).Options()
		opt.Password, opt.ContextTimeoutEnabled = "old", true
		if err := rdb.ConfigSet(ctx, "requirepass", "new").Err(); err != nil {
			t.Fatal(err)
		}
		return redis.NewClient(&opt), "WRONGPASS"
	},
	"too many clients": func(t *testing.T) (redis.UniversalClient, string) {
		server := redistest.StartRedis(t)
		rdb, ctx := server.Client(t), context.Background()
		if err := rdb.Set(ctx, "there", 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.ConfigSet(ctx, "maxclients", "1").Err(); err != nil {
			t.Fatal(err)
		}
		opt := *rdb.(*redis.Client).Options()
		opt.ContextTimeoutEnabled = true
		return redis.NewClient(&opt), "" // its error for that, or a broken connection
	},
}

// Each unsent command has an error, alone or batched, by any method: none may be
// mistaken for an empty result.
func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	for name, start := range refusing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb, want := start(t)
			t.Cleanup(func() { _ = rdb.Close() })
			ctx := context.Background()
			refused := func(what string, err error, cmds ...redis.Cmder) {
				for i, cmd := range cmds {
					if cmd.Err() == nil || !strings.HasPrefix(cmd.Err().Error(), want) {
						t.Errorf("%s: command %d has the error %v, want %s", what, i, cmd.Err(), want)
					}
				}
				if err == nil || errors.Is(err, redis.Nil) {
					t.Errorf("%s: got %v, want %s", what, err, want)
				}
			}
			c, script := redisx.New(rdb), redisx.NewScript("return redis.call('GET', KEYS[1])")
			var all sync.WaitGroup
			for i := range 8 { // the first goes alone, the others share
				all.Go(func() {
					call, get := script.Call([]string{"there"}), redis.NewStringCmd(ctx, "get", "there")
					refused(fmt.Sprint("caller ", i), c.Do(ctx, call, get), call, get)
				})
			}
			all.Wait()
			pipe := rdb.Pipeline()
			get, set := pipe.Get(ctx, "there"), pipe.Set(ctx, "there", 2, 0)
			refused("a pipeline", redisx.Exec(ctx, pipe), get, set)
			tx := rdb.TxPipeline()
			get, set = tx.Get(ctx, "there"), tx.Set(ctx, "there", 2, 0)
			refused("a transaction", redisx.Exec(ctx, tx), get, set)
		})
	}
}

// Redis.Nil is not an error, and hides none.
func TestExec(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		ctx, pipe := context.Background(), rdb.Pipeline()
		if err := redisx.Exec(ctx, pipe); err != nil {
			t.Errorf("nothing: got %v", err)
		}
		none := pipe.Get(ctx, prefix+"none")
		if err := redisx.Exec(ctx, pipe); err != nil || !errors.Is(none.Err(), redis.Nil) {
			t.Errorf("got %v and %v", err, none.Err())
		}
		pipe.Get(ctx, prefix+"none")
		pipe.LPush(ctx, prefix+"list", 1)
		wrong := pipe.Incr(ctx, prefix+"list")
		if err := redisx.Exec(ctx, pipe); !redis.HasErrorPrefix(err, "WRONGTYPE") || wrong.Err() == nil {
			t.Errorf("got %v, want what is behind the one that found nothing", err)
		}
	})
}
