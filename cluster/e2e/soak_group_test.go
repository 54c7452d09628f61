package e2e_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// group is a coordinator and three participants that play sessions by script: all
// messages are real, the MPC is one round message each and a key that is not secret
// (see fakeKey).
type group struct {
	a       *arena
	name    string
	asks    *speaker
	members []*member
	key     *fakeKey
	users   []string

	mu      sync.Mutex
	keys    []string // that can sign
	number  int
	asked   map[string]wire.Payload      // requests with an outcome, by id
	waiting map[string]chan wire.Payload // outcomes, by request id
	early   map[string]wire.Payload      // outcomes that arrived before their waiter
}

// unanswered begins the data of requests that are to stay unanswered.
const unanswered = "unanswered"

// member plays one participant.
type member struct {
	*speaker
	g    *group
	part int
	mute atomic.Bool // takes its parameters and does nothing

	mu     sync.Mutex
	rounds map[string]*playedRound // by session
}

// playedRound is a session that a member takes part in.
type playedRound struct {
	keyID, data string
	attempt     int
	others      int
	heard       map[int]map[int]bool // by attempt: the parts whose message is there
	reported    int                  // attempt
}

func newGroup(a *arena, number int) *group {
	g := &group{
		a: a, name: fmt.Sprintf("g%d", number), key: newFakeKey(a.t), asked: map[string]wire.Payload{},
		waiting: map[string]chan wire.Payload{}, early: map[string]wire.Payload{},
	}
	g.asks = a.speaker(g.name+"-asks", wire.RoleCoordinator, true, g.outcome)
	for part := 1; part <= 3; part++ {
		m := &member{g: g, part: part, rounds: map[string]*playedRound{}}
		// One of the three treats its mailbox as a seed client does.
		m.speaker = a.speaker(fmt.Sprintf("%s-p%d", g.name, part), wire.RoleParticipant, part != 3, m.hear)
		m.patient = part == 2 && a.replica != nil // so that a deaf socket shows
		g.members = append(g.members, m)
		g.users = append(g.users, m.user)
	}
	return g
}

func (g *group) speakers() []*speaker {
	return []*speaker{g.asks, g.members[0].speaker, g.members[1].speaker, g.members[2].speaker}
}

// outcome handles the coordinator's mail.
func (g *group) outcome(m wire.Message, p wire.Payload) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if wait, ok := g.waiting[m.RequestID]; ok {
		delete(g.waiting, m.RequestID)
		wait <- p
		return
	}
	g.early[m.RequestID] = p
}

// request sends a request and waits for its outcome; nil when ctx ends first.
func (g *group) request(ctx context.Context, p wire.Payload, expected string) wire.Payload {
	id, outcome := g.await(ctx, p, expected)
	if outcome != nil {
		g.mu.Lock()
		g.asked[id] = p
		g.mu.Unlock()
	}
	return outcome
}

func (g *group) await(ctx context.Context, p wire.Payload, expected string) (string, wire.Payload) {
	wait := make(chan wire.Payload, 1)
	refusal := make(chan struct{})
	id := g.asks.say(p, expected, func(answer wire.Payload) {
		if _, ok := answer.(*wire.ErrorPayload); ok {
			close(refusal) // the checker has it in the history
		}
	})
	g.mu.Lock()
	if p, ok := g.early[id]; ok {
		delete(g.early, id)
		g.mu.Unlock()
		return id, p
	}
	g.waiting[id] = wait
	g.mu.Unlock()
	select {
	case p := <-wait:
		return id, p
	case <-refusal:
		return id, nil
	case <-ctx.Done():
		return id, nil
	}
}

func (g *group) keygen(ctx context.Context) bool {
	g.mu.Lock()
	g.number++
	id := fmt.Sprintf("%s-key-%d", g.name, g.number)
	g.mu.Unlock()
	p := g.request(ctx, &wire.KeygenRequest{KeyID: id, Threshold: 2, TotalParts: 3, Participants: g.users}, g.key.address)
	c, ok := p.(*wire.KeygenConfirm)
	if ok {
		g.a.figures.outcome("keygen", c.Status)
	}
	if !ok || c.Status != wire.StatusSuccess {
		return false
	}
	g.mu.Lock()
	g.keys = append(g.keys, id)
	g.mu.Unlock()
	return true
}

// sign requests a signature by the given users, or any, and reports whether it was
// made.
func (g *group) sign(ctx context.Context, r *rand.Rand, by ...string) bool {
	g.mu.Lock()
	g.number++
	data := fmt.Sprintf("%s data %d", g.name, g.number)
	key := g.keys[r.IntN(len(g.keys))]
	g.mu.Unlock()
	begun := time.Now()
	p := g.request(ctx, &wire.SignRequest{KeyID: key, Data: data, AccountAddr: g.key.address, Participants: by}, g.key.sign(g.a.t, data))
	c, ok := p.(*wire.SignComplete)
	if ok {
		g.a.figures.outcome("sign", c.Status)
		g.a.figures.signed(time.Since(begun))
	}
	return ok && c.Status == wire.StatusSuccess
}

// work makes requests one after another until ctx ends. Before it ends it waits
// for the outcome of the last: see arena.settle.
func (g *group) work(ctx, life context.Context, r *rand.Rand, think time.Duration) {
	for ctx.Err() == nil {
		switch by := g.users; r.IntN(24) {
		case 0:
			g.keygen(life)
		case 1, 2, 3, 4, 5, 6:
			by = slices.Clone(by)
			r.Shuffle(len(by), func(i, j int) { by[i], by[j] = by[j], by[i] })
			g.sign(life, r, by[:2]...)
		default:
			g.sign(life, r)
		}
		waitFor(ctx, time.Duration(r.Int64N(int64(2*think)+1)))
	}
}

// whim decides if a member misbehaves: the same way for the same arguments.
func (m *member) whim(data string, one int) bool {
	if m.g.a.docile {
		return false
	}
	h := fnv.New32a()
	_, _ = fmt.Fprint(h, m.g.a.seed, m.user, data)
	return h.Sum32()%uint32(one) == 0
}

// hear handles a participant's mail.
func (m *member) hear(_ wire.Message, p wire.Payload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch p := p.(type) {
	case *wire.KeygenInvite:
		yes := !m.whim(p.KeyID, 60)
		m.say(&wire.KeygenResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: p.SessionID}, "", nil)
	case *wire.SignInvite:
		if strings.HasPrefix(p.Data, unanswered) {
			return
		}
		yes := len(p.Participants) == 2 || !m.whim(p.Data, 30)
		m.say(&wire.SignResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: p.SessionID}, "", nil)
	case *wire.KeygenParams:
		m.begin(p.SessionID, &playedRound{keyID: p.KeyID, attempt: p.Attempt, others: p.TotalParts - 1})
	case *wire.SignParams:
		parts, _ := wire.ParseParts(p.Participants)
		m.begin(p.SessionID, &playedRound{keyID: p.KeyID, data: p.Data, attempt: p.Attempt, others: len(parts) - 1})
	case *wire.TSSMessage:
		s := m.round(p.SessionID)
		if s.heard[p.Attempt] == nil {
			s.heard[p.Attempt] = map[int]bool{}
		}
		s.heard[p.Attempt][p.From] = true
		m.goOn(p.SessionID, s)
	case *wire.SessionEnded:
		delete(m.rounds, p.SessionID)
	}
}

// round returns the state of a session; messages may overtake parameters.
func (m *member) round(session string) *playedRound {
	s := m.rounds[session]
	if s == nil {
		s = &playedRound{heard: map[int]map[int]bool{}}
		m.rounds[session] = s
	}
	return s
}

func (m *member) begin(session string, s *playedRound) {
	s.heard = m.round(session).heard
	m.rounds[session] = s
	if m.mute.Load() {
		return
	}
	if s.data != "" && s.attempt == 1 && m.whim(s.data, 40) {
		m.say(&wire.PartyFailed{SessionID: session, Attempt: s.attempt, PartIndex: m.part, Reason: "a whim"}, "", nil)
		return
	}
	m.say(&wire.TSSMessage{SessionID: session, Attempt: s.attempt, From: m.part, Body: "cm91bmQ="}, "", nil)
	m.goOn(session, s)
}

// goOn reports the result once all round messages have arrived.
func (m *member) goOn(session string, s *playedRound) {
	if m.mute.Load() || s.keyID == "" || len(s.heard[s.attempt]) < s.others || s.reported == s.attempt {
		return
	}
	s.reported = s.attempt
	if s.data != "" {
		m.say(&wire.SignResult{KeyID: s.keyID, PartIndex: m.part, Signature: m.g.key.sign(m.g.a.t, s.data), SessionID: session}, "", nil)
		return
	}
	m.say(&wire.KeygenComplete{
		KeyID: s.keyID, PartIndex: m.part, AccountAddr: m.g.key.address, ShareJSON: sealedShare(s.keyID, m.part), SessionID: session,
	}, "", nil)
}

// sealedShare looks sealed, and differs for each key and part.
func sealedShare(key string, part int) string {
	armor := fmt.Sprintf("-----BEGIN AGE ENCRYPTED FILE-----\n%s.%d\n-----END AGE ENCRYPTED FILE-----\n", key, part)
	return fmt.Sprintf(`{"sealed":%q}`, armor)
}
