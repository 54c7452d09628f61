package client

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
)

func TestMain(m *testing.M) {
	sample.Idling()
	// tss-lib's logger starts one goroutine when the program does, and never ends it.
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
	f        *fake
	user     string
	identity *identity.Identity
	store    Store
	approve  Approver
	change   func(*Config)
	logs     lines

	mu     sync.Mutex
	events []Event
	stop   context.CancelFunc
	result chan error
}

// Store is what a test's participant needs to keep.
type Store interface {
	ShareStore
	Journal
	Truster
	KnownStore
}

// coordinatorIdentity is that of every test's coordinator; its participants have
// pinned it.
var coordinatorIdentity = sync.OnceValue(func() *identity.Identity {
	id, err := identity.New()
	if err != nil {
		panic(err)
	}
	return id
})

func (f *fake) peer(t *testing.T, user string) *peer {
	return &peer{t: t, f: f, user: user, identity: partytest.Identity(t), store: &MemStore{}, approve: ApproveAll}
}

func (p *peer) start() *peer {
	p.t.Helper()
	log := zerolog.New(&p.logs).Level(zerolog.DebugLevel)
	cfg := Config{
		URLs: []string{p.f.url}, Token: StaticToken(token(p.user, "")), Identity: p.identity, Store: p.store, Log: &log,
		Concurrency: 1, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		PreParams: fixtures{p.t, int(p.user[0]) % partytest.Sets},
		OnEvent: func(e Event) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.events = append(p.events, e)
		},
	}
	if p.change != nil {
		p.change(&cfg)
	}
	if err := p.store.Pin("coord", coordinatorIdentity().Public().Fingerprint()); err != nil {
		p.t.Fatal(err)
	}
	c, err := New(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.result = stop, make(chan error, 1)
	go func() { p.result <- c.Serve(ctx, p.approve) }()
	p.t.Cleanup(p.end)
	if err := c.WaitConnected(within(p.t)); err != nil {
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

func count[E Event](p *peer) int { return len(all[E](p)) }

func all[E Event](p *peer) []E {
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

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (f *fake) coordinator(t *testing.T) *Client {
	t.Helper()
	return f.coordinatorWith(t, nil)
}

func (f *fake) coordinatorWith(t *testing.T, change func(*Config)) *Client {
	t.Helper()
	cfg := Config{
		URLs: []string{f.url}, Token: StaticToken(token("coord", "")), RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond,
		Identity: coordinatorIdentity(),
	}
	if change != nil {
		change(&cfg)
	}
	c, err := Dial(within(t), cfg)
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
func trio(t *testing.T) (*fake, []*peer, *Client) {
	t.Helper()
	f, peers := three(t)
	return f, peers, f.coordinator(t)
}

func three(t *testing.T) (*fake, []*peer) {
	t.Helper()
	f := newFake(t)
	var peers []*peer
	for _, name := range names {
		peers = append(peers, f.peer(t, name).start())
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
func trioWithKey(t *testing.T, change func(*Config)) (*fake, []*peer, *Client, Key) {
	t.Helper()
	makeOnce(t)
	f := newFake(t)
	var peers []*peer
	s := session.Session{
		ID: "made", Kind: session.Keygen, Phase: session.Completed, KeyID: "made", Curve: pubkey.Ed25519, Threshold: 2,
		AccountAddr: made.public.AccountAddr, PublicKey: made.public.PublicKey,
	}
	for i, name := range names {
		p := f.peer(t, name)
		p.identity, p.change = made.identities[i], change
		if err := p.store.Put(context.Background(), made.shares[i]); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, p.start())
		s.Parties = append(s.Parties, session.Party{User: name})
		f.mu.Lock()
		f.shares[fmt.Sprint("made/", i+1)] = made.shares[i]
		f.mu.Unlock()
	}
	f.mu.Lock()
	f.addrs["made"] = s
	f.mu.Unlock()
	return f, peers, f.coordinator(t), Key{KeyID: "made", Curve: pubkey.Ed25519, AccountAddr: s.AccountAddr, PublicKey: s.PublicKey}
}

func makeKey(t *testing.T, c *Client, curve pubkey.Curve) Key {
	t.Helper()
	key, err := c.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names, Curve: curve})
	if err != nil {
		t.Fatal(err)
	}
	return key
}
