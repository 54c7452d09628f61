package wsconn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for an expected event.
const patience = 10 * time.Second

// fake is a Handler that records its calls and does as the test says.
type fake struct {
	connected func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error)
	receive   func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error)
	begin     func(context.Context, wire.Payload) (wsconn.Pending, error) // of a round message
	acked     func(seq uint64)
	started   chan *wsconn.Conn
	ended     chan *wsconn.Conn
}

func (f *fake) Connected(ctx context.Context, c *wsconn.Conn, r *wire.Register) (*wire.RegisterConfirm, error) {
	if f.connected == nil {
		return &wire.RegisterConfirm{Status: wire.StatusSuccess, Node: "n1", LastSeq: 7}, nil
	}
	return f.connected(ctx, c, r)
}

func (f *fake) Started(c *wsconn.Conn)                            { f.started <- c }
func (f *fake) Disconnected(_ context.Context, c *wsconn.Conn)    { f.ended <- c }
func (f *fake) Acked(_ context.Context, _ *wsconn.Conn, s uint64) { f.acked(s) }

func (f *fake) Receive(ctx context.Context, c *wsconn.Conn, m wire.Message, p wire.Payload) (reply wire.Payload, later wsconn.Pending, err error) {
	switch {
	case f.begin != nil && m.Type == wire.TypeTSSMessage:
		later, err = f.begin(ctx, p)
	case f.receive == nil:
		reply = &wire.Ack{}
	default:
		reply, err = f.receive(ctx, c, m, p)
	}
	return reply, later, err
}

// tokens verifies tokens of the form "user/role,role/expiry in ns".
type tokens struct{}

func token(user, roles string, life time.Duration) string {
	return fmt.Sprintf("%s/%s/%d", user, roles, time.Now().Add(life).UnixNano())
}

func (tokens) Verify(_ context.Context, token string) (auth.Claims, error) {
	fields := strings.Split(token, "/")
	if len(fields) != 3 {
		return auth.Claims{}, wire.Errorf(wire.CodeUnauthenticated, "not a token")
	}
	ns, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return auth.Claims{}, wire.Errorf(wire.CodeUnauthenticated, "not a token")
	}
	c := auth.Claims{Subject: fields[0], ExpiresAt: time.Unix(0, ns)}
	for r := range strings.SplitSeq(fields[1], ",") {
		c.Roles = append(c.Roles, wire.Role(r))
	}
	if !time.Now().Before(c.ExpiresAt) {
		return auth.Claims{}, wire.Errorf(wire.CodeTokenExpired, "token has expired")
	}
	return c, nil
}

// logs collects log lines of many goroutines.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// harness is a server with its handler and log.
type harness struct {
	*wsconn.Server
	handler *fake
	log     *logs
	url     string
}

func serve(t testing.TB, edit func(*wsconn.Config)) *harness {
	t.Helper()
	h := &harness{handler: &fake{started: make(chan *wsconn.Conn, 4096), ended: make(chan *wsconn.Conn, 4096)}, log: new(logs)}
	h.handler.acked = func(uint64) {}
	log := zerolog.New(h.log).Level(zerolog.DebugLevel)
	cfg := wsconn.Config{Verifier: tokens{}, Handler: h.handler, Log: &log, DrainSpread: time.Millisecond, CloseGrace: 500 * time.Millisecond}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if h.Server, err = wsconn.New(cfg); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(h.Server)
	h.url = "ws" + strings.TrimPrefix(web.URL, "http") + "/ws"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Drain(ctx); err != nil {
			t.Error(err)
		}
		web.Close()
	})
	return h
}

// client is a real WebSocket client.
type client struct {
	t  testing.TB
	ws *websocket.Conn
}

func (h *harness) dial(t testing.TB) *client {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(h.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}
}

// join dials and registers a participant.
func (h *harness) join(t testing.TB, user string) (*client, *wsconn.Conn) {
	t.Helper()
	c := h.dial(t)
	c.register(user, "participant", time.Hour, nil)
	if m, _ := c.next(); m.Type != wire.TypeRegisterConfirm {
		t.Fatalf("got %s, want register_confirm", m.Type)
	}
	return c, await(t, h.handler.started)
}

func (c *client) register(user, roles string, life time.Duration, resume *wire.Resume) {
	c.t.Helper()
	role, _, _ := strings.Cut(roles, ",")
	c.send(message("", token(user, roles, life), &wire.Register{UserID: user, Role: wire.Role(role), Resume: resume}))
}

func message(user, token string, p wire.Payload) wire.Message {
	m, err := wire.New(user, p)
	if err != nil {
		panic(err)
	}
	m.Token = token
	m.RequestID = "req-" + string(p.Type())
	return m
}

func (c *client) send(m wire.Message) {
	c.t.Helper()
	frame, err := m.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	c.sendText(string(frame))
}

func (c *client) sendText(frame string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

// next returns the next message from the server.
func (c *client) next() (wire.Message, wire.Payload) {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	kind, frame, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	var m wire.Message
	if err := json.Unmarshal(frame, &m); err != nil || kind != websocket.TextMessage {
		c.t.Fatalf("frame of kind %d: %v", kind, err)
	}
	p, err := m.DecodePayload()
	if err != nil {
		c.t.Fatal(err)
	}
	return m, p
}

// refusal returns the next message, which must be an error.
func (c *client) refusal() (wire.Message, *wire.ErrorPayload) {
	c.t.Helper()
	m, p := c.next()
	e, ok := p.(*wire.ErrorPayload)
	if !ok {
		c.t.Fatalf("got %s %s, want error", m.Type, m.Payload)
	}
	return m, e
}

// lives checks that the connection still works.
func (c *client) lives(user string) {
	c.t.Helper()
	c.send(message(user, token(user, "participant", time.Hour), &wire.Ping{}))
	if m, _ := c.next(); m.Type != wire.TypePong || m.RequestID != "req-ping" {
		c.t.Fatalf("got %s %s, want pong", m.Type, m.Payload)
	}
}

// closed reads to the end and returns the close code, and earlier messages.
func (c *client) closed() (code int, before []wire.Message) {
	c.t.Helper()
	_ = c.ws.SetReadDeadline(time.Now().Add(patience))
	for {
		_, frame, err := c.ws.ReadMessage()
		if err == nil {
			var m wire.Message
			if err := json.Unmarshal(frame, &m); err != nil {
				c.t.Fatal(err)
			}
			before = append(before, m)
			continue
		}
		var closed *websocket.CloseError
		if !errors.As(err, &closed) {
			c.t.Fatalf("got %v, want a close frame", err)
		}
		return closed.Code, before
	}
}

func (c *client) wantClosed(want int) []wire.Message {
	c.t.Helper()
	got, before := c.closed()
	if got != want {
		c.t.Fatalf("closed with %d, want %d", got, want)
	}
	return before
}

func await[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// eventually polls until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// frame is a mailbox frame with about n bytes.
func frame(t testing.TB, user string, n int) []byte {
	t.Helper()
	m, err := wire.New(user, &wire.SessionCancel{SessionID: "s", Reason: strings.Repeat("x", n)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func get(t testing.TB, h *harness, query string, header http.Header) (*http.Response, auth.Problem) {
	t.Helper()
	ws, resp, err := websocket.DefaultDialer.Dial(h.url+query, header)
	if err == nil {
		ws.Close()
		return resp, auth.Problem{}
	}
	if resp == nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p auth.Problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatalf("status %d is no problem document: %v", resp.StatusCode, err)
	}
	return resp, p
}
