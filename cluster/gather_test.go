package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Sends of many callers share pipelines. Each has its own result, and one caller's
// successive Sends arrive in order.
func TestSendsShareARoundTrip(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		count := &pipeCount{}
		opt := *rdb.(*redis.Client).Options()
		counted := redis.NewClient(&opt)
		t.Cleanup(func() { _ = counted.Close() })
		counted.AddHook(count)
		a := w.node("a", func(c *Config) { c.Durable = counted })
		ctx := context.Background()
		const callers, each = 32, 25
		socks := make([]*socket, callers)
		for i := range socks {
			_, socks[i] = w.join(a, fmt.Sprint("user-", i), 0, 2*each)
		}
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				for k := range each {
					to := fmt.Sprint("user-", i)
					m := Message{To: to, Payload: fmt.Appendf(nil, "msg-%d", k+1)}
					if k%2 == 0 {
						m.ID = fmt.Sprint(k)
					}
					bad := Message{To: "b{d"}
					err := a.Send(ctx, bad, m)
					var failed *SendError
					if !errors.As(err, &failed) || failed.Index != 0 || !errors.Is(err, ErrBadID) {
						t.Errorf("got %v, want the first of the two refused and no more", err)
					}
				}
			})
		}
		wg.Wait()
		for _, s := range socks {
			s.want(texts(1, each)...)
		}
		if n := count.pipelines(); n == 0 || n >= callers*each {
			t.Errorf("%d sends took %d pipelines", callers*each, n)
		}
	})
}

// A caller's cancellation is its own: others in the same pipeline get their results.
func TestSendOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		_, s := w.join(a, "alice", 0, 10)
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		if err := a.Send(gone, Message{To: "alice", Payload: []byte("never")}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the context has ended", err)
		}
		late, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
		defer cancel()
		if err := a.Send(late, Message{To: "alice", Payload: []byte("never")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the deadline has passed", err)
		}
		w.send(a, "alice", "one")
		s.want("one")
		w.wantNothing(a, "alice", s)
	})
}

// pipeCount counts pipelines.
type pipeCount struct {
	mu sync.Mutex
	n  int
}

func (p *pipeCount) pipelines() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *pipeCount) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (p *pipeCount) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (p *pipeCount) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		p.mu.Lock()
		p.n++
		p.mu.Unlock()
		return next(ctx, cmds)
	}
}

func TestAckLater(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		length := func(member string) int64 { return rdb.XLen(ctx, w.keys().mailbox(member)).Val() }
		const members = 20
		var all []*Membership
		for i := range members {
			member := fmt.Sprint("user-", i)
			m, s := w.join(a, member, 0, 10)
			all = append(all, m)
			w.send(a, member, texts(1, 5)...)
			first := s.want("msg-1")
			m.AckLater(first + 1000) // more than it has been handed, perhaps
			for _, text := range texts(2, 5) {
				m.AckLater(s.want(text))
			}
		}
		for i := range members {
			w.eventually("trimmed", func() bool { return length(fmt.Sprint("user-", i)) == 0 })
		}
		// Another connection supersedes a member: the old one's ack is void, and it
		// is told so.
		w.send(a, "user-0", "waits")
		old := all[0]
		newer, s := w.join(w.node("b"), "user-0", 0, 10)
		old.AckLater(1 << 60)
		if seq := s.want("waits"); length("user-0") != 1 {
			t.Error("a superseded connection has acknowledged")
		} else {
			newer.AckLater(seq)
		}
		// Leave sends the pending acknowledgement.
		if err := newer.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if n := length("user-0"); n != 0 {
			t.Errorf("after Leave the mailbox holds %d messages that were acknowledged", n)
		}
	})
}

// Leave sends an acknowledgement that the gatherer has not yet sent.
func TestLeaveFlushesAck(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		m, s := w.join(a, "alice", 0, 10)
		w.send(a, "alice", "one")
		seq := s.want("one")
		m.ackQueued.Store(true) // as if the gatherer were always busy
		m.AckLater(seq)
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(ctx, w.keys().mailbox("alice")).Val(); n != 0 {
			t.Errorf("%d messages are left, want what was acknowledged forgotten", n)
		}
	})
}

// A message that go-redis may repeat does not share a call with another Send's that
// it may not; in one Send it does.
func TestPlanKeepsKindsApart(t *testing.T) {
	t.Parallel()
	send := func(ids ...string) *batch {
		b := &batch{failed: make([]error, len(ids))}
		for _, id := range ids {
			b.msgs = append(b.msgs, Message{To: "alice", ID: id})
		}
		return b
	}
	rounds := plan([]*batch{send("1"), send("2"), send(""), send("3", "")})
	var got []string
	for i, round := range rounds {
		for _, c := range round {
			got = append(got, fmt.Sprintf("%d: %d once %t", i, len(c.places), c.once))
		}
	}
	want := []string{"0: 2 once false", "1: 1 once true", "2: 2 once true"}
	if !slices.Equal(got, want) {
		t.Errorf("got calls %q, want %q", got, want)
	}
}

// A Send that leads ends with its caller's deadline, and those behind it are
// carried out.
func TestSendLeadsNoLongerThanItsCaller(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	strict := strictClient(t, rdb)
	w := newWorld(t, rdb, redistest.Prefix())
	a := w.node("a", func(c *Config) { c.Durable, c.LeaseTTL = strict, time.Minute })
	_, s := w.join(a, "alice", 0, 10)
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	failed := make(chan error, 1)
	go func() { failed <- a.Send(short, Message{To: "alice", Payload: []byte("lost")}) }()
	eventually(t, "leads", a.sends.Busy)
	behind := make(chan error, 1)
	go func() { behind <- a.Send(context.Background(), Message{To: "alice", Payload: []byte("two"), ID: "2"}) }()
	select {
	case err := <-failed:
		if err == nil {
			t.Error("a message was sent to a Redis that is stopped")
		}
	case <-time.After(2 * time.Second): // Redis's own timeout is longer
		t.Error("Send has outlived its caller")
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := <-behind; err != nil {
		t.Errorf("behind it: %v", err)
	}
	for {
		it, ok := s.next(patience)
		if !ok {
			t.Fatal("the message behind it did not come")
		}
		if string(it.payload) == "two" {
			break
		}
	}
}
