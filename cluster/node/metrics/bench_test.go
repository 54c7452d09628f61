package metrics

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The cost of each relayed message: it is handled, appended, and written to a
// socket. None of it may allocate.
func BenchmarkRelayedMessage(b *testing.B) {
	m := New("0.0.0")
	frame := []byte("{}")
	b.ReportAllocs()
	for b.Loop() {
		begun := time.Now()
		m.Appended(3)
		m.Written(frame, begun)
		m.Handled(wire.TypeTSSMessage, "", time.Since(begun))
	}
}

func BenchmarkRelayedMessageParallel(b *testing.B) {
	m := New("0.0.0")
	frame := []byte("{}")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			begun := time.Now()
			m.Appended(3)
			m.Written(frame, begun)
			m.Handled(wire.TypeTSSMessage, "", time.Since(begun))
		}
	})
}

func BenchmarkRefusedMessage(b *testing.B) {
	m := New("0.0.0")
	b.ReportAllocs()
	for b.Loop() {
		m.Handled("a word of its own", wire.CodeUnknownType, time.Microsecond)
	}
}

func BenchmarkRedisCommand(b *testing.B) {
	cmd := redis.NewStatusCmd(context.Background(), "evalsha", "x")
	hooked := New("0.0.0").Redis().ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		_ = hooked(ctx, cmd)
	}
}

// TestNoAllocations checks the hot path's allocations.
func TestNoAllocations(t *testing.T) {
	m := New("0.0.0")
	cmd := redis.NewStatusCmd(context.Background(), "evalsha", "x")
	hooked := m.Redis().ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	for name, do := range map[string]func(){
		"handled": func() { m.Handled(wire.TypeTSSMessage, "", time.Microsecond) },
		"refused": func() { m.Handled("no type", wire.CodeUnknownType, time.Microsecond) },
		"written": func() { m.Written(nil, time.Now()) }, "appended": func() { m.Appended(1) },
		"redis": func() { _ = hooked(context.Background(), cmd) },
	} {
		if n := testing.AllocsPerRun(100, do); n > 0 {
			t.Errorf("%s allocates %g times", name, n)
		}
	}
}
