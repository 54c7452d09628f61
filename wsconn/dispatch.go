package wsconn

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// handle deals with one text frame, which is not kept. It returns the type that
// the frame names and the code with which it was refused, if it was; not done is
// one that is under way still.
func (c *Conn) handle(frame []byte, begun time.Time) (t wire.Type, refusal wire.Code, done bool) {
	if c.messages != nil && !c.messages.Allow() {
		// Refused unread: which message it was is not known.
		return "", c.overRate(wire.Message{}, wire.Errorf(wire.CodeRateLimited, "more than %g messages a second", c.server.cfg.RateLimit)), true
	}
	m, err := wire.View(frame, c.server.cfg.MaxMessageBytes)
	if err != nil {
		return "", c.refuse(wire.Message{}, err), true
	}
	registered := c.isRegistered()
	if !registered && m.Type != wire.TypeRegister {
		c.reply(c.errorMessage(m, wire.Errorf(wire.CodeNotRegistered, "the first message must be register")))
		c.Close(wire.CloseNotRegister, "the first message must be register")
		return m.Type, wire.CodeNotRegistered, true
	}
	ctx, cancel := context.WithTimeout(c.server.base, c.server.cfg.HandleTimeout)
	defer func() {
		if done {
			cancel()
		}
	}()
	claims, err := c.server.cfg.Verifier.Verify(ctx, m.Token)
	m.Token = "" // of no more use, and so can reach no log
	ctx = auth.NewContext(ctx, claims)
	if !registered {
		return m.Type, c.register(ctx, m, claims, err), true
	}
	if err != nil {
		c.auditRefusal(m, c.UserID(), wire.AsError(err))
		return m.Type, c.refuse(m, err), true
	}
	// The user who registered is charged, whose token this may not be.
	if err := auth.Charge(c.server.cfg.Users, c.UserID(), 1, "too many messages"); err != nil {
		return m.Type, c.overRate(m, err), true
	}
	if c.awaitTurn(m.Type, len(frame)) != nil {
		return m.Type, "", true // the socket is closed
	}
	reply, later, err := c.receive(ctx, m, claims)
	if err == nil && later != nil {
		c.begin(underway{m: m, later: later, cancel: cancel, bytes: len(frame), begun: begun})
		return m.Type, "", false
	}
	return m.Type, c.answer(m, reply, err), true
}

// register deals with the first message, and returns the code with which it was
// refused, if it was.
func (c *Conn) register(ctx context.Context, m wire.Message, claims auth.Claims, err error) wire.Code {
	var r *wire.Register
	if err == nil {
		var p wire.Payload
		if p, err = m.DecodePayload(); err == nil {
			r = p.(*wire.Register)
			err = mayRegister(m, r, claims)
		}
	}
	if err == nil {
		err = auth.Charge(c.server.cfg.Registers, claims.Subject, 1, "too many connections of this user in quick succession")
	}
	if err != nil {
		return c.refuseRegister(m, claims.Subject, err)
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
		return ""
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
		if wire.AsError(err).Code == wire.CodeUnavailable {
			c.server.cfg.Registers.GiveBack(claims.Subject, 1) // the trouble is ours
		}
		c.unregistered()
		return c.refuseRegister(m, claims.Subject, err)
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
		return ""
	}
	c.log(zerolog.InfoLevel).Str("account", claims.Subject).Str("role", string(r.Role)).Msg("registered")
	c.audit(audit.Decision{Who: claims.Subject, What: string(wire.TypeRegister), Outcome: audit.OK, Detail: "as " + string(r.Role)})
	c.reply(c.encode(confirm, m.RequestID))
	c.guard("started", func() error { c.server.cfg.Handler.Started(c); return nil })
	return ""
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

// receive has the Handler deal with a message of a registered client whose token
// is good.
func (c *Conn) receive(ctx context.Context, m wire.Message, claims auth.Claims) (reply wire.Payload, later Later, err error) {
	p, err := c.check(m, claims)
	if err != nil {
		return nil, nil, err
	}
	c.log(zerolog.DebugLevel).Str("account", claims.Subject).Str("type", string(m.Type)).Int("bytes", len(m.Payload)).Msg("message")
	switch p := p.(type) {
	case *wire.Ping:
		return &wire.Pong{}, nil, nil
	case *wire.Pong:
		return nil, nil, nil
	case *wire.Ack:
		if p.Seq > 0 {
			c.mu.Lock()
			c.acks = true
			c.mu.Unlock()
		}
	}
	err = c.guard("receive", func() (err error) {
		reply, later, err = c.server.cfg.Handler.Receive(ctx, c, m, p)
		return err
	})
	return reply, later, err
}

// answer tells the client what has become of m, and returns the code with which
// it was refused, if it was.
func (c *Conn) answer(m wire.Message, reply wire.Payload, err error) wire.Code {
	if err == nil {
		if reply != nil {
			c.reply(c.encode(reply, m.RequestID))
		}
		return ""
	}
	c.auditRefusal(m, c.UserID(), wire.Cause(err))
	if wire.AsError(err).Code == wire.CodeRateLimited {
		// Nothing is wrong with it but its time: who repeats it later is no abuser.
		return c.overRate(m, err)
	}
	return c.refuse(m, err)
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
		return nil, wire.Errorf(wire.CodeForbidden, "token or user_id does not belong to the registered user")
	case !claims.Has(role):
		return nil, wire.Errorf(wire.CodeForbidden, "the token does not have the role %s that was registered", role)
	case m.Type == wire.TypeRegister:
		return nil, wire.Errorf(wire.CodeConflict, "already registered; open another connection")
	case !m.Type.FromClient():
		return nil, wire.Errorf(wire.CodeUnknownType, "unknown message type, or one that clients do not send")
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
