package participant

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

func TestMain(m *testing.M) {
	sample.Idling()
	// tss-lib's logger starts one goroutine with the program, and never ends it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"))
}

// fixtures is a PreParamsSource of made sets.
type fixtures struct {
	t *testing.T
	i int
}

func (f fixtures) Run(ctx context.Context, _ func(int, int)) { <-ctx.Done() }
func (f fixtures) Want()                                     {}
func (f fixtures) Release()                                  {}
func (f fixtures) Take(context.Context) (*preparams.Set, error) {
	return partytest.PreParams(f.t, f.i), nil
}

// peer is one participant, which a test can stop and start again.
type peer struct {
	t        *testing.T
	f        *clienttest.Server
	user     string
	identity *identity.Identity
	store    testStore
	approve  Approver
	change   func(*Config)
	dial     func(*client.Config)
	logs     clienttest.Lines

	mu     sync.Mutex
	events []request.Event
	stop   context.CancelFunc
	result chan error
}

// testStore is all stores that a test's participant needs.
type testStore interface {
	ShareStore
	Journal
	trust.Store
	Pin(user, fingerprint string) error
}

// coordinatorIdentity is that of every test's coordinator, pinned by its
// participants.
var coordinatorIdentity = sync.OnceValue(func() *identity.Identity {
	id, err := identity.New()
	if err != nil {
		panic(err)
	}
	return id
})

func newPeer(t *testing.T, f *clienttest.Server, user string) *peer {
	return &peer{t: t, f: f, user: user, identity: partytest.Identity(t), store: &MemStore{}, approve: ApproveAll}
}

func (p *peer) start() *peer {
	p.t.Helper()
	log := zerolog.New(&p.logs).Level(zerolog.DebugLevel)
	cfg := client.Config{
		URLs: []string{p.f.URL}, Token: rest.StaticToken(clienttest.Token(p.user, "")), Identity: p.identity, Log: &log,
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		OnEvent: func(e request.Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		},
	}
	part := Config{
		Approve: p.approve, Shares: p.store, Concurrency: 1, PreParams: fixtures{p.t, int(p.user[0]) % partytest.Sets},
	}
	if p.change != nil {
		p.change(&part)
	}
	if p.dial != nil {
		p.dial(&cfg)
	}
	if err := p.store.Pin("coord", coordinatorIdentity().Public().Fingerprint()); err != nil {
		p.t.Fatal(err)
	}
	c, err := client.New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.result = stop, make(chan error, 1)
	go func() { p.result <- Serve(ctx, c, part) }()
	p.t.Cleanup(p.end)
	if err := c.WaitConnected(clienttest.Within(p.t)); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// end stops the participant as a signal would; a second call does nothing.
func (p *peer) end() {
	p.stop()
	if p.result != nil {
		if err := <-p.result; err != nil {
			p.t.Errorf("%s: Serve returned %v", p.user, err)
		}
		p.result = nil
	}
}

func count[E request.Event](p *peer) int { return len(all[E](p)) }

func all[E request.Event](p *peer) []E {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []E
	for _, e := range p.events {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

func coordinator(t *testing.T, f *clienttest.Server) *client.Client {
	t.Helper()
	return coordinatorWith(t, f, nil)
}

func coordinatorWith(t *testing.T, f *clienttest.Server, change func(*client.Config)) *client.Client {
	t.Helper()
	cfg := client.Config{
		URLs: []string{f.URL}, Token: rest.StaticToken(clienttest.Token("coord", "")), RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Identity: coordinatorIdentity(),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := client.Dial(clienttest.Within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("coordinator: %v", err)
		}
	})
	return c
}

var names = []string{"alice", "bob", "carol"}

// trio is three participants and a coordinator.
func trio(t *testing.T) (*clienttest.Server, []*peer, *client.Client) {
	t.Helper()
	f, peers := three(t)
	return f, peers, coordinator(t, f)
}

func three(t *testing.T) (*clienttest.Server, []*peer) {
	t.Helper()
	f := clienttest.New(t)
	var peers []*peer
	for _, name := range names {
		peers = append(peers, newPeer(t, f, name).start())
	}
	return f, peers
}

// made is a key of names, 2 of 3 on ed25519, made once for all tests.
var made struct {
	sync.Once
	identities [3]*identity.Identity
	shares     [3]string
	public     share.Public
}

func makeOnce(t *testing.T) {
	made.Do(func() {
		b := party.Binding{SessionID: "made", Attempt: 1, KeyID: "made", Curve: pubkey.Ed25519, Threshold: 2, TotalParts: 3}
		for i, name := range names {
			made.identities[i] = partytest.Identity(t)
			b.Parties = append(b.Parties, identity.Member{Index: i + 1, User: name, Identity: made.identities[i].Public()})
		}
		runs := map[int]*party.Run{}
		for i, id := range made.identities {
			b.Self = i + 1
			run, err := party.NewKeygen(party.KeygenConfig{Binding: b, Identity: id, Concurrency: 1})
			if err != nil {
				t.Fatal(err)
			}
			runs[i+1] = run
		}
		partytest.NewNetwork(t, runs).Wait()
		for i, id := range made.identities {
			text, err := runs[i+1].Share().Seal(id.Recipient())
			if err != nil {
				t.Fatal(err)
			}
			made.shares[i] = text
		}
		made.public = runs[1].Share().Public()
	})
	if made.public.KeyID == "" {
		t.Fatal("the key of all tests could not be made")
	}
}

// trioWithKey is a trio that holds a key already. Change, if not nil, is applied
// to the participants' configurations.
func trioWithKey(t *testing.T, change func(*Config)) (*clienttest.Server, []*peer, *client.Client, request.Key) {
	t.Helper()
	f, peers, key := threeWithKey(t, change)
	return f, peers, coordinator(t, f), key
}

func threeWithKey(t *testing.T, change func(*Config)) (*clienttest.Server, []*peer, request.Key) {
	t.Helper()
	makeOnce(t)
	f := clienttest.New(t)
	var peers []*peer
	s := session.Session{
		ID: "made", Kind: session.Keygen, Phase: session.Completed, KeyID: "made", Curve: pubkey.Ed25519, Threshold: 2,
		AccountAddr: made.public.AccountAddr, PublicKey: made.public.PublicKey,
	}
	for i, name := range names {
		p := newPeer(t, f, name)
		p.identity, p.change = made.identities[i], change
		if err := p.store.Put(context.Background(), made.shares[i]); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, p.start())
		s.Parties = append(s.Parties, session.Party{User: name})
		f.Mu.Lock()
		f.Shares[fmt.Sprint("made/", i+1)] = made.shares[i]
		f.Mu.Unlock()
	}
	f.Mu.Lock()
	f.Keys["made"] = s
	f.Mu.Unlock()
	return f, peers, request.Key{KeyID: "made", Curve: pubkey.Ed25519, AccountAddr: s.AccountAddr, PublicKey: s.PublicKey}
}

func makeKey(t *testing.T, c *client.Client, curve pubkey.Curve) request.Key {
	t.Helper()
	key, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: curve})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// DiskStore is a store of package dirstore, which imports this one: see
// disk_test.go.
type DiskStore interface {
	testStore
	EvidenceStore
	Close() error
}

// Set by disk_test.go.
var (
	TestingOpenStore     func(dir string) (DiskStore, error)
	TestingOpenPreParams func(dir string, id *identity.Identity) (PreParamsStore, error)
)

func dirStore(t *testing.T, dir string) DiskStore {
	t.Helper()
	s, err := TestingOpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
