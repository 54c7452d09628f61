package wsconn

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ErrClosed is returned by [Conn.Room] when the socket is closed or closing.
var ErrClosed = errors.New("wsconn: socket is closed")

// Conn is one client's socket. It is safe for concurrent use.
type Conn struct {
	server *Server
	ws     *websocket.Conn
	stream *stream // under ws; its writing belongs to whoever has queue.writing
	id     string

	// Touched only by the reading goroutine.
	messages *rate.Limiter // all messages; nil for no limit
	joined   bool          // Disconnected is owed

	mu          sync.Mutex
	registering bool // a sound register is with the Handler
	registered  bool
	user        string    // these three are set once, before registered is
	role        wire.Role // "
	identity    string    // "
	claims      auth.Claims
	acks        bool   // the client acknowledges for itself
	written     uint64 // newest seq written to the socket
	acked       uint64 // newest seq reported to Handler.Acked
	queue       queue
	underway    underways
	excess      *rate.Limiter // messages over the rate; made by the first
	refused     *rate.Limiter // faulty messages; made by the first
	timer       *time.Timer
	registerBy  time.Time
	pingAt      time.Time
	aliveAt     time.Time // when the read deadline was set
	closing     bool      // no more is queued; replies and the close frame are flushed
	closeCode   int       // first cause
	closeBy     time.Time
	changed     chan struct{}
}

func newConn(s *Server, ws *websocket.Conn, stream *stream, id string) *Conn {
	return &Conn{server: s, ws: ws, stream: stream, id: id, messages: newLimiter(s.cfg.RateLimit)}
}

// ID returns the connection's id, unique in the cluster.
func (c *Conn) ID() string { return c.id }

// UserID returns the user who registered, "" before that. In Connected it is
// set already.
func (c *Conn) UserID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// Role returns the role in which the user registered. The token of every
// message that reaches the Handler has it.
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

// Claims returns what the newest token says that was seen on this socket.
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
	// Clients that came at once, after another node's end, are not pinged at once.
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

// closed is called while reading, when the client closes: it answers, unless what
// is being written takes too long.
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

// schedule sets the timer for whatever is due next. c.mu is held.
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

// doubts says why this process's clock is not to be believed, nil if it is.
func (s *Server) doubts() error {
	if s.cfg.Doubts == nil {
		return nil
	}
	return s.cfg.Doubts()
}

// alive puts off the read deadline: the client has shown life. The reading
// goroutine calls it for each frame, so it sets no deadline that is nearly the
// one that is set.
func (c *Conn) alive() {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && now.Sub(c.aliveAt) > c.server.cfg.PongWait/16 {
		c.aliveAt = now
		_ = c.ws.SetReadDeadline(now.Add(c.server.cfg.PongWait))
	}
}

// pong is called while reading. Our pings carry the seq last written before
// them, so their pongs prove what a client that does not ack has received.
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
			// Flushing: what still comes is of no use to anyone, but left unread it
			// would make the kernel reset the connection under our last words.
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

// pace puts off reading the next frame, after one of so many bytes, while the user
// has sent more than Config.Bytes lets it. It returns at once when the socket is
// closing.
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

// frames are read into buffers that are lent for one message, so that an idle
// connection has none. Great ones are not kept.
var frames = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooledBytes = 64 << 10

// readFrame deals with one frame, and returns how long it is.
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
		// The library's own limit would close before the client could be told why.
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

// finish ends the connection: nobody reads it any more.
func (c *Conn) finish(cause error) {
	c.mu.Lock()
	if !c.closing {
		// The client or the network ended it; nothing more can be told.
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
			// Not under base: what a socket leaves behind is cleared away even when
			// Drain has given up waiting.
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

// log begins a log line about this connection.
func (c *Conn) log(level zerolog.Level) *zerolog.Event {
	return c.server.log.WithLevel(level).Str("conn", c.id)
}
