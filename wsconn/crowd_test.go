package wsconn_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestUnregisteredAreBounded: beyond the bound the oldest socket that has not begun
// to register is closed, and no socket that has.
func TestUnregisteredAreBounded(t *testing.T) {
	const most = 5
	h := serve(t, func(cfg *wsconn.Config) { cfg.MaxUnregistered = most })
	alice, _ := h.join(t, "alice")
	var silent []*client
	for i := range 3 * most {
		silent = append(silent, h.dial(t))
		if i < most { // one after the other, so that the oldest is known
			eventually(t, "the socket is counted", func() bool { return h.Count() == 1+i+1 })
			continue
		}
		silent[i-most].wantClosed(wire.CloseUnavailable)
	}
	eventually(t, "the bound holds", func() bool { return h.Count() == 1+most })
	for i, c := range silent[2*most:] {
		c.register(fmt.Sprint("user-", i), "participant", time.Hour, nil)
		if m, _ := c.next(); m.Type != wire.TypeRegisterConfirm {
			t.Errorf("one of the newest: got %s %s", m.Type, m.Payload)
		}
	}
	alice.lives("alice")

	// A socket whose register was refused counts again, once.
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		return nil, wire.ErrConflict
	}
	refused := h.dial(t)
	for range 3 {
		refused.register("bob", "participant", time.Hour, nil)
		refused.refusal()
	}
	for range most {
		silent = append(silent, h.dial(t))
	}
	refused.wantClosed(wire.CloseUnavailable)
	alice.lives("alice")
	for _, c := range silent[len(silent)-most:] {
		c.ws.Close()
	}
	eventually(t, "those who left are not counted", func() bool { return h.Count() == 1+most })
	for range most {
		h.dial(t)
	}
	alice.lives("alice")
}

// TestSlowRegister: a client that has sent its register in time is not closed
// because the node is slow, as when many connect at once.
func TestSlowRegister(t *testing.T) {
	const timeout = 50 * time.Millisecond
	h := serve(t, func(cfg *wsconn.Config) { cfg.RegisterTimeout = timeout })
	refuse := true
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		<-time.After(4 * timeout) // longer than the client has, on any machine
		if refuse {
			refuse = false
			return nil, wire.ErrConflict
		}
		return &wire.RegisterConfirm{Status: wire.StatusSuccess}, nil
	}
	late := h.dial(t)
	late.register("alice", "participant", time.Hour, nil)
	late.refusal()
	late.wantClosed(wire.CloseNotRegister) // its time counts again

	c := h.dial(t)
	c.register("alice", "participant", time.Hour, nil)
	if m, _ := c.next(); m.Type != wire.TypeRegisterConfirm {
		t.Fatalf("got %s %s", m.Type, m.Payload)
	}
	c.lives("alice")
}

// TestUserRate: a user's limit is the same over any number of sockets, and another
// user has its own.
func TestUserRate(t *testing.T) {
	const burst = 40
	h := serve(t, func(cfg *wsconn.Config) {
		cfg.Users = limit.NewThrottle(0.001, burst)
		cfg.MaxRefused = 1
	})
	sent := 0
	answer := func(c *client, p wire.Payload) wire.Code {
		c.send(message("alice", token("alice", "participant", time.Hour), p))
		m, reply := c.next()
		if e, ok := reply.(*wire.ErrorPayload); ok {
			if m.RequestID == "" || !e.Temporary || e.RequestType != p.Type() {
				t.Errorf("refused with %+v for %q", e, m.RequestID)
			}
			return e.Code
		}
		return ""
	}
	var last *client
	for sent < burst {
		last, _ = h.join(t, "alice") // another socket
		for range 8 {
			if code := answer(last, &wire.Ping{}); code != "" {
				t.Fatalf("message %d of %d: %s", sent+1, burst, code)
			}
			sent++
		}
	}
	for range 10 { // slowly: it does not count against the socket
		if code := answer(last, &wire.Ping{}); code != wire.CodeRateLimited {
			t.Fatalf("message %d: %q, want %s", sent+1, code, wire.CodeRateLimited)
		}
	}
	fresh, _ := h.join(t, "alice")
	if code := answer(fresh, &wire.Ping{}); code != wire.CodeRateLimited {
		t.Errorf("on a new socket: %q, want %s", code, wire.CodeRateLimited)
	}
	bob, _ := h.join(t, "bob")
	bob.lives("bob")
}

// TestPatience: a client that the Handler repeatedly tells to wait is not treated
// as one that repeats faults.
func TestPatience(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.MaxRefused = 1 })
	h.handler.receive = func(context.Context, *wsconn.Conn, wire.Message, wire.Payload) (wire.Payload, error) {
		return nil, wire.Errorf(wire.CodeRateLimited, "later")
	}
	c, _ := h.join(t, "alice")
	for range 100 {
		c.send(message("alice", token("alice", "participant", time.Hour), &wire.SessionCancel{SessionID: "s"}))
	}
	for range 100 {
		if _, e := c.refusal(); e.Code != wire.CodeRateLimited || e.RequestType != wire.TypeSessionCancel {
			t.Fatalf("got %+v", e)
		}
	}
	c.lives("alice")
}

// TestRegisterRate: a client that connects again and again is told to wait, on any
// socket; others are not.
func TestRegisterRate(t *testing.T) {
	const burst = 6
	h := serve(t, func(cfg *wsconn.Config) { cfg.Registers = limit.NewThrottle(0.001, burst) })
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		return nil, wire.ErrUnavailable
	}
	for range 2 * burst { // while the node is in trouble, trying again costs nothing
		c := h.dial(t)
		c.register("alice", "participant", time.Hour, nil)
		if _, e := c.refusal(); e.Code != wire.CodeUnavailable {
			t.Fatalf("got %+v", e)
		}
		c.wantClosed(wire.CloseUnavailable)
	}
	calls := 0
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		calls++
		return &wire.RegisterConfirm{Status: wire.StatusSuccess}, nil
	}
	for range burst {
		h.join(t, "alice")
	}
	for range 3 {
		c := h.dial(t)
		c.register("alice", "participant", time.Hour, nil)
		if _, e := c.refusal(); e.Code != wire.CodeRateLimited || !e.Temporary {
			t.Errorf("got %+v", e)
		}
		c.wantClosed(wire.CloseUnavailable)
	}
	if calls != burst {
		t.Errorf("the handler was bothered %d times, want %d", calls, burst)
	}
	h.join(t, "bob")
}
