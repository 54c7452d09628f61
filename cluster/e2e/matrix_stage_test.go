package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// redisKind is the Redis that an act needs.
type redisKind int

const (
	onOne     redisKind = iota // one server
	onPair                     // a master and its replica, behind one address
	onShards                   // a Redis Cluster of three shards
	onDoubles                  // the same with replicas, which nodes wait for
)

// stage is the setting of an act: two nodes, each with its link to Redis unless that
// is a Redis Cluster, and users on both.
type stage struct {
	*arena
	act     act
	servers []*redistest.RealRedis // the master first
	shards  *redistest.Shards
	way     *link // of the test itself
	hooks   *receiver
	main    *group // signs
	early   *group // its keygen waits for an absent participant
	lost    *group // uses the lost writes; nil unless the act loses some
	backup  string // saved by an act
	dead    *redistest.RealRedis

	operator *redis.Conn // not affected by acts on connections
}

// stageFlags leave sessions more time than any act takes.
var stageFlags = []string{
	"--log-level", "info", "--invite-timeout", "2m", "--keygen-timeout", "2m", "--sign-timeout", "2m", "--absence-grace", "1m",
}

func newStage(t *testing.T, a act) *stage {
	t.Helper()
	w := &stage{act: a, arena: &arena{t: t, seed: 1, figures: newFigures(), within: 2 * time.Minute, docile: true, waits: true}}
	w.startRedis()
	secret := []byte("test-only secret of a webhook")
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.hooks = newReceiver(t, secret)
	flags := append(slices.Clone(stageFlags), "--webhook", w.hooks.URL, "--webhook-secret-file", file)
	if a.on == onDoubles {
		flags = append(flags, "--redis-wait-replicas", "1")
	}
	w.c = newClusterAt(t, w.url(), w.rdb, flags...)
	for range 2 {
		w.startNode()
	}
	w.life, w.end = context.WithCancel(context.Background())
	t.Cleanup(func() {
		w.end()
		w.lives.Wait()
		for _, n := range w.nodes {
			n.process().kill()
		}
	})
	w.main, w.early = w.gather(), w.gather()
	w.key(w.main)
	if a.loses {
		w.lost = w.gather()
		w.key(w.lost)
	}
	if a.prepare != nil {
		a.prepare(w)
	}
	w.load(0, time.Second)
	return w
}

func (w *stage) startRedis() {
	t := w.t
	t.Helper()
	if w.act.on == onShards || w.act.on == onDoubles {
		w.shards = redistest.StartShards(t, 3, int(w.act.on-onShards))
		w.rdb = wholeCluster{w.shards.Client(t)}
		return
	}
	args := []string{"--appendfsync", "always", "--repl-diskless-sync-delay", "0"}
	w.redis = redistest.StartRedis(t, args...)
	w.servers = []*redistest.RealRedis{w.redis}
	if w.act.on == onPair {
		host, port, _ := net.SplitHostPort(w.redis.Addr())
		w.servers = append(w.servers, redistest.StartRedis(t, append(args, "--replicaof", host+" "+port)...))
	}
	w.way = newLink(t, w.redis.Addr())
	opt, err := redis.ParseURL(w.way.url())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { _ = rdb.Close() })
	w.rdb = rdb
}

func (w *stage) url() string {
	if w.shards != nil {
		return w.shards.URL()
	}
	return w.way.url()
}

func (w *stage) startNode() {
	n := &arenaNode{a: w.arena, id: fmt.Sprintf("n%d", len(w.nodes)+1)}
	if w.shards == nil {
		n.link = newLink(w.t, w.redis.Addr())
		n.proc = w.c.start("--redis", n.link.url())
	} else {
		n.proc = w.c.start()
	}
	n.base = n.proc.base
	w.nodes = append(w.nodes, n)
}

// gather connects a group, half of it at each node.
func (w *stage) gather() *group {
	g := newGroup(w.arena, len(w.groups)+1)
	w.groups = append(w.groups, g)
	for i, s := range g.speakers() {
		s.patient = true
		s.bases = func() []string {
			if s.conns.Load() == 0 {
				return []string{w.nodes[i%len(w.nodes)].base}
			}
			return w.arena.bases()
		}
		w.lives.Go(func() { s.run(w.life) })
	}
	return g
}

func (w *stage) key(g *group) {
	w.t.Helper()
	within, cancel := context.WithTimeout(w.life, patience)
	defer cancel()
	if !g.keygen(within) {
		w.t.Fatalf("%s has no key to begin with", g.name)
	}
}

// late is the absent member of early during an act.
func (w *stage) late() *speaker { return w.early.members[0].speaker }

// ask requests a signature from a group and returns a channel for its outcome.
func (w *stage) ask(g *group, data string, expires int, by ...string) <-chan wire.Payload {
	outcome := make(chan wire.Payload, 1)
	p := &wire.SignRequest{KeyID: g.keys[0], Data: data, AccountAddr: g.key.address, Participants: by, ExpiresIn: expires}
	w.work.Go(func() { outcome <- g.request(w.life, p, g.key.sign(w.t, data)) })
	return outcome
}

// acked waits until a group's request has been accepted.
func (w *stage) acked(g *group) {
	w.t.Helper()
	eventually(w.t, "the request is taken", func() bool { return g.asks.unanswered() == 0 })
}

// call makes an HTTP call, and is not held up by a node that hangs.
func (w *stage) call(ctx context.Context, n *arenaNode, method, path, token string, body object) (int, object, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	if body == nil {
		raw = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, n.base+path, bytes.NewReader(raw))
	if err != nil {
		return 0, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	var answer object
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return resp.StatusCode, answer, err
}

// ended returns the final phases of the sessions that have ended, by id.
func (w *stage) ended() map[string]string {
	all := map[string]string{}
	for _, key := range w.keys("session:*") {
		if strings.HasSuffix(key, ":outbox") {
			continue
		}
		s := parseStored(w.rdb.HGetAll(context.Background(), key).Val())
		if s.status() != "" {
			all[inBraces(key)] = s.phase
		}
	}
	return all
}

// masters are clients of all servers that accept writes.
func (w *stage) masters() []redis.UniversalClient {
	if w.shards == nil {
		return []redis.UniversalClient{w.servers[0].Client(w.t)}
	}
	var all []redis.UniversalClient
	for _, r := range w.shards.Servers {
		all = append(all, r.Client(w.t))
	}
	return all
}

// everyRedis are clients of all servers, also of a replica, which receives its
// master's published messages.
func (w *stage) everyRedis() []redis.UniversalClient {
	all := w.masters()
	if w.act.on == onPair && !w.act.loses { // otherwise it is dead
		all = append(all, w.servers[1].Client(w.t))
	}
	return all
}

// tell sends a command to all masters.
func (w *stage) tell(args ...any) {
	w.t.Helper()
	for _, rdb := range w.masters() {
		if err := rdb.Do(context.Background(), args...).Err(); err != nil {
			w.t.Errorf("%v: %v", args, err)
		}
	}
}

// turn redirects all new connections to another server.
func (w *stage) turn(to *redistest.RealRedis) {
	for _, n := range w.nodes {
		n.link.turn(to.Addr())
	}
	w.way.turn(to.Addr())
}

// hold checks the conditions that must still hold when all probes have passed.
func (w *stage) hold() {
	w.t.Helper()
	for _, n := range w.nodes {
		if status := n.process().status("/readyz"); status != http.StatusOK {
			w.t.Errorf("%s: /readyz is %d again", n.id, status)
		}
	}
}
