package e2e_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// villain is carol, part 2, with a modified client around the real engine: it
// follows the protocol, or cheats. It makes its runs twice, so that it has two
// versions of each of its messages, both signed by its identity.
type villain struct {
	*seedClient
	identity *identity.Identity
	share    *share.Share
}

// cheats is a coordinator, two honest participants and a villain. The second honest
// participant answers signings after hold is closed.
type cheats struct {
	c         *testCluster
	asks      *real
	bob, dave *real
	carol     *villain

	mu     sync.Mutex
	hold   chan struct{}
	ended  map[string][]request.Ended // by user
	failed []participant.Failed       // bob's
}

func newCheats(t *testing.T) *cheats {
	c := newCluster(t, redistest.Mini(t), redistest.Prefix())
	c.start()
	c.start()
	m := &cheats{c: c, hold: make(chan struct{}), ended: map[string][]request.Ended{}}
	m.asks = c.join("alice", wire.RoleCoordinator, 0, 0)
	m.bob = c.join("bob", wire.RoleParticipant, 0, 0)
	m.dave = c.joinApproving("dave", wire.RoleParticipant, 1, 2, func(ctx context.Context, inv participant.Invitation) (bool, string, error) {
		if inv.Kind == request.KindSign {
			m.mu.Lock()
			hold := m.hold
			m.mu.Unlock()
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		return participant.ApproveAll(ctx, inv)
	})
	for _, r := range []*real{m.bob, m.dave} {
		r.observe(func(ev client.Event) {
			m.mu.Lock()
			defer m.mu.Unlock()
			switch e := ev.(type) {
			case request.Ended:
				m.ended[r.user] = append(m.ended[r.user], e)
			case participant.Failed:
				if r == m.bob {
					m.failed = append(m.failed, e)
				}
			}
		})
	}
	m.carol = &villain{seedClient: c.client("carol", wire.RoleParticipant), identity: partytest.Identity(t)}
	m.carol.dial(c.nodes[1])
	m.carol.send("register", object{"user_id": "carol", "role": "participant", "identity": m.carol.identity.Public().String()})
	m.carol.expect("register_confirm")
	return m
}

// told waits until both honest participants have been told an outcome that names
// carol.
func (m *cheats) told(t *testing.T, sessionID string, status wire.Status) {
	t.Helper()
	for _, user := range []string{"bob", "dave"} {
		eventually(t, user+" is told the outcome", func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return slices.ContainsFunc(m.ended[user], func(e request.Ended) bool {
				return e.SessionID == sessionID && e.Status == status && slices.Equal(e.Culprits, []int{2})
			})
		})
	}
}

// payload takes the next message of a type about a session.
func (v *villain) payload(into wire.Payload, about string) {
	v.t.Helper()
	m := v.take(string(into.Type()), func(m wire.Message) bool {
		return m.Type == into.Type() && bytes.Contains(m.Payload, []byte(about))
	})
	if err := json.Unmarshal(m.Payload, into); err != nil {
		v.t.Fatal(err)
	}
}

func (v *villain) binding(session, key string, attempt, threshold, total int, parties []wire.Party) party.Binding {
	v.t.Helper()
	b := party.Binding{SessionID: session, Attempt: attempt, KeyID: key, Curve: pubkey.Ed25519, Threshold: threshold, TotalParts: total, Self: 2}
	for _, p := range parties {
		id, err := identity.ParsePublic(p.Identity)
		if err != nil {
			v.t.Fatal(err)
		}
		b.Parties = append(b.Parties, identity.Member{Index: p.PartIndex, User: p.UserID, Identity: id})
	}
	return b
}

// twins makes a run twice, and starts both.
func (v *villain) twins(make func() (*party.Run, error)) (runs [2]*party.Run) {
	v.t.Helper()
	for i := range runs {
		run, err := make()
		if err != nil {
			v.t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			v.t.Fatal(err)
		}
		v.t.Cleanup(run.Close)
		runs[i] = run
	}
	return runs
}

func (v *villain) relay(session string, attempt int, m party.Message) {
	v.t.Helper()
	v.send("tss_message", &wire.TSSMessage{
		SessionID: session, Attempt: attempt, From: 2, To: m.To,
		Body: base64.StdEncoding.EncodeToString(m.Body), Sig: base64.StdEncoding.EncodeToString(m.Sig),
	})
}

// accept gives the runs a session's messages until done is closed.
func (v *villain) accept(session string, done <-chan struct{}, runs ...*party.Run) {
	for {
		v.mu.Lock()
		news := v.news
		var mine []wire.Message
		v.inbox = slices.DeleteFunc(v.inbox, func(m wire.Message) bool {
			is := m.Type == wire.TypeTSSMessage && bytes.Contains(m.Payload, []byte(session))
			if is {
				mine = append(mine, m)
			}
			return is
		})
		v.mu.Unlock()
		for _, m := range mine {
			var p wire.TSSMessage
			if err := json.Unmarshal(m.Payload, &p); err != nil {
				v.t.Error(err)
			}
			body, _ := base64.StdEncoding.DecodeString(p.Body)
			sig, _ := base64.StdEncoding.DecodeString(p.Sig)
			for _, run := range runs {
				_ = run.Accept(party.Message{From: p.From, To: p.To, Body: body, Sig: sig}) // also of an earlier attempt
			}
		}
		select {
		case <-news:
		case <-done:
			return
		}
	}
}

// joinKeygen accepts the invitation and returns the two runs.
func (v *villain) joinKeygen(about string) (wire.KeygenParams, [2]*party.Run) {
	v.t.Helper()
	var invite wire.KeygenInvite
	v.payload(&invite, about)
	v.send("keygen_response", object{"key_id": invite.KeyID, "part_index": 2, "response": true, "session_id": invite.SessionID})
	var p wire.KeygenParams
	v.payload(&p, about)
	b := v.binding(p.SessionID, p.KeyID, p.Attempt, p.Threshold, p.TotalParts, p.Parties)
	return p, v.twins(func() (*party.Run, error) {
		return party.NewKeygen(party.KeygenConfig{Binding: b, Identity: v.identity})
	})
}

// keygen takes part honestly.
func (v *villain) keygen(about string) {
	v.t.Helper()
	p, runs := v.joinKeygen(about)
	var sending sync.WaitGroup
	sending.Go(func() {
		for m := range runs[0].Out() {
			v.relay(p.SessionID, p.Attempt, m)
		}
	})
	v.accept(p.SessionID, runs[0].Done(), runs[0])
	sending.Wait()
	if v.share = runs[0].Share(); v.share == nil {
		v.t.Fatalf("keygen: %v", runs[0].Err())
	}
	sealed, err := v.share.Seal(v.identity.Recipient())
	if err != nil {
		v.t.Fatal(err)
	}
	public := v.share.Public()
	attestation, err := v.share.Attest(v.identity, p.SessionID, "alice")
	if err != nil {
		v.t.Fatal(err)
	}
	v.send("keygen_complete", &wire.KeygenComplete{
		KeyID: p.KeyID, PartIndex: 2, AccountAddr: public.AccountAddr, PublicKey: public.PublicKey, ShareJSON: sealed, SessionID: p.SessionID,
		Attestation: attestation.String(),
	})
}

// within runs a coordinator's request beside the villain.
func within[T any](do func(ctx context.Context) (T, error)) func() (T, error) {
	type outcome struct {
		v   T
		err error
	}
	out := make(chan outcome, 1)
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	go func() {
		defer cancel()
		v, err := do(ctx)
		out <- outcome{v, err}
	}()
	return func() (T, error) { o := <-out; return o.v, o.err }
}

func (m *cheats) askKeygen(keyID string) func() (client.Key, error) {
	return within(func(ctx context.Context) (client.Key, error) {
		return m.asks.Keygen(ctx, client.KeygenRequest{
			KeyID: keyID, Threshold: 2, Participants: []string{"bob", "carol", "dave"}, Curve: pubkey.Ed25519,
		})
	})
}

// TestEquivocationIsBlamed: carol signs two different messages for one place of a
// keygen. The outcome names it to all, and both others keep evidence that convicts
// it by itself.
func TestEquivocationIsBlamed(t *testing.T) {
	t.Parallel()
	m := newCheats(t)
	ask := m.askKeygen("equivocated")
	p, runs := m.carol.joinKeygen("equivocated")
	for _, run := range runs {
		m.carol.relay(p.SessionID, p.Attempt, <-run.Out())
	}
	_, err := ask()
	var out *request.OutcomeError
	if !errors.As(err, &out) || out.Status != wire.StatusFailed || !slices.Equal(out.Culprits, []int{2}) || !strings.Contains(out.Reason, "two different messages") {
		t.Fatalf("got %v, want failed, by part 2, for two different messages", err)
	}
	m.told(t, p.SessionID, wire.StatusFailed)
	// One of the two may have been told the end before it had both.
	found := append(m.bob.store.Evidence(), m.dave.store.Evidence()...)
	if len(found) == 0 {
		t.Fatal("nobody has kept evidence")
	}
	for _, e := range found {
		culprit, err := e.Verify()
		if err != nil || culprit.User != "carol" || culprit.Identity != m.carol.identity.Public() || e.SessionID != p.SessionID {
			t.Errorf("evidence convicts %s in %s, %v", culprit.User, e.SessionID, err)
		}
	}
}

// TestCheatIsReplaced: carol cheats in a signing, and the signature is made without
// it; the outcome names it nevertheless.
func TestCheatIsReplaced(t *testing.T) {
	t.Parallel()
	m := newCheats(t)
	ask := m.askKeygen("cheated")
	m.carol.keygen("cheated")
	key, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	for name, cheat := range map[string]func(v *villain, p *wire.SignParams, digest []byte, over <-chan struct{}){
		// One run's commitment is opened with the other's committed values.
		"bad proof": func(v *villain, p *wire.SignParams, digest []byte, over <-chan struct{}) {
			b := v.binding(p.SessionID, p.KeyID, p.Attempt, 2, 3, p.Parties)
			runs := v.twins(func() (*party.Run, error) {
				return party.NewSign(party.SignConfig{Binding: b, Identity: v.identity, Share: v.share, Digest: digest})
			})
			go v.accept(p.SessionID, over, runs[:]...)
			v.relay(p.SessionID, p.Attempt, <-runs[0].Out())
			<-runs[1].Out()
			v.relay(p.SessionID, p.Attempt, <-runs[1].Out())
		},
		"bad signature": func(v *villain, p *wire.SignParams, _ []byte, _ <-chan struct{}) {
			v.send("sign_result", object{"key_id": p.KeyID, "part_index": 2, "signature": "0x" + strings.Repeat("01", 64), "session_id": p.SessionID})
		},
		"silence": func(*villain, *wire.SignParams, []byte, <-chan struct{}) {},
	} {
		m.mu.Lock()
		m.hold = make(chan struct{})
		m.mu.Unlock()
		over := make(chan struct{})
		ask := within(func(ctx context.Context) (client.Signature, error) {
			return m.asks.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: name})
		})
		var invite wire.SignInvite
		m.carol.payload(&invite, `"`+name+`"`)
		m.carol.send("sign_response", object{"key_id": key.KeyID, "part_index": 2, "response": true, "session_id": invite.SessionID})
		var p wire.SignParams
		m.carol.payload(&p, invite.SessionID)
		if p.Participants != "1,2" {
			t.Fatalf("%s: %s sign, want carol among them", name, p.Participants)
		}
		cheat(m.carol, &p, []byte(name), over)
		close(m.hold)
		sig, err := ask()
		close(over)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		independent(t, key, name, sig.Signature)
		if !slices.Equal(sig.Culprits, []int{2}) {
			t.Errorf("%s: the outcome names parts %v, want carol's", name, sig.Culprits)
		}
		m.told(t, sig.SessionID, wire.StatusSuccess)
		m.mu.Lock()
		// If dave has not accepted yet, the next attempt is carol's as well, and it
		// sends no more: only the first is about the proof.
		first := slices.IndexFunc(m.failed, func(f participant.Failed) bool { return f.SessionID == sig.SessionID })
		if name == "bad proof" && (first < 0 || strings.Contains(m.failed[first].Reason, "no word") || !slices.Equal(m.failed[first].Culprits, []int{2})) {
			t.Errorf("bob has not seen the bad proof: failures %+v, the first of this session %d", m.failed, first)
		}
		m.mu.Unlock()
	}
}
