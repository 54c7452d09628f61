package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

// failover is a master with a replica behind one address.
type failover struct {
	t               *testing.T
	master, replica *redistest.RealRedis
	addr            atomic.Value // of the current master
	rdb             *redis.Client
}

func startFailover(t *testing.T) *failover {
	f := &failover{t: t, master: redistest.StartRedis(t)}
	host, port, _ := net.SplitHostPort(f.master.Addr())
	f.replica = redistest.StartRedis(t, "--replicaof", host+" "+port)
	f.addr.Store(f.master.Addr())
	f.rdb = redis.NewClient(&redis.Options{Addr: "master", ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, f.addr.Load().(string))
		}})
	t.Cleanup(func() { _ = f.rdb.Close() })
	return f
}

// detach makes the replica a separate master once it is in sync: the master's later
// writes are lost with it.
func (f *failover) detach() {
	f.t.Helper()
	ctx := context.Background()
	eventually(f.t, "the replica is level", func() bool {
		if f.rdb.Set(ctx, "level", "", 0).Err() != nil {
			return false
		}
		n, err := f.rdb.Wait(ctx, 1, 0).Result()
		return err == nil && n == 1
	})
	if err := f.replica.Client(f.t).Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		f.t.Fatal(err)
	}
}

// over kills the master; the replica is then the master.
func (f *failover) over() {
	f.addr.Store(f.replica.Addr())
	f.master.Kill()
}

// until sends once Redis accepts it again; once, by its id.
func (w *world) until(n *running, to string, payloads ...string) {
	w.t.Helper()
	for _, p := range payloads {
		w.eventually("sent "+p, func() bool {
			return n.Send(context.Background(), Message{To: to, Payload: []byte(p), ID: p}) == nil
		})
	}
}

func numbered(what string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint(what, "-", i+1))
	}
	return all
}

// A failover loses three messages that the member has. Its node dies at once, and
// as many or more are sent before it returns: it gets all of them, once, under
// numbers above those that it has, and its unacknowledged old ones not again.
func TestLostTail(t *testing.T) {
	t.Parallel()
	for _, after := range sample.Of(2, []int{0, 2, 3, 7}) {
		t.Run(fmt.Sprint("then ", after, " more"), func(t *testing.T) {
			t.Parallel()
			f := startFailover(t)
			w := newWorld(t, f.rdb, redistest.Prefix())
			a, b := w.node("a"), w.node("b")
			_, s := w.join(b, "bob", 0, 100)
			w.send(a, "bob", numbered("kept", 4)...)
			s.want(numbered("kept", 4)...)
			f.detach()
			w.send(a, "bob", numbered("lost", 3)...)
			last := s.want(numbered("lost", 3)...)
			b.end()
			f.over()
			w.until(a, "bob", numbered("new", after)...)

			c := w.node("c")
			m, s := w.join(c, "bob", last, 100)
			if !m.RolledBack() {
				t.Error("the client is not told")
			}
			s.want(numbered("new", after)...)
			w.until(a, "bob", "last")
			seq := s.want("last")
			if seq <= last {
				t.Errorf("got seq %d, the client has %d", seq, last)
			}
			if err := m.Ack(context.Background(), seq); err != nil {
				t.Fatal(err)
			}
			if n := f.rdb.XLen(context.Background(), w.keys().mailbox("bob")).Val(); n != 0 {
				t.Errorf("%d messages are left after an ack of all", n)
			}
		})
	}
}

// As TestLostTail, with the socket open all the time. The client acknowledges
// numbers that this Redis has not given, or not for those messages: no undelivered
// message is trimmed.
func TestLostTailUnderLiveSocket(t *testing.T) {
	t.Parallel()
	f := startFailover(t)
	w := newWorld(t, f.rdb, redistest.Prefix())
	a, b := w.node("a"), w.node("b")
	m, s := w.join(b, "bob", 0, 3)
	w.send(a, "bob", numbered("kept", 4)...)
	s.want(numbered("kept", 4)...)
	f.detach()
	w.send(a, "bob", numbered("lost", 3)...) // the socket is full of them
	w.eventually("offered", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.queue) == 3 })
	f.over()
	w.until(a, "bob", numbered("new", 5)...)
	w.eventually("an ack of what was lost", func() bool {
		return m.Ack(context.Background(), m.offered.Load()) == nil
	})
	s.want(append(numbered("lost", 3), numbered("new", 5)...)...)
	w.until(a, "bob", "last")
	s.want("last")
	if s.isClosed() {
		t.Error("the socket was closed")
	}
}

// Redis is started with an older file. Connected and returning members get all
// messages sent from then on.
func TestOlderFileRestored(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t, "--appendfsync", "always")
	rdb := server.Client(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a := w.node("a")
	ctx := context.Background()
	_, alice := w.join(a, "alice", 0, 100)
	_, bob := w.join(a, "bob", 0, 100)
	w.send(a, "alice", numbered("kept", 5)...)
	w.send(a, "bob", numbered("kept", 5)...)
	alice.want(numbered("kept", 5)...)
	bob.want(numbered("kept", 5)...)
	dir := rdb.ConfigGet(ctx, "dir").Val()["dir"]
	backup := filepath.Join(dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(dir, "appendonlydir"))); err != nil {
		t.Fatal(err)
	}
	w.send(a, "alice", numbered("lost", 20)...)
	w.send(a, "bob", numbered("lost", 20)...)
	alice.want(numbered("lost", 20)...)
	last := bob.want(numbered("lost", 20)...)
	bob.close()

	server.Kill()
	if err := os.RemoveAll(filepath.Join(dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, filepath.Join(dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	server.Restart(t)
	w.until(a, "bob", numbered("b", 40)...)
	w.until(a, "alice", numbered("a", 40)...)
	alice.want(numbered("a", 40)...)
	m, again := w.join(a, "bob", last, 100)
	if !m.RolledBack() {
		t.Error("the client is not told")
	}
	again.want(numbered("b", 40)...)
	w.until(a, "bob", "end")
	again.want("end")
}

// A client has numbers of a wholly lost generation: what it has of others is
// unknown, so everything is delivered.
func TestLostGeneration(t *testing.T) {
	t.Parallel()
	f := startFailover(t)
	w := newWorld(t, f.rdb, redistest.Prefix())
	a := w.node("a")
	w.send(a, "bob", numbered("first", 4)...)
	f.detach()
	_, s := w.join(a, "bob", 0, 100)
	w.send(a, "bob", "lost")
	last := s.want(append(numbered("first", 4), "lost")...)
	s.close()
	a.end()
	f.over()
	c := w.node("c")
	w.until(c, "bob", "second") // begins a generation
	lost := last + 1<<40        // of another generation
	m, s := w.join(c, "bob", lost, 100)
	if !m.RolledBack() {
		t.Error("the client is not told")
	}
	if seq := s.want(append(numbered("first", 4), "second")...); seq <= lost {
		t.Errorf("got seq %d, the client has %d", seq, lost)
	}
	w.until(c, "bob", "last")
	s.want("last")
}
