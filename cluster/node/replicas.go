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
// life of a session's lock, and a replica that is well answers in a round trip.
const replicaWithin = 400 * time.Millisecond

// waitForReplicas makes what rdb is asked and told wait until that many replicas
// have whatever its server had been told before, and fail if they have not in
// time. Those who asked are then told "unavailable", nothing is confirmed, and
// the same again is harmless, as all writes here are.
//
// Reads wait too: else a write that came too short would be taken for done by
// whoever reads it and finds nothing left to do. WAIT counts up to what the
// server had been told when its connection's last command ran, so it follows each
// on the same connection, and on Redis Cluster on the same shard, wherever the
// client has been redirected to.
func waitForReplicas(rdb redis.UniversalClient, replicas int) {
	switch rdb := rdb.(type) {
	case *redis.ClusterClient:
		rdb.OnNewNode(func(one *redis.Client) { one.AddHook(&replicaWait{one, replicas}) })
	case *redis.Client:
		rdb.AddHook(&replicaWait{rdb, replicas})
	}
}

// replicaWait is a redis.Hook of one server's client. (A client of Sentinel is
// one of whichever server is the master.)
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

// waits says which commands: reads of state and what changes it. Not those that
// look after a connection, and not those that take off a list what is done:
// where that is lost, it is done again.
func waits(cmd redis.Cmder) bool {
	switch cmd.Name() {
	case "eval", "evalsha", "hgetall", "hget", "hmget", "zadd":
		return true
	}
	return false
}
