package wsconn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ErrClosed is returned by [Conn.Room] when the socket is closed or closing.
var ErrClosed = errors.New("wsconn: socket is closed")

// Conn is one client's socket. It is safe for concurrent use.
type Conn struct {
	server *Server
	ws     *websocket.Conn
	stream *stream // under ws; written to only by the goroutine that has queue.writing
	id     string

	// Touched only by the reading goroutine.
	messages *rate.Limiter // all messages; nil for no limit
	joined   bool          // Disconnected must be called

	mu          sync.Mutex
	registering bool // the Handler is processing a valid register
	registered  bool
	user        string    // these three are set once, before registered is
	role        wire.Role // "
	identity    string    // "
	claims      auth.Claims
	acks        bool   // the client acknowledges messages itself
	written     uint64 // newest seq written to the socket
	acked       uint64 // newest seq reported to Handler.Acked
	queue       queue
	inflight    inflights
	excess      *rate.Limiter // messages over the rate; made by the first
	refused     *rate.Limiter // faulty messages; made by the first
	timer       *time.Timer
	registerBy  time.Time
	pingAt      time.Time
	aliveAt     time.Time // when the read deadline was set
	closing     bool      // nothing more is queued; replies and the close frame are flushed
	closeCode   int       // first cause
	closeBy     time.Time
	changed     chan struct{}
}

func newConn(s *Server, ws *websocket.Conn, stream *stream, id string) *Conn {
	return &Conn{server: s, ws: ws, stream: stream, id: id, messages: newLimiter(s.cfg.RateLimit)}
}

// ID returns the connection's id, unique in the cluster.
func (c *Conn) ID() string { return c.id }

// UserID returns the registered user, "" before that. It is already set in
// Connected.
func (c *Conn) UserID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// Role returns the role in which the user registered. Each message's token that
// reaches the Handler has it.
func (c *Conn) Role() wire.Role {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.role
}

// Identity returns the public identity given at register, opaque here.
func (c *Conn) Identity() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Claims returns the claims of the newest token seen on this socket.
func (c *Conn) Claims() auth.Claims {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claims
}

// Supersede closes the socket because a newer one of its user has registered.
func (c *Conn) Supersede() {
	c.Close(wire.CloseSuperseded, "a newer connection of this user took over")
}

func (c *Conn) start() {
	now := time.Now()
	c.stream.upgraded = true
	c.mu.Lock()
	c.registerBy = now.Add(c.server.cfg.RegisterTimeout)
	// Spread the pings of clients that reconnect together after another node's end.
	c.pingAt = now.Add(c.server.cfg.PingEvery/2 + rand.N(c.server.cfg.PingEvery/2+1))
	c.timer = time.AfterFunc(c.server.cfg.RegisterTimeout, c.tick)
	c.schedule(now)
	c.mu.Unlock()
	c.ws.SetPongHandler(c.pong)
	c.ws.SetPingHandler(func(data string) error {
		c.alive()
		c.mu.Lock()
		c.queue.pongDue, c.queue.pongData = true, data
		c.kick()
		c.mu.Unlock()
		return nil
	})
	c.ws.SetCloseHandler(c.closed)
	go c.read()
}

// closed is called while reading, when the client closes: it answers, unless the
// current write takes too long.
func (c *Conn) closed(code int, _ string) error {
	ctx, cancel := context.WithTimeout(context.Background(), echoWithin)
	defer cancel()
	if c.await(ctx, func() bool { return c.queue.take() }) != nil {
		return nil // the server had closed, or the client does not read
	}
	err := c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(echoWithin))
	if err == nil {
		err = c.stream.flush()
	}
	c.stream.drop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.writing = false
	c.wake()
	return err
}

// schedule sets the timer for the next due event. c.mu is held.
func (c *Conn) schedule(now time.Time) {
	next := c.pingAt
	if c.registered {
		if c.claims.ExpiresAt.Before(next) {
			next = c.claims.ExpiresAt
		}
	} else if !c.registering && c.registerBy.Before(next) {
		next = c.registerBy
	}
	c.timer.Reset(max(next.Sub(now), 0))
}

// tick runs on the timer: it queues what is due and never blocks.
func (c *Conn) tick() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return
	case !c.registered && !c.registering && !now.Before(c.registerBy):
		c.queueError(wire.Message{}, wire.Errorf(wire.CodeNotRegistered, "no register within %s", c.server.cfg.RegisterTimeout))
		c.close(wire.CloseNotRegister, "no register in time")
		return
	case c.registered && !now.Before(c.claims.ExpiresAt) && c.server.doubts() != nil:
		c.queueError(wire.Message{}, wire.AsError(c.server.doubts()))
		c.close(wire.CloseUnavailable, "the node's clock is wrong")
		return
	case c.registered && !now.Before(c.claims.ExpiresAt):
		c.queueError(wire.Message{}, wire.Errorf(wire.CodeTokenExpired, "token has expired"))
		c.close(wire.CloseTokenExpired, "token has expired")
		return
	}
	if !now.Before(c.pingAt) {
		c.pingAt = now.Add(c.server.cfg.PingEvery)
		c.queue.pingDue = true
		c.kick()
	}
	c.schedule(now)
}

// doubts returns why this process's clock must not be trusted, nil if it may.
func (s *Server) doubts() error {
	if s.cfg.Doubts == nil {
		return nil
	}
	return s.cfg.Doubts()
}

// alive extends the read deadline, because the client has shown life. The reading
// goroutine calls it for each frame, so it skips deadlines that are nearly the
// current one.
func (c *Conn) alive() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && now.Sub(c.aliveAt) > c.server.cfg.PongWait/16 {
		c.aliveAt = now
		_ = c.ws.SetReadDeadline(now.Add(c.server.cfg.PongWait))
	}
}

// pong is called while reading. Our pings carry the last seq written before them,
// so their pongs prove what a client without acks has received.
func (c *Conn) pong(data string) error {
	c.alive()
	seq, err := strconv.ParseUint(data, 10, 64)
	c.mu.Lock()
	if err != nil || c.acks || c.closing || seq <= c.acked || seq > c.written {
		c.mu.Unlock()
		return nil
	}
	c.acked = seq
	c.queue.asked = false
	if c.written > seq {
		c.queue.pingDue = true
		c.kick()
	}
	c.mu.Unlock()
	c.guard("acked", func() error {
		ctx, cancel := context.WithTimeout(auth.NewContext(c.server.base, c.Claims()), c.server.cfg.HandleTimeout)
		defer cancel()
		c.server.cfg.Handler.Acked(ctx, c, seq)
		return nil
	})
	return nil
}

// read is the reading goroutine.
func (c *Conn) read() {
	err := c.readFrames()
	c.finish(err)
}

func (c *Conn) readFrames() error {
	for {
		c.alive()
		kind, r, err := c.ws.NextReader()
		if err != nil {
			return err
		}
		if c.isClosing() {
			// Flushing: further input is ignored, but if left unread it would make
			// the kernel reset the connection before our last frames arrive.
			if err := discard(r); err != nil {
				return err
			}
			continue
		}
		n, err := c.readFrame(kind, r)
		if err != nil {
			return err
		}
		c.pace(n)
	}
}

// pace delays reading the next frame, after one of that many bytes, while the user
// exceeds Config.Bytes. It returns at once when the socket is closing.
func (c *Conn) pace(bytes int64) {
	if c.server.cfg.Bytes == nil || !c.isRegistered() {
		return // until then frames are few and short
	}
	pause := c.server.cfg.Bytes.Spend(c.UserID(), int(bytes/1024)+1)
	if pause == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pause)
	defer cancel()
	_ = c.await(ctx, func() bool { return false })
}

// frames are buffers lent for one message, so that an idle connection holds none.
// Large ones are not kept.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooledBytes = 64 << 10

// readFrame handles one frame, and returns its length.
func (c *Conn) readFrame(kind int, r io.Reader) (n int64, err error) {
	limit := c.server.cfg.MaxMessageBytes
	if !c.isRegistered() {
		limit = min(limit, maxRegisterBytes)
	}
	buf := frames.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= maxPooledBytes {
			buf.Reset()
			frames.Put(buf)
		}
	}()
	if n, err = buf.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return n, err
	}
	begun := time.Now()
	t, refusal, done := wire.Type(""), wire.Code(""), true
	switch {
	case n > int64(limit):
		// The library's own limit would close without telling the client why.
		refusal = wire.CodeTooLarge
		c.reply(c.errorMessage(wire.Message{}, wire.Errorf(wire.CodeTooLarge, "message is longer than %d bytes", limit)))
		c.Close(websocket.CloseMessageTooBig, "message too large")
	case kind != websocket.TextMessage:
		refusal = c.refuse(wire.Message{}, wire.Errorf(wire.CodeBadRequest, "binary frames are not part of the protocol; send JSON as text"))
	default:
		t, refusal, done = c.handle(buf.Bytes(), begun)
	}
	if done {
		c.server.cfg.Observer.Handled(t, refusal, time.Since(begun))
	}
	return n, nil
}

// discard reads a message to its end, within the read deadline and a bound.
func discard(r io.Reader) error {
	const most = 8 << 20
	n, err := io.Copy(io.Discard, io.LimitReader(r, most))
	if err == nil && n == most {
		err = errors.New("too much after close")
	}
	return err
}

// finish ends the connection once reading has stopped.
func (c *Conn) finish(cause error) {
	c.mu.Lock()
	if !c.closing {
		// The client or the network ended it; no message can be sent.
		code := websocket.CloseAbnormalClosure
		var closed *websocket.CloseError
		if errors.As(cause, &closed) {
			code = closed.Code
		}
		c.closing, c.closeCode = true, code
		c.queue.drop()
		_ = c.ws.NetConn().SetDeadline(time.Now())
	}
	c.timer.Stop()
	c.wake()
	for c.queue.writing { // bounded by the write deadline
		changed := c.waitable()
		c.mu.Unlock()
		<-changed
		c.mu.Lock()
	}
	user, code, registered := c.user, c.closeCode, c.registered
	c.mu.Unlock()
	_ = c.ws.Close()
	c.awaitConclusion()

	if c.joined {
		c.guard("disconnected", func() error {
			// Not under base: cleanup after a socket continues even when Drain has
			// given up waiting.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(c.server.base), c.server.cfg.HandleTimeout)
			defer cancel()
			c.server.cfg.Handler.Disconnected(ctx, c)
			return nil
		})
	}
	c.log(zerolog.DebugLevel).Str("account", user).Int("code", code).Msg("socket closed")
	if registered {
		c.server.registered.Add(-1)
	}
	c.server.cfg.Observer.Closed(code)
	c.server.remove(c)
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func (c *Conn) isRegistered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.registered
}

// log starts a log line about this connection.
func (c *Conn) log(level zerolog.Level) *zerolog.Event {
	return c.server.log.WithLevel(level).Str("conn", c.id)
}

// handle processes one text frame, which is not kept. It returns the type that the
// frame names and the code of its refusal, if any; done is false for a message that
// is still in flight.
func (c *Conn) handle(frame []byte, begun time.Time) (t wire.Type, refusal wire.Code, done bool) {
	if c.messages != nil && !c.messages.Allow() {
		// Refused unread: the message is unknown.
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
	m.Token = "" // not needed again, so that it reaches no log
	ctx = auth.NewContext(ctx, claims)
	if !registered {
		return m.Type, c.register(ctx, m, claims, err), true
	}
	if err != nil {
		c.auditRefusal(m, c.UserID(), wire.AsError(err))
		return m.Type, c.refuse(m, err), true
	}
	// The registered user is charged, even if the token is another's.
	if err := auth.Charge(c.server.cfg.Users, c.UserID(), 1, "too many messages"); err != nil {
		return m.Type, c.overRate(m, err), true
	}
	if c.awaitTurn(m.Type, len(frame)) != nil {
		return m.Type, "", true // the socket is closed
	}
	reply, pending, err := c.receive(ctx, m, claims)
	if err == nil && pending != nil {
		c.begin(inflight{m: m, pending: pending, cancel: cancel, bytes: len(frame), begun: begun})
		return m.Type, "", false
	}
	return m.Type, c.answer(m, reply, err), true
}

// register handles the first message, and returns the code of its refusal, if any.
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
	c.server.removeUnregistered(c)
	c.mu.Lock()
	c.user, c.role, c.identity, c.claims = r.UserID, r.Role, r.Identity, claims
	c.acks = r.Resume != nil
	// The client has done its part. The Handler's time does not count: when many
	// clients connect at once, it is not their fault.
	c.registering = true
	c.mu.Unlock()
	// Revoked since it was verified and missed by CloseRevoked, which ran before
	// the claims were stored here.
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
			c.server.cfg.Registers.GiveBack(claims.Subject, 1) // the fault is the server's
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

// unregistered undoes what register has set for the Handler, which has refused.
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
	c.server.addUnregistered(c)
}

// mayRegister reports whether the token's subject is the user who registers, in a
// role that the token has.
func mayRegister(m wire.Message, r *wire.Register, claims auth.Claims) error {
	switch {
	case r.UserID != claims.Subject, m.UserID != "" && m.UserID != claims.Subject:
		return wire.Errorf(wire.CodeForbidden, "user_id is not the token's subject")
	case !claims.Has(r.Role):
		return wire.Errorf(wire.CodeForbidden, "the token does not have the role %s", r.Role)
	}
	return nil
}

// receive passes a message of a registered client, whose token is valid, to the
// Handler.
func (c *Conn) receive(ctx context.Context, m wire.Message, claims auth.Claims) (reply wire.Payload, pending Pending, err error) {
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
		reply, pending, err = c.server.cfg.Handler.Receive(ctx, c, m, p)
		return err
	})
	return reply, pending, err
}

// answer tells the client the result of m, and returns the code of its refusal, if
// any.
func (c *Conn) answer(m wire.Message, reply wire.Payload, err error) wire.Code {
	if err == nil {
		if reply != nil {
			c.reply(c.encode(reply, m.RequestID))
		}
		return ""
	}
	c.auditRefusal(m, c.UserID(), wire.Cause(err))
	if wire.AsError(err).Code == wire.CodeRateLimited {
		// Only its time is wrong: repeating it later is no abuse.
		return c.overRate(m, err)
	}
	return c.refuse(m, err)
}

// check compares m with its token and the registration, and decodes it. A newer
// token replaces the one known so far.
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

// guard calls the Handler. A panic there must not take the node down with it: it is
// logged with its stack, but without its value unless that is the runtime's own,
// since it may quote a message; the client gets an internal error and the socket is
// closed.
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

// errPanicked stands for a panic that is already logged.
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
	// Payloads are strings and numbers; only a broken payload type of the Handler
	// cannot be encoded.
	c.log(zerolog.ErrorLevel).Err(errors.Unwrap(err)).Str("type", string(p.Type())).Msg("reply cannot be encoded")
	return nil
}

// maxInflight bounds the messages of one socket that are in flight at a time. Their
// frames together are bounded too, by Config.QueueBytes.
const maxInflight = 32

// Pending is a message that a Handler has begun to process and not yet answered,
// see [Handler.Receive].
type Pending interface {
	// Done is closed when Answer has little left to do.
	Done() <-chan struct{}
	// Answer returns what Receive would have. It is called once.
	Answer() (wire.Payload, error)
}

// inflight is a message that its Handler has begun to process.
type inflight struct {
	m       wire.Message // without payload
	pending Pending
	cancel  context.CancelFunc // of the context passed to Receive
	bytes   int                // of its frame
	begun   time.Time
}

// inflights are a socket's messages in flight, oldest first, guarded by its
// Conn.mu. While there are any, a goroutine answers them.
type inflights struct {
	list  []inflight
	bytes int
}

// awaitTurn delays a message: a round message while too many are in flight, any
// other, except an ack, while one is. It returns [ErrClosed] when the socket is
// closed.
func (c *Conn) awaitTurn(t wire.Type, bytes int) error {
	return c.await(context.Background(), func() bool {
		u := &c.inflight
		switch t {
		case wire.TypeTSSMessage:
			return len(u.list) == 0 || len(u.list) < maxInflight && u.bytes+bytes <= c.server.cfg.QueueBytes
		case wire.TypeAck:
			return true // says nothing of messages to the server
		}
		return len(u.list) == 0
	})
}

// begin adds a message to those in flight.
func (c *Conn) begin(u inflight) {
	u.m.Payload = nil // its memory is the frame's
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inflight.list = append(c.inflight.list, u)
	c.inflight.bytes += u.bytes
	if len(c.inflight.list) == 1 {
		go c.conclude()
	}
}

// conclude answers the messages in flight, in order, until there are none. Answers
// that are ready together are written together.
func (c *Conn) conclude() {
	defer c.release()
	for more := true; more; {
		u := c.oldest()
		select {
		case <-u.pending.Done():
		default:
			c.release()
			<-u.pending.Done()
		}
		c.hold()
		var reply wire.Payload
		err := c.guard("receive", func() (err error) {
			reply, err = u.pending.Answer()
			return err
		})
		u.cancel()
		refusal := c.answer(u.m, reply, err)
		c.server.cfg.Observer.Handled(u.m.Type, refusal, time.Since(u.begun))
		more = c.concluded()
	}
}

func (c *Conn) oldest() inflight {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inflight.list[0]
}

// concluded removes the oldest message in flight and reports whether another
// remains; if not, a new goroutine concludes the next message.
func (c *Conn) concluded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.inflight
	u.bytes -= u.list[0].bytes
	u.list[0] = inflight{}
	if u.list = u.list[1:]; len(u.list) == 0 {
		u.list = nil
	}
	c.wake()
	return u.list != nil
}

// awaitConclusion waits until no message is in flight.
func (c *Conn) awaitConclusion() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.inflight.list) > 0 { // bounded by Config.HandleTimeout
		changed := c.waitable()
		c.mu.Unlock()
		<-changed
		c.mu.Lock()
	}
}
