package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestRefused sends messages that must not reach the Handler, each on a connection
// that stays open.
func TestRefused(t *testing.T) {
	h := serve(t, nil)
	var received atomic.Int32
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		received.Add(1)
		return nil, nil
	}
	c, conn := h.join(t, "alice")
	good := token("alice", "participant", time.Hour)
	cancel := func(user, tok string) string {
		b, _ := message(user, tok, &wire.SessionCancel{SessionID: "s-1"}).Encode()
		return string(b)
	}
	tests := []struct {
		name, frame string
		want        wire.ErrorPayload
		requestID   string
	}{
		{"no token", cancel("alice", ""), wire.ErrorPayload{Code: wire.CodeUnauthenticated, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"forged token", cancel("alice", "forged"), wire.ErrorPayload{Code: wire.CodeUnauthenticated, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"expired token", cancel("alice", token("alice", "participant", -time.Second)),
			wire.ErrorPayload{Code: wire.CodeTokenExpired, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"another's token", cancel("", token("bob", "participant", time.Hour)),
			wire.ErrorPayload{Code: wire.CodeForbidden, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"another's token and id", cancel("bob", token("bob", "participant", 2*time.Hour)),
			wire.ErrorPayload{Code: wire.CodeForbidden, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"another's user_id", cancel("bob", good), wire.ErrorPayload{Code: wire.CodeForbidden, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"token without the role", cancel("alice", token("alice", "coordinator", time.Hour)),
			wire.ErrorPayload{Code: wire.CodeForbidden, RequestType: "session_cancel", SessionID: "s-1"}, "req-session_cancel"},
		{"unknown type", `{"type":"nonsense","token":"` + good + `","request_id":"r"}`, wire.ErrorPayload{Code: wire.CodeUnknownType, RequestType: "nonsense"}, "r"},
		{"unknown type and no token", `{"type":"nonsense"}`, wire.ErrorPayload{Code: wire.CodeUnauthenticated, RequestType: "nonsense"}, ""},
		{"a server's type", `{"type":"keygen_confirm","token":"` + good + `","payload":{"key_id":"k","status":"success"}}`,
			wire.ErrorPayload{Code: wire.CodeUnknownType, RequestType: "keygen_confirm", KeyID: "k"}, ""},
		{"register again", `{"type":"register","token":"` + good + `","payload":{"user_id":"alice","role":"participant"}}`,
			wire.ErrorPayload{Code: wire.CodeConflict, RequestType: "register"}, ""},
		{"no payload", `{"type":"sign_result","token":"` + good + `"}`, wire.ErrorPayload{Code: wire.CodeBadRequest, RequestType: "sign_result"}, ""},
		{"wrong payload", `{"type":"sign_result","token":"` + good + `","payload":{"key_id":"k","session_id":"s","part_index":0}}`,
			wire.ErrorPayload{Code: wire.CodeBadRequest, RequestType: "sign_result", KeyID: "k", SessionID: "s"}, ""},
		{"ids that are none", `{"type":"sign_result","token":"` + good + `","payload":{"key_id":"{k}","part_index":1}}`,
			wire.ErrorPayload{Code: wire.CodeBadRequest, RequestType: "sign_result"}, ""},
		{"not JSON", `hello`, wire.ErrorPayload{Code: wire.CodeBadRequest}, ""},
		{"empty", ``, wire.ErrorPayload{Code: wire.CodeBadRequest}, ""},
		{"token too long", `{"type":"ping","token":"` + strings.Repeat("x", wire.MaxTokenBytes+1) + `"}`, wire.ErrorPayload{Code: wire.CodeTooLarge}, ""},
	}
	for _, tt := range tests {
		c.sendText(tt.frame)
		m, e := c.refusal()
		if e.Error == "" || m.UserID != "alice" || m.RequestID != tt.requestID || m.Seq != 0 {
			t.Errorf("%s: got envelope %+v", tt.name, m)
		}
		e.Error = ""
		if diff := cmp.Diff(&tt.want, e); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		c.lives("alice")
	}
	if err := c.ws.WriteMessage(websocket.BinaryMessage, []byte(cancel("alice", good))); err != nil {
		t.Fatal(err)
	}
	if _, e := c.refusal(); e.Code != wire.CodeBadRequest {
		t.Errorf("binary frame: got %+v", e)
	}
	c.lives("alice")
	if n := received.Load(); n != 0 {
		t.Errorf("%d messages reached the handler", n)
	}
	if conn.Claims().Subject != "alice" {
		t.Errorf("another's token was taken over: %+v", conn.Claims())
	}
}

func TestReceive(t *testing.T) {
	h := serve(t, nil)
	ids := &wire.Error{Code: wire.CodeInvalidSignature, Message: "does not verify", KeyID: "k-9", SessionID: "s-9"}
	answers := map[string]struct {
		reply wire.Payload
		err   error
		want  wire.Payload
	}{
		"reply":       {&wire.Ack{SessionID: "x", KeyID: "y"}, nil, &wire.Ack{SessionID: "x", KeyID: "y"}},
		"wire error":  {nil, wire.Errorf(wire.CodeNotFound, "no such session"), &wire.ErrorPayload{Error: "no such session", Code: wire.CodeNotFound, RequestType: "session_cancel", SessionID: "wire error"}},
		"with ids":    {nil, ids, &wire.ErrorPayload{Error: "does not verify", Code: wire.CodeInvalidSignature, RequestType: "session_cancel", KeyID: "k-9", SessionID: "s-9"}},
		"wrapped":     {nil, fmt.Errorf("load from 10.0.0.7: %w", wire.ErrUnavailable), &wire.ErrorPayload{Error: "unavailable", Code: wire.CodeUnavailable, Temporary: true, RequestType: "session_cancel", SessionID: "wrapped"}},
		"other error": {nil, errors.New("disk on fire"), &wire.ErrorPayload{Error: "internal error", Code: wire.CodeInternal, RequestType: "session_cancel", SessionID: "other error"}},
	}
	h.handler.receive = func(ctx context.Context, c *wsconn.Conn, m wire.Message, p wire.Payload) (wire.Payload, error) {
		if m.Token != "" {
			t.Error("the token reaches the handler")
		}
		if claims, ok := auth.FromContext(ctx); !ok || claims.Subject != "alice" {
			t.Errorf("claims in the context: %+v", claims)
		}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no deadline")
		}
		a := answers[strings.ReplaceAll(p.(*wire.SessionCancel).SessionID, "-", " ")]
		return a.reply, a.err
	}
	c, _ := h.join(t, "alice")
	for name, a := range answers {
		id := strings.ReplaceAll(name, " ", "-")
		c.send(message("alice", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: id}))
		m, got := c.next()
		if e, ok := a.want.(*wire.ErrorPayload); ok && e.SessionID == name {
			e.SessionID = id
		}
		if diff := cmp.Diff(a.want, got); diff != "" || m.RequestID != "req-session_cancel" {
			t.Errorf("%s: %+v (-want +got):\n%s", name, m, diff)
		}
	}
	c.lives("alice")
	// The operator sees the details hidden from the client.
	for _, want := range []string{"disk on fire", "10.0.0.7"} {
		if !strings.Contains(h.log.String(), want) {
			t.Errorf("the log does not have %q", want)
		}
	}
}

// TestOrder: a connection's messages are handled one at a time, in order, and
// one connection does not wait for another.
func TestOrder(t *testing.T) {
	h := serve(t, nil)
	var busy atomic.Int32
	got := make(chan uint64, 1000)
	hold := make(chan struct{})
	h.handler.receive = func(_ context.Context, c *wsconn.Conn, _ wire.Message, p wire.Payload) (wire.Payload, error) {
		if c.UserID() == "bob" {
			<-hold
			return nil, nil
		}
		if busy.Add(1) != 1 {
			t.Error("two at a time")
		}
		got <- p.(*wire.Ack).Seq
		busy.Add(-1)
		return nil, nil
	}
	bob, _ := h.join(t, "bob")
	bob.send(message("", token("bob", "participant", time.Hour), &wire.Ack{Seq: 1}))
	alice, _ := h.join(t, "alice")
	tok := token("alice", "participant", time.Hour)
	for i := range 300 {
		alice.send(message("", tok, &wire.Ack{Seq: uint64(i + 1)}))
	}
	for i := range 300 {
		if seq := await(t, got); seq != uint64(i+1) {
			t.Fatalf("got %d, want %d", seq, i+1)
		}
	}
	close(hold)
	bob.lives("bob")
}

func TestTooLarge(t *testing.T) {
	const limit = 100_000
	h := serve(t, func(cfg *wsconn.Config) { cfg.MaxMessageBytes = limit })
	tok := token("alice", "participant", time.Hour)
	pad := func(n int) string {
		f := `{"type":"ping","token":"` + tok + `","x":"`
		return f + strings.Repeat("x", n-len(f)-2) + `"}`
	}
	c, _ := h.join(t, "alice")
	c.sendText(pad(limit))
	if m, _ := c.next(); m.Type != wire.TypePong {
		t.Fatalf("a message of the very limit: got %s", m.Payload)
	}
	c.sendText(pad(limit + 1))
	if _, e := c.refusal(); e.Code != wire.CodeTooLarge {
		t.Errorf("got %+v", e)
	}
	c.wantClosed(websocket.CloseMessageTooBig)

	// Far beyond it, so that much is unread when the answer is written.
	c, _ = h.join(t, "alice")
	ws, far := c.ws, []byte(pad(50*limit))
	go func() { _ = ws.WriteMessage(websocket.TextMessage, far) }()
	if _, e := c.refusal(); e.Code != wire.CodeTooLarge {
		t.Errorf("got %+v", e)
	}
	c.wantClosed(websocket.CloseMessageTooBig)

	// In fragments, none of which is too long.
	c, _ = h.join(t, "alice")
	w, err := c.ws.NextWriter(websocket.TextMessage)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if _, err := w.Write(make([]byte, 10_000)); err != nil {
			break
		}
	}
	if _, e := c.refusal(); e.Code != wire.CodeTooLarge {
		t.Errorf("got %+v", e)
	}
	c.wantClosed(websocket.CloseMessageTooBig)
}

// TestAbuse: some faults are forgiven, but not without limit.
func TestAbuse(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.MaxRefused = 5 })
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		return nil, wire.Errorf(wire.CodeSessionEnded, "ended")
	}
	c, _ := h.join(t, "alice")
	// Refusals that an honest client can meet do not count.
	for range 30 {
		c.send(message("alice", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}))
		if _, e := c.refusal(); e.Code != wire.CodeSessionEnded {
			t.Fatalf("got %+v", e)
		}
	}
	for range 5 {
		c.sendText("nonsense")
		c.refusal()
	}
	c.lives("alice")
	c.sendText("nonsense")
	before := c.wantClosed(wire.CloseAbuse)
	if len(before) != 1 || before[0].Type != wire.TypeError {
		t.Errorf("before the close came %v", before)
	}
	await(t, h.handler.ended)
}

func TestFlood(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.RateLimit = 10 })
	var received atomic.Int32
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		received.Add(1)
		return nil, nil
	}
	c, _ := h.join(t, "alice")
	m, _ := message("alice", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}).Encode()
	ws := c.ws
	go func() {
		for ws.WriteMessage(websocket.TextMessage, m) == nil {
		}
	}()
	limited := 0
	for _, m := range c.wantClosed(wire.CloseAbuse) {
		if strings.Contains(string(m.Payload), `"rate_limited"`) {
			limited++
		}
	}
	if limited < 20 {
		t.Errorf("told %d times before", limited)
	}
	await(t, h.handler.ended)
	if n := received.Load(); n < 15 || n > 60 {
		t.Errorf("%d messages were handled", n)
	}

	free := serve(t, func(cfg *wsconn.Config) { cfg.RateLimit = -1 })
	c, _ = free.join(t, "alice")
	for range 3000 {
		c.sendText(string(m))
		if m, _ := c.next(); m.Type != wire.TypeAck {
			t.Fatalf("got %s", m.Payload)
		}
	}
}

// TestPanic: a fault in the Handler ends its own connection, with an error, and no
// other.
func TestPanic(t *testing.T) {
	const secret = "hunter2-in-a-panic"
	tests := []struct {
		name  string
		setup func(*fake)
		do    func(*client, *harness)
		told  bool
	}{
		{"Connected", func(f *fake) {
			f.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) { panic(secret) }
		}, func(c *client, _ *harness) { c.register("alice", "participant", time.Hour, nil) }, true},
		{"Started", func(f *fake) { close(f.started) }, func(c *client, _ *harness) {
			c.register("alice", "participant", time.Hour, nil)
			c.next()
		}, false},
		{"Receive", func(f *fake) {
			f.receive = func(_ context.Context, _ *wsconn.Conn, _ wire.Message, p wire.Payload) (wire.Payload, error) {
				panic(errors.New(secret))
			}
		}, func(c *client, h *harness) {
			c.register("alice", "participant", time.Hour, nil)
			c.next()
			c.send(message("alice", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}))
		}, true},
		{"Acked", func(f *fake) { f.acked = func(uint64) { var none []int; _ = none[3] } }, func(c *client, h *harness) {
			c.register("alice", "participant", time.Hour, nil)
			c.next()
			await(c.t, h.handler.started).Offer(1, frame(c.t, "alice", 1), time.Time{})
			c.next()
		}, false},
		{"Disconnected", func(f *fake) { close(f.ended) }, func(c *client, h *harness) {
			c.register("alice", "participant", time.Hour, nil)
			c.next()
			await(c.t, h.handler.started).Close(websocket.CloseInternalServerErr, "")
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, nil)
			tt.setup(h.handler)
			c := h.dial(t)
			tt.do(c, h)
			if tt.told {
				if _, e := c.refusal(); e.Code != wire.CodeInternal {
					t.Errorf("got %+v", e)
				}
			}
			c.wantClosed(websocket.CloseInternalServerErr)
			eventually(t, "the socket is gone", func() bool { return h.Count() == 0 })
			if log := h.log.String(); !strings.Contains(log, "handler panicked") || !strings.Contains(log, "message_test.go") && !strings.Contains(log, "harness_test.go") {
				t.Errorf("the panic and its stack are not in the log: %s", log)
			}
			if strings.Contains(h.log.String(), secret) {
				t.Error("what was panicked with is in the log")
			}
			if tt.name != "Disconnected" {
				await(t, h.handler.ended) // also after Connected, to undo half a join
			}
		})
	}
}
