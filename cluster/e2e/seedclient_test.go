package e2e_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// object is a payload written by hand, as by a client that knows only the seed's
// document.
type object map[string]any

// seedClient speaks only the seed protocol: no extension field, no ack, no resume.
// Its MPC is a script (see fakeKey).
type seedClient struct {
	t     *testing.T
	c     *testCluster
	user  string
	role  wire.Role
	token string

	ws *websocket.Conn

	mu     sync.Mutex
	inbox  []wire.Message // not yet taken by expect
	seen   []wire.Message // everything ever received
	closed error          // of the current connection
	news   chan struct{}  // replaced at every change
}

func (c *testCluster) client(user string, role wire.Role) *seedClient {
	return &seedClient{t: c.t, c: c, user: user, role: role, token: c.token(user, role), news: make(chan struct{})}
}

// connect opens a socket to a node and registers.
func (s *seedClient) connect(n *process) *seedClient {
	s.t.Helper()
	s.dial(n)
	s.send("register", object{"user_id": s.user, "role": s.role})
	s.expect("register_confirm")
	return s
}

func (s *seedClient) dial(n *process) {
	s.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.base, "http")+"/ws", nil)
	if err != nil {
		s.t.Fatalf("%s: dial: %v", s.user, err)
	}
	s.t.Cleanup(func() { _ = ws.Close() })
	s.mu.Lock()
	s.ws, s.closed = ws, nil
	s.mu.Unlock()
	go s.read(ws)
}

func (s *seedClient) read(ws *websocket.Conn) {
	for {
		_, frame, err := ws.ReadMessage()
		s.mu.Lock()
		if err != nil {
			if s.ws == ws {
				s.closed = err
			}
		} else {
			var m wire.Message
			if err := json.Unmarshal(frame, &m); err != nil {
				s.t.Errorf("%s: server sent what is not JSON: %v", s.user, err)
			}
			// A node that is killed before it could record what it wrote leaves
			// the last messages to be sent again, under their old numbers. A person
			// would see through it; here the number does.
			again := m.Seq != 0 && slices.ContainsFunc(s.seen, func(old wire.Message) bool { return old.Seq == m.Seq })
			if !again {
				s.inbox = append(s.inbox, m)
				s.seen = append(s.seen, m)
			}
		}
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// drop cuts the connection without a close frame.
func (s *seedClient) drop() { _ = s.ws.NetConn().Close() }

func (s *seedClient) send(kind string, payload any) {
	s.t.Helper()
	s.sendEnvelope(object{"type": kind, "user_id": s.user, "token": s.token, "payload": payload})
}

func (s *seedClient) sendEnvelope(envelope any) {
	s.t.Helper()
	if err := s.ws.WriteJSON(envelope); err != nil {
		s.t.Logf("%s: send: %v", s.user, err)
	}
}

// expect takes the first message of that type and returns its payload.
func (s *seedClient) expect(kind string) object {
	s.t.Helper()
	m := s.take(kind, func(m wire.Message) bool { return string(m.Type) == kind })
	var payload object
	if err := json.Unmarshal(m.Payload, &payload); err != nil {
		s.t.Fatalf("%s: payload of %s: %v", s.user, kind, err)
	}
	return payload
}

func (s *seedClient) take(what string, match func(wire.Message) bool) wire.Message {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		for i, m := range s.inbox {
			if match(m) {
				s.inbox = append(s.inbox[:i:i], s.inbox[i+1:]...)
				s.mu.Unlock()
				return m
			}
		}
		news, closed := s.news, s.closed
		waiting := summary(s.inbox)
		s.mu.Unlock()
		if closed != nil {
			s.t.Fatalf("%s: connection closed while waiting for %s: %v", s.user, what, closed)
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatalf("%s: no %s within %s; waiting are %s; all that came: %s", s.user, what, patience, waiting, summary(s.seen))
		}
	}
}

// expectError takes the next error and checks its code.
func (s *seedClient) expectError(code wire.Code) object {
	s.t.Helper()
	e := s.expect("error")
	if e["code"] != string(code) {
		s.t.Errorf("%s: got error %v (%v), want code %s", s.user, e["code"], e["error"], code)
	}
	return e
}

// expectClosed waits for the server to close the socket.
func (s *seedClient) expectClosed(code int) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		s.mu.Lock()
		news, closed := s.news, s.closed
		s.mu.Unlock()
		if closed != nil {
			if code != 0 && !websocket.IsCloseError(closed, code) {
				s.t.Errorf("%s: closed with %v, want code %d", s.user, closed, code)
			}
			return
		}
		select {
		case <-news:
		case <-timeout:
			s.t.Fatalf("%s: still open after %s", s.user, patience)
		}
	}
}

// count returns how many messages of that type have ever arrived.
func (s *seedClient) count(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, m := range s.seen {
		if string(m.Type) == kind {
			n++
		}
	}
	return n
}

// summary lists messages as type and seq.
func summary(messages []wire.Message) string {
	var list []string
	for _, m := range messages {
		list = append(list, fmt.Sprintf("%s %d", m.Type, m.Seq))
	}
	return strings.Join(list, ", ")
}

// fakeKey is the key that scripted parties pretend to share.
type fakeKey struct {
	private *secp256k1.PrivateKey
	address string
}

func newFakeKey(t *testing.T) *fakeKey {
	t.Helper()
	private, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	address, err := pubkey.Secp256k1.Address(private.PubKey().SerializeCompressed())
	if err != nil {
		t.Fatal(err)
	}
	return &fakeKey{private: private, address: address}
}

// sign signs data with its default hash: r‖s‖v.
func (k *fakeKey) sign(t *testing.T, data string) string {
	t.Helper()
	digest, _, err := pubkey.Digest(pubkey.Secp256k1, data, "")
	if err != nil {
		t.Fatal(err)
	}
	compact := ecdsa.SignCompact(k.private, digest, false)
	return pubkey.Encode(append(compact[1:], compact[0]))
}
