package wsconn_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestRegister(t *testing.T) {
	for _, user := range []string{"", "参与方1"} { // user_id in the envelope is optional
		h := serve(t, nil)
		var seen *wire.Register
		h.handler.connected = func(ctx context.Context, c *wsconn.Conn, r *wire.Register) (*wire.RegisterConfirm, error) {
			seen = r
			if claims, ok := auth.FromContext(ctx); !ok || claims.Subject != "参与方1" || !claims.Has(wire.RoleAdmin) {
				t.Errorf("claims in the context: %+v", claims)
			}
			if c.UserID() != "参与方1" {
				t.Errorf("UserID in Connected: %q", c.UserID())
			}
			return &wire.RegisterConfirm{Status: wire.StatusSuccess, Node: "n1", LastSeq: 7}, nil
		}
		c := h.dial(t)
		c.send(message(user, token("参与方1", "participant,admin", time.Hour),
			&wire.Register{UserID: "参与方1", Role: wire.RoleParticipant, Identity: "id-1", Resume: &wire.Resume{LastSeq: 5}}))
		m, p := c.next()
		confirm, ok := p.(*wire.RegisterConfirm)
		if !ok || *confirm != (wire.RegisterConfirm{Status: wire.StatusSuccess, Node: "n1", LastSeq: 7}) {
			t.Fatalf("got %s %s", m.Type, m.Payload)
		}
		if m.UserID != "参与方1" || m.RequestID != "req-register" || m.Seq != 0 {
			t.Errorf("got envelope %+v", m)
		}
		conn := await(t, h.handler.started)
		if seen.Resume == nil || seen.Resume.LastSeq != 5 {
			t.Errorf("got %+v", seen)
		}
		if conn.ID() == "" || conn.UserID() != "参与方1" || conn.Role() != wire.RoleParticipant || conn.Identity() != "id-1" || !conn.Claims().Has(wire.RoleAdmin) {
			t.Errorf("got connection %s %s %s %s", conn.ID(), conn.UserID(), conn.Role(), conn.Identity())
		}
		if h.Count() != 1 {
			t.Errorf("Count() = %d", h.Count())
		}
		c.ws.Close()
		if await(t, h.handler.ended) != conn {
			t.Error("another connection ended")
		}
		eventually(t, "count falls", func() bool { return h.Count() == 0 })
	}
}

// TestFirstMessage: possible first messages of a socket, and their results.
func TestFirstMessage(t *testing.T) {
	alice := &wire.Register{UserID: "alice", Role: wire.RoleParticipant}
	refuse := func(err error) func(*harness) {
		return func(h *harness) {
			h.handler.connected = func(context.Context, *wsconn.Conn, *wire.Register) (*wire.RegisterConfirm, error) { return nil, err }
		}
	}
	encoded := func(m wire.Message) string {
		b, _ := m.Encode()
		return string(b)
	}
	reg := func(tok string, r *wire.Register) string { return encoded(message("", tok, r)) }
	good := token("alice", "participant", time.Hour)
	goes := 0 // the connection stays open
	tests := []struct {
		name  string
		setup func(*harness)
		frame string
		code  wire.Code
		close int
	}{
		{"not register", nil, encoded(message("alice", good, &wire.Ping{})), wire.CodeNotRegistered, wire.CloseNotRegister},
		{"not register, no token", nil, `{"type":"sign_request","payload":{}}`, wire.CodeNotRegistered, wire.CloseNotRegister},
		{"unknown type", nil, `{"type":"nonsense"}`, wire.CodeNotRegistered, wire.CloseNotRegister},
		{"not JSON", nil, `GET / HTTP/1.1`, wire.CodeBadRequest, goes},
		{"no token", nil, reg("", alice), wire.CodeUnauthenticated, wire.CloseBadToken},
		{"forged token", nil, reg("forged", alice), wire.CodeUnauthenticated, wire.CloseBadToken},
		{"expired token", nil, reg(token("alice", "participant", -time.Second), alice), wire.CodeTokenExpired, wire.CloseTokenExpired},
		{"another's token", nil, reg(token("bob", "participant", time.Hour), alice), wire.CodeForbidden, wire.CloseForbidden},
		{"another's user_id", nil, encoded(message("bob", good, alice)), wire.CodeForbidden, wire.CloseForbidden},
		{"role the token lacks", nil, reg(good, &wire.Register{UserID: "alice", Role: wire.RoleCoordinator}), wire.CodeForbidden, wire.CloseForbidden},
		{"no payload", nil, `{"type":"register","token":"` + good + `"}`, wire.CodeBadRequest, goes},
		{"unknown role", nil, reg(good, &wire.Register{UserID: "alice", Role: "root"}), wire.CodeBadRequest, goes},
		{"longer than a register", nil, `{"type":"register","x":"` + strings.Repeat("x", 64<<10) + `"}`, wire.CodeTooLarge, websocket.CloseMessageTooBig},
		{"refused as forbidden", refuse(wire.Errorf(wire.CodeForbidden, "no")), reg(good, alice), wire.CodeForbidden, wire.CloseForbidden},
		{"refused as unavailable", refuse(fmt.Errorf("join: %w: %w", wire.ErrUnavailable, errors.New("dial tcp"))), reg(good, alice), wire.CodeUnavailable, wire.CloseUnavailable},
		{"refused with a fault of ours", refuse(errors.New("disk on fire")), reg(good, alice), wire.CodeInternal, websocket.CloseInternalServerErr},
		{"refused as a conflict", refuse(wire.Errorf(wire.CodeConflict, "no")), reg(good, alice), wire.CodeConflict, goes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := serve(t, nil)
			if tt.setup != nil {
				tt.setup(h)
			}
			c := h.dial(t)
			c.sendText(tt.frame)
			m, e := c.refusal()
			if e.Code != tt.code || e.Error == "" {
				t.Errorf("got %+v, want %s", e, tt.code)
			}
			if m.UserID != "" || strings.Contains(e.Error, "fire") {
				t.Errorf("got %s", m.Payload)
			}
			if tt.close != goes {
				if rest := c.wantClosed(tt.close); len(rest) != 0 {
					t.Errorf("after the error came %+v", rest)
				}
				select {
				case <-h.handler.started:
					t.Error("started")
				case <-h.handler.ended:
					t.Error("disconnected, though never connected")
				default:
				}
				return
			}
			h.handler.connected = nil
			c.sendText(reg(good, alice))
			if m, _ := c.next(); m.Type != wire.TypeRegisterConfirm {
				t.Errorf("second try: got %s %s", m.Type, m.Payload)
			}
		})
	}
}

func TestRegisterTimeout(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.RegisterTimeout = 50 * time.Millisecond })
	silent, chatty, in := h.dial(t), h.dial(t), h.dial(t)
	chatty.sendText("not a register, and it does not buy time")
	in.register("alice", "participant", time.Hour, nil)
	if m, _ := in.next(); m.Type != wire.TypeRegisterConfirm {
		t.Fatalf("got %s", m.Type)
	}
	for _, c := range []*client{silent, chatty} {
		before := c.wantClosed(wire.CloseNotRegister)
		if len(before) == 0 || !strings.Contains(string(before[len(before)-1].Payload), `"not_registered"`) {
			t.Errorf("before the close came %v", before)
		}
	}
	in.lives("alice")
}

// TestSupersededWhileConnecting: a socket that is closed during Connected was
// joined, so it is left, but nothing is started on it.
func TestSupersededWhileConnecting(t *testing.T) {
	h := serve(t, nil)
	h.handler.connected = func(_ context.Context, c *wsconn.Conn, _ *wire.Register) (*wire.RegisterConfirm, error) {
		c.Supersede()
		return nil, nil
	}
	c := h.dial(t)
	c.register("alice", "participant", time.Hour, nil)
	if before := c.wantClosed(wire.CloseSuperseded); len(before) != 0 {
		t.Errorf("got %v", before)
	}
	await(t, h.handler.ended)
	if len(h.handler.started) != 0 {
		t.Error("started")
	}
}

// TestToken: a newer token extends the connection, and it ends with its newest.
func TestToken(t *testing.T) {
	h := serve(t, nil)
	c := h.dial(t)
	c.register("alice", "participant", 150*time.Millisecond, nil)
	c.next()
	conn := await(t, h.handler.started)
	first := conn.Claims().ExpiresAt
	c.send(message("alice", token("alice", "participant", 400*time.Millisecond), &wire.Ping{}))
	c.next()
	newest := conn.Claims().ExpiresAt
	if !newest.After(first) {
		t.Fatal("a newer token does not count")
	}
	// An older one that is still valid does not shorten it.
	c.send(message("alice", token("alice", "participant", 100*time.Millisecond), &wire.Ping{}))
	c.next()
	before := c.wantClosed(wire.CloseTokenExpired)
	if time.Now().Before(newest) || !conn.Claims().ExpiresAt.Equal(newest) {
		t.Errorf("closed before the newest token expired")
	}
	if len(before) != 1 || !strings.Contains(string(before[0].Payload), `"token_expired"`) {
		t.Errorf("before the close came %v", before)
	}
}

func TestOrigin(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) {
		cfg.AllowedOrigins = []string{"https://app.example", "http://dev.example:3000/"}
	})
	host := strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), "/ws")
	for origin, want := range map[string]bool{
		"": true, "http://" + host: true, "https://" + host: true, "https://app.example": true, "https://APP.example": true, "http://dev.example:3000": true,
		"http://app.example": false, "https://app.example:444": false, "https://evil.example": false, "https://app.example.evil.example": false,
		"null": false, "https://evil.example/" + host: false, host: false, "://": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		resp, p := get(t, h, "", header)
		if got := resp.StatusCode == http.StatusSwitchingProtocols; got != want {
			t.Errorf("origin %q: status %d", origin, resp.StatusCode)
		}
		if !want && p.Code != wire.CodeForbidden {
			t.Errorf("origin %q: problem %+v", origin, p)
		}
	}
	if resp, _ := get(t, h, "", http.Header{"Origin": {"https://app.example", "https://evil.example"}}); resp.StatusCode != http.StatusForbidden {
		t.Errorf("two origins: status %d", resp.StatusCode)
	}
	anyone := serve(t, func(cfg *wsconn.Config) { cfg.AllowedOrigins = []string{"*"} })
	if resp, _ := get(t, anyone, "", http.Header{"Origin": {"https://evil.example"}}); resp.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("any origin: status %d", resp.StatusCode)
	}
}

func TestHandshakeRefused(t *testing.T) {
	h := serve(t, func(cfg *wsconn.Config) { cfg.MaxConnections = 1 })
	for _, query := range []string{"?token=x", "?access_token=x", "?a=b&jwt="} {
		if resp, p := get(t, h, query, nil); resp.StatusCode != http.StatusBadRequest || p.Code != wire.CodeBadRequest {
			t.Errorf("%s: status %d, %+v", query, resp.StatusCode, p)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/ws", nil))
	if w.Code != http.StatusBadRequest || w.Header().Get("Sec-Websocket-Version") != "13" || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("plain GET: %d %v", w.Code, w.Header())
	}
	h.join(t, "alice")
	if resp, p := get(t, h, "", nil); resp.StatusCode != http.StatusServiceUnavailable || p.Code != wire.CodeUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("full: status %d, %+v", resp.StatusCode, p)
	}
}

func TestConfig(t *testing.T) {
	for name, cfg := range map[string]wsconn.Config{
		"no verifier":          {Handler: &fake{}},
		"no handler":           {Verifier: tokens{}},
		"pings that come late": {Verifier: tokens{}, Handler: &fake{}, PingEvery: time.Minute, PongWait: time.Minute},
	} {
		if _, err := wsconn.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
