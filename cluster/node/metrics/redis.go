package metrics

import (
	"context"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// pipeline is the value of the label command for several commands in one round
// trip.
const pipeline = "pipeline"

// Commands are the values of the label command, except "other".
var Commands = []string{
	"config", "del", "eval", "evalsha", "exists", "get", "hdel", "hget", "hgetall", "hmget", "hset", "info", "ping", "set", "spublish", "time", "wait",
	"xadd", "xdel", "xlen", "xrange", "xrevrange", "zadd", "zrange", "zrangebyscore", "zrem", "zremrangebyscore", "zrevrangebyscore", "zscore", pipeline,
}

func (m *Metrics) newRedis() {
	took := m.histograms("redis_command_duration_seconds",
		`Duration of Redis commands in the client, including retries; commands sent together are "pipeline".`, fast, "command")
	failed := m.counters("redis_errors_total", "Commands that failed or that Redis did not answer.", "command")
	m.redisTook = make(map[string]prometheus.Observer)
	m.redisErrors = make(map[string]prometheus.Counter)
	for _, name := range append([]string{other}, Commands...) {
		m.redisTook[name] = took.WithLabelValues(name)
		m.redisErrors[name] = failed.WithLabelValues(name)
	}
}

// Redis returns a hook that measures a client's commands. Add it last.
func (m *Metrics) Redis() redis.Hook { return redisHook{m} }

type redisHook struct{ m *Metrics }

// DialHook implements redis.Hook.
func (h redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		begun := time.Now()
		err := next(ctx, cmd)
		name := h.label(cmd)
		h.m.redisTook[name].Observe(time.Since(begun).Seconds())
		if redisx.Failed(err) {
			h.m.redisErrors[name].Inc()
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		begun := time.Now()
		err := next(ctx, cmds)
		name := pipeline
		// A command that waits for replicas is followed by WAIT.
		if n := len(cmds); n == 1 || n == 2 && cmds[1].Name() == "wait" {
			name = h.label(cmds[0])
		}
		h.m.redisTook[name].Observe(time.Since(begun).Seconds())
		for _, cmd := range cmds {
			if redisx.Failed(cmd.Err()) {
				h.m.redisErrors[h.label(cmd)].Inc()
			}
		}
		return err
	}
}

// label returns a value of the label command.
func (h redisHook) label(cmd redis.Cmder) string {
	if name := cmd.Name(); h.m.redisTook[name] != nil {
		return name
	}
	return other
}
