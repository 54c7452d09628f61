package wsconn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/cluster/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// handle deals with one text frame, which is not kept, and returns the type that
// it names.
func (c *Conn) handle(frame []byte) wire.Type {
	if c.messages != nil && !c.messages.Allow() {
		// Refused unread: which message it was is not known.
		c.overRate(wire.Message{}, wire.Errorf(wire.CodeRateLimited, "more than %g messages a second", c.server.cfg.RateLimit))
		return ""
	}
	m, err := wire.View(frame, c.server.cfg.MaxMessageBytes)
	if err != nil {
		c.refuse(wire.Message{}, err)
		return ""
	}
	registered := c.isRegistered()
	if !registered && m.Type != wire.TypeRegister {
		c.refusal = wire.CodeNotRegistered
		c.reply(c.errorMessage(m, wire.Errorf(wire.CodeNotRegistered, "the first message must be register")))
		c.Close(wire.CloseNotRegister, "the first message must be register")
		return m.Type
	}
	ctx, cancel := context.WithTimeout(c.server.base, c.server.cfg.HandleTimeout)
	defer cancel()
	claims, err := c.server.cfg.Verifier.Verify(ctx, m.Token)
	m.Token = "" // of no more use, and so can reach no log
	ctx = auth.NewContext(ctx, claims)
	switch {
	case !registered:
		c.register(ctx, m, claims, err)
	case err != nil:
		c.auditRefusal(m, c.UserID(), auth.AsWire(err))
		c.refuse(m, err)
	default:
		// The user who registered is charged, whose token this may not be.
		if err := c.server.cfg.Users.Charge(c.UserID(), 1+len(frame)/bytesPerMessage, "too many messages"); err != nil {
			c.overRate(m, err)
			return m.Type
		}
		c.receive(ctx, m, claims)
	}
	return m.Type
}

// register deals with the first message.
func (c *Conn) register(ctx context.Context, m wire.Message, claims auth.Claims, err error) {
	var r *wire.Register
	if err == nil {
		var p wire.Payload
		if p, err = m.DecodePayload(); err == nil {
			r = p.(*wire.Register)
			err = mayRegister(m, r, claims)
		}
	}
	if err == nil {
		err = c.server.cfg.Registers.Charge(claims.Subject, 1, "too many connections of this user, one after the other")
	}
	if err != nil {
		c.refuseRegister(m, claims.Subject, err)
		return
	}
	c.server.greet(c)
	c.mu.Lock()
	c.user, c.role, c.identity, c.claims = r.UserID, r.Role, r.Identity, claims
	c.acks = r.Resume != nil
	// The client has done its part. How long the Handler may take is another
	// matter: when many come at once, it is not their fault.
	c.registering = true
	c.mu.Unlock()
	// Revoked since it was verified, and not seen by CloseRevoked, which came
	// before the claims were here to be seen.
	if c.closeRevoked(claims) {
		return
	}

	var confirm *wire.RegisterConfirm
	panicked := true
	err = c.guard("connected", func() (err error) {
		confirm, err = c.server.cfg.Handler.Connected(ctx, c, r)
		panicked = false
		return err
	})
	c.joined = err == nil || panicked
	if err != nil {
		if auth.AsWire(err).Code == wire.CodeUnavailable {
			c.server.cfg.Registers.GiveBack(claims.Subject, 1) // the trouble is ours
		}
		c.unregistered()
		c.refuseRegister(m, claims.Subject, err)
		return
	}
	if confirm == nil {
		confirm = &wire.RegisterConfirm{Status: wire.StatusSuccess}
	}
	c.mu.Lock()
	c.registering, c.registered = false, true
	c.server.registered.Add(1)
	c.schedule(time.Now())
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return
	}
	c.log(zerolog.InfoLevel).Str("account", claims.Subject).Str("role", string(r.Role)).Msg("registered")
	c.audit(audit.Decision{Who: claims.Subject, What: string(wire.TypeRegister), Outcome: audit.OK, Detail: "as " + string(r.Role)})
	c.reply(c.encode(confirm, m.RequestID))
	c.guard("started", func() error { c.server.cfg.Handler.Started(c); return nil })
}

// unregistered takes back what register has noted for the Handler, which has
// refused.
func (c *Conn) unregistered() {
	c.mu.Lock()
	c.registering = false
	if !c.joined {
		c.user, c.role, c.identity, c.claims, c.acks = "", "", "", auth.Claims{}, false
	}
	if !c.closing {
		c.schedule(time.Now())
	}
	c.mu.Unlock()
	c.server.estrange(c)
}

// mayRegister reports whether the token's bearer is who registers, in a role it
// has.
func mayRegister(m wire.Message, r *wire.Register, claims auth.Claims) error {
	switch {
	case r.UserID != claims.Subject, m.UserID != "" && m.UserID != claims.Subject:
		return wire.Errorf(wire.CodeForbidden, "user_id is not the token's subject")
	case !claims.Has(r.Role):
		return wire.Errorf(wire.CodeForbidden, "the token does not have the role %s", r.Role)
	}
	return nil
}

// refuseRegister answers a register that failed, of user if its token was good,
// and closes the socket where another try on it would fail as well.
func (c *Conn) refuseRegister(m wire.Message, user string, err error) {
	c.auditRefusal(m, user, auth.AsWire(err))
	code, reason := 0, ""
	switch told := auth.AsWire(err); told.Code {
	case wire.CodeUnauthenticated:
		if told == auth.ErrRevoked {
			code, reason = wire.CloseRevoked, "token has been revoked"
			break
		}
		code, reason = wire.CloseBadToken, "token is not valid"
	case wire.CodeTokenExpired:
		code, reason = wire.CloseTokenExpired, "token has expired"
	case wire.CodeForbidden:
		code, reason = wire.CloseForbidden, "not allowed to register as that"
	case wire.CodeUnavailable, wire.CodeRateLimited:
		code, reason = wire.CloseUnavailable, "not available now"
	case wire.CodeInternal:
		code, reason = websocket.CloseInternalServerErr, "internal error"
	}
	c.refuse(m, err)
	if code != 0 {
		c.Close(code, reason)
	}
}

// receive deals with a message of a registered client whose token is good.
func (c *Conn) receive(ctx context.Context, m wire.Message, claims auth.Claims) {
	p, err := c.check(m, claims)
	if err != nil {
		c.auditRefusal(m, claims.Subject, auth.AsWire(err))
		c.refuse(m, err)
		return
	}
	c.log(zerolog.DebugLevel).Str("account", claims.Subject).Str("type", string(m.Type)).Int("bytes", len(m.Payload)).Msg("message")
	var reply wire.Payload
	switch p := p.(type) {
	case *wire.Ping:
		reply = &wire.Pong{}
	case *wire.Pong:
	default:
		if ack, ok := p.(*wire.Ack); ok && ack.Seq > 0 {
			c.mu.Lock()
			c.acks = true
			c.mu.Unlock()
		}
		err = c.guard("receive", func() (err error) {
			reply, err = c.server.cfg.Handler.Receive(ctx, c, m, p)
			return err
		})
	}
	if err != nil {
		c.auditRefusal(m, claims.Subject, auth.AsWire(err))
	}
	switch {
	case err != nil && auth.AsWire(err).Code == wire.CodeRateLimited:
		// Nothing is wrong with it but its time: who repeats it later is no abuser.
		c.overRate(m, err)
	case err != nil:
		c.refuse(m, err)
	case reply != nil:
		c.reply(c.encode(reply, m.RequestID))
	}
}

// check holds m against the token it came with and against the registration,
// and decodes it. A newer token takes the place of the one known so far.
func (c *Conn) check(m wire.Message, claims auth.Claims) (wire.Payload, error) {
	c.mu.Lock()
	user, role := c.user, c.role
	mine := claims.Subject == user && (m.UserID == "" || m.UserID == user)
	newer := mine && claims.ExpiresAt.After(c.claims.ExpiresAt)
	if newer {
		c.claims = claims
		if !c.closing {
			c.schedule(time.Now())
		}
	}
	c.mu.Unlock()
	if newer && c.closeRevoked(claims) {
		return nil, auth.ErrRevoked
	}
	switch {
	case !mine:
		return nil, wire.Errorf(wire.CodeForbidden, "token or user_id is not that of the user who registered")
	case !claims.Has(role):
		return nil, wire.Errorf(wire.CodeForbidden, "the token does not have the role %s that was registered", role)
	case m.Type == wire.TypeRegister:
		return nil, wire.Errorf(wire.CodeConflict, "already registered; open another connection")
	case !m.Type.FromClient():
		return nil, wire.Errorf(wire.CodeUnknownType, "unknown message type, or not one that clients send")
	}
	return m.DecodePayload()
}

// guard calls the Handler. A panic there must not take the node down with it:
// it is logged with its stack, but without its value unless that is the
// runtime's own, since it may quote a message; the client is told of an internal
// error and the socket is closed.
func (c *Conn) guard(call string, f func() error) (err error) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		what := fmt.Sprintf("%T", v)
		if e, ok := v.(runtime.Error); ok {
			what = e.Error()
		}
		c.log(zerolog.ErrorLevel).Str("account", c.UserID()).Str("call", call).Str("panic", what).
			Bytes("stack", debug.Stack()).Msg("handler panicked")
		err = errPanicked
		if call != "receive" && call != "connected" {
			c.Close(websocket.CloseInternalServerErr, "internal error")
		}
	}()
	return f()
}

// errPanicked stands for a panic that has been logged already.
var errPanicked = wire.Errorf(wire.CodeInternal, "internal error")

// refuse answers m with err, and cuts the client off if it has sent too much
// that was faulty. What can befall a client that does nothing wrong is not held
// against it.
func (c *Conn) refuse(m wire.Message, err error) {
	e := auth.AsWire(err)
	c.refusal = e.Code
	if e != errPanicked {
		c.logRefusal(m, e, err)
	}
	c.reply(c.errorMessage(m, e))
	if e == errPanicked {
		c.Close(websocket.CloseInternalServerErr, "internal error")
		return
	}
	switch e.Code {
	case wire.CodeInternal, wire.CodeUnavailable, wire.CodeMailboxFull, wire.CodeSessionEnded, wire.CodeConflict:
		return
	}
	if c.refused == nil {
		c.refused = rate.NewLimiter(1, c.server.cfg.MaxRefused)
	}
	if !c.refused.Allow() {
		c.log(zerolog.WarnLevel).Str("account", c.UserID()).Msg("closed for going on with what is refused")
		c.Close(wire.CloseAbuse, "too many faulty messages")
	}
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
func (c *Conn) overRate(m wire.Message, err error) {
	if c.excess == nil {
		c.excess = newLimiter(c.server.cfg.RateLimit)
	}
	e := auth.AsWire(err)
	c.refusal = e.Code
	c.reply(c.errorMessage(m, e))
	if c.excess != nil && !c.excess.Allow() {
		c.log(zerolog.WarnLevel).Str("account", c.UserID()).Msg("closed for flooding")
		c.Close(wire.CloseAbuse, "too many messages")
	}
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
			if keyID == "" && wire.ValidID(ids.KeyID) {
				keyID = ids.KeyID
			}
			if sessionID == "" && wire.ValidID(ids.SessionID) {
				sessionID = ids.SessionID
			}
		}
	}
	return keyID, sessionID
}

// queueError queues an error at once. c.mu is held.
func (c *Conn) queueError(m wire.Message, e *wire.Error) {
	c.queueReply(c.encodeFor(c.user, &wire.ErrorPayload{Error: e.Message, Code: e.Code, RequestType: m.Type}, ""))
}

// encode returns p as a frame for this client.
func (c *Conn) encode(p wire.Payload, requestID string) []byte {
	return c.encodeFor(c.UserID(), p, requestID)
}

func (c *Conn) encodeFor(user string, p wire.Payload, requestID string) []byte {
	frame, err := wire.Frame(user, p, requestID)
	if err == nil {
		return frame
	}
	// Payloads are strings and numbers; only a broken one of the Handler's own
	// cannot be encoded.
	c.log(zerolog.ErrorLevel).Err(errors.Unwrap(err)).Str("type", string(p.Type())).Msg("reply cannot be encoded")
	return nil
}
