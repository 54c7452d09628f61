package wsconn

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// maxReasonBytes is what a close frame has room for beside its code (RFC 6455
// section 5.5).
const maxReasonBytes = 123

// Close closes the socket with a code and a reason for people: replies already
// queued are flushed, then a close frame is written, and the client is given
// Config.CloseGrace to close its side. Close does not wait for any of that. Only
// the first cause counts.
func (c *Conn) Close(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(code, reason)
}

// close is Close with c.mu held.
func (c *Conn) close(code int, reason string) {
	if c.closing {
		return
	}
	c.closing, c.closeCode, c.closeBy = true, code, time.Now().Add(c.server.cfg.CloseGrace)
	// Mail not yet written stays in the mailbox, and is sent after the client has
	// come back.
	replies, writing := c.queue.replies, c.queue.writing
	c.queue = queue{replies: replies, writing: writing, closeDue: true, closeText: closeFrame(code, reason)}
	// Both directions end soon, also for a write that hangs at this moment.
	_ = c.ws.NetConn().SetDeadline(c.closeBy)
	c.wake()
	c.kick()
}

func closeFrame(code int, reason string) []byte {
	if len(reason) > maxReasonBytes {
		cut := maxReasonBytes
		for cut > 0 && !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut]
	}
	return websocket.FormatCloseMessage(code, reason)
}

// Close closes all sockets at once with that code, such as
// wire.CloseUnavailable when the node has lost Redis. It does not wait, and the
// server goes on accepting.
func (s *Server) Close(code int) {
	reason := ""
	if code == wire.CloseUnavailable {
		reason = "the node lost its store; connect to another"
	}
	for _, c := range s.all() {
		c.Close(code, reason)
	}
}

// CloseRevoked closes the sockets whose newest token Config.Revoked refuses, with
// wire.CloseRevoked, and returns how many. It does not wait for them.
func (s *Server) CloseRevoked() int {
	n := 0
	for _, c := range s.all() {
		if c.closeRevoked(c.Claims()) {
			n++
		}
	}
	return n
}

// closeRevoked closes the socket if these claims of it are revoked. That it
// cannot be told is no reason to close: every message is refused then.
func (c *Conn) closeRevoked(claims auth.Claims) bool {
	if c.server.cfg.Revoked == nil || claims.Subject == "" {
		return false
	}
	err := c.server.cfg.Revoked(claims)
	if err == nil || wire.AsError(err).Code != wire.CodeUnauthenticated {
		return false
	}
	c.log(zerolog.InfoLevel).Str("account", claims.Subject).Msg("closed, token revoked")
	c.Close(wire.CloseRevoked, "token has been revoked")
	return true
}

// Drain stops accepting sockets, closes those there are with 1001 (going away)
// over Config.DrainSpread and waits until the last one is gone and what it was
// doing is finished. If ctx ends first, the rest are cut off and ctx's error is
// returned. A drained server does not come back.
func (s *Server) Drain(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.draining = true
	var idle chan struct{}
	if len(s.conns) > 0 {
		if s.idle == nil {
			s.idle = make(chan struct{})
		}
		idle = s.idle
	}
	s.mu.Unlock()
	if idle == nil {
		return nil
	}
	s.closeSpread(ctx)
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	left := s.all()
	for _, c := range left {
		_ = c.ws.NetConn().Close()
	}
	if len(left) == 0 {
		return nil
	}
	return fmt.Errorf("drain: %d sockets cut off: %w", len(left), ctx.Err())
}

// closeSpread tells the sockets one after another, evenly over the time given.
func (s *Server) closeSpread(ctx context.Context) {
	all := s.all()
	begin := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, c := range all {
		due := begin.Add(s.cfg.DrainSpread * time.Duration(i) / time.Duration(len(all)))
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		c.Close(websocket.CloseGoingAway, "the node is shutting down; connect to another")
	}
}

func (s *Server) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}
