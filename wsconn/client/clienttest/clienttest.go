// Package clienttest has a fake server for tests of clients: real sockets, with
// mailboxes in memory. A test can make it lie, refuse and cut sockets.
//
// Start here: [New] starts a [Server], [Said] returns the messages of its users.
package clienttest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Server is a server on real sockets with its mailboxes in memory. session.Step
// decides its sessions, so it answers as a real server does; a test can make it
// lie, refuse and cut sockets.
type Server struct {
	t   *testing.T
	URL string

	Mu       sync.Mutex
	Users    map[string]*User
	Sessions map[string]*session.Session
	Shares   map[string]string // key/part
	Keys     map[string]session.Session
	Lineages map[string][]*statement.Certificate // of keys, ascending
	highest  map[string]int                      // numbers used, by key
	reshares map[string]*reshare                 // by session
	// minEpochs are those of signings, by session.
	minEpochs map[string]int
	heard     []heard
	sockets   int
	stopped   bool

	// Hooks, called with mu held.
	Refuse  func(user string, m wire.Message, p wire.Payload) *wire.Error // before it takes effect
	Cut     func(user string, m wire.Message) bool                        // after it took effect, before the ack
	Tamper  func(to string, p wire.Payload)                               // messages to a mailbox
	Welcome func(user, token string) (closeCode int)
	Expired map[string]bool // tokens that have expired
	Mute    string          // whose round messages are dropped

	OldFirst int  // how many of the old committee must accept before a reshare begins, if more than the threshold
	Withhold bool // keep the certificate of a reshare from everybody
}

type heard struct {
	user string
	p    wire.Payload
	id   string
}

// User is the server's record of one user. Its fields are guarded by Server.Mu.
type User struct {
	Box      []wire.Message
	Seq      uint64
	Acked    uint64
	identity string
	out      chan []byte // to the live socket; nil without one
	WS       *websocket.Conn
	Resumes  []uint64
}

// New starts a server, which ends with the test.
func New(t *testing.T) *Server {
	f := &Server{
		t: t, Users: map[string]*User{}, Sessions: map[string]*session.Session{}, Shares: map[string]string{},
		Keys: map[string]session.Session{}, Expired: map[string]bool{},
		Lineages: map[string][]*statement.Certificate{}, highest: map[string]int{}, reshares: map[string]*reshare{}, minEpochs: map[string]int{},
	}
	srv := httptest.NewServer(http.HandlerFunc(f.serve))
	f.URL = srv.URL
	t.Cleanup(func() {
		f.Mu.Lock()
		f.stopped = true
		for _, u := range f.Users {
			if u.WS != nil {
				_ = u.WS.Close()
			}
		}
		f.Mu.Unlock()
		srv.Close()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			f.Mu.Lock()
			n := f.sockets
			f.Mu.Unlock()
			if n == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Error("fake server's sockets do not end")
				return
			}
		}
	})
	return f
}

// Token makes a token of a user that rest.Subject reads. The tag makes it unique.
func Token(user, tag string) string {
	claims, _ := json.Marshal(map[string]string{"sub": user, "tag": tag})
	return "h." + base64.RawURLEncoding.EncodeToString(claims) + ".s3cret"
}

// User returns the server's record of a user. Mu is held.
func (f *Server) User(name string) *User {
	if f.Users[name] == nil {
		f.Users[name] = &User{}
	}
	return f.Users[name]
}

func (f *Server) serve(w http.ResponseWriter, r *http.Request) {
	up := websocket.Upgrader{}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer ws.Close()
	f.Mu.Lock()
	f.sockets++
	f.Mu.Unlock()
	defer func() { f.Mu.Lock(); f.sockets--; f.Mu.Unlock() }()
	_, frame, err := ws.ReadMessage()
	if err != nil {
		return
	}
	m, reg := f.parse(frame)
	user := m.UserID
	f.Mu.Lock()
	code := 0
	if f.Expired[m.Token] {
		code = wire.CloseTokenExpired
	}
	if f.Welcome != nil && code == 0 {
		code = f.Welcome(user, m.Token)
	}
	if code != 0 || f.stopped {
		f.Mu.Unlock()
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "no"), time.Now().Add(time.Second))
		return
	}
	u, out := f.register(user, m.RequestID, reg.(*wire.Register), ws)
	f.Mu.Unlock()

	written := make(chan struct{})
	go func() {
		defer close(written)
		write(ws, out)
	}()
	for {
		_, frame, err := ws.ReadMessage()
		if err != nil {
			break
		}
		m, p := f.parse(frame)
		f.Mu.Lock()
		if u.WS == ws {
			f.handle(user, u, m, p)
		}
		f.Mu.Unlock()
	}
	f.Mu.Lock()
	if u.WS == ws {
		u.WS, u.out = nil, nil
	}
	f.Mu.Unlock()
	close(out)
	<-written
}

// register makes ws the user's socket, in place of the one before, and queues what its
// mailbox holds after the point to resume from. Mu is held.
func (f *Server) register(user, requestID string, reg *wire.Register, ws *websocket.Conn) (u *User, out chan []byte) {
	u = f.User(user)
	if u.WS != nil {
		_ = u.WS.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(wire.CloseSuperseded, "superseded"), time.Now().Add(time.Second))
		_ = u.WS.Close()
	}
	out = make(chan []byte, 4096)
	u.WS, u.out, u.identity = ws, out, reg.Identity
	u.Resumes = append(u.Resumes, reg.Resume.LastSeq)
	f.direct(u, user, requestID, &wire.RegisterConfirm{Status: wire.StatusSuccess, Node: "fake", LastSeq: u.Seq})
	for _, old := range u.Box {
		if old.Seq > reg.Resume.LastSeq {
			f.push(u, old)
		}
	}
	return u, out
}

// write sends frames until out is closed. After a failure it closes the socket and
// drops the rest.
func write(ws *websocket.Conn, out <-chan []byte) {
	for frame := range out {
		if ws.WriteMessage(websocket.TextMessage, frame) != nil {
			break
		}
	}
	_ = ws.Close()
	for range out {
	}
}

func (f *Server) parse(frame []byte) (wire.Message, wire.Payload) {
	m, err := wire.Decode(frame, wire.DefaultMaxMessageBytes)
	if err != nil {
		f.t.Errorf("client sent %s: %v", frame, err)
	}
	p, err := m.DecodePayload()
	if err != nil {
		f.t.Errorf("client sent %s: %v", m.Type, err)
	}
	return m, p
}

func (f *Server) push(u *User, m wire.Message) {
	frame, err := m.Encode()
	if err != nil {
		f.t.Error(err)
	}
	if u.out != nil {
		select {
		case u.out <- frame:
		default:
			f.t.Error("fake server's queue is full")
		}
	}
}

func (f *Server) direct(u *User, user, id string, p wire.Payload) {
	m, err := wire.New(user, p)
	if err != nil {
		f.t.Error(err)
	}
	m.RequestID = id
	f.push(u, m)
}

// Mail puts a message into a mailbox.
func (f *Server) Mail(to, id string, p wire.Payload) {
	if f.Tamper != nil {
		raw, _ := json.Marshal(p)
		m := wire.Message{Type: p.Type(), Payload: raw}
		if copied, err := m.DecodePayload(); err == nil {
			p = copied
		}
		f.Tamper(to, p)
	}
	m, err := wire.New(to, p)
	if err != nil {
		f.t.Error(err)
	}
	u := f.User(to)
	u.Seq++
	m.Seq, m.RequestID = u.Seq, id
	u.Box = append(u.Box, m)
	f.push(u, m)
}

func (f *Server) handle(user string, u *User, m wire.Message, p wire.Payload) {
	if f.Expired[m.Token] {
		f.fail(user, u, m, wire.Errorf(wire.CodeTokenExpired, "the token has expired"))
		return
	}
	if ack, ok := p.(*wire.Ack); ok {
		u.Acked = max(u.Acked, ack.Seq)
		u.Box = slices.DeleteFunc(u.Box, func(m wire.Message) bool { return m.Seq <= ack.Seq })
		return
	}
	f.heard = append(f.heard, heard{user, p, m.RequestID})
	if f.Refuse != nil {
		if e := f.Refuse(user, m, p); e != nil {
			f.fail(user, u, m, e)
			return
		}
	}
	reply, e := f.apply(user, u, m, p)
	if f.Cut != nil && f.Cut(user, m) {
		_ = u.WS.Close()
		return
	}
	switch {
	case e != nil:
		f.fail(user, u, m, e)
	case reply != nil:
		f.direct(u, user, m.RequestID, reply)
	}
}

func (f *Server) fail(user string, u *User, m wire.Message, e *wire.Error) {
	f.direct(u, user, m.RequestID, &wire.ErrorPayload{Error: e.Message, Code: e.Code, Temporary: e.Temporary, RequestType: m.Type})
}

func (f *Server) apply(user string, u *User, m wire.Message, p wire.Payload) (wire.Payload, *wire.Error) {
	switch p := p.(type) {
	case *wire.KeygenRequest:
		return f.request("kg-"+p.KeyID, m.RequestID, session.Session{
			ID: "kg-" + p.KeyID, Kind: session.Keygen, KeyID: p.KeyID, Curve: pubkey.Curve(p.Curve), Threshold: p.Threshold,
			Coordinator: user, SignedRequest: p.SignedRequest,
		}, p.Participants)
	case *wire.SignRequest:
		key, ok := f.Keys[p.KeyID]
		if !ok {
			return nil, wire.Errorf(wire.CodeNotFound, "no such key")
		}
		digest, hash, err := pubkey.Digest(key.Curve, p.Data, p.Hash)
		if err != nil {
			return nil, wire.Errorf(wire.CodeBadRequest, "%s", err)
		}
		s := key
		s.ID, s.Kind, s.Data, s.Hash, s.Digest = p.SessionID, session.Sign, p.Data, hash, pubkey.Encode(digest)
		if s.ID == "" {
			s.ID = "sg-" + m.RequestID
		}
		f.minEpochs[s.ID] = p.MinEpoch
		s.Phase, s.Attempt, s.Signers, s.EndedAt, s.Coordinator = "", 0, nil, time.Time{}, user
		s.Parties, s.SignedRequest = nil, p.SignedRequest
		return f.request(s.ID, m.RequestID, s, key.Users(), p.Participants...)
	case *wire.KeygenResponse:
		return f.step(p.SessionID, session.Responded{Kind: session.Keygen, From: user, Party: p.PartIndex, Accept: *p.Response, Reason: p.Reason, Identity: u.identity})
	case *wire.SignResponse:
		return f.step(p.SessionID, session.Responded{Kind: session.Sign, From: user, Party: p.PartIndex, Accept: *p.Response, Reason: p.Reason, Identity: u.identity})
	case *wire.KeygenComplete:
		f.Shares[fmt.Sprint(p.KeyID, "/", p.PartIndex)] = p.ShareJSON
		reply, e := f.step(p.SessionID, session.Generated{
			From: user, Party: p.PartIndex, AccountAddr: p.AccountAddr, PublicKey: p.PublicKey, Attestation: p.Attestation,
		})
		if s := f.Sessions[p.SessionID]; e == nil && !slices.ContainsFunc(s.Parties, func(p session.Party) bool { return p.Result == "" }) {
			_, _ = f.step(p.SessionID, session.KeyStored{})
			f.Keys[p.KeyID] = *s
			f.first(*s)
		}
		return reply, e
	case *wire.SignResult:
		return f.step(p.SessionID, session.Signed{From: user, Party: p.PartIndex, Signature: p.Signature})
	case *wire.ReshareRequest:
		return f.requestReshare(user, m.RequestID, p)
	case *wire.ReshareResponse:
		return f.reshareAnswer(user, p)
	case *wire.ReshareComplete:
		return f.reshareComplete(p)
	case *wire.ReshareConsent:
		return f.reshareConsent(p)
	case *wire.CertificateGet:
		return f.certificates(user, p)
	case *wire.PartyFailed:
		if f.reshares[p.SessionID] != nil {
			return f.reshareFailed(p)
		}
		return f.step(p.SessionID, session.PartyFailed{From: user, Party: p.PartIndex, Attempt: p.Attempt, Reason: p.Reason, Culprits: p.Culprits})
	case *wire.SessionCancel:
		return f.step(p.SessionID, session.Cancel{From: user})
	case *wire.TSSMessage:
		return f.relay(user, p)
	case *wire.Ping:
		return &wire.Pong{}, nil
	}
	return nil, wire.Errorf(wire.CodeUnknownType, "unknown")
}

func (f *Server) request(id, requestID string, s session.Session, users []string, invited ...string) (wire.Payload, *wire.Error) {
	if old := f.Sessions[id]; old != nil {
		if old.Phase.Final() {
			return session.Outcome(*old), nil
		}
		return &wire.Ack{SessionID: id, KeyID: s.KeyID}, nil
	}
	for _, user := range users {
		s.Parties = append(s.Parties, session.Party{User: user, Invited: len(invited) == 0 || slices.Contains(invited, user)})
	}
	s.RequestID = requestID
	s.Terms = session.Terms{Invite: time.Minute, Run: 5 * time.Minute, Grace: 5 * time.Minute}
	s, out := session.Begin(s, time.Now())
	f.Sessions[id] = &s
	f.say(s, out)
	return &wire.Ack{SessionID: id, KeyID: s.KeyID}, nil
}

func (f *Server) step(id string, ev session.Event) (wire.Payload, *wire.Error) {
	s := f.Sessions[id]
	if s == nil {
		return nil, wire.Errorf(wire.CodeNotFound, "no such session")
	}
	next, out, err := session.Step(*s, ev, time.Now())
	if err != nil {
		e, ok := err.(*wire.Error)
		if !ok {
			f.t.Errorf("step: %v", err)
			e = wire.Errorf(wire.CodeInternal, "internal")
		}
		return nil, e
	}
	*s = next
	f.say(next, out)
	return &wire.Ack{SessionID: id, KeyID: s.KeyID}, nil
}

func (f *Server) say(s session.Session, out []session.Outgoing) {
	for _, o := range out {
		if p, ok := o.Payload.(*wire.SignParams); ok {
			p.ShareJSON = f.Shares[fmt.Sprint(s.KeyID, "/", p.PartIndex)]
		}
		f.epochs(o.Payload)
		f.Mail(o.To, o.RequestID, o.Payload)
	}
}

func (f *Server) relay(user string, p *wire.TSSMessage) (wire.Payload, *wire.Error) {
	s := f.Sessions[p.SessionID]
	switch {
	case f.reshares[p.SessionID] != nil:
		return f.reshareRelay(user, p)
	case s == nil:
		return nil, wire.Errorf(wire.CodeNotFound, "no such session")
	case s.PartIndex(user) != p.From:
		return nil, session.ErrNotParty
	case s.Phase.Final():
		return nil, session.ErrEnded
	case p.Attempt == s.Attempt && user != f.Mute:
		for _, i := range s.Signers {
			if i != p.From && (p.To == 0 || p.To == i) {
				f.Mail(s.Parties[i-1].User, "", p)
			}
		}
	}
	return &wire.Ack{SessionID: s.ID}, nil
}

// Drop cuts a user's socket as a dying node would.
func (f *Server) Drop(user string) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if ws := f.User(user).WS; ws != nil {
		_ = ws.Close()
	}
}

// Said returns the messages of a type that users have sent.
func Said[P wire.Payload](f *Server, user string) []P {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	var list []P
	for _, h := range f.heard {
		if p, ok := h.p.(P); ok && (user == "" || h.user == user) {
			list = append(list, p)
		}
	}
	return list
}

// SaidBy returns all messages that a user has sent. Mu is held.
func (f *Server) SaidBy(user string) []wire.Payload {
	var list []wire.Payload
	for _, h := range f.heard {
		if h.user == user {
			list = append(list, h.p)
		}
	}
	return list
}

// Forget forgets the messages that users have sent.
func (f *Server) Forget() {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.heard = nil
}

// WaitFor waits until ok reports true, and fails the test after 30 seconds.
func WaitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// Lines collects a log.
type Lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the collected text.
func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Within returns a context for one test.
func Within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Send puts a message into a mailbox.
func (f *Server) Send(to string, p wire.Payload) {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Mail(to, "", p)
}

// Await waits until a user has acknowledged all messages, and clears its record.
func (f *Server) Await(t *testing.T, user string) {
	t.Helper()
	WaitFor(t, user+" has taken all", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return f.User(user).Acked == f.User(user).Seq
	})
}

// Want compares two lists.
func Want(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
