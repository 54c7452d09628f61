package e2e_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// mpcWithin bounds one keygen or signing, with the race detector on a busy
// machine.
const mpcWithin = 6 * time.Minute

// fixtures is a PreParamsSource of test-only sets.
type fixtures struct {
	t    *testing.T
	next int
}

func (f *fixtures) Run(ctx context.Context, _ func(found, of int)) { <-ctx.Done() }
func (f *fixtures) Want()                                          {}
func (f *fixtures) Release()                                       {}
func (f *fixtures) Take(context.Context) (*preparams.Set, error) {
	return partytest.PreParams(f.t, f.next), nil
}

// real is a user with the real client.
type real struct {
	*client.Client
	user     string
	identity *identity.Identity
	store    *participant.MemStore
	stop     func() // ends it as a crash would: without a close frame; returns when it has ended

	mu    sync.Mutex
	node  string
	watch func(client.Event)
}

// join connects a user with the real client, first to the given node. A
// participant approves requests signed by a coordinator that joined.
func (c *testCluster) join(user string, role wire.Role, first, fixture int) *real {
	c.t.Helper()
	return c.joinApproving(user, role, first, fixture, participant.ApproveAll)
}

func (c *testCluster) joinApproving(user string, role wire.Role, first, fixture int, approve participant.Approver) *real {
	c.t.Helper()
	var urls []string
	for i := range c.nodes {
		urls = append(urls, c.nodes[(first+i)%len(c.nodes)].base)
	}
	r := &real{user: user, store: new(participant.MemStore)}
	cfg := client.Config{
		URLs: urls, Role: role, Identity: partytest.Identity(c.t), Trust: trust.Of(r.store),
	}
	part := participant.Config{
		Approve: approve, Shares: r.store, PreParams: &fixtures{t: c.t, next: fixture},
		SignSilence: 5 * time.Second, KeygenSilence: time.Minute,
	}
	if c.computes {
		part.SignSilence, part.KeygenSilence = mpcWithin, mpcWithin
	}
	c.introduce(r, role, cfg.Identity.Public().Fingerprint())
	c.enter(r, cfg, part)
	return r
}

// enter connects a user with the real client, with its Config except for token and
// events, and waits until it has registered. part is for participants.
func (c *testCluster) enter(r *real, cfg client.Config, part participant.Config) {
	c.t.Helper()
	r.identity = cfg.Identity
	cfg.Token, cfg.OnEvent = client.StaticToken(c.token(r.user, cfg.Role)), r.happened
	var err error
	if r.Client, err = client.New(cfg); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if cfg.Role == wire.RoleParticipant {
			_ = participant.Serve(ctx, r.Client, part)
		} else {
			_ = r.Run(ctx)
		}
	}()
	r.stop = func() { cancel(); <-done }
	c.t.Cleanup(r.stop)
	waiting, cancelWait := context.WithTimeout(ctx, patience)
	defer cancelWait()
	if err := r.WaitConnected(waiting); err != nil {
		c.t.Fatalf("%s: %v", r.user, err)
	}
}

// acquaintance is the set of identities that a cluster's real clients know.
type acquaintance struct {
	pins   map[string]string       // fingerprints of coordinators
	stores []*participant.MemStore // of participants
}

// introduce lets every participant pin the identity of every coordinator.
func (c *testCluster) introduce(r *real, role wire.Role, fingerprint string) {
	c.t.Helper()
	if c.met.pins == nil {
		c.met.pins = map[string]string{}
	}
	pin := func(s *participant.MemStore, user, fingerprint string) {
		if err := s.Pin(user, fingerprint); err != nil {
			c.t.Fatal(err)
		}
	}
	if role == wire.RoleParticipant {
		c.met.stores = append(c.met.stores, r.store)
		for user, fingerprint := range c.met.pins {
			pin(r.store, user, fingerprint)
		}
		return
	}
	c.met.pins[r.user] = fingerprint
	for _, s := range c.met.stores {
		pin(s, r.user, fingerprint)
	}
}

func (r *real) happened(ev client.Event) {
	r.mu.Lock()
	if c, ok := ev.(client.Connected); ok {
		r.node = c.Node
	}
	watch := r.watch
	r.mu.Unlock()
	if watch != nil {
		watch(ev)
	}
}

func (r *real) observe(watch func(client.Event)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watch = watch
}

func (r *real) at() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.node
}

// crew is a coordinator and three participants with the real client.
type crew struct {
	c    *testCluster
	asks *real
	p    []*real
}

func (c *testCluster) crew() *crew {
	c.t.Helper()
	m := &crew{c: c, asks: c.join("alice", wire.RoleCoordinator, 0, 0)}
	for i, user := range []string{"bob", "carol", "dave"} {
		m.p = append(m.p, c.join(user, wire.RoleParticipant, i, i))
	}
	return m
}

// stop stops all clients.
func (m *crew) stop() {
	m.asks.stop()
	for _, p := range m.p {
		p.stop()
	}
}

func (m *crew) keygen(curve pubkey.Curve) client.Key {
	m.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	defer cancel()
	key, err := m.asks.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: curve})
	if err != nil {
		m.c.t.Fatalf("keygen: %v", err)
	}
	return key
}

func (m *crew) sign(key client.Key, data string, participants ...string) client.Signature {
	m.c.t.Helper()
	sig, err := m.trySign(key, data, participants...)
	if err != nil {
		m.c.t.Fatalf("sign %q: %v", data, err)
	}
	independent(m.c.t, key, data, sig.Signature)
	return sig
}

func (m *crew) trySign(key client.Key, data string, participants ...string) (client.Signature, error) {
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	defer cancel()
	return m.asks.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data, Participants: participants})
}

// independent checks a signature with code that was not used in making it.
func independent(t *testing.T, key client.Key, data, signature string) {
	t.Helper()
	raw, err := pubkey.Decode(signature)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := pubkey.Decode(key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if key.Curve == pubkey.Ed25519 {
		if !ed25519.Verify(pub, []byte(data), raw) {
			t.Errorf("crypto/ed25519 refuses the signature over %q", data)
		}
		return
	}
	digest, _, err := pubkey.Digest(key.Curve, data, "")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := secp256k1.ParsePubKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	var r, s secp256k1.ModNScalar
	r.SetByteSlice(raw[:32])
	s.SetByteSlice(raw[32:64])
	if !ecdsa.NewSignature(&r, &s).Verify(digest, parsed) {
		t.Errorf("secp256k1 refuses the signature over %q", data)
	}
}

// onBest runs a test of expensive MPC once: on a real Redis if installed. In the
// sample the demonstration covers it (cmd/conclave-demo), which generates a 2-of-3
// key, signs, and kills a node in the middle of a signing.
func onBest(t *testing.T, nodes int, test func(t *testing.T, c *testCluster)) {
	t.Helper()
	if !sample.Full() {
		t.Skip(sample.Reason)
	}
	var rdb redis.UniversalClient
	if redistest.HasReal() {
		rdb = redistest.Real(t)
	} else {
		rdb = redistest.Mini(t)
	}
	c := newCluster(t, rdb, redistest.Prefix(), "--keygen-timeout", mpcWithin.String(), "--sign-timeout", mpcWithin.String())
	c.computes = true
	for range nodes {
		c.start()
	}
	test(t, c)
}

func TestMPCEd25519(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, nil, func(t *testing.T, c *testCluster) {
		m := c.crew()
		key := m.keygen(pubkey.Ed25519)
		for _, quorum := range [][]string{{"bob", "carol"}, {"bob", "dave"}, {"carol", "dave"}, nil} {
			m.sign(key, "ed25519 by "+strings.Join(quorum, " and "), quorum...)
		}
		m.nothingReadable()
	})
}

func TestMPCSecp256k1(t *testing.T) {
	t.Parallel()
	onBest(t, 3, func(t *testing.T, c *testCluster) {
		m := c.crew()
		key := m.keygen(pubkey.Secp256k1)
		for _, quorum := range [][]string{{"bob", "carol"}, {"bob", "dave"}, {"carol", "dave"}, nil} {
			m.sign(key, "secp256k1 by "+strings.Join(quorum, " and "), quorum...)
		}
		for _, round := range []int{1, 3, 5, 8} {
			m.signThroughKill(key, fmt.Sprintf("killed in round %d", round), round)
		}
		m.nothingReadable()
	})
}

// nothingReadable searches the servers' data for content of tss-lib: all bodies and
// shares are sealed.
func (m *crew) nothingReadable() {
	m.c.t.Helper()
	for key, content := range m.c.everything() {
		for _, secret := range []string{"PaillierSK", "ShareID", `"Xi"`, "type.googleapis.com", "binance.tsslib"} {
			if strings.Contains(content, secret) {
				m.c.t.Errorf("%s holds %s in the clear", key, secret)
			}
		}
	}
}

// signThroughKill signs, and kills -9 the node that holds the first signer's socket
// when that signer is in the given round.
func (m *crew) signThroughKill(key client.Key, data string, round int) {
	m.c.t.Helper()
	var once sync.Once
	killed := make(chan struct{})
	for _, p := range m.p {
		p.observe(func(ev client.Event) {
			if r, ok := ev.(participant.Round); ok && r.N >= round {
				once.Do(func() { m.c.node(p.at()).kill(); close(killed) })
			}
		})
	}
	m.sign(key, data)
	for _, p := range m.p {
		p.observe(nil)
	}
	select {
	case <-killed:
	default:
		m.c.t.Errorf("no node was killed in round %d", round)
	}
	m.c.revive()
}

// node returns the newest process of that id.
func (c *testCluster) node(id string) *process {
	var number int
	if _, err := fmt.Sscanf(id, "n%d", &number); err != nil || number > len(c.nodes) {
		c.t.Fatalf("no node %q", id)
	}
	return c.nodes[number-1]
}

// revive starts dead nodes again, under their ids and addresses.
func (c *testCluster) revive() {
	c.t.Helper()
	for i, n := range c.nodes {
		select {
		case <-n.done:
		default:
			continue
		}
		all := c.nodes
		c.nodes = c.nodes[:i:i]
		again := c.start("--listen", strings.TrimPrefix(n.base, "http://"))
		c.nodes = slices.Clone(all)
		c.nodes[i] = again
	}
}

// TestMPCKilledInEveryRound kills the node of a party in every round of keygen
// and of signing, on ed25519, whose rounds are quick.
func TestMPCKilledInEveryRound(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, nil, func(t *testing.T, c *testCluster) {
		m := c.crew()
		var key client.Key
		for round := 1; round <= 2; round++ {
			var once sync.Once
			for _, p := range m.p {
				p.observe(func(ev client.Event) {
					if r, ok := ev.(participant.Round); ok && r.N >= round {
						once.Do(func() { c.node(p.at()).kill() })
					}
				})
			}
			key = m.keygen(pubkey.Ed25519)
			c.revive()
		}
		for round := 1; round <= 3; round++ {
			m.signThroughKill(key, fmt.Sprintf("round %d", round), round)
		}
		c.settled()
	})
}

// TestMPCSignerDies kills a signer's process in the middle of a signing; another
// acceptor takes its place.
func TestMPCSignerDies(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		m := c.crew()
		key := m.keygen(pubkey.Ed25519)
		died := make(chan struct{})
		var once sync.Once
		for _, p := range m.p {
			p.observe(func(ev client.Event) {
				if _, ok := ev.(participant.Started); ok {
					once.Do(func() {
						go func() { p.stop(); close(died) }()
					})
				}
			})
		}
		m.sign(key, "one of us is gone")
		<-died
	})
}
