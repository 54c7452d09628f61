package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

func TestLiveDelivery(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		w.send(a, "alice", "early")
		m, s := w.join(b, "alice", 0, 10)
		if m.LastSeq() == 0 {
			t.Error("LastSeq is 0 though the mailbox holds a message")
		}
		first := s.want("early")
		if first != m.LastSeq() {
			t.Errorf("got seq %d, want LastSeq %d", first, m.LastSeq())
		}
		w.send(a, "alice", "one")
		w.send(b, "alice", "two", "three")
		if last := s.want("one", "two", "three"); last != first+3 {
			t.Errorf("got seq %d for the fourth message, want %d", last, first+3)
		}
	})
}

// Live messages do not need the pump, which would cost a read each.
func TestLiveDeliveryReadsNoMailbox(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		w.send(a, "alice", "first")
		m, s := w.join(b, "alice", 0, 1000)
		last := s.want("first")
		if err := m.Ack(context.Background(), last); err != nil {
			t.Fatal(err)
		}
		w.eventually("level", func() bool { return m.phaseNow() == level })
		// Trimmed as soon as they are appended: only published messages
		// can arrive.
		for i := range 20 {
			p := fmt.Sprint("live-", i)
			w.send(a, "alice", p)
			s.want(p)
			if m.phaseNow() != level {
				t.Fatal("a live message made the pump run")
			}
		}
	})
}

func (m *Membership) phaseNow() phase {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase
}

// client is a user's end: it records the newest seq it has taken, and loses its
// socket's queue when it drops.
type client struct {
	w    *world
	name string
	last uint64
	got  []item
}

// Three nodes send at once while the member moves from node to node: with and
// without leaving, with small and large sockets, acknowledging or not.
func TestHoppingMemberGetsEachOnceInOrder(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded=", sharded), func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
				if sharded && rdb.SPublish(context.Background(), "x", "y").Err() != nil {
					t.Skip("no sharded pub/sub here")
				}
				testHopping(t, newWorld(t, rdb, prefix), func(c *Config) { c.Sharded = sharded })
			})
		})
	}
}

func testHopping(t *testing.T, w *world, change func(*Config)) {
	const each, senders = 150, 3
	rng := rand.New(rand.NewPCG(1, 2))
	var nodes []*running
	for i := range senders {
		nodes = append(nodes, w.node(fmt.Sprint("n", i), change))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, n := range nodes {
		wg.Go(func() {
			for k := 0; k < each; k += 3 {
				var msgs []Message
				for j := k; j < k+3; j++ {
					msgs = append(msgs, Message{To: "alice", Payload: fmt.Appendf(nil, "%d/%d", i, j), ID: fmt.Sprintf("%d/%d", i, j)})
				}
				if err := n.Send(context.Background(), msgs...); err != nil {
					t.Errorf("send: %v", err)
					return
				}
			}
		})
	}
	c := &client{w: w, name: "alice"}
	for hop := 0; len(c.got) < each*senders; hop++ {
		if hop > 1000 {
			t.Fatalf("got %d of %d messages in %d hops", len(c.got), each*senders, hop)
		}
		c.hop(nodes[rng.IntN(len(nodes))], rng, each*senders)
	}
	c.check(senders, each)
}

func (c *client) hop(n *running, rng *rand.Rand, total int) {
	m, s := c.w.join(n, c.name, c.last, 1+rng.IntN(20))
	take := 1 + rng.IntN(40)
	for range take {
		it, ok := s.next(patience)
		if !ok {
			c.w.t.Errorf("nothing came; have %d", len(c.got))
			break
		}
		if it.seq <= c.last {
			c.w.t.Errorf("got seq %d after %d", it.seq, c.last)
		}
		c.last = it.seq
		c.got = append(c.got, it)
		if rng.IntN(4) == 0 {
			if err := m.Ack(context.Background(), it.seq); err != nil {
				c.w.t.Errorf("ack: %v", err)
			}
		}
		if len(c.got) == total {
			break
		}
	}
	s.close()
	if rng.IntN(2) == 0 {
		if err := m.Leave(context.Background()); err != nil {
			c.w.t.Errorf("leave: %v", err)
		}
	}
}

func (c *client) check(senders, each int) {
	c.w.t.Helper()
	next := make([]int, senders)
	for _, it := range c.got {
		var from, k int
		if _, err := fmt.Sscanf(it.payload, "%d/%d", &from, &k); err != nil {
			c.w.t.Fatalf("payload %q: %v", it.payload, err)
		}
		if k != next[from] {
			c.w.t.Fatalf("sender %d: got message %d, want %d", from, k, next[from])
		}
		next[from]++
	}
	for i, n := range next {
		if n != each {
			c.w.t.Errorf("sender %d: got %d messages, want %d", i, n, each)
		}
	}
}

func TestFullSocketThenDrains(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		m, s := w.join(b, "alice", 0, 2)
		_, other := w.join(b, "bob", 0, 100)
		for i := 0; i < 1000; i += 50 {
			w.send(a, "alice", texts(i+1, i+50)...)
		}
		// A full socket does not block others.
		w.send(a, "bob", "hello")
		other.want("hello")
		last := s.want(texts(1, 1000)...)
		w.eventually("level", func() bool { return m.phaseNow() == level })
		w.wantNothing(a, "alice", s)
		if m.offered.Load() != last+1 {
			t.Errorf("cursor %d, want %d", m.offered.Load(), last+1)
		}
	})
}

// Batches are bounded in bytes as well as in messages.
func TestBacklogOfLargeMessages(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		var want []string
		for i := range 20 {
			p := strings.Repeat(string(rune('a'+i)), 200_000+i*100_000)
			want = append(want, p)
			w.send(a, "alice", p)
		}
		k := w.keys()
		reply, err := readScript.Run(context.Background(), rdb, []string{k.mailbox("alice"), k.presence("alice"), k.usage("alice"), k.generations("alice")},
			"none", 0, readMessages, readBytes, "").Slice()
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := parseReading(reply)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, e := range got.entries {
			size += len(e.payload)
		}
		if size > readBytes || len(got.entries) == 0 || !got.more {
			t.Errorf("one read: %d entries, %d bytes, more %v; want at most %d bytes", len(got.entries), size, got.more, readBytes)
		}
		_, s := w.join(a, "alice", 0, 3)
		s.want(want...)
		w.wantNothing(a, "alice", s)
	})
}

func TestResumeAfterSeq(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		m, s := w.join(a, "alice", 0, 100)
		w.send(b, "alice", texts(1, 10)...)
		seq := s.want(texts(1, 4)...)
		if err := m.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.send(b, "alice", texts(11, 12)...)
		m, s = w.join(b, "alice", seq, 100)
		last := s.want(texts(5, 12)...)
		if last != m.LastSeq() {
			t.Errorf("got last seq %d, want LastSeq %d", last, m.LastSeq())
		}
		w.wantNothing(a, "alice", s)
	})
}

// Messages that arrive between Join and Start are not lost and not early.
func TestNothingBeforeStart(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		s := w.socket(100)
		m, err := a.Join(context.Background(), "alice", "participant", 0, s)
		if err != nil {
			t.Fatal(err)
		}
		w.send(a, "alice", texts(1, 5)...)
		w.eventually("notice of the message", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.missed })
		if it, ok := s.next(time.Millisecond); ok {
			t.Fatalf("got %q before Start", it.payload)
		}
		m.Start()
		m.Start()
		s.want(texts(1, 5)...)
		w.wantNothing(a, "alice", s)
	})
}

// A mailbox that did not give the client's seq delivers all that it holds, under
// numbers after that.
func TestSeqBeyondTheMailbox(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		w.send(a, "alice", "kept-1", "kept-2")
		beyond := uint64(time.Now().Add(time.Hour).UnixMicro())
		m, s := w.join(a, "alice", beyond, 10)
		if !m.RolledBack() || m.LastSeq() <= beyond {
			t.Errorf("rolled back %v, LastSeq %d, want true and more than %d", m.RolledBack(), m.LastSeq(), beyond)
		}
		last := s.want("kept-1", "kept-2")
		if last != m.LastSeq() {
			t.Errorf("got seq %d, want LastSeq %d", last, m.LastSeq())
		}
		w.send(a, "alice", "new")
		if next := s.want("new"); next != last+1 {
			t.Errorf("got seq %d, want %d", next, last+1)
		}

		// No mailbox at all, and numbers beyond the clock.
		m, s = w.join(a, "bob", beyond, 10)
		w.send(a, "bob", "first", "second")
		s.want("first", "second")
		w.wantNothing(a, "bob", s)
		if err := m.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Join(context.Background(), "carol", "participant", maxSeq+1, w.socket(1)); err == nil {
			t.Error("a seq that no mailbox gives was accepted")
		}
	})
}

// expireMailbox makes the mailbox expire: by then the clock has passed the numbers
// it gave.
func (w *world) expireMailbox(member string, last uint64) {
	w.t.Helper()
	w.eventually("the clock goes on", func() bool { return time.Now().UnixMicro() > int64(last)+1 })
	if err := w.rdb.Del(context.Background(), w.keys().mailbox(member)).Err(); err != nil {
		w.t.Fatal(err)
	}
}

// A client returns after its mailbox has expired and was recreated: the new one
// gives none of the numbers that the client has seen.
func TestExpiredMailboxGivesNewNumbers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		m, s := w.join(a, "alice", 0, 100)
		w.send(a, "alice", texts(1, 3)...)
		last := s.want(texts(1, 3)...)
		if err := m.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.expireMailbox("alice", last)
		w.send(a, "alice", texts(4, 8)...)
		_, s = w.join(a, "alice", last, 100)
		s.want(texts(4, 8)...)
		w.wantNothing(a, "alice", s)
	})
}

// The mailbox of a connected member vanishes (it expired, Redis lost it): later
// messages are still delivered.
func TestMailboxGoneUnderLiveSocket(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		_, s := w.join(a, "alice", 0, 100)
		w.send(b, "alice", texts(1, 3)...)
		last := s.want(texts(1, 3)...)
		k, ctx := w.keys(), context.Background()
		w.expireMailbox("alice", last)
		w.send(b, "alice", "after-expiry")
		if seq := s.want("after-expiry"); seq <= last {
			t.Errorf("got seq %d, want more than %d", seq, last)
		}

		// As above, but with numbers that were given before.
		if err := rdb.Del(ctx, k.mailbox("alice")).Err(); err != nil {
			t.Fatal(err)
		}
		if err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: k.mailbox("alice"), ID: "0-5", Values: []any{"payload", "rolled-back"}}).Err(); err != nil {
			t.Fatal(err)
		}
		w.send(b, "alice", "after-loss")
		s.want("rolled-back", "after-loss")
		w.wantNothing(b, "alice", s)
	})
}

// Redis has lost the presence of a connected member: it is recorded again.
func TestPresenceRestored(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		m, s := w.join(a, "alice", 0, 100)
		w.send(a, "alice", "one")
		seq := s.want("one")
		ctx := context.Background()
		if err := rdb.Del(ctx, w.keys().presence("alice")).Err(); err != nil {
			t.Fatal(err)
		}
		w.send(a, "alice", "unheard")
		if err := m.Ack(ctx, seq); err != nil {
			t.Fatal(err)
		}
		w.send(a, "alice", "two")
		s.want("unheard", "two")
		p, err := a.Present(ctx, "alice")
		if err != nil || p["alice"].Conn != s.id {
			t.Errorf("got presence %+v, %v, want conn %s", p, err, s.id)
		}

		// A mailbox read notices as well.
		if err := rdb.Del(ctx, w.keys().presence("alice")).Err(); err != nil {
			t.Fatal(err)
		}
		m.wake()
		w.eventually("present again", func() bool {
			p, err := a.Present(ctx, "alice")
			return err == nil && p["alice"].Conn == s.id
		})
	})
}
