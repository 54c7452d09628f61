package audit_test

import (
	"testing"
	"time"

	auditstore "github.com/conclave-mpc/conclave/cluster/store/audit"
)

// Successive decisions are written in few batches: after each the writer pauses, so
// that nodes do not keep overtaking each other.
func TestWriterRests(t *testing.T) {
	each(t, func(b *bench) {
		const linger, decisions = 5 * time.Millisecond, 150
		l := b.open("n1", func(c *auditstore.Config) { c.Linger = linger })
		stop, begun := b.run(l), time.Now()
		for d := range decisions {
			l.Record(decision(d))
			time.Sleep(time.Millisecond)
		}
		stop()
		most := int64(time.Since(begun)/(4*linger)) + 3 // the first, the last, and one in flight
		batches := b.rdb.ZCard(b.ctx, b.prefix+"audited:{"+b.stream()+"}").Val()
		if n := len(b.whole()); n != decisions || batches > most {
			t.Errorf("%d entries in %d batches, want %d in at most %d", n, batches, decisions, most)
		}
	})
}
