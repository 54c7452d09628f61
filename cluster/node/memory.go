package node

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/node/metrics"
	"github.com/conclave-mpc/conclave/session/service"
)

const (
	// DefaultRedisMemoryReserve is the default of Config.RedisMemoryReserve, in
	// percent.
	DefaultRedisMemoryReserve = 10

	memoryEvery  = time.Second // between checks of Redis's memory
	memoryWithin = 2 * time.Second
	memoryHigh   = 80 // percent of maxmemory at which a warning is logged
	memoryCalm   = 75 // and below which its end is logged
)

// memory tracks how full Redis is. It asks once a second, and also observes each
// command that Redis refuses for lack of memory. New requests are refused while
// little is left, to keep room for sessions in progress. It implements
// service.Storage and redis.Hook. Safe for concurrent use.
type memory struct {
	rdb     redis.UniversalClient
	reserve uint64 // percent of maxmemory that new requests may not use
	log     zerolog.Logger

	started time.Time
	now     atomic.Pointer[metrics.Memory] // result of the last check; nil before the first
	full    atomic.Int64                   // when Redis was last full, ns after started; 0 for never

	// Accessed by run alone.
	high, failing bool
}

func newMemory(rdb redis.UniversalClient, reserve int, log zerolog.Logger) *memory {
	if reserve == 0 {
		reserve = DefaultRedisMemoryReserve
	}
	return &memory{rdb: rdb, reserve: uint64(max(reserve, 0)), log: log, started: time.Now()}
}

// run checks until ctx ends.
func (m *memory) run(ctx context.Context) error {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		m.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks Redis once. Without an answer the previous result is kept; refusals are
// still observed.
func (m *memory) look(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, memoryWithin)
	defer cancel()
	found, err := m.ask(asking)
	if err != nil {
		if !m.failing && ctx.Err() == nil {
			m.log.Info().Err(err).Msg("redis does not report its memory usage")
		}
		m.failing = true
		return
	}
	m.failing = false
	if found.Max > 0 && found.Used >= found.Max {
		m.full.Store(int64(time.Since(m.started)))
	}
	found.Full = found.Max > 0 && found.Used >= found.Max-found.Max/100*m.reserve
	was := m.now.Swap(&found)
	m.say(found, was != nil && was.Full)
}

// say logs each crossing of a mark once.
func (m *memory) say(found metrics.Memory, wasFull bool) {
	line := func(level zerolog.Level) *zerolog.Event {
		return m.log.WithLevel(level).Uint64("used", found.Used).Uint64("max", found.Max)
	}
	switch {
	case found.Full && !wasFull:
		line(zerolog.ErrorLevel).Msg("redis is full, new sessions are refused; see --redis-memory-reserve")
	case wasFull && !found.Full:
		line(zerolog.InfoLevel).Msg("redis has free memory again")
	}
	switch {
	case found.Max == 0 || found.Used < found.Max/100*memoryCalm:
		m.high = false
	case !m.high && found.Used >= found.Max/100*memoryHigh:
		m.high = true
		line(zerolog.WarnLevel).Msg("redis is getting full")
	}
}

// ask returns the usage of the fullest master.
func (m *memory) ask(ctx context.Context) (metrics.Memory, error) {
	shards, ok := m.rdb.(*redis.ClusterClient)
	if !ok {
		return memoryOf(ctx, m.rdb)
	}
	var mu sync.Mutex // ForEachMaster calls concurrently
	var fullest metrics.Memory
	err := shards.ForEachMaster(ctx, func(ctx context.Context, one *redis.Client) error {
		found, err := memoryOf(ctx, one)
		mu.Lock()
		defer mu.Unlock()
		if found.Part() > fullest.Part() || fullest.Max == 0 && found.Used > fullest.Used {
			fullest = found
		}
		return err
	})
	if fullest.Used > 0 { // an unreachable master is not the fullest
		err = nil
	}
	return fullest, err
}

func memoryOf(ctx context.Context, one redis.Cmdable) (metrics.Memory, error) {
	info, err := one.InfoMap(ctx, "memory").Result()
	if err != nil {
		return metrics.Memory{}, err
	}
	used, err := strconv.ParseUint(info["Memory"]["used_memory"], 10, 64)
	if err != nil {
		return metrics.Memory{}, err
	}
	most, err := strconv.ParseUint(info["Memory"]["maxmemory"], 10, 64)
	return metrics.Memory{Used: used, Max: most}, err
}

// known returns the result of the last check.
func (m *memory) known() metrics.Memory {
	if found := m.now.Load(); found != nil {
		return *found
	}
	return metrics.Memory{}
}

// Room implements service.Storage.
func (m *memory) Room() error {
	if m.known().Full || m.FullWithin(2*memoryEvery) {
		return service.ErrStorageFull
	}
	return nil
}

// FullWithin implements service.Storage.
func (m *memory) FullWithin(d time.Duration) bool {
	at := m.full.Load()
	return at > 0 && time.Since(m.started)-time.Duration(at) <= d
}

// heard records a refusal for lack of memory.
func (m *memory) heard(err error) {
	if err != nil && redis.HasErrorPrefix(err, "OOM") {
		m.full.Store(int64(time.Since(m.started)))
	}
}

// DialHook implements redis.Hook.
func (m *memory) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (m *memory) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		m.heard(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (m *memory) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			m.heard(cmd.Err())
		}
		return err
	}
}
