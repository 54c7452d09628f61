package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// replicaWithin is how long a command may wait for replicas. It is well below the
// lifetime of a session's lock; a healthy replica answers in a round trip.
const replicaWithin = 400 * time.Millisecond

// waitForReplicas makes rdb's commands wait until that many replicas have all
// earlier writes of its server, and fail if they have not in time. The callers then
// get "unavailable", nothing is confirmed, and repeating is harmless, as for all
// writes here.
//
// Reads wait too: otherwise a reader would take an insufficiently replicated write
// for done and find nothing left to do. WAIT covers the server's writes up to its
// connection's last command, so it follows each command on the same connection, and
// on Redis Cluster on the same shard, even after a redirect.
func waitForReplicas(rdb redis.UniversalClient, replicas int) {
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		rdb.OnNewNode(func(one *redis.Client) { one.AddHook(&replicaWait{one, replicas}) })
	case *redis.Client:
		rdb.AddHook(&replicaWait{rdb, replicas})
	}
}

// replicaWait is a redis.Hook of one server's client. (A client of Sentinel is a
// client of the current master.)
type replicaWait struct {
	rdb      *redis.Client
	replicas int
}

// DialHook implements redis.Hook.
func (w *replicaWait) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook: a command becomes a pipeline of one, so
// that WAIT can follow on its connection.
func (w *replicaWait) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !waits(cmd) {
			return next(ctx, cmd)
		}
		pipe := w.rdb.Pipeline()
		_ = pipe.Process(ctx, cmd)
		err := redisx.Exec(ctx, pipe)
		if err == nil {
			err = cmd.Err() // redis.Nil
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (w *replicaWait) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !slices.ContainsFunc(cmds, waits) {
			return next(ctx, cmds)
		}
		wait := redis.NewIntCmd(ctx, "wait", w.replicas, replicaWithin.Milliseconds())
		all := append(slices.Clip(cmds), wait)
		err := next(ctx, all)
		redisx.Spread(all, err) // nothing was sent
		failed := wait.Err()
		if failed == nil && wait.Val() < int64(w.replicas) {
			failed = fmt.Errorf("%d of %d replicas have it", wait.Val(), w.replicas)
		}
		if failed == nil {
			return err
		}
		for _, cmd := range cmds {
			if err := cmd.Err(); err == nil || errors.Is(err, redis.Nil) {
				cmd.SetErr(failed)
			}
		}
		if err == nil || errors.Is(err, redis.Nil) {
			err = failed
		}
		return err
	}
}

// waits reports whether a command must wait: reads and writes of state. Not those
// for connection upkeep, nor those that remove finished entries from a list: if the
// removal is lost, it is repeated.
func waits(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "eval", "evalsha", "hgetall", "hget", "hmget", "zadd":
		return true
	}
	return false
}
