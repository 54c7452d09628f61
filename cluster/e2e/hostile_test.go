package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// hostile is a captured server. Clients reach a real node through it; it reads every
// frame, both ways, and can change, drop, hold, repeat and add any: the powers of an
// attacker at a node, or at the load balancer.
//
// The clients are real: alice is the coordinator, and bob, carol and dave hold the
// parts 1, 2 and 3.
type hostile struct {
	t     *testing.T
	c     *testCluster
	url   string
	alice *real
	asks  client.Config // alice's
	p     map[string]*victim
	logs  *lockedBuffer // of the participants

	meddling sync.Mutex // around meddle: one frame at a time
	meddle   func(f frame) []wire.Message

	mu      sync.Mutex
	tape    []frame // all frames, in order of arrival
	sockets map[string]*tapped
}

// victim is a participant, and the data on its own machine.
type victim struct {
	*real
	cfg  client.Config
	part participant.Config
}

// frame is a frame as its sender sent it.
type frame struct {
	user string
	up   bool // from the client
	m    wire.Message
	raw  []byte
}

// tapped is a user's socket: both its halves.
type tapped struct {
	write    sync.Mutex
	in, node *websocket.Conn
}

var partUsers = []string{"bob", "carol", "dave"}

// captured starts a node, captures it, and connects all clients. signs says whether
// alice signs her requests, so that participants approve nothing else; if not, they
// approve everything the server sends, so attacks are stopped neither by attention
// nor by her signature.
func captured(t *testing.T, signs bool, flags ...string) *hostile {
	t.Helper()
	c := newCluster(t, redistest.Mini(t), redistest.Prefix(), flags...)
	c.start()
	h := capture(t, c)
	h.gather(signs)
	return h
}

// capture puts the proxy in front of the first node.
func capture(t *testing.T, c *testCluster) *hostile {
	t.Helper()
	h := &hostile{t: t, c: c, p: map[string]*victim{}, logs: &lockedBuffer{}, sockets: map[string]*tapped{}}
	srv := httptest.NewServer(http.HandlerFunc(h.serve))
	h.url = srv.URL
	t.Cleanup(func() {
		h.mu.Lock()
		for _, s := range h.sockets {
			s.close()
		}
		h.mu.Unlock()
		srv.Close()
	})
	return h
}

// gather connects the coordinator and three participants, whose identities the
// coordinator has pinned.
func (h *hostile) gather(signs bool) {
	h.t.Helper()
	approve := participant.ApproveUnsigned
	h.alice = &real{user: "alice", store: new(participant.MemStore)}
	h.asks = client.Config{URLs: []string{h.url}, Role: wire.RoleCoordinator, Trust: trust.Of(h.alice.store)}
	if signs {
		approve, h.asks.Identity = participant.ApproveAll, partytest.Identity(h.t)
		h.c.introduce(h.alice, h.asks.Role, h.asks.Identity.Public().Fingerprint())
	}
	h.c.enter(h.alice, h.asks, participant.Config{})
	for i, user := range partUsers {
		log := zerolog.New(h.logs).With().Str("account", user).Logger()
		v := &victim{real: &real{user: user, store: new(participant.MemStore)}}
		v.cfg = client.Config{
			URLs: []string{h.url}, Role: wire.RoleParticipant, Log: &log, Identity: partytest.Identity(h.t),
		}
		v.part = participant.Config{
			Approve: approve, Shares: v.store, PreParams: &fixtures{t: h.t, next: i}, SignSilence: mpcWithin, KeygenSilence: mpcWithin,
		}
		h.c.introduce(v.real, v.cfg.Role, "")
		if err := h.alice.store.Pin(user, v.cfg.Identity.Public().Fingerprint()); err != nil {
			h.t.Fatal(err)
		}
		h.p[user] = v
		h.enter(user)
	}
}

// ask restarts the coordinator with a changed Config.
func (h *hostile) ask(change func(cfg *client.Config)) {
	h.t.Helper()
	h.alice.stop()
	change(&h.asks)
	h.c.enter(h.alice, h.asks, participant.Config{})
}

// enter starts a participant, or restarts it, with the current content of its Config
// and stores.
func (h *hostile) enter(user string) {
	h.t.Helper()
	v := h.p[user]
	h.c.enter(v.real, v.cfg, v.part)
}

func (h *hostile) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	in, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer in.Close()
	node, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(h.c.nodes[0].base, "http")+r.URL.Path, nil)
	if err != nil {
		return
	}
	s := &tapped{in: in, node: node}
	defer s.close()
	_, first, err := in.ReadMessage()
	if err != nil {
		return
	}
	var m wire.Message
	if err := json.Unmarshal(first, &m); err != nil {
		h.t.Errorf("a client sends what is no message: %v", err)
		return
	}
	user := m.UserID
	h.mu.Lock()
	h.sockets[user] = s
	h.mu.Unlock()
	h.pass(s, user, true, first)
	down := make(chan struct{})
	go func() {
		defer close(down)
		defer in.Close()
		h.carry(s, user, false)
	}()
	h.carry(s, user, true)
	_ = node.Close()
	<-down
}

func (s *tapped) close() { _, _ = s.in.Close(), s.node.Close() }

// carry passes frames on in one direction until a side closes, and then the close
// code.
func (h *hostile) carry(s *tapped, user string, up bool) {
	from, to := s.node, s.in
	if up {
		from, to = to, from
	}
	for {
		_, raw, err := from.ReadMessage()
		if err != nil {
			if e, ok := err.(*websocket.CloseError); ok && e.Code != websocket.CloseAbnormalClosure {
				_ = to.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(e.Code, e.Text), time.Now().Add(time.Second))
			}
			return
		}
		h.pass(s, user, up, raw)
	}
}

// pass records one frame, and delivers the attacker's version of it.
func (h *hostile) pass(s *tapped, user string, up bool, raw []byte) {
	f := frame{user: user, up: up, raw: raw}
	if err := json.Unmarshal(raw, &f.m); err != nil {
		h.t.Errorf("a frame of %s is no message: %v", user, err)
		return
	}
	h.mu.Lock()
	h.tape = append(h.tape, f)
	h.mu.Unlock()
	h.meddling.Lock()
	defer h.meddling.Unlock()
	out := []wire.Message{f.m}
	if h.meddle != nil {
		out = h.meddle(f)
	}
	for _, m := range out {
		s.send(up, m)
	}
}

func (s *tapped) send(up bool, m wire.Message) {
	to := s.in
	if up {
		to = s.node
	}
	s.write.Lock()
	defer s.write.Unlock()
	_ = to.WriteJSON(m) // a client that has gone was stopped by the test
}

// attack sets the function that returns the frames to deliver in place of each
// frame. Nil passes everything on.
func (h *hostile) attack(meddle func(f frame) []wire.Message) {
	h.meddling.Lock()
	defer h.meddling.Unlock()
	h.meddle = meddle
}

// tell sends a user a message made by the attacker.
func (h *hostile) tell(user string, m wire.Message) {
	h.mu.Lock()
	s := h.sockets[user]
	h.mu.Unlock()
	m.UserID, m.Seq, m.Token, m.RequestID = user, 0, "", ""
	s.send(false, m)
}

// speak sends the node a message as a user: the attacker sees all tokens.
func (h *hostile) speak(user string, p wire.Payload) {
	h.mu.Lock()
	s := h.sockets[user]
	var token string
	for _, f := range slices.Backward(h.tape) {
		if f.up && f.user == user && f.m.Token != "" {
			token = f.m.Token
			break
		}
	}
	h.mu.Unlock()
	s.send(true, write(wire.Message{UserID: user, Token: token}, p))
}

// unauthentic returns how many round messages participants have refused so far,
// because their sender could not be verified.
func (h *hostile) unauthentic() int {
	return strings.Count(h.logs.String(), party.ErrNotAuthentic.Error())
}

// mark returns a position on the tape.
func (h *hostile) mark() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.tape)
}

// since returns the frames after a mark.
func (h *hostile) since(mark int) []frame {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.tape[mark:])
}

// payload is a pointer to one of wire's messages.
type payload[T any] interface {
	*T
	wire.Payload
}

// read decodes m as a T, if it is one.
func read[T any, P payload[T]](m wire.Message) (P, bool) {
	p := P(new(T))
	if m.Type != p.Type() || json.Unmarshal(m.Payload, p) != nil {
		return nil, false
	}
	return p, true
}

// write returns m with another payload.
func write(m wire.Message, p wire.Payload) wire.Message {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // a payload of wire's own
	}
	m.Type, m.Payload = p.Type(), raw
	return m
}

// sentBy returns the messages of one type that a user's client has sent since a
// mark; of any user if that is empty.
func sentBy[T any, P payload[T]](h *hostile, mark int, user string) []P {
	var list []P
	for _, f := range h.since(mark) {
		if p, ok := read[T, P](f.m); ok && f.up && (user == "" || f.user == user) {
			list = append(list, p)
		}
	}
	return list
}

// toldTo is sentBy for messages from the node to a user.
func toldTo[T any, P payload[T]](h *hostile, mark int, user string) []P {
	var list []P
	for _, f := range h.since(mark) {
		if p, ok := read[T, P](f.m); ok && !f.up && f.user == user {
			list = append(list, p)
		}
	}
	return list
}

// keygen requests a 2-of-3 key.
func (h *hostile) keygen(curve pubkey.Curve, expires time.Duration) (client.Key, error) {
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	defer cancel()
	return h.alice.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: partUsers, Curve: curve, ExpiresIn: expires})
}

// sign requests a signature by the given users.
func (h *hostile) sign(key client.Key, data string, expires time.Duration, users ...string) (client.Signature, error) {
	ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
	defer cancel()
	return h.alice.Sign(ctx, client.SignRequest{
		KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: data, Participants: users, ExpiresIn: expires,
	})
}

// honest generates a key while the attacker only reads.
func (h *hostile) honest(curve pubkey.Curve) client.Key {
	h.t.Helper()
	h.attack(nil)
	key, err := h.keygen(curve, 0)
	if err != nil {
		h.t.Fatalf("keygen: %v", err)
	}
	return key
}

// stillSigns checks that the parties can still sign after an attack.
func (h *hostile) stillSigns(key client.Key, data string, users ...string) {
	h.t.Helper()
	h.attack(nil)
	sig, err := h.sign(key, data, 0, users...)
	if err != nil {
		h.t.Fatalf("sign after the attack: %v", err)
	}
	independent(h.t, key, data, sig.Signature)
}

// onlySigned checks that every signature any client has made since a mark is over
// data. It ignores signatures known before: the second signer's of an earlier
// signing may arrive after its outcome.
func (h *hostile) onlySigned(mark int, key client.Key, data string) {
	h.t.Helper()
	known := map[string]bool{}
	for i, f := range h.since(0) {
		r, ok := read[wire.SignResult](f.m)
		switch {
		case !ok || !f.up:
		case i < mark:
			known[r.Signature] = true
		case !known[r.Signature]:
			independent(h.t, key, data, r.Signature)
		}
	}
}

// share returns a participant's share of a key, from its own store.
func (h *hostile) share(user string, key client.Key) (sealed string, public share.Public) {
	h.t.Helper()
	sealed, err := h.p[user].part.Shares.Get(context.Background(), key.KeyID, key.AccountAddr)
	if err == nil {
		public, err = share.ParsePublic(sealed)
	}
	if err != nil {
		h.t.Fatalf("share of %s: %v", user, err)
	}
	return sealed, public
}

// roundOf and wireRound convert round messages as a client does.
func roundOf(m *wire.TSSMessage) party.Message {
	body, _ := base64.StdEncoding.DecodeString(m.Body)
	sig, _ := base64.StdEncoding.DecodeString(m.Sig)
	return party.Message{From: m.From, To: m.To, Body: body, Sig: sig}
}

func wireRound(session string, attempt int, m party.Message) *wire.TSSMessage {
	return &wire.TSSMessage{
		SessionID: session, Attempt: attempt, From: m.From, To: m.To,
		Body: base64.StdEncoding.EncodeToString(m.Body), Sig: base64.StdEncoding.EncodeToString(m.Sig),
	}
}
