package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

func TestNewerConnectionSupersedes(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx := context.Background()
		old, first := w.join(a, "alice", 0, 10)

		_, second := w.join(a, "alice", 0, 10) // the same node
		if first.newer.Load() != 1 {
			t.Error("the old socket on the same node was not superseded before Join returned")
		}
		_, third := w.join(b, "alice", 0, 10) // another one
		w.eventually("the socket on the other node is superseded", second.isClosed)

		// The superseded one has no effect.
		w.send(a, "alice", "one")
		seq := third.want("one")
		if err := old.Ack(ctx, seq); err != nil {
			t.Errorf("ack: %v", err)
		}
		if err := old.Leave(ctx); err != nil {
			t.Errorf("leave: %v", err)
		}
		if n := rdb.XLen(ctx, w.keys().mailbox("alice")).Val(); n != 1 {
			t.Errorf("mailbox holds %d messages, want 1", n)
		}
		p, err := a.Present(ctx, "alice")
		if err != nil || p["alice"].Conn != third.id || p["alice"].Node != "b" {
			t.Errorf("got presence %+v, %v, want conn %s", p, err, third.id)
		}
		if first.newer.Load() != 1 || second.newer.Load() != 1 || third.newer.Load() != 0 {
			t.Errorf("calls of Supersede: %d, %d, %d, want 1, 1, 0", first.newer.Load(), second.newer.Load(), third.newer.Load())
		}
	})
}

// A node that missed the notice learns from its next ack, or its next read, and
// removes nothing when it leaves.
func TestStaleNodeIsFenced(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		k := w.keys()
		for _, learn := range []string{"ack", "read", "leave"} {
			m, s := w.join(a, learn, 0, 10)
			w.send(a, learn, "one", "two")
			seq := s.want("one", "two")
			if err := rdb.HSet(ctx, k.presence(learn), "node", "elsewhere", "conn", "newer").Err(); err != nil {
				t.Fatal(err)
			}
			switch learn {
			case "ack":
				if err := m.Ack(ctx, seq); err != nil {
					t.Fatal(err)
				}
				w.eventually("superseded by ack", s.isClosed)
			case "read":
				m.wake()
				w.eventually("superseded by read", s.isClosed)
			}
			if n := rdb.XLen(ctx, k.mailbox(learn)).Val(); n != 2 {
				t.Errorf("%s: mailbox holds %d messages, want 2", learn, n)
			}
			if err := m.Leave(ctx); err != nil {
				t.Fatal(err)
			}
			if conn := rdb.HGet(ctx, k.presence(learn), "conn").Val(); conn != "newer" {
				t.Errorf("%s: presence names %q, want newer", learn, conn)
			}
		}
	})
}

// After racing joins of one member, one live socket is left: the one in Redis.
func TestRacingJoins(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		nodes := []*running{w.node("a"), w.node("b"), w.node("c")}
		ctx := context.Background()
		for round := range 30 {
			member := fmt.Sprint("member-", round)
			sockets := make([]*socket, 6)
			failed := make([]error, len(sockets))
			var wg sync.WaitGroup
			for i := range sockets {
				sockets[i] = w.socket(10)
				wg.Go(func() {
					m, err := nodes[i%len(nodes)].Join(ctx, member, "participant", 0, sockets[i])
					if err != nil {
						failed[i] = err
						return
					}
					m.Start()
				})
			}
			wg.Wait()
			holder := rdb.HGet(ctx, w.keys().presence(member), "conn").Val()
			for i, s := range sockets {
				if failed[i] != nil && !errors.Is(failed[i], ErrSuperseded) {
					t.Fatalf("join: %v", failed[i])
				}
				if s.id == holder {
					if failed[i] != nil {
						t.Fatalf("the join of the live socket failed: %v", failed[i])
					}
					w.send(nodes[0], member, "hello")
					s.want("hello")
					continue
				}
				w.eventually("superseded", s.isClosed)
				if s.newer.Load() != 1 {
					t.Errorf("superseded %d times, want once", s.newer.Load())
				}
			}
			for i, s := range sockets {
				if (s.id == holder) == s.isClosed() {
					t.Errorf("socket %d: closed %v, though presence names %s", i, s.isClosed(), holder)
				}
			}
		}
	})
}

// A newer connection registers while the reply to the older one's Join is in
// transit.
func TestSupersededWhileJoining(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		b := w.node("b")
		hooked := redis.NewClient(rdb.(*redis.Client).Options())
		t.Cleanup(func() { _ = hooked.Close() })
		a := w.node("a", func(c *Config) { c.Redis = hooked })
		s := w.socket(10)
		var newer *socket
		hooked.AddHook(&afterCommand{arg: s.id, then: func() {
			_, newer = w.join(b, "alice", 0, 10)
			w.eventually("superseded", s.isClosed)
		}})
		if _, err := a.Join(context.Background(), "alice", "participant", 0, s); !errors.Is(err, ErrSuperseded) {
			t.Errorf("got %v, want ErrSuperseded", err)
		}
		w.send(a, "alice", "hello")
		newer.want("hello")
		p, err := a.Present(context.Background(), "alice")
		if err != nil || p["alice"].Conn != newer.id {
			t.Errorf("got presence %+v, %v, want conn %s", p, err, newer.id)
		}
	})
}

// afterCommand is a go-redis hook that calls then once, after the first command
// that succeeds with the given argument, before it returns.
type afterCommand struct {
	arg  string
	then func()
	done sync.Once
}

func (h *afterCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *afterCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && slices.Contains(cmd.Args(), any(h.arg)) {
			h.done.Do(h.then)
		}
		return err
	}
}

func TestAckTrims(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		k := w.keys()
		w.send(a, "alice", texts(1, 6)...)
		m, s := w.join(a, "alice", 0, 4) // the socket takes four and is full
		w.eventually("four offered", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.queue) == 4 })
		first := m.LastSeq() - 5

		ack := func(seq uint64, left int64) {
			t.Helper()
			if err := m.Ack(ctx, seq); err != nil {
				t.Fatal(err)
			}
			if n := rdb.XLen(ctx, k.mailbox("alice")).Val(); n != left {
				t.Errorf("after ack %d the mailbox holds %d messages, want %d", seq, n, left)
			}
		}
		ack(0, 6)
		ack(first+1, 4)
		ack(first, 4) // repeated, and older
		if got := rdb.HGet(ctx, k.presence("alice"), "acked").Val(); got != fmt.Sprint(first+1) {
			t.Errorf("presence says acked %s, want %d", got, first+1)
		}
		// Undelivered messages cannot be acknowledged. (The fifth is offered
		// repeatedly, so it may count as handed over.)
		if err := m.Ack(ctx, 1<<60); err != nil {
			t.Fatal(err)
		}
		left := rdb.XLen(ctx, k.mailbox("alice")).Val()
		if left < 1 || left > 2 {
			t.Errorf("after an ack of everything the mailbox holds %d messages, want the one or two not handed over", left)
		}
		last := s.want(texts(1, 6)...)
		ack(1<<60, 0)
		w.send(a, "alice", "next")
		if seq := s.want("next"); seq != last+1 {
			t.Errorf("got seq %d after the mailbox was emptied, want %d", seq, last+1)
		}

		// Acknowledged messages are gone, whatever the client's later seq.
		_, again := w.join(a, "alice", 0, 10)
		again.want("next")
		w.wantNothing(a, "alice", again)
	})
}

func TestPresence(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx := context.Background()
		before := time.Now().Truncate(time.Millisecond).Add(-time.Millisecond)
		m, s := w.join(a, "alice", 0, 1)
		got, err := b.Present(ctx, "alice", "bob")
		if err != nil {
			t.Fatal(err)
		}
		since := got["alice"].Since
		if since.Before(before) || since.After(time.Now()) {
			t.Errorf("got since %v, want about now", since)
		}
		want := map[string]Presence{"alice": {Node: "a", Conn: s.id, Role: "participant", Since: since}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("presence (-want +got):\n%s", diff)
		}
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if got, err := b.Present(ctx, "alice"); err != nil || len(got) != 0 {
			t.Errorf("after Leave: got %+v, %v, want nobody", got, err)
		}
		if got, err := b.Present(ctx); err != nil || len(got) != 0 {
			t.Errorf("of nobody: got %+v, %v", got, err)
		}
	})
}

func TestBadIDs(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		long := make([]byte, 129)
		for i := range long {
			long[i] = 'x'
		}
		for _, id := range []string{"", "a b", "{a}", "a:b", "a\nb", "a*", string(long), "a\xff", "a\x00"} {
			if _, err := a.Join(ctx, id, "participant", 0, w.socket(1)); !errors.Is(err, ErrBadID) {
				t.Errorf("join %q: got %v, want ErrBadID", id, err)
			}
			if _, err := a.Present(ctx, id); !errors.Is(err, ErrBadID) {
				t.Errorf("presence %q: got %v, want ErrBadID", id, err)
			}
			if err := a.Send(ctx, Message{To: id, Payload: []byte("x")}); !errors.Is(err, ErrBadID) {
				t.Errorf("send %q: got %v, want ErrBadID", id, err)
			}
			if _, err := a.Lock(ctx, id); !errors.Is(err, ErrBadID) {
				t.Errorf("lock %q: got %v, want ErrBadID", id, err)
			}
			if _, err := New(Config{Redis: rdb, NodeID: id}); !errors.Is(err, ErrBadID) {
				t.Errorf("node %q: got %v, want ErrBadID", id, err)
			}
		}
		// Letters need not be ASCII.
		_, s := w.join(a, "用户_1.α@x-y", 0, 1)
		w.send(a, "用户_1.α@x-y", "hello")
		s.want("hello")
		for _, prefix := range []string{"a{b}:", "a b:", "a*:"} {
			if _, err := New(Config{Redis: rdb, NodeID: "a", Prefix: prefix}); err == nil {
				t.Errorf("prefix %q was accepted", prefix)
			}
		}
	})
}

// A member's last-seen time is known while it is away, and changes with each join
// and leave.
func TestLastSeen(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		n, ctx := w.node("a"), context.Background()
		seen := func() time.Time {
			t.Helper()
			all, err := n.LastSeen(ctx, "alice", "nobody")
			if _, ok := all["nobody"]; err != nil || ok {
				t.Fatalf("got %v, %v", all, err)
			}
			return all["alice"]
		}
		if at := seen(); !at.IsZero() {
			t.Errorf("seen at %s, want never", at)
		}
		before := time.UnixMicro(n.clockNow())
		m, _ := w.join(n, "alice", 0, 10)
		joined := seen()
		if d := joined.Sub(before); d < -time.Minute || d > time.Minute {
			t.Errorf("joined at %s, when it was %s", joined, before)
		}
		w.eventually("the clock goes on", func() bool { return time.UnixMicro(n.clockNow()).Sub(joined) > 5*time.Millisecond })
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if left := seen(); !left.After(joined) {
			t.Errorf("left at %s, joined at %s", left, joined)
		}
		if p, err := n.Present(ctx, "alice"); err != nil || len(p) != 0 {
			t.Errorf("present: %v, %v", p, err)
		}
		if _, err := n.LastSeen(ctx, "no{id}"); !errors.Is(err, ErrBadID) {
			t.Errorf("got %v, want ErrBadID", err)
		}
	})
}

// A node that was stopped for longer than its lease supersedes no socket by old
// messages, until it has a lease again.
func TestNoJoinWithoutALease(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		n, ctx := w.node("a"), context.Background()
		w.eventually("the node is registered", n.registered.Load)
		var err error
		for range 20 { // a heartbeat may intervene
			n.lastBeat.Store(int64(time.Since(n.started) - n.cfg.LeaseTTL - time.Second))
			var m *Membership
			if m, err = n.Node.Join(ctx, "alice", "participant", 0, w.socket(10)); err != nil {
				break
			}
			_ = m.Leave(ctx)
		}
		if !errors.Is(err, errNoLease) {
			t.Errorf("got %v, want %v", err, errNoLease)
		}
	})
}

// Waiting returns a mailbox's unacknowledged messages, the newest first.
func TestWaiting(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		n, ctx := w.node("a"), context.Background()
		m, s := w.join(n, "alice", 0, 10)
		w.send(n, "alice", "one", "two", "three")
		first := s.want("one")
		s.want("two", "three")
		check := func(what string, after uint64, most int, want ...string) {
			t.Helper()
			payloads, err := n.Waiting(ctx, "alice", after, most)
			var got []string
			for _, p := range payloads {
				got = append(got, string(p))
			}
			if err != nil || !cmp.Equal(got, want) {
				t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
			}
		}
		check("all", 0, 10, "three", "two", "one")
		check("the newest", 0, 1, "three")
		check("after the first", first, 10, "three", "two")
		if err := m.Ack(ctx, first); err != nil || m.Acknowledged() != first {
			t.Errorf("acknowledged %d, %v", m.Acknowledged(), err)
		}
		check("what is acknowledged", 0, 10, "three", "two")
		if _, err := n.Waiting(ctx, "no{id}", 0, 1); !errors.Is(err, ErrBadID) {
			t.Errorf("got %v, want ErrBadID", err)
		}
	})
}
