package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestMain(m *testing.M) {
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
func (f fixtures) Take(context.Context) (*party.PreParams, error) {
	return partytest.PreParams(f.t, f.i), nil
}

// peer is one participant, which a test can stop and start again.
type peer struct {
	t        *testing.T
	f        *fake
	user     string
	identity *party.Identity
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
var coordinatorIdentity = sync.OnceValue(func() *party.Identity {
	id, err := party.NewIdentity()
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
	identities [3]*party.Identity
	shares     [3]string
	public     party.SharePublic
}

func makeOnce(t *testing.T) {
	made.Do(func() {
		b := party.Binding{SessionID: "made", Attempt: 1, KeyID: "made", Curve: pubkey.Ed25519, Threshold: 2, TotalParts: 3}
		for i, name := range names {
			made.identities[i] = partytest.Identity(t)
			b.Parties = append(b.Parties, party.Member{Index: i + 1, User: name, Identity: made.identities[i].Public()})
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

func TestKeygenAndSign(t *testing.T) {
	for _, curve := range []pubkey.Curve{pubkey.Ed25519, pubkey.Secp256k1} {
		t.Run(string(curve), func(t *testing.T) {
			if curve == pubkey.Secp256k1 && testing.Short() {
				t.Skip("a real keygen takes a while")
			}
			_, peers, c := trio(t)
			key := makeKey(t, c, curve)
			for _, parties := range [][]string{nil, {"alice", "carol"}, {"bob", "carol"}} {
				sig, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob", Participants: parties})
				if err != nil {
					t.Fatal(err)
				}
				raw, _ := pubkey.Decode(sig.Signature)
				digest, _, _ := pubkey.Digest(curve, "pay bob", "")
				pub, _ := curve.ParseKey(key.PublicKey)
				if err := curve.Verify(pub, digest, raw); err != nil || sig.PublicKey != key.PublicKey {
					t.Errorf("%v: signature %s of key %s: %v", parties, sig.Signature, sig.PublicKey, err)
				}
			}
			for _, p := range peers {
				shares, err := p.store.List(context.Background())
				if err != nil || len(shares) != 1 || shares[0].AccountAddr != key.AccountAddr {
					t.Errorf("%s has shares %v, %v", p.user, shares, err)
				}
				waitFor(t, "all sessions end", func() bool {
					open, err := p.store.Open(context.Background())
					return err == nil && len(open) == 0
				})
				if rounds := all[Round](p); len(rounds) == 0 || rounds[0].Of == 0 {
					t.Errorf("%s told of rounds %v", p.user, rounds)
				}
			}
		})
	}
}

// Every answer of the server is lost at first, and the socket with it.
func TestEachAnswerLostOnce(t *testing.T) {
	f, peers, c := trio(t)
	lost := map[string]bool{}
	f.mu.Lock()
	f.cut = func(user string, m wire.Message) bool {
		first := !lost[m.RequestID]
		lost[m.RequestID] = true
		return first
	}
	f.mu.Unlock()
	key := makeKey(t, c, pubkey.Ed25519)
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		if n := count[Invited](p); n != 2 {
			t.Errorf("%s was invited %d times, want 2", p.user, n)
		}
		if n := count[Connected](p); n < 3 {
			t.Errorf("%s connected %d times, want more", p.user, n)
		}
	}
}

func TestRefusedForTheTimeBeing(t *testing.T) {
	f, _, c := trio(t)
	tries := map[string]int{}
	f.mu.Lock()
	f.refuse = func(_ string, m wire.Message, _ wire.Payload) *wire.Error {
		tries[m.RequestID]++
		if tries[m.RequestID] == 1 {
			return wire.Errorf(wire.CodeUnavailable, "not now")
		}
		return nil
	}
	f.mu.Unlock()
	makeKey(t, c, pubkey.Ed25519)
}

func TestRefusedForGood(t *testing.T) {
	f := newFake(t)
	c := f.coordinator(t)
	_, err := c.Sign(within(t), SignRequest{KeyID: "none", Data: "x", AccountAddr: "11111111111111111111111111111111"})
	if !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
	var bad *wire.Error
	if _, err := c.Keygen(within(t), KeygenRequest{Threshold: 1, Participants: names}); !errors.As(err, &bad) || bad.Code != wire.CodeBadRequest {
		t.Errorf("got %v, want bad_request", err)
	}
}

func TestDeclined(t *testing.T) {
	f := newFake(t)
	for _, name := range names {
		p := f.peer(t, name)
		if name == "bob" {
			p.approve = func(context.Context, Invitation) (bool, string, error) { return false, "not\ntoday", nil }
		}
		p.start()
	}
	_, err := f.coordinator(t).Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names})
	var out *OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusRejected || !strings.Contains(out.Reason, "not today") {
		t.Errorf("got %v, want rejected with bob's reason on one line", err)
	}
}

// A participant that is killed in the middle of a signing reports so when it is
// back, and another takes its place; what it began is not run again.
func TestRestart(t *testing.T) {
	f, peers, c, key := trioWithKey(t, nil)
	began := make(chan string, 100)
	f.mu.Lock()
	f.refuse = func(user string, m wire.Message, p wire.Payload) *wire.Error {
		if tss, ok := p.(*wire.TSSMessage); ok && tss.Attempt == 1 {
			select {
			case began <- user:
			default:
			}
			return wire.Errorf(wire.CodeUnavailable, "held back") // nobody gets further
		}
		return nil
	}
	f.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", SessionID: "s1"})
		result <- err
	}()
	user := <-began
	part := slices.Index(names, user) + 1
	victim := peers[part-1]
	victim.end()
	victim.start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	failed := said[*wire.PartyFailed](f, user)
	if len(failed) != 1 || failed[0].Reason != "restarted" || failed[0].Attempt != 1 {
		t.Errorf("%s reported %+v, want one restart in attempt 1", user, failed)
	}
	// The server plays attempt 1 again.
	f.mu.Lock()
	s := f.sessions["s1"]
	params := &wire.SignParams{SessionID: "s1", KeyID: key.KeyID, Data: "x", Hash: "none", Digest: s.Digest, PartIndex: part, Attempt: 1, Participants: s.Quorums[0]}
	parts, _ := wire.ParseParts(s.Quorums[0])
	for _, i := range parts {
		params.Parties = append(params.Parties, wire.Party{PartIndex: i, UserID: names[i-1], Identity: peers[i-1].identity.Public().String()})
	}
	f.mail(user, "", &wire.SignInvite{SessionID: "s1", KeyID: key.KeyID, Data: "x", Hash: "none", PartIndex: part, Participants: names, AccountAddr: key.AccountAddr})
	f.mail(user, "", params)
	seq := f.user(user).seq
	f.mu.Unlock()
	waitFor(t, user+" takes it all", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.user(user).acked == seq
	})
	runs := 0
	for _, e := range all[Started](victim) {
		if e.SessionID == "s1" && e.Attempt == 1 {
			runs++
		}
	}
	if runs != 1 {
		t.Errorf("attempt 1 was run %d times", runs)
	}
	if n := len(said[*wire.SignResponse](f, user)); n != 1 {
		t.Errorf("%s answered %d times, want once", user, n)
	}
}

// A keygen whose report is lost with the process is reported by the next one.
func TestRestartAfterKeygen(t *testing.T) {
	f, peers, c := trio(t)
	f.mu.Lock()
	f.refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.KeygenComplete); ok && user == "carol" {
			return wire.Errorf(wire.CodeUnavailable, "not now")
		}
		return nil
	}
	f.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(within(t), KeygenRequest{KeyID: "k", Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		result <- err
	}()
	waitFor(t, "carol reports", func() bool { return len(said[*wire.KeygenComplete](f, "carol")) > 0 })
	peers[2].end()
	f.mu.Lock()
	f.refuse = nil
	f.mu.Unlock()
	peers[2].start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// An invitation that nobody had decided about is put to the next process.
func TestRestartWhileAsked(t *testing.T) {
	f := newFake(t)
	for _, name := range names[:2] {
		f.peer(t, name).start()
	}
	carol := f.peer(t, "carol")
	asked := make(chan struct{}, 1)
	carol.approve = func(ctx context.Context, _ Invitation) (bool, string, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return true, "", ctx.Err()
	}
	carol.start()
	c := f.coordinator(t)
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		result <- err
	}()
	<-asked
	waitFor(t, "the invitation is acknowledged", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.user("carol").acked == 1
	})
	carol.end()
	if n := len(said[*wire.KeygenResponse](f, "carol")); n != 0 {
		t.Fatalf("carol answered %d times while stopping", n)
	}
	carol.approve = ApproveAll
	// The token, which says that it is carol, comes after what the journal has.
	carol.change = func(cfg *Config) {
		cfg.Token = func(ctx context.Context) (string, error) {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
			return token("carol", ""), ctx.Err()
		}
	}
	carol.start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// The end of a session takes back the question.
func TestAskedInVain(t *testing.T) {
	f := newFake(t)
	p := f.peer(t, "alice")
	asked, ended := make(chan string, 1), make(chan struct{})
	p.approve = func(ctx context.Context, inv Invitation) (bool, string, error) {
		asked <- inv.SessionID
		<-ctx.Done()
		close(ended)
		return false, "", ctx.Err()
	}
	p.start()
	c := f.coordinator(t)
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names})
		result <- err
	}()
	if err := c.Cancel(within(t), <-asked); err != nil {
		t.Fatal(err)
	}
	<-ended
	var out *OutcomeError
	if err := <-result; !errors.As(err, &out) || out.Status != wire.StatusCancelled {
		t.Errorf("got %v, want cancelled", err)
	}
	if n := len(said[*wire.KeygenResponse](f, "alice")); n != 0 {
		t.Errorf("alice answered %d times", n)
	}
}

// What the server may not change without being found out.
func TestLies(t *testing.T) {
	other := partytest.Identity(t).Public().String()
	for name, tc := range map[string]struct {
		lie  func(to string, p wire.Payload)
		want string // in the outcome's reason
	}{
		"digest": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignInvite); ok {
				p.Digest = "0x00"
			}
		}, "digest is not that of its data"},
		"address": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignInvite); ok {
				p.AccountAddr = "11111111111111111111111111111111"
			}
		}, "has signed something else"},
		"data after approval": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				p.Data = "all my money"
			}
		}, "differ from the invitation"},
		"hash after approval": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				p.Hash = "sha256"
			}
		}, "differ from the invitation"},
		"identity": {func(_ string, p wire.Payload) {
			if p, ok := p.(*wire.SignParams); ok {
				for i := range p.Parties {
					if p.Parties[i].PartIndex != p.PartIndex {
						p.Parties[i].Identity = other
					}
				}
			}
		}, "identity has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			f, peers, c, key := trioWithKey(t, nil)
			f.mu.Lock()
			f.tamper = tc.lie
			f.mu.Unlock()
			_, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: names})
			var out *OutcomeError
			if !errors.As(err, &out) || !strings.Contains(out.Reason, tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			for _, p := range peers {
				for _, s := range all[Started](p) {
					if s.Kind == KindSign {
						t.Errorf("%s ran the MPC", p.user)
					}
				}
			}
		})
	}
}

func TestUntrustedIdentity(t *testing.T) {
	f, peers, c := trio(t)
	makeKey(t, c, pubkey.Ed25519)
	bob := peers[1]
	bob.end()
	bob.identity = partytest.Identity(t)
	bob.start()
	_, err := c.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
	var out *OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !slices.Equal(out.Culprits, []int{2}) {
		t.Errorf("got %v, want failed by part 2", err)
	}
	if !strings.Contains(fmt.Sprint(err), "identity has changed") {
		t.Errorf("got %v, want the reason", err)
	}
	_ = f
	var told []IdentityChanged
	for _, p := range []*peer{peers[0], peers[2]} {
		told = append(told, all[IdentityChanged](p)...)
	}
	if len(told) == 0 || told[0].User != "bob" || told[0].Now != bob.identity.Public().Fingerprint() || told[0].Known == told[0].Now {
		t.Errorf("told %+v, want bob's old fingerprint and the new one", told)
	}
}

// A signer that says nothing is named, and replaced.
func TestSilence(t *testing.T) {
	f, _, c, key := trioWithKey(t, func(cfg *Config) { cfg.SignSilence = 2 * time.Second })
	f.mu.Lock()
	f.refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.TSSMessage); ok && f.mute == "" {
			f.mute = user // the first to say something is not heard again
		}
		return nil
	}
	f.mu.Unlock()
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	// It in turn waits for those whom it keeps waiting, and names them.
	f.mu.Lock()
	mute := f.mute
	f.mu.Unlock()
	part := slices.Index(names, mute) + 1
	named := slices.ContainsFunc(said[*wire.PartyFailed](f, ""), func(p *wire.PartyFailed) bool { return slices.Equal(p.Culprits, []int{part}) })
	if !named {
		t.Errorf("nobody named %s, part %d", mute, part)
	}
}

// A party whose round messages the server will not take says so at once.
func TestRoundMessageRefused(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	unheard := ""
	f.mu.Lock()
	f.refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.TSSMessage); ok && (unheard == "" || unheard == user) {
			unheard = user
			return wire.Errorf(wire.CodeTooLarge, "too large")
		}
		return nil
	}
	f.mu.Unlock()
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	failed := said[*wire.PartyFailed](f, unheard)
	if len(failed) == 0 || !strings.Contains(failed[0].Reason, "too large") || len(failed[0].Culprits) != 0 {
		t.Errorf("%s reported %+v", unheard, failed)
	}
}

// The share comes from the server when the own store has lost it.
func TestShareFromServer(t *testing.T) {
	_, peers, c, key := trioWithKey(t, nil)
	alice := peers[0]
	alice.end()
	alice.store = &MemStore{}
	alice.start()
	_, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: []string{"alice", "bob"}})
	if err != nil {
		t.Fatal(err)
	}
}

// Round messages may come before the parameters of their run, and must not be
// acknowledged before these have come.
func TestEarlyMessages(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	var held []func()
	ready := make(chan struct{})
	f.mu.Lock()
	f.tamper = func(to string, p wire.Payload) {
		if p, ok := p.(*wire.SignParams); ok && to == "alice" && held == nil {
			params := *p
			held = append(held, func() { f.mail("alice", "", &params) })
			p.Attempt = 0 // what arrives now is ignored as an old attempt
		}
		if _, ok := p.(*wire.TSSMessage); ok && to == "alice" && len(held) == 1 {
			held = append(held, nil)
			close(ready)
		}
	}
	f.mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", Participants: []string{"alice", "bob"}})
		result <- err
	}()
	<-ready
	f.mu.Lock()
	early := f.user("alice").seq + 1
	f.mu.Unlock()
	f.drop("alice") // it resumes after the early message
	waitFor(t, "alice is back", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.user("alice").ws != nil && len(f.user("alice").resumes) > 1
	})
	f.mu.Lock()
	if f.user("alice").acked >= early {
		t.Errorf("acknowledged %d, the early message is %d", f.user("alice").acked, early)
	}
	f.tamper = nil
	held[0]()
	f.mu.Unlock()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all is acknowledged", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.user("alice").acked == f.user("alice").seq
	})
}

func TestBadSignatureFromServer(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	f.mu.Lock()
	f.tamper = func(_ string, p wire.Payload) {
		if p, ok := p.(*wire.SignComplete); ok {
			r := p.Signature[2:66] // another R than the one that was signed with
			p.Signature = "0x" + r[2:] + r[:2] + p.Signature[66:]
		}
	}
	f.mu.Unlock()
	_, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"})
	if !errors.Is(err, ErrBadSignature) || !errors.Is(err, pubkey.ErrSignature) {
		t.Errorf("got %v, want ErrBadSignature", err)
	}
}

// A mailbox that the server has lost counts anew.
func TestMailboxLost(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	f.mu.Lock()
	for _, u := range f.users {
		u.seq, u.box, u.acked = 0, nil, 0
		_ = u.ws.Close()
	}
	f.mu.Unlock()
	waitFor(t, "all come back", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, u := range f.users {
			if len(u.resumes) < 2 {
				return false
			}
		}
		return true
	})
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
}

// A coordinator leaves in the mailbox what is for its user's participant.
func TestCoordinatorKeepsParticipantsMail(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.mail("coord", "", &wire.SessionEnded{SessionID: "a", KeyID: "a", Kind: "sign", Status: wire.StatusFailed})
	f.mail("coord", "", &wire.SignComplete{SessionID: "b", KeyID: "b", Status: wire.StatusFailed})
	f.mu.Unlock()
	c := f.coordinator(t)
	_ = c.Cancel(within(t), "unknown") // its refusal comes after the mail
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if u := f.user("coord"); u.acked != 0 || len(u.box) != 2 {
		t.Errorf("acknowledged %d, %d left in the mailbox", u.acked, len(u.box))
	}
}

func TestSuperseded(t *testing.T) {
	f := newFake(t)
	first := f.coordinator(t)
	second := f.coordinator(t)
	waitFor(t, "the first is told", func() bool { return errors.Is(first.WaitConnected(context.Background()), ErrSuperseded) })
	if _, err := first.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("got %v, want ErrSuperseded", err)
	}
	first.mu.Lock()
	first.err = nil // the cleanup expects a good end
	first.mu.Unlock()
	_ = second
}

func TestTokens(t *testing.T) {
	f := newFake(t)
	old, renewed := token("coord", "old"), token("coord", "new")
	f.tokens[old] = true
	current := old
	asked := 0
	c, err := New(Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		if asked++; asked > 1 {
			current = renewed
		}
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := c.WaitConnected(within(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// Without a newer token there is no use in going on.
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: StaticToken(old)}); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("got %v, want ErrTokenExpired", err)
	}
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken("nonsense")}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated", err)
	}
	f.mu.Lock()
	f.welcome = func(string, string) int { return wire.CloseForbidden }
	f.mu.Unlock()
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken(renewed)}); !errors.Is(err, wire.ErrForbidden) {
		t.Errorf("got %v, want forbidden", err)
	}
	f.mu.Lock()
	f.welcome = func(string, string) int { return wire.CloseRevoked }
	f.mu.Unlock()
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken(renewed)}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated: a revoked token does not come back", err)
	}
}

// A token that expires while connected is replaced without losing a message.
func TestTokenExpiresMeanwhile(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	current := token("coord", "1")
	c, err := Dial(within(t), Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mu.Lock()
	f.mu.Lock()
	f.tokens[current] = true
	f.mu.Unlock()
	current = token("coord", "2")
	mu.Unlock()
	if _, err := c.Sign(within(t), SignRequest{KeyID: "none", Data: "x"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestNextURL(t *testing.T) {
	f := newFake(t)
	c, err := Dial(within(t), Config{URLs: []string{"http://127.0.0.1:1", f.url}, RetryMin: time.Millisecond, Token: StaticToken(token("coord", ""))})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoSecretsInLogs(t *testing.T) {
	_, peers, c := trio(t)
	key := makeKey(t, c, pubkey.Ed25519)
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		log := p.logs.String()
		share, _ := p.store.Get(context.Background(), key.KeyID, "")
		for _, secret := range []string{"s3cret", "BEGIN AGE", share} {
			if strings.Contains(log, secret) {
				t.Errorf("%s's log holds %.20s", p.user, secret)
			}
		}
	}
}

func TestCallerLeaves(t *testing.T) {
	f := newFake(t)
	f.peer(t, "alice").start()
	c := f.coordinator(t)
	ctx, leave := context.WithCancel(within(t))
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(ctx, KeygenRequest{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	waitFor(t, "alice answers", func() bool { return len(said[*wire.KeygenResponse](f, "alice")) == 1 })
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	f.mu.Lock()
	phase := f.sessions["kg-k"].Phase
	f.mu.Unlock()
	if phase != session.Inviting || len(said[*wire.SessionCancel](f, "")) != 0 {
		t.Errorf("session is %s: leaving must not end it", phase)
	}
	// The same request joins the session.
	go func() {
		_, err := c.Keygen(within(t), KeygenRequest{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	waitFor(t, "the request comes again", func() bool { return len(said[*wire.KeygenRequest](f, "coord")) == 2 })
	if err := c.Cancel(within(t), "kg-k"); err != nil {
		t.Fatal(err)
	}
	var out *OutcomeError
	if err := <-result; !errors.As(err, &out) || out.Status != wire.StatusCancelled {
		t.Errorf("got %v, want cancelled", err)
	}
}
