package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	speakerPing    = 500 * time.Millisecond
	speakerSilence = 2500 * time.Millisecond // without even a pong the socket is closed
	speakerAnswer  = 8 * time.Second         // the same without an answer
	speakerWindow  = 64                      // messages unanswered at a time
	speakerWrite   = 2 * time.Second
	speakerBackOff = 50 * time.Millisecond // at most, between attempts to connect
)

// speaker is one user's connection to the cluster, across failures of sockets and
// nodes: it resumes, acknowledges, and repeats each message until it is answered, as
// wsconn/client does. Unlike wsconn/client it keeps a history, opens a second socket
// on demand, and can play a client that does not acknowledge.
type speaker struct {
	user  string
	role  wire.Role
	token string
	acks  bool                             // false: as a seed client, without resume and ack
	bases func() []string                  // of nodes, to choose from
	take  func(wire.Message, wire.Payload) // each mailbox message once, in order
	past  *userHistory
	// patient means that this side closes no socket, however long it is silent: a
	// deaf one shows.
	patient bool

	absent  atomic.Bool                   // connects nowhere
	deaf    atomic.Pointer[chan struct{}] // while set, nothing is read
	home    atomic.Pointer[string]        // base of the newest socket's node
	conns   atomic.Int64
	numbers atomic.Int64

	mu      sync.Mutex
	last    uint64
	parcels []*spoken
	newest  *spokenSocket
	live    map[*spokenSocket]struct{}
	taking  sync.Mutex // around take: one message at a time, over all sockets
}

// spoken is a message that has not been answered.
type spoken struct {
	id      string
	kind    wire.Type
	payload json.RawMessage
	sent    time.Time // on the newest socket
	after   time.Time
	done    func(wire.Payload)
}

type spokenSocket struct {
	conn  int
	ws    *websocket.Conn
	write sync.Mutex
}

func (s *speaker) run(ctx context.Context) {
	go s.nag(ctx)
	for ctx.Err() == nil {
		s.connect(ctx)
		// A superseded socket leaves all work to the newer one.
		for s.sockets() > 0 && ctx.Err() == nil {
			waitFor(ctx, 10*time.Millisecond)
		}
		waitFor(ctx, rand.N(speakerBackOff))
	}
}

// rival opens another socket beside the existing ones.
func (s *speaker) rival(ctx context.Context) { go s.connect(ctx) }

func (s *speaker) sockets() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.live)
}

// drop cuts all sockets without a close frame.
func (s *speaker) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.live {
		_ = k.ws.NetConn().Close()
	}
}

// connect opens a socket to a node and serves it until it closes.
func (s *speaker) connect(ctx context.Context) {
	if s.absent.Load() {
		return
	}
	bases := s.bases()
	base := bases[rand.IntN(len(bases))]
	within, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ws, _, err := websocket.DefaultDialer.DialContext(within, "ws"+strings.TrimPrefix(base, "http")+"/ws", nil)
	if err != nil {
		return
	}
	defer ws.Close()
	stop := context.AfterFunc(ctx, func() { _ = ws.Close() })
	defer stop()
	k := &spokenSocket{conn: int(s.conns.Add(1)), ws: ws}
	alive := func() {
		if !s.patient {
			_ = ws.SetReadDeadline(time.Now().Add(speakerSilence))
		}
	}
	alive()
	ws.SetPongHandler(func(string) error { alive(); return nil })
	if s.register(k) != nil {
		return
	}
	s.home.Store(&base)
	defer func() {
		s.mu.Lock()
		delete(s.live, k)
		s.mu.Unlock()
	}()
	for {
		if deaf := s.deaf.Load(); deaf != nil {
			select {
			case <-*deaf:
			case <-ctx.Done():
			}
			alive()
		}
		_, frame, err := ws.ReadMessage()
		if err != nil {
			return
		}
		alive()
		var m wire.Message
		if json.Unmarshal(frame, &m) == nil {
			s.heard(k, m)
		}
	}
}

func (s *speaker) register(k *spokenSocket) error {
	s.mu.Lock()
	resume := s.last
	s.mu.Unlock()
	reg := &wire.Register{UserID: s.user, Role: s.role}
	if s.acks {
		reg.Resume = &wire.Resume{LastSeq: resume}
	} else {
		resume = 0
	}
	s.past.note(event{what: registered, conn: k.conn, seq: resume})
	if err := s.write(k, reg, ""); err != nil {
		return err
	}
	var m wire.Message
	if err := k.ws.ReadJSON(&m); err != nil {
		return err
	}
	if m.Type != wire.TypeRegisterConfirm {
		return errors.New("register refused")
	}
	var confirm wire.RegisterConfirm
	if err := json.Unmarshal(m.Payload, &confirm); err != nil {
		return err
	}
	s.past.note(event{what: confirmed, conn: k.conn, seq: confirm.LastSeq})
	s.mu.Lock()
	if s.live == nil {
		s.live = map[*spokenSocket]struct{}{}
	}
	s.live[k], s.newest = struct{}{}, k
	for _, p := range s.parcels {
		p.sent = time.Time{}
	}
	s.mu.Unlock()
	if s.acks && resume > 0 {
		// What the last socket acknowledged may never have been read.
		if err := s.write(k, &wire.Ack{Seq: resume}, ""); err != nil {
			return err
		}
	}
	s.repeat(time.Now())
	return nil
}

// heard handles one frame.
func (s *speaker) heard(k *spokenSocket, m wire.Message) {
	p, err := m.DecodePayload()
	if err != nil {
		return
	}
	if m.Seq == 0 {
		s.answered(m, p)
		return
	}
	s.taking.Lock()
	s.past.note(event{what: mailed, conn: k.conn, seq: m.Seq, request: m.RequestID}.describe(p, m.Payload))
	s.mu.Lock()
	fresh := m.Seq > s.last
	s.last = max(s.last, m.Seq)
	s.mu.Unlock()
	if fresh {
		s.take(m, p)
	}
	s.taking.Unlock()
	if s.acks {
		_ = s.write(k, &wire.Ack{Seq: m.Seq}, "")
	}
}

// say queues a message to be sent until it is answered; done may be nil.
func (s *speaker) say(p wire.Payload, expected string, done func(wire.Payload)) string {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err) // a payload of this package's own
	}
	id := fmt.Sprintf("%s-%d", s.user, s.numbers.Add(1))
	e := event{what: asked, request: id}.describe(p, nil)
	switch q := p.(type) {
	case *wire.KeygenRequest:
		e.key = q.KeyID
	case *wire.SignRequest:
		e.key = q.KeyID
	}
	if expected != "" {
		e.value = expected
	}
	s.past.note(e)
	s.push(&spoken{id: id, kind: p.Type(), payload: raw, done: done})
	return id
}

// replay repeats an answered message, under its id.
func (s *speaker) replay(id string, p wire.Payload) {
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	s.push(&spoken{id: id, kind: p.Type(), payload: raw})
}

func (s *speaker) push(q *spoken) {
	s.mu.Lock()
	s.parcels = append(s.parcels, q)
	s.mu.Unlock()
	s.repeat(time.Now())
}

// answered handles a direct reply.
func (s *speaker) answered(m wire.Message, p wire.Payload) {
	if m.RequestID == "" {
		return
	}
	if e, ok := p.(*wire.ErrorPayload); ok && e.Temporary {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, q := range s.parcels {
			if q.id == m.RequestID {
				q.sent, q.after = time.Time{}, time.Now().Add(100*time.Millisecond+rand.N(100*time.Millisecond))
			}
		}
		return
	}
	s.past.note(event{what: answered, request: m.RequestID}.describe(p, m.Payload))
	s.mu.Lock()
	i := slices.IndexFunc(s.parcels, func(q *spoken) bool { return q.id == m.RequestID })
	if i < 0 {
		s.mu.Unlock()
		return
	}
	q := s.parcels[i]
	s.parcels = slices.Delete(s.parcels, i, i+1)
	more := len(s.parcels) >= speakerWindow
	s.mu.Unlock()
	if more {
		s.repeat(time.Now())
	}
	if q.done != nil {
		q.done(p)
	}
}

// nag keeps sockets and unanswered messages alive.
func (s *speaker) nag(ctx context.Context) {
	pinged := time.Now()
	for waitFor(ctx, 50*time.Millisecond) {
		now := time.Now()
		s.repeat(now)
		if now.Sub(pinged) < speakerPing {
			continue
		}
		pinged = now
		s.mu.Lock()
		live := make([]*spokenSocket, 0, len(s.live))
		for k := range s.live {
			live = append(live, k)
		}
		overdue := !s.patient && slices.ContainsFunc(s.parcels, func(q *spoken) bool { return !q.sent.IsZero() && now.Sub(q.sent) > speakerAnswer })
		s.mu.Unlock()
		for _, k := range live {
			if overdue || k.ws.WriteControl(websocket.PingMessage, nil, now.Add(speakerWrite)) != nil {
				_ = k.ws.Close()
			}
		}
	}
}

// repeat writes the messages not yet written to the newest socket.
func (s *speaker) repeat(now time.Time) {
	s.mu.Lock()
	k := s.newest
	var due []*spoken
	waiting := 0
	for _, q := range s.parcels {
		switch {
		case k == nil || waiting == speakerWindow:
		case !q.sent.IsZero():
			waiting++
		case !now.Before(q.after):
			q.sent = now
			waiting++
			due = append(due, q)
		}
	}
	s.mu.Unlock()
	for _, q := range due {
		m := wire.Message{Type: q.kind, UserID: s.user, Token: s.token, Payload: q.payload, RequestID: q.id}
		if s.writeMessage(k, m) != nil {
			return // the next socket sends it again
		}
	}
}

func (s *speaker) write(k *spokenSocket, p wire.Payload, request string) error {
	m, err := wire.New(s.user, p)
	if err != nil {
		return err
	}
	m.Token, m.RequestID = s.token, request
	return s.writeMessage(k, m)
}

func (s *speaker) writeMessage(k *spokenSocket, m wire.Message) error {
	k.write.Lock()
	defer k.write.Unlock()
	_ = k.ws.SetWriteDeadline(time.Now().Add(speakerWrite))
	err := k.ws.WriteJSON(m)
	if err != nil {
		_ = k.ws.Close()
	}
	return err
}

// unanswered returns how many messages wait for an answer.
func (s *speaker) unanswered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.parcels)
}
