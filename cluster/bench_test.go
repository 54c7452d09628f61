package cluster

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// One message from a node to a socket on another, one at a time, acknowledged.
func BenchmarkSendToOffer(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := newWorld(b, redistest.Real(b), redistest.Prefix())
			from, to := w.node("a"), w.node("b")
			m, s := w.join(to, "alice", 0, 1000)
			payload := strings.Repeat("x", size)
			ctx := context.Background()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := from.Send(ctx, Message{To: "alice", Payload: []byte(payload)}); err != nil {
					b.Fatal(err)
				}
				it, ok := s.next(patience)
				if !ok {
					b.Fatal("nothing came")
				}
				if err := m.Ack(ctx, it.seq); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Many members at once: the throughput of one node and Redis.
func BenchmarkSendParallel(b *testing.B) {
	w := newWorld(b, redistest.Real(b), redistest.Prefix())
	from, to := w.node("a"), w.node("b")
	payload := []byte(strings.Repeat("x", 1<<10))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		member := fmt.Sprint("member-", w.conns.Add(1))
		m, s := w.join(to, member, 0, 1000)
		for pb.Next() {
			if err := from.Send(context.Background(), Message{To: member, Payload: payload}); err != nil {
				b.Error(err)
				return
			}
			it, ok := s.next(patience)
			if !ok {
				b.Error("nothing came")
				return
			}
			if it.seq%16 == 0 {
				if err := m.Ack(context.Background(), it.seq); err != nil {
					b.Error(err)
				}
			}
		}
	})
}
