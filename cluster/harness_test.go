package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// world is a cluster under test.
type world struct {
	t      testing.TB
	rdb    redis.UniversalClient
	prefix string
	conns  atomic.Int64
}

func newWorld(t testing.TB, rdb redis.UniversalClient, prefix string) *world {
	return &world{t: t, rdb: rdb, prefix: prefix}
}

func (w *world) keys() keys { return keys{w.prefix} }

// running is a node inside Run.
type running struct {
	*Node
	stop context.CancelFunc
	done chan struct{}
}

// node starts a node and waits until it is ready.
func (w *world) node(id string, change ...func(*Config)) *running {
	w.t.Helper()
	r := w.unready(id, change...)
	w.eventually("node "+id+" ready", func() bool { return r.Ready(context.Background()) == nil })
	return r
}

func (w *world) unready(id string, change ...func(*Config)) *running {
	w.t.Helper()
	cfg := Config{Redis: w.rdb, Prefix: w.prefix, NodeID: id, Address: "10.0.0.1:8080", Version: "test",
		HeartbeatEvery: 100 * time.Millisecond, LeaseTTL: 400 * time.Millisecond, ProbeEvery: 200 * time.Millisecond,
		UnseenMax: 10000, UnseenMaxBytes: 64 << 20} // most tests send before joining
	for _, f := range change {
		f(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{Node: n, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := n.Run(ctx); err != nil {
			w.t.Errorf("run %s: %v", id, err)
		}
	}()
	w.t.Cleanup(r.end)
	return r
}

func (r *running) end() {
	r.stop()
	<-r.done
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, what, ok)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		<-tick.C
	}
}

// join joins with a new socket of the given size and starts delivery.
// Join tries again while the machine is too busy for the node to renew its lease,
// as a client does.
func (r *running) Join(ctx context.Context, member, role string, after uint64, s Socket) (*Membership, error) {
	for deadline := time.Now().Add(patience); ; {
		m, err := r.Node.Join(ctx, member, role, after, s)
		if !errors.Is(err, errNoLease) || time.Now().After(deadline) || !sleep(ctx, 10*time.Millisecond) {
			return m, err
		}
	}
}

func (w *world) join(n *running, member string, after uint64, size int) (*Membership, *socket) {
	w.t.Helper()
	s := w.socket(size)
	m, err := n.Join(context.Background(), member, "participant", after, s)
	if err != nil {
		w.t.Fatalf("join %s on %s: %v", member, n.ID(), err)
	}
	m.Start()
	return m, s
}

func (w *world) send(n *running, to string, payloads ...string) {
	w.t.Helper()
	var msgs []Message
	for _, p := range payloads {
		msgs = append(msgs, Message{To: to, Payload: []byte(p)})
	}
	if err := n.Send(context.Background(), msgs...); err != nil {
		w.t.Fatalf("send to %s: %v", to, err)
	}
}

type item struct {
	seq     uint64
	payload string
	sent    time.Time
}

// socket is a Socket with a bounded queue that the test reads.
type socket struct {
	t    testing.TB
	id   string
	size int

	offering atomic.Int32
	newer    atomic.Int32 // calls of Supersede

	mu     sync.Mutex
	queue  []item
	last   uint64 // newest offered
	closed bool

	news chan struct{} // there may be something in the queue
	room chan struct{} // there may be room
	gone chan struct{}
}

func (w *world) socket(size int) *socket {
	return &socket{t: w.t, id: fmt.Sprintf("conn-%d", w.conns.Add(1)), size: size,
		news: make(chan struct{}, 1), room: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (s *socket) ID() string { return s.id }

func (s *socket) Offer(seq uint64, payload []byte, sent time.Time) bool {
	if s.offering.Add(1) != 1 {
		s.t.Error("two goroutines offer at once")
	}
	defer s.offering.Add(-1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.queue) >= s.size {
		return false
	}
	if seq <= s.last {
		s.t.Errorf("socket %s was offered %d after %d", s.id, seq, s.last)
	}
	s.last = seq
	s.queue = append(s.queue, item{seq, string(payload), sent})
	signal(s.news)
	return true
}

func (s *socket) Room(ctx context.Context) error {
	for {
		s.mu.Lock()
		free := len(s.queue) < s.size
		s.mu.Unlock()
		if free {
			return nil
		}
		select {
		case <-s.room:
		case <-s.gone:
			return errors.New("closed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *socket) Supersede() {
	s.newer.Add(1)
	s.close()
}

func (s *socket) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.gone)
	}
}

func (s *socket) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// next returns the next item in the queue, false on timeout or if the socket was
// closed and is empty.
func (s *socket) next(wait time.Duration) (item, bool) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			it := s.queue[0]
			s.queue = s.queue[1:]
			signal(s.room)
			s.mu.Unlock()
			return it, true
		}
		closed := s.closed
		s.mu.Unlock()
		if closed {
			return item{}, false
		}
		select {
		case <-s.news:
		case <-s.gone:
		case <-timer.C:
			return item{}, false
		}
	}
}

// want takes the given payloads from the socket, in order, and returns the last seq.
func (s *socket) want(payloads ...string) uint64 {
	s.t.Helper()
	var last uint64
	for i, p := range payloads {
		it, ok := s.next(patience)
		if !ok {
			s.t.Fatalf("socket %s: got nothing, want %q (%d of %d)", s.id, p, i+1, len(payloads))
		}
		if it.payload != p {
			s.t.Fatalf("socket %s: got %q, want %q (%d of %d)", s.id, it.payload, p, i+1, len(payloads))
		}
		last = it.seq
	}
	return last
}

// wantNothing checks that nothing more was delivered: a message sent now comes next.
func (w *world) wantNothing(n *running, member string, s *socket) {
	w.t.Helper()
	marker := fmt.Sprintf("marker-%d", w.conns.Add(1))
	w.send(n, member, marker)
	s.want(marker)
}

func texts(from, to int) []string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf("msg-%d", i))
	}
	return all
}

// strictClient is a separate client to rdb's server, which ends calls with their
// context.
func strictClient(t *testing.T, rdb redis.UniversalClient) *redis.Client {
	t.Helper()
	opt := *rdb.(*redis.Client).Options()
	opt.ContextTimeoutEnabled = true
	strict := redis.NewClient(&opt)
	t.Cleanup(func() { _ = strict.Close() })
	return strict
}
