package wsconn

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// maxReasonBytes is the room that a close frame has beside its code (RFC 6455
// section 5.5).
const maxReasonBytes = 123

// Close closes the socket with a code and a reason for people: it flushes the
// replies already queued, then writes a close frame, and gives the client
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
	// Mail not yet written stays in the mailbox and is sent after the client
	// reconnects.
	replies, writing := c.queue.replies, c.queue.writing
	c.queue = queue{replies: replies, writing: writing, closeDue: true, closeText: closeFrame(code, reason)}
	// Both directions end soon, even if a write hangs at this moment.
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

// closeRevoked closes the socket if its claims are revoked. An unknown answer does
// not close it: every message is refused meanwhile.
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

// Drain stops accepting sockets, closes the open ones with 1001 (going away) over
// Config.DrainSpread and waits until the last one is gone and its work is finished.
// If ctx ends first, Drain cuts off the rest and returns ctx's error. A drained
// server cannot be reused.
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

// closeSpread closes the sockets one after another, evenly over the time given.
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

// refuse answers m with err, returns its code, and cuts the client off if it has
// sent too many faulty messages. Refusals that a correct client can meet do not
// count.
func (c *Conn) refuse(m wire.Message, err error) wire.Code {
	e := wire.AsError(err)
	if e != errPanicked {
		c.logRefusal(m, e, err)
	}
	c.reply(c.errorMessage(m, e))
	if e == errPanicked {
		c.Close(websocket.CloseInternalServerErr, "internal error")
		return e.Code
	}
	switch e.Code {
	case wire.CodeInternal, wire.CodeUnavailable, wire.CodeStorageFull, wire.CodeMailboxFull, wire.CodeSessionEnded, wire.CodeConflict:
		return e.Code
	}
	faults := c.limiter(&c.refused, func() *rate.Limiter { return rate.NewLimiter(1, c.server.cfg.MaxRefused) })
	if !faults.Allow() {
		c.log(zerolog.WarnLevel).Str("account", c.UserID()).Msg("closed after repeated refused messages")
		c.Close(wire.CloseAbuse, "too many faulty messages")
	}
	return e.Code
}

// limiter returns a limiter of this socket, made by the first call: few sockets
// need one.
func (c *Conn) limiter(l **rate.Limiter, first func() *rate.Limiter) *rate.Limiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *l == nil {
		*l = first()
	}
	return *l
}

func (c *Conn) logRefusal(m wire.Message, e *wire.Error, err error) {
	level := zerolog.DebugLevel
	switch e.Code {
	case wire.CodeInternal:
		level = zerolog.ErrorLevel
	case wire.CodeUnavailable:
		level = zerolog.WarnLevel
	}
	line := c.log(level).Str("account", c.UserID()).Str("code", string(e.Code))
	if m.Type.FromClient() { // other types are the client's own words
		line = line.Str("type", string(m.Type))
	}
	if level != zerolog.DebugLevel {
		line = line.Err(err)
	}
	line.Msg("message refused")
}

// overRate refuses a message that exceeds the rate.
func (c *Conn) overRate(m wire.Message, err error) wire.Code {
	e := wire.AsError(err)
	c.reply(c.errorMessage(m, e))
	if c.server.cfg.RateLimit < 0 {
		return e.Code
	}
	excess := c.limiter(&c.excess, func() *rate.Limiter { return newLimiter(c.server.cfg.RateLimit) })
	if !excess.Allow() {
		c.log(zerolog.WarnLevel).Str("account", c.UserID()).Msg("closed for flooding")
		c.Close(wire.CloseAbuse, "too many messages")
	}
	return e.Code
}

// errorMessage formats an error as the answer to m. It takes the ids from m if the
// error has none: a client without request ids needs them.
func (c *Conn) errorMessage(m wire.Message, e *wire.Error) []byte {
	p := &wire.ErrorPayload{
		Error: e.Message, Code: e.Code, Temporary: e.Temporary, RequestType: m.Type,
	}
	p.KeyID, p.SessionID = subject(m, e)
	return c.encode(p, m.RequestID)
}

// subject returns the ids of the key and session that e is about, or else those
// that m names.
func subject(m wire.Message, e *wire.Error) (keyID, sessionID string) {
	keyID, sessionID = e.KeyID, e.SessionID
	if len(m.Payload) > 0 && (keyID == "" || sessionID == "") {
		var ids struct {
			KeyID     string `json:"key_id"`
			SessionID string `json:"session_id"`
		}
		// An unreadable payload names nothing.
		if json.Unmarshal(m.Payload, &ids) == nil {
			if keyID == "" && wire.StoredID(ids.KeyID) {
				keyID = ids.KeyID
			}
			if sessionID == "" && wire.StoredID(ids.SessionID) {
				sessionID = ids.SessionID
			}
		}
	}
	return keyID, sessionID
}

// refuseRegister answers a failed register, of user if its token was valid, and
// closes the socket if another try on it would fail as well.
func (c *Conn) refuseRegister(m wire.Message, user string, err error) wire.Code {
	c.auditRefusal(m, user, wire.AsError(err))
	code, reason := 0, ""
	switch told := wire.AsError(err); told.Code {
	case wire.CodeUnauthenticated:
		if told == auth.ErrRevoked {
			code, reason = wire.CloseRevoked, "token has been revoked"
			break
		}
		if told.Temporary {
			code, reason = wire.CloseUnavailable, "token is not valid yet"
			break
		}
		code, reason = wire.CloseBadToken, "token is not valid"
	case wire.CodeTokenExpired:
		code, reason = wire.CloseTokenExpired, "token has expired"
	case wire.CodeForbidden:
		code, reason = wire.CloseForbidden, "not allowed to register with this user or role"
	case wire.CodeUnavailable, wire.CodeRateLimited, wire.CodeStorageFull:
		code, reason = wire.CloseUnavailable, "not available now"
	case wire.CodeInternal:
		code, reason = websocket.CloseInternalServerErr, "internal error"
	}
	refusal := c.refuse(m, err)
	if code != 0 {
		c.Close(code, reason)
	}
	return refusal
}
