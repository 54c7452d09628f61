package wsconn_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// revoked is the test's revocations: users, and tokens by their expiry.
type revoked struct {
	mu    sync.Mutex
	users map[string]error
	after time.Time // tokens that expire later
}

func (r *revoked) user(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil {
		r.users = make(map[string]error)
	}
	r.users[name] = err
}

func (r *revoked) check(c auth.Claims) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.after.IsZero() && c.ExpiresAt.After(r.after) {
		return auth.ErrRevoked
	}
	return r.users[c.Subject]
}

func TestCloseRevoked(t *testing.T) {
	var list revoked
	h := serve(t, func(cfg *wsconn.Config) { cfg.Revoked = list.check })
	alice, _ := h.join(t, "alice")
	bob, _ := h.join(t, "bob")
	carol, _ := h.join(t, "carol")
	stranger := h.dial(t) // without a register nothing can be revoked
	if n := h.CloseRevoked(); n != 0 {
		t.Errorf("closed %d sockets of good tokens", n)
	}
	list.user("alice", auth.ErrRevoked)
	list.user("bob", wire.Errorf(wire.CodeUnavailable, "cannot tell")) // does not revoke
	list.user("carol", errors.New("a fault"))                          // neither
	if n := h.CloseRevoked(); n != 1 {
		t.Errorf("closed %d sockets, want 1", n)
	}
	alice.wantClosed(wire.CloseRevoked)
	await(t, h.handler.ended)
	bob.lives("bob")
	carol.lives("carol")
	stranger.register("dave", "participant", time.Hour, nil)
	if m, _ := stranger.next(); m.Type != wire.TypeRegisterConfirm {
		t.Errorf("got %s", m.Type)
	}
}

// TestRevokedMeanwhile: a token is revoked after its verification and before
// CloseRevoked could see whose socket it is.
func TestRevokedMeanwhile(t *testing.T) {
	var list revoked
	var connected atomic.Bool
	h := serve(t, func(cfg *wsconn.Config) { cfg.Revoked = list.check })
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		connected.Store(true)
		return nil, nil
	}
	list.user("alice", auth.ErrRevoked) // this test's verifier does not know it
	alice := h.dial(t)
	alice.register("alice", "participant", time.Hour, nil)
	alice.wantClosed(wire.CloseRevoked)
	if connected.Load() {
		t.Error("connected with a revoked token")
	}

	// While it connects: CloseRevoked sees it already, and no confirmation follows.
	entered, release := make(chan struct{}), make(chan struct{})
	h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) {
		close(entered)
		<-release
		return nil, nil
	}
	bob := h.dial(t)
	bob.register("bob", "participant", time.Hour, nil)
	<-entered
	list.user("bob", auth.ErrRevoked)
	if n := h.CloseRevoked(); n != 1 {
		t.Errorf("closed %d sockets, want 1", n)
	}
	close(release)
	if before := bob.wantClosed(wire.CloseRevoked); len(before) != 0 {
		t.Errorf("got %+v first", before)
	}
	await(t, h.handler.ended) // Connected's work is undone

	// A newer token that was revoked is not accepted silently.
	h.handler.connected = nil
	carol, _ := h.join(t, "carol")
	list.mu.Lock()
	list.after = time.Now().Add(2 * time.Hour)
	list.mu.Unlock()
	carol.lives("carol")
	carol.send(message("carol", token("carol", "participant", 3*time.Hour), &wire.Ping{}))
	if before := carol.wantClosed(wire.CloseRevoked); len(before) != 0 {
		t.Errorf("got %+v first", before)
	}
}

// deaf refuses every token as revoked.
type deaf struct{}

func (deaf) Verify(context.Context, string) (auth.Claims, error) {
	return auth.Claims{}, auth.ErrRevoked
}

func TestRegisterRevoked(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.Verifier = deaf{} })
	c := h.dial(t)
	c.register("alice", "participant", time.Hour, nil)
	if _, e := c.refusal(); e.Code != wire.CodeUnauthenticated {
		t.Errorf("got %+v", e)
	}
	c.wantClosed(wire.CloseRevoked)
}
