package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// observed records an Observer's calls.
type observed struct {
	mu      sync.Mutex
	depths  []int
	full    int
	drained int
}

func (o *observed) Appended(depth int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.depths = append(o.depths, depth)
}
func (o *observed) Refused(error) { o.mu.Lock(); defer o.mu.Unlock(); o.full++ }
func (o *observed) Drained(n int) { o.mu.Lock(); defer o.mu.Unlock(); o.drained += n }

func (o *observed) seen() (depths []int, full, drained int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]int(nil), o.depths...), o.full, o.drained
}

// An Observer receives the depth of mailboxes, a full one, and the number of
// entries read.
func TestObserver(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		var o observed
		w := newWorld(t, rdb, prefix)
		n := w.node("a", func(c *Config) { c.MailboxMax, c.Observer = 3, &o })
		w.send(n, "alice", "1")
		w.send(n, "alice", "2", "3")
		if err := n.Send(context.Background(), Message{To: "alice", Payload: []byte("4")}); !errors.Is(err, ErrMailboxFull) {
			t.Errorf("a fourth message of three: %v", err)
		}
		depths, full, _ := o.seen()
		if len(depths) != 3 || depths[0] != 1 || depths[1] != 3 || depths[2] != 3 || full != 1 {
			t.Errorf("depths %v, full %d times; want [1 3 3], 1", depths, full)
		}
		_, s := w.join(n, "alice", 0, 10)
		s.want("1", "2", "3")
		w.eventually("the reads are told", func() bool { _, _, drained := o.seen(); return drained == 3 })
	})
}

// A socket learns when a message was sent, on any node, whatever the nodes' clocks:
// also for the first message that it had no room for.
func TestSentIsTold(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		from, to := w.node("a"), w.node("b")
		from.ahead.Add(time.Hour.Microseconds()) // until it asks Redis again
		w.eventually("the clock is set", func() bool {
			return time.Until(from.ownTime(to.clockNow())).Abs() < time.Minute
		})
		m, s := w.join(to, "alice", 0, 1)
		w.send(from, "alice", "0") // a mailbox's first message is read from it
		s.want("0")
		w.eventually("the socket is level", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.phase == level })
		begun := time.Now()
		w.send(from, "alice", "1")
		w.send(from, "alice", "2") // no room
		for _, want := range []string{"1", "2"} {
			it, ok := s.next(patience)
			if !ok || it.payload != want {
				t.Fatalf("got %q, %v, want %q", it.payload, ok, want)
			}
			// A round trip to Redis may take long on a busy machine.
			if early, late := begun.Sub(it.sent), time.Until(it.sent); early > 10*time.Second || late > 10*time.Second {
				t.Errorf("%q was sent at %v, it is between %v and now", want, it.sent, begun)
			}
		}
	})
}
