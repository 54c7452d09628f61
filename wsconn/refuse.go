package wsconn

import (
	"encoding/json"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// refuse answers m with err, returns its code, and cuts the client off if it has
// sent too much that was faulty. What can befall a client that does nothing wrong
// is not held against it.
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

// limiter returns a limiter of this socket, which the first call makes: few
// sockets need one.
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

// overRate refuses a message because it came too fast.
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

// errorMessage words an error as the answer to m, whose ids it borrows where
// the error names none: a client without request ids can tell by them.
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
		// A payload that cannot be read names nothing.
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

// refuseRegister answers a register that failed, of user if its token was good,
// and closes the socket where another try on it would fail as well.
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
