package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	leaseTTL = 6 * time.Second  // of a node, as package cluster presets it
	healedIn = 10 * time.Second // after memory is available again
)

// fill makes a Redis full: its data exceeds its limit.
func fill(t *testing.T, rdb redis.Cmdable) {
	t.Helper()
	if err := rdb.ConfigSet(context.Background(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(context.Background(), "one more", "x", 0).Err(); err == nil || !redis.HasErrorPrefix(err, "OOM") {
		t.Fatalf("it is not full: %v", err)
	}
}

// makeRoom ends that.
func makeRoom(t *testing.T, rdb redis.Cmdable) time.Time {
	t.Helper()
	if err := rdb.ConfigSet(context.Background(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	return time.Now()
}

// storage is a node's report about storage, in its readiness.
func (c *testCluster) storage(n *process) string {
	status, health := c.call(n, "GET", "/readyz", "", nil)
	if status != http.StatusOK {
		return fmt.Sprint(status, health)
	}
	return fmt.Sprint(health["storage"])
}

// full waits until all nodes have noticed.
func (c *testCluster) full() {
	c.t.Helper()
	for _, n := range c.nodes {
		eventually(c.t, "the node knows that Redis is full", func() bool { return c.storage(n) == "full" })
	}
}

// TestFullRedis fills Redis on purpose, for longer than a node's lease: all clients
// stay connected and can read, running sessions end, and it recovers by itself.
func TestFullRedis(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	c := newCluster(t, rdb, redistest.Prefix(), flags(withKEK, []string{"--redis-memory-reserve", "10"})...)
	c.start()
	c.start()
	f := &fullRedis{t: t, c: c, rdb: rdb, cfg: node.Config{Redis: c.url, RedisPrefix: c.prefix}}
	f.before()
	fill(t, rdb)
	c.full()
	began := time.Now()
	f.reads()
	f.refuses()
	f.ends()
	f.joins()
	f.restarts()
	eventually(t, "a lease has passed", func() bool { f.connected(); return time.Since(began) > leaseTTL+2*time.Second })
	f.after(makeRoom(t, rdb))
}

// fullRedis is the state of TestFullRedis.
type fullRedis struct {
	t        *testing.T
	c        *testCluster
	rdb      redis.UniversalClient
	cfg      node.Config
	g        *parts
	late     *seedClient // away until Redis is full
	token    string      // alice's
	expiring string      // sessions that are open when it is full
	doomed   string
	sockets  map[*seedClient]any
}

const fullPassword = "long enough a password"

func (f *fullRedis) before() {
	t, c := f.t, f.c
	for _, user := range []string{"erin", "mallory"} {
		accountstest.AddUser(t, f.rdb, c.prefix, user, fullPassword, wire.RoleCoordinator)
	}
	f.g = gatherParts(t, c)
	f.g.keygen(t)
	f.g.sign(t, "while there is room", 1, 3)
	f.token = f.g.coordinator.token
	f.late = f.g.p[2]
	f.late.drop()
	ask := func(data string, expires int) string {
		f.g.coordinator.send("sign_request", object{"key_id": f.g.keyID, "data": data, "expires_in": expires})
		id := fmt.Sprint(f.g.p[1].expect("sign_invite")["session_id"])
		f.g.p[3].expect("sign_invite")
		return id
	}
	f.expiring, f.doomed = ask("expires", 5), ask("is cancelled", 600)
	f.sockets = map[*seedClient]any{f.g.coordinator: f.g.coordinator.ws, f.g.p[1]: f.g.p[1].ws, f.g.p[3]: f.g.p[3].ws}
}

// connected checks that sockets are unchanged, and nodes ready.
func (f *fullRedis) connected() {
	f.t.Helper()
	for s, ws := range f.sockets {
		s.mu.Lock()
		if s.closed != nil || any(s.ws) != ws {
			f.t.Fatalf("%s's socket is closed: %v", s.user, s.closed)
		}
		s.mu.Unlock()
	}
	for i, n := range f.c.nodes {
		if status := n.status("/readyz"); status != http.StatusOK {
			f.t.Fatalf("node %d: /readyz is %d", i+1, status)
		}
	}
}

func (f *fullRedis) reads() {
	t, c := f.t, f.c
	t.Helper()
	for _, n := range c.nodes {
		for _, path := range []string{"/v1/keys", "/v1/keys/" + f.g.keyID, "/v1/sessions", "/v1/sessions/" + f.doomed + "?wait=1s", "/v1/nodes"} {
			if status, answer := c.call(n, "GET", path, f.token, nil); status != http.StatusOK {
				t.Errorf("GET %s: %d %v", path, status, answer)
			}
		}
		for _, user := range []string{partNames[1], partNames[3], "alice"} {
			if _, answer := c.call(n, "GET", "/v1/presence/"+user, f.token, nil); answer["online"] != true {
				t.Errorf("presence of %s: %v", user, answer)
			}
		}
		if status, answer := c.call(n, "POST", "/v1/login", "", object{"username": "erin", "password": fullPassword}); status != http.StatusOK {
			t.Errorf("login: %d %v", status, answer)
		}
	}
}

func (f *fullRedis) refuses() {
	t, c := f.t, f.c
	t.Helper()
	f.g.coordinator.send("sign_request", object{"key_id": f.g.keyID, "data": "no room"})
	if e := f.g.coordinator.expectError(wire.CodeStorageFull); e["temporary"] != true {
		t.Errorf("sign_request: %v", e)
	}
	f.g.coordinator.send("keygen_request", object{"key_id": "no-room", "threshold": 2, "total_parts": 3, "participants": partNames[1:]})
	f.g.coordinator.expectError(wire.CodeStorageFull)
	for path, body := range map[string]object{
		"/v1/keys": {"threshold": 2, "total_parts": 3, "participants": partNames[1:]},
		"/v1/keys/" + f.g.keyID + "/signatures?start=true": {"data": "no room here"},
	} {
		if status, answer := c.call(c.nodes[1], "POST", path, f.token, body); status != http.StatusInsufficientStorage || answer["code"] != "storage_full" {
			t.Errorf("POST %s: %d %v", path, status, answer)
		}
	}
	err := node.AddUser(context.Background(), f.cfg, "frank", fullPassword, []string{"participant"}, false)
	var told *wire.Error
	if !errors.As(err, &told) || told.Code != wire.CodeStorageFull || !strings.Contains(told.Message, "maxmemory") {
		t.Errorf("user add: %v", err)
	}
}

// ends ends sessions and tokens, which must work on a full Redis.
func (f *fullRedis) ends() {
	t, c, ctx := f.t, f.c, context.Background()
	t.Helper()
	if status, answer := c.call(c.nodes[1], "DELETE", "/v1/sessions/"+f.doomed, f.token, nil); status != http.StatusOK || answer["phase"] != "cancelled" {
		t.Errorf("cancel: %d %v", status, answer)
	}
	eventually(t, "the other signing has expired", func() bool {
		_, answer := c.call(c.nodes[0], "GET", "/v1/sessions/"+f.expiring, f.token, nil)
		if answer["phase"] != "expired" {
			return false
		}
		if reason := fmt.Sprint(answer["reason"]); answer["culprits"] != nil || !strings.Contains(reason, "storage was full") {
			t.Errorf("it blames: %v", answer)
		}
		return true
	})
	eventually(t, "ended signings are no longer open on the key", func() bool {
		open := f.rdb.HGetAll(ctx, c.prefix+"key:{"+f.g.keyID+"}").Val()
		return open["open:"+f.doomed] == "" && open["open:"+f.expiring] == ""
	})
	_, login := c.call(c.nodes[0], "POST", "/v1/login", "", object{"username": "mallory", "password": fullPassword})
	if err := node.SetUserDisabled(ctx, f.cfg, "mallory", true); err != nil {
		t.Errorf("disable an account: %v", err)
	}
	for _, n := range c.nodes {
		eventually(t, "the token is revoked", func() bool {
			status, _ := c.call(n, "GET", "/v1/keys", fmt.Sprint(login["token"]), nil)
			return status == http.StatusUnauthorized
		})
	}
}

// joins has an absent client connect, and acknowledge.
func (f *fullRedis) joins() {
	t := f.t
	t.Helper()
	ctx, box := context.Background(), f.c.prefix+"mailbox:{"+partNames[2]+"}"
	if n := f.rdb.XLen(ctx, box).Val(); n < 2 {
		t.Fatalf("%d messages wait", n)
	}
	f.late.dial(f.c.nodes[0])
	f.late.send("register", object{"user_id": f.late.user, "role": f.late.role, "identity": "a new one"})
	f.late.expect("register_confirm")
	f.sockets[f.late] = f.late.ws
	for range 2 {
		f.late.expect("sign_invite")
	}
	eventually(t, "what was acknowledged is freed", func() bool { return f.rdb.XLen(ctx, box).Val() == 0 })
}

// restarts kills a node and starts it again. Its clients go to the other, and back.
func (f *fullRedis) restarts() {
	t, c := f.t, f.c
	t.Helper()
	c.nodes[1].kill()
	c.revive()
	c.full()
	for _, s := range []*seedClient{f.g.p[1], f.g.p[3]} {
		s.connect(c.nodes[1])
		f.sockets[s] = s.ws
	}
}

func (f *fullRedis) after(room time.Time) {
	t := f.t
	t.Helper()
	// Their ends reach all: alice's outcomes, the participants' notices.
	for _, s := range []*seedClient{f.g.p[1], f.late, f.g.p[3]} {
		for _, id := range []string{f.expiring, f.doomed} {
			s.take("the end of "+id, func(m wire.Message) bool {
				return m.Type == wire.TypeSessionEnded && strings.Contains(string(m.Payload), id)
			})
		}
	}
	var told []string
	for range 2 {
		told = append(told, fmt.Sprint(f.g.coordinator.expect("sign_complete")["status"]))
	}
	slices.Sort(told)
	if !slices.Equal(told, []string{"cancelled", "expired"}) {
		t.Errorf("alice is told %v", told)
	}
	for _, n := range f.c.nodes {
		eventually(t, "the node knows that there is room", func() bool { return f.c.storage(n) == "<nil>" })
	}
	f.g.sign(t, "there is room again", 1, 2)
	if took := time.Since(room); took > healedIn {
		t.Errorf("it took %s to heal", took)
	}
	f.connected()
	f.c.endsAudited(f.c.nodes[0])
}

// TestFullRedisWhileSigning fills Redis in the middle of a signing of real parties,
// for longer than they wait for each other: the same signers try again, and no
// culprit is named. A request is refused at once, and not held back.
func TestFullRedisWhileSigning(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	c := newCluster(t, rdb, redistest.Prefix(), "--sign-timeout", "4s")
	c.start()
	c.start()
	m := c.crew()
	key := m.keygen(pubkey.Ed25519)
	var once sync.Once
	filled := make(chan struct{})
	for _, p := range m.p {
		p.observe(func(ev client.Event) {
			if _, ok := ev.(participant.Started); ok {
				once.Do(func() { fill(t, rdb); close(filled) })
			}
		})
	}
	type answer struct {
		sig client.Signature
		err error
	}
	signed := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	defer cancel()
	go func() {
		sig, err := m.asks.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "hindered", Participants: []string{"bob", "carol"}})
		signed <- answer{sig, err}
	}()
	<-filled
	c.full()
	_, err := m.asks.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "refused"})
	if !errors.Is(err, wire.Errorf(wire.CodeStorageFull, "")) {
		t.Errorf("another: %v", err)
	}
	began := time.Now()
	eventually(t, "the signers' time has passed", func() bool { return time.Since(began) > 7*time.Second })
	room := makeRoom(t, rdb)
	got := <-signed
	if got.err != nil {
		t.Fatalf("the signing that was hindered: %v", got.err)
	}
	independent(t, key, "hindered", got.sig.Signature)
	if len(got.sig.Culprits) > 0 {
		t.Errorf("it blames %v", got.sig.Culprits)
	}
	eventually(t, "the nodes know that there is room", func() bool {
		_, err := m.trySign(key, "with room")
		if err != nil && !errors.Is(err, wire.Errorf(wire.CodeStorageFull, "")) {
			t.Fatalf("sign with room: %v", err)
		}
		return err == nil
	})
	if took := time.Since(room); took > healedIn {
		t.Errorf("it took %s to heal", took)
	}
}

// TestMemoryReserve checks that nodes refuse new requests before Redis does, but not
// running sessions.
func TestMemoryReserve(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	c := newCluster(t, rdb, redistest.Prefix(), flags(withKEK, []string{"--redis-memory-reserve", "50"})...)
	c.start()
	g := gatherParts(t, c)
	g.keygen(t)
	g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "begun", "participants": partNames[1:3]})
	for i := 1; i <= 2; i++ {
		g.p[i].expect("sign_invite")
	}
	ctx := context.Background()
	var used int
	if _, err := fmt.Sscan(rdb.InfoMap(ctx, "memory").Val()["Memory"]["used_memory"], &used); err != nil {
		t.Fatal(err)
	}
	if err := rdb.ConfigSet(ctx, "maxmemory", fmt.Sprint(used+used/2)).Err(); err != nil {
		t.Fatal(err)
	}
	c.full()
	g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "new"})
	g.coordinator.expectError(wire.CodeStorageFull)
	// A repeated request of an open session is not new.
	g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "begun", "participants": partNames[1:3]})
	for i := 1; i <= 2; i++ {
		g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	g.p[1].expect("sign_params")
	g.p[1].send("sign_result", object{"key_id": g.keyID, "part_index": 1, "signature": g.key.sign(t, "begun")})
	g.signed(t, "begun")
	if n := g.coordinator.count("error"); n != 1 {
		t.Errorf("alice has %d errors, want 1", n)
	}
	found := c.nodes[0].scrape()
	gauge := func(name string) float64 {
		return found["conclave_redis_memory_"+name].GetMetric()[0].GetGauge().GetValue()
	}
	if got, most := gauge("max_bytes"), float64(used+used/2); got != most {
		t.Errorf("the limit is %v, want %v", got, most)
	}
	if gauge("full") != 1 || gauge("used_bytes") < float64(used)/2 {
		t.Errorf("full is %v, used %v", gauge("full"), gauge("used_bytes"))
	}
	makeRoom(t, rdb)
	eventually(t, "there is room", func() bool { return c.storage(c.nodes[0]) == "<nil>" })
	g.sign(t, "new", 1, 3)
	for _, word := range []string{"redis is full, new sessions are refused", "redis has free memory again"} {
		if n := strings.Count(c.logs.String(), word); n != 1 {
			t.Errorf("the log says %d times %q", n, word)
		}
	}
}

// TestFullShard fills one master of a Redis Cluster, the one with the due list and
// then the one with the node's record: the effect is as if all were full.
func TestFullShard(t *testing.T) {
	inTurn(t, "shards", 2, 4)
	t.Parallel()
	shards := redistest.StartShards(t, 3, 0)
	c := newClusterAt(t, shards.URL(), wholeCluster{shards.Client(t)}, withKEK...)
	door := c.start()
	g := gatherPartsAt(t, c, door)
	g.keygen(t)
	for _, key := range []string{"sessions:due", "node:{n1}"} {
		full := shards.Master(t, c.prefix+key).Client(t)
		if err := full.ConfigSet(context.Background(), "maxmemory", "1mb").Err(); err != nil {
			t.Fatal(err)
		}
		c.full()
		began := time.Now()
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "no room on " + key})
		g.coordinator.expectError(wire.CodeStorageFull)
		eventually(t, "a lease has passed", func() bool {
			if status := door.status("/readyz"); status != http.StatusOK {
				t.Fatalf("/readyz is %d", status)
			}
			return time.Since(began) > leaseTTL+2*time.Second
		})
		room := makeRoom(t, full)
		eventually(t, "the node knows that there is room", func() bool { return c.storage(door) == "<nil>" })
		g.sign(t, "room on "+key, 1, 3)
		if took := time.Since(room); took > healedIn {
			t.Errorf("it took %s to heal", took)
		}
	}
}
