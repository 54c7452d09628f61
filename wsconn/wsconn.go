// Package wsconn is a node's WebSocket edge: it upgrades requests, holds the
// sockets, checks every frame and passes valid ones to a [Handler].
//
// The first message on a socket must be register, with a valid token. After that
// each message's token is verified again; a newer token extends the socket's life,
// and the socket is closed when its newest token expires. Messages of one
// connection are handled in order, one at a time, except round messages, of which
// several may be in flight ([Pending]). A refused message is answered with an
// error; a client that keeps sending such messages is cut off.
//
// The resources that clients can occupy are bounded: the sockets
// (Config.MaxConnections), those of them that have not begun to register
// (Config.MaxUnregistered: the oldest makes room for the newest), the data that
// each may send before it has, and, by Config.Users and Config.Registers, what one
// user does over all its sockets, one after the other or at once.
//
// Each connection has two outgoing queues, both bounded. Direct replies
// (confirmations, errors, pongs) have a small one; when it is full, reading from
// that socket stops. Mailbox frames are offered with [Conn.Offer], which refuses
// when there is no room; the caller then waits in [Conn.Room]. Nothing is dropped
// silently: a socket is either written to, in order, or closed.
//
// A client that never acknowledges (one that knows only the seed protocol) counts
// as having received the frames written to its socket once it has answered a later
// ping: then [Handler.Acked] is called.
//
// The package knows no keys, sessions or other nodes; the Handler gives messages
// their meaning. It never logs a token or a payload.
//
// # Goroutines and locks
//
// Each socket has one reading goroutine, which also runs the Handler, and writes a
// direct reply itself if no other frame is waiting. Otherwise a writing goroutine
// runs, only while frames are queued, and another while messages are in flight. A
// timer wakes for pings and deadlines, so an idle connection costs one small stack.
// All end when the socket closes, which [Server.Drain] waits for. Server.mu guards
// the set of sockets, Conn.mu the state and queues of one; neither is held during
// I/O or a call to the Handler, and Server.mu is never taken while Conn.mu is held.
package wsconn

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Defaults of [Config].
const (
	DefaultRegisterTimeout = 10 * time.Second
	DefaultPingEvery       = 25 * time.Second
	DefaultPongWait        = 60 * time.Second
	DefaultWriteTimeout    = 10 * time.Second
	DefaultHandleTimeout   = 30 * time.Second
	DefaultCloseGrace      = 2 * time.Second
	DefaultDrainSpread     = 3 * time.Second
	DefaultQueueMessages   = 128
	DefaultQueueBytes      = 1 << 20
	DefaultRateLimit       = 1000
	DefaultMaxRefused      = 50
	DefaultMaxUnregistered = 16 << 10

	// Until a client has registered, it may send no frame longer than this, which is
	// enough for a register: unregistered clients must not make the node hold megabytes.
	maxRegisterBytes = wire.MaxTokenBytes + wire.MaxIdentityBytes + 16<<10

	// Direct replies waiting for one socket. The reader waits while there are more.
	maxReplies = 32

	// Time limit for the answer to a client's close.
	echoWithin = time.Second

	readBufferBytes  = 256     // of a socket; the rest of a longer frame is read straight into the message
	writeBufferBytes = 4 << 10 // lent to a socket while it writes
)

// Handler decides what messages mean. Its calls for one Conn come from one goroutine,
// one at a time; different Conns call it concurrently. The ctx of Connected and
// Receive carries the claims of the message's own token ([auth.FromContext]) and ends
// after Config.HandleTimeout; it does not end with the socket.
//
// An error that is or wraps a *wire.Error is sent to the client; any other is logged
// and becomes an internal error. So is a panic, which also closes the socket.
type Handler interface {
	// Connected is called with a valid register, after its token, user and role
	// were found to agree. Returning nil with an error refuses it: the client gets
	// the error and, unless its code says otherwise, may try again.
	Connected(ctx context.Context, c *Conn, r *wire.Register) (*wire.RegisterConfirm, error)
	// Started is called when register_confirm is queued: frames offered from now on
	// follow it. It is not called if the socket has closed meanwhile.
	Started(c *Conn)
	// Receive is called with each valid message but register, ping and pong. A
	// payload that it returns is sent back with the message's request_id. The
	// memory of m.Payload is reused once Receive has returned.
	//
	// To let other messages of the same kind follow at once, it may begin the work
	// and return the rest as Pending; ctx then lasts until Pending has answered.
	// Round messages and acks are received meanwhile, any other message when all
	// before it are answered; answers keep the order.
	Receive(ctx context.Context, c *Conn, m wire.Message, p wire.Payload) (wire.Payload, Pending, error)
	// Acked is called when a client that does not send ack has received its mailbox
	// up to seq.
	Acked(ctx context.Context, c *Conn, seq uint64)
	// Disconnected is called once when the socket has closed, if Connected
	// returned without error or panicked.
	Disconnected(ctx context.Context, c *Conn)
}

// Auditor records decisions; it does not make its caller wait.
type Auditor interface{ Record(d audit.Decision) }

// Config is what [New] needs.
type Config struct {
	// Verifier verifies the token of every message. Required.
	Verifier auth.Verifier
	// Revoked, where not nil, returns an error for claims that were valid and have
	// been revoked. It is called when a socket takes over a token's claims, so that
	// a concurrent CloseRevoked misses none.
	Revoked func(auth.Claims) error
	// Handler receives the valid messages. Required.
	Handler Handler
	// Log receives this package's log lines. Nil disables logging.
	Log *zerolog.Logger
	// Observer counts events. Nil disables it.
	Observer Observer
	// Audit receives who registered, and which messages were refused for lack of
	// permission; see [Conn.audit]. Nil disables it.
	Audit Auditor

	// AllowedOrigins lists the origins (https://app.example) that browsers may
	// connect from besides the server's own; "*" is any. Requests without an Origin
	// header, which do not come from browsers, are always let in.
	AllowedOrigins []string
	// MaxMessageBytes is the longest frame. Zero value means wire.DefaultMaxMessageBytes.
	MaxMessageBytes int
	// MaxConnections is how many sockets this node holds; more are refused with
	// status 503. Zero value means no limit.
	MaxConnections int
	// MaxUnregistered is how many sockets may be open without having begun to
	// register. One more closes the oldest of them, which had the most time.
	// Zero value means DefaultMaxUnregistered.
	MaxUnregistered int

	// Doubts returns an error while this process's clock is known to be wrong: a
	// close for expiry is then not final. Nil means that the clock is trusted.
	Doubts func() error
	// RegisterTimeout is how long a socket may take to register.
	// Zero value means DefaultRegisterTimeout.
	RegisterTimeout time.Duration
	// PingEvery is the time between pings. Zero value means DefaultPingEvery.
	PingEvery time.Duration
	// PongWait is how long a socket may be silent, pongs included, before it is
	// closed. Zero value means DefaultPongWait.
	PongWait time.Duration
	// WriteTimeout is how long writing one frame may take before the socket is
	// closed as slow. Zero value means DefaultWriteTimeout.
	WriteTimeout time.Duration
	// HandleTimeout ends the context of a Handler's call.
	// Zero value means DefaultHandleTimeout.
	HandleTimeout time.Duration
	// CloseGrace is how long a closing socket may take to flush and to be closed by
	// the client in turn. Zero value means DefaultCloseGrace.
	CloseGrace time.Duration
	// DrainSpread is the time over which Drain closes the sockets, so that clients
	// do not all reach the other nodes at once. Zero value means DefaultDrainSpread.
	DrainSpread time.Duration

	// QueueMessages and QueueBytes bound the mailbox frames queued for one socket;
	// a single frame is always accepted by an empty queue.
	// Zero values mean DefaultQueueMessages and DefaultQueueBytes.
	QueueMessages int
	QueueBytes    int

	// RateLimit is how many messages a second a connection may send on average, with
	// bursts of twice that. Excess messages are refused, and beyond twice the rate
	// the socket is closed. Zero value means DefaultRateLimit, negative no limit.
	RateLimit float64
	// Users limits the messages of each user over all its sockets, a long one
	// counting as several, and Registers how often it registers. Excess messages
	// and registers are refused. Limits that apply to the user elsewhere too may be
	// shared. Nil means no limit.
	Users     *limit.Throttle
	Registers *limit.Throttle
	// Bytes limits the bytes, in KiB, of each user's messages over all its sockets.
	// Sockets of a user beyond it are read more slowly, and nothing is refused:
	// unread data waits at the client. Limits that apply to the user elsewhere too
	// may be shared. Nil means no limit.
	Bytes *limit.Throttle
	// MaxRefused is how many faulty messages a connection may send at once, and one
	// a second on average, before it is closed. Zero value means DefaultMaxRefused.
	MaxRefused int

	// Reveal, where not nil, gets each mailbox frame just before it is written to its
	// user's socket and returns the frame to write: a node that keeps secrets
	// encrypted in Redis decrypts them here. It must not modify frame. Returning nil
	// means that it cannot decrypt, and closes the socket with wire.CloseUnavailable.
	Reveal func(user string, frame []byte) []byte
}

func (cfg *Config) setDefaults() error {
	if cfg.Verifier == nil || cfg.Handler == nil {
		return errors.New("wsconn: Config needs a Verifier and a Handler")
	}
	if cfg.Log == nil {
		nop := zerolog.Nop()
		cfg.Log = &nop
	}
	if cfg.Observer == nil {
		cfg.Observer = unobserved{}
	}
	durations := []struct {
		field  *time.Duration
		preset time.Duration
	}{
		{&cfg.RegisterTimeout, DefaultRegisterTimeout},
		{&cfg.PingEvery, DefaultPingEvery},
		{&cfg.PongWait, DefaultPongWait},
		{&cfg.WriteTimeout, DefaultWriteTimeout},
		{&cfg.HandleTimeout, DefaultHandleTimeout},
		{&cfg.CloseGrace, DefaultCloseGrace},
		{&cfg.DrainSpread, DefaultDrainSpread},
	}
	for _, d := range durations {
		if *d.field <= 0 {
			*d.field = d.preset
		}
	}
	counts := []struct {
		field  *int
		preset int
	}{
		{&cfg.MaxMessageBytes, wire.DefaultMaxMessageBytes},
		{&cfg.QueueMessages, DefaultQueueMessages},
		{&cfg.QueueBytes, DefaultQueueBytes},
		{&cfg.MaxRefused, DefaultMaxRefused},
		{&cfg.MaxUnregistered, DefaultMaxUnregistered},
	}
	for _, n := range counts {
		if *n.field <= 0 {
			*n.field = n.preset
		}
	}
	if cfg.PongWait <= cfg.PingEvery {
		return errors.New("wsconn: PongWait must be longer than PingEvery")
	}
	if cfg.RateLimit == 0 {
		cfg.RateLimit = DefaultRateLimit
	}
	return nil
}

// Server holds this node's sockets. It is an http.Handler for the endpoint /ws
// and is safe for concurrent use.
type Server struct {
	cfg      Config
	log      *zerolog.Logger
	upgrader websocket.Upgrader

	// base is under every Handler call; it ends when Drain gives up waiting.
	base   context.Context
	cancel context.CancelFunc

	registered atomic.Int64 // of conns

	mu           sync.Mutex
	conns        map[*Conn]struct{}
	unregistered unregisteredConns // those of conns that have not begun to register
	draining     bool
	idle         chan struct{} // made by Drain, closed when the last socket is gone
}

// New returns a server that holds no sockets yet. It starts nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Log, conns: make(map[*Conn]struct{})}
	s.base, s.cancel = context.WithCancel(context.Background())
	s.upgrader = websocket.Upgrader{
		HandshakeTimeout: cfg.WriteTimeout,
		ReadBufferSize:   readBufferBytes,
		WriteBufferSize:  writeBufferBytes,
		WriteBufferPool:  new(sync.Pool),
		CheckOrigin:      s.originAllowed,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, _ error) {
			w.Header().Set("Sec-Websocket-Version", "13")
			if status == http.StatusForbidden {
				auth.WriteProblem(w, wire.Errorf(wire.CodeForbidden, "this origin may not connect"))
				return
			}
			auth.WriteProblem(w, wire.Errorf(wire.CodeBadRequest, "not a WebSocket handshake"))
		},
	}
	return s, nil
}

// Count returns how many sockets are open, registered or not.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Registered returns how many sockets have registered.
func (s *Server) Registered() int { return int(s.registered.Load()) }

// ServeHTTP upgrades the request and returns; the socket lives on without it,
// so that the HTTP server's buffers are not held as long.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.admit(r.URL); err != nil {
		auth.WriteProblem(w, err)
		return
	}
	stream := &stream{slack: s.cfg.WriteTimeout / 16}
	ws, err := s.upgrader.Upgrade(&streamWriter{w, stream}, r, nil)
	if err != nil {
		s.log.Debug().Str("remote", r.RemoteAddr).Msg("upgrade refused")
		return
	}
	defer s.makeRoom()
	c := newConn(s, ws, stream, rand.Text())
	if err := s.add(c); err != nil {
		// It was admitted together with others, and there is no room left for it.
		_ = ws.WriteControl(websocket.CloseMessage, closeFrame(wire.CloseUnavailable, err.Error()), time.Now().Add(s.cfg.CloseGrace))
		_ = ws.Close()
		return
	}
	s.log.Debug().Str("conn", c.id).Str("remote", r.RemoteAddr).Msg("socket opened")
	c.start()
}

// admit refuses requests before the handshake.
func (s *Server) admit(u *url.URL) error {
	// URLs end up in logs of proxies and in histories of browsers. A client that
	// puts its token there should learn so before production.
	for _, name := range []string{"token", "access_token", "jwt"} {
		if u.Query().Has(name) {
			return wire.Errorf(wire.CodeBadRequest, "the URL must not contain a token; send it in the register message")
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full()
}

// full returns why no socket may be added. s.mu is held.
func (s *Server) full() error {
	switch {
	case s.draining:
		return wire.Errorf(wire.CodeUnavailable, "this node is shutting down; connect to another")
	case s.cfg.MaxConnections > 0 && len(s.conns) >= s.cfg.MaxConnections:
		return wire.Errorf(wire.CodeUnavailable, "this node is full; connect to another")
	}
	return nil
}

func (s *Server) originAllowed(r *http.Request) bool {
	origin := r.Header.Values("Origin")
	if len(origin) == 0 {
		return true
	}
	if len(origin) > 1 {
		return false
	}
	for _, allowed := range s.cfg.AllowedOrigins {
		if allowed == "*" || strings.EqualFold(strings.TrimSuffix(allowed, "/"), origin[0]) {
			return true
		}
	}
	u, err := url.Parse(origin[0])
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func (s *Server) add(c *Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.full(); err != nil {
		return err
	}
	s.conns[c] = struct{}{}
	// Before the socket is read from, which may remove it again.
	s.unregistered.add(c)
	return nil
}

func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.unregistered.remove(c)
	if s.idle != nil && len(s.conns) == 0 {
		close(s.idle)
		s.idle = nil
	}
}

// newLimiter returns nil, which limits nothing, for a negative rate.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond < 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(2*perSecond)))
}

// Observer counts the events of the sockets. Its methods do not block, and are
// called concurrently.
type Observer interface {
	// Handled is called after a frame was processed: with the type that its sender
	// named ("" if unreadable), the code of its refusal ("" if accepted), and the
	// time taken.
	Handled(t wire.Type, refused wire.Code, took time.Duration)
	// Written is called when a mailbox frame has been written to its socket, with
	// the frame as it was offered and when it was sent, zero if unknown.
	Written(frame []byte, sent time.Time)
	// TurnedAway is called when a mailbox frame was offered to a socket whose queue
	// is full. It is offered again.
	TurnedAway()
	// Closed is called when a socket is gone, with its close code: the server's, or
	// any that the client has sent.
	Closed(code int)
}

// unobserved is the Observer used if none is configured.
type unobserved struct{}

func (unobserved) Handled(wire.Type, wire.Code, time.Duration) {}
func (unobserved) Written([]byte, time.Time)                   {}
func (unobserved) TurnedAway()                                 {}
func (unobserved) Closed(int)                                  {}

// unregisteredConns are the sockets that have not begun to register, oldest first.
// Their tokens are unknown, so their number is bounded as a whole and not for each
// user. The zero value is ready; Server.mu guards it.
type unregisteredConns struct {
	queue list.List // of *Conn
	place map[*Conn]*list.Element
}

func (s *unregisteredConns) add(c *Conn) {
	if s.place == nil {
		s.place = make(map[*Conn]*list.Element)
	}
	if s.place[c] == nil {
		s.place[c] = s.queue.PushBack(c)
	}
}

func (s *unregisteredConns) remove(c *Conn) {
	if e := s.place[c]; e != nil {
		s.queue.Remove(e)
		delete(s.place, c)
	}
}

// makeRoom closes the oldest socket that has not begun to register, if there are
// too many. Its client may try again.
func (s *Server) makeRoom() {
	s.mu.Lock()
	var oldest *Conn
	if s.unregistered.queue.Len() > s.cfg.MaxUnregistered {
		oldest = s.unregistered.queue.Front().Value.(*Conn)
		s.unregistered.remove(oldest)
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.Close(wire.CloseUnavailable, "too many sockets that have not registered")
	}
}

// addUnregistered counts c as unregistered again, after its register was refused.
func (s *Server) addUnregistered(c *Conn) {
	s.mu.Lock()
	s.unregistered.add(c)
	s.mu.Unlock()
	s.makeRoom()
}

// removeUnregistered removes c from the unregistered: its register has begun.
func (s *Server) removeUnregistered(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unregistered.remove(c)
}
