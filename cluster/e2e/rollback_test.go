package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// redisDoor is one address in front of the current Redis master.
type redisDoor struct {
	listen net.Listener
	mu     sync.Mutex
	target string
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newRedisDoor(t *testing.T, target string) *redisDoor {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &redisDoor{listen: l, target: target}
	d.wg.Go(d.accept)
	t.Cleanup(func() {
		_ = l.Close()
		d.turn("")
		d.wg.Wait()
	})
	return d
}

func (d *redisDoor) url() string { return "redis://" + d.listen.Addr().String() + "/0" }

func (d *redisDoor) accept() {
	for {
		in, err := d.listen.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		out, err := net.Dial("tcp", d.target)
		if err != nil {
			_ = in.Close()
			d.mu.Unlock()
			continue
		}
		d.conns = append(d.conns, in, out)
		d.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			d.wg.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				_ = in.Close()
				_ = out.Close()
			})
		}
	}
}

// turn redirects all connections to another server.
func (d *redisDoor) turn(target string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = target
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

// invited reports whether a client received an invitation to sign data.
func (s *seedClient) invited(data string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.seen {
		if m.Type == wire.TypeSignInvite && strings.Contains(string(m.Payload), data) {
			return true
		}
	}
	return false
}

// resume registers again, on any node, after the newest seq that the client has.
func (s *seedClient) resume(n *process) (confirm object) {
	s.t.Helper()
	s.mu.Lock()
	var last uint64
	for _, m := range s.seen {
		last = max(last, m.Seq)
	}
	s.mu.Unlock()
	s.dial(n)
	s.send("register", object{"user_id": s.user, "role": s.role, "resume": object{"last_seq": last}})
	return s.expect("register_confirm")
}

// TestRolledBackRedis: a failover loses messages that clients have received, from
// seed clients, one absent, and a signing of real ones. Afterwards all are reached.
func TestRolledBackRedis(t *testing.T) {
	t.Parallel()
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	master := redistest.StartRedis(t)
	host, port, _ := net.SplitHostPort(master.Addr())
	replica := redistest.StartRedis(t, "--replicaof", host+" "+port)
	door := newRedisDoor(t, master.Addr())
	opt, err := redis.ParseURL(door.url())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	c := newClusterAt(t, door.url(), rdb, withKEK...)
	c.start()
	n2 := c.start()
	m := c.crew()
	key := m.keygen(pubkey.Ed25519)
	g := &parts{key: newFakeKey(t), keyID: "treasury.1", coordinator: c.client("zoe", wire.RoleCoordinator).connect(c.nodes[0])}
	for i := 1; i <= 3; i++ {
		g.p[i] = c.client(partNames[i], wire.RoleParticipant)
		g.p[i].resume(n2)
	}
	g.keygen(t)

	ctx := context.Background()
	eventually(t, "the replica is level", func() bool {
		n, err := rdb.Wait(ctx, 1, 0).Result()
		return err == nil && n == 1
	})
	if err := replica.Client(t).Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	away := g.p[2]
	ask := func(data string) {
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": data, "account_addr": g.key.address, "participants": partNames[2:]})
	}
	m.sign(key, "lost", "bob", "carol")
	for i := range 3 {
		ask(fmt.Sprint("lost-", i))
		eventually(t, "invited", func() bool { return away.invited(fmt.Sprint("lost-", i)) })
	}
	away.drop()
	door.turn(replica.Addr())
	master.Kill()
	for _, n := range c.nodes {
		eventually(t, "ready again", func() bool { return n.status("/readyz") == http.StatusOK })
	}
	for i := range 3 {
		data := fmt.Sprint("after-", i)
		eventually(t, "the others are invited", func() bool {
			ask(data) // again: it is the same signing
			return g.p[3].invited(data)
		})
	}
	if confirm := away.resume(n2); confirm["rolled_back"] != true {
		t.Errorf("register_confirm %v does not say that what the client had is lost", confirm)
	}
	for i := range 3 {
		eventually(t, "the one who was away is invited", func() bool { return away.invited(fmt.Sprint("after-", i)) })
	}
	for i := range 3 {
		if sig := m.sign(key, fmt.Sprint("after-", i), "bob", "carol"); len(sig.Culprits) > 0 {
			t.Errorf("the signature blames %v", sig.Culprits)
		}
	}
}
