package redisx_test

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// 32 callers a core run small commands on a real Redis: alone, and through a
// Client.
func BenchmarkRoundTrips(b *testing.B) {
	rdb, ctx := redistest.Real(b), context.Background()
	c := redisx.New(rdb)
	for _, way := range []struct {
		name string
		do   func(context.Context, redis.Cmder) error
	}{
		{"alone", rdb.Process},
		{"shared", func(ctx context.Context, cmd redis.Cmder) error { return c.Do(ctx, cmd) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := way.do(ctx, redis.NewIntCmd(ctx, "exists", "nothing")); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
