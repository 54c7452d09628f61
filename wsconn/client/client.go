// Package client is Conclave's Go SDK for coordinators: the client side of the
// WebSocket.
//
// Start here: [Dial] connects a coordinator, [Client.Keygen] and [Client.Sign] send
// requests and wait.
//
//	c, err := client.Dial(ctx, client.Config{URLs: urls, Token: client.StaticToken(token)})
//	key, err := c.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: []string{"alice", "bob", "carol"}})
//	sig, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "hello"})
//
// Package rest does the same over the web API alone, and logs in. Package
// participant serves clients that hold shares, through a Client made by [New]: it
// is this module's [Service]. Package request defines requests and their outcomes,
// and package trust decides which identities are trusted.
//
// A client survives the loss of a socket, a node or its own process. It keeps each
// message until the server has acknowledged it as durable, and sends it again after a
// reconnect; messages from the server are numbered, acknowledged and processed once.
//
// The server is trusted only where necessary. A coordinator with an identity signs
// its requests, so that participants can check them; it verifies the signature that
// it returns, and the attestations of a new key. The package does not log or report
// tokens, round messages or shares. It links no library that computes with shares.
//
// # Requirements
//
// A program that imports this package needs only the requirement in its go.mod:
// neither the package nor its tests, which go mod tidy reads, import tss-lib.
// Package participant needs one more line: see there.
//
// # Goroutines and locks
//
// [Client.Run] and [Client.Serve] own all goroutines and return when these have
// ended: the caller's own, which reads; one for each URL that is being dialled; one
// that writes to the socket; and those of the [Service]. The mutexes of Client,
// courier and inbox each guard their own struct's fields and are not held over I/O.
//
// The API may change before v1.
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/quiet"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/servers"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Config configures a client. URLs and Token are required; to serve as a
// participant, Identity and Store are too.
type Config struct {
	// URLs are the base URLs (http://host:port or https://host) of one or several
	// nodes, or of a load balancer. When one fails, or does not answer within a
	// second, the next is tried, beside it; one that has failed is tried after the
	// others for a while. The WebSocket endpoint is /ws below each.
	URLs []string
	// Token supplies a token before each connection and every TokenEvery.
	Token rest.TokenSource
	// User is the user id, the token's subject. Zero value means that it is read
	// from the token.
	User string
	// Role is the role registered. Zero value means participant in Serve and
	// coordinator in Run.
	Role wire.Role

	// Identity identifies this client to the other parties. A coordinator that has
	// one signs its requests with it.
	Identity *identity.Identity
	// Trust decides whose attestations of a new key Keygen accepts. The zero value
	// knows no identities: see [request.Key.Attested].
	Trust trust.Policy

	// OnEvent, if set, receives events. Calls come one at a time from several
	// goroutines; it must return soon and not call the Client.
	OnEvent func(request.Event)
	// Log receives log lines. Nil disables logging.
	Log *zerolog.Logger
	// TLS is used for https URLs. Nil means Go's defaults.
	TLS *tls.Config

	// TokenEvery is how often the token source is queried for a newer token. Zero
	// value means 30 seconds.
	TokenEvery time.Duration
	// PingEvery is how often the connection is probed; it is closed after two and a
	// half times as long without a sign of life. Zero value means 3 seconds: a
	// hanging node is left after 7.5.
	PingEvery time.Duration
	// RetryMin and RetryMax bound the pause before a reconnect. It grows while no
	// server is reached; while connections succeed but do not last it stays below
	// 16 times RetryMin. Zero values mean 50 milliseconds and 5 seconds.
	RetryMin, RetryMax time.Duration
}

func (cfg *Config) setDefaults() {
	durations := []struct {
		field *time.Duration
		zero  time.Duration
	}{
		{&cfg.TokenEvery, 30 * time.Second},
		{&cfg.PingEvery, 3 * time.Second},
		{&cfg.RetryMin, 50 * time.Millisecond},
		{&cfg.RetryMax, 5 * time.Second},
	}
	for _, d := range durations {
		if *d.field <= 0 {
			*d.field = d.zero
		}
	}
	if cfg.Log == nil {
		nop := zerolog.Nop()
		cfg.Log = &nop
	}
}

// Client is one user's connection to the cluster, through all its sockets. Its
// methods are safe for concurrent use.
type Client struct {
	cfg     Config
	sockets []string      // ws(s)://…/ws, as cfg.URLs
	servers *servers.List // which URLs work
	log     zerolog.Logger
	prefix  string // of request ids, unique to this Client
	courier courier
	inbox   inbox
	service Service // nil for a coordinator only; set before stop could be seen closed

	unanswered time.Time // when the last unanswered register was sent; Run's alone

	stop context.CancelFunc // of Dial's own Run; nil otherwise
	done chan struct{}      // closed when Run has returned

	events sync.Mutex // serialises OnEvent

	mu        sync.Mutex
	started   bool
	err       error // why Run returned
	user      string
	token     string
	spent     string        // a token that the server reported as expired
	connected chan struct{} // closed while registered
	waiters   map[*waiter]struct{}
	requests  uint64
}

// New returns a client that does nothing before Run or Serve.
func New(cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("client: no URL")
	}
	if cfg.Token == nil {
		return nil, errors.New("client: no token source")
	}
	cfg.setDefaults()
	c := &Client{
		cfg: cfg, log: quiet.Log(*cfg.Log), prefix: rand.Text(), user: cfg.User,
		done: make(chan struct{}), connected: make(chan struct{}), waiters: map[*waiter]struct{}{},
		servers: servers.New(len(cfg.URLs)),
	}
	for _, base := range cfg.URLs {
		u, err := servers.ParseBase(base)
		if err != nil {
			return nil, err
		}
		u.Scheme = "ws" + strings.TrimPrefix(u.Scheme, "http")
		c.sockets = append(c.sockets, u.JoinPath("ws").String())
	}
	c.courier.init()
	c.inbox.init()
	return c, nil
}

// Dial returns a running client that has registered as a coordinator. End it with
// Close. Errors on the way are retried until ctx ends, unless a retry cannot help.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() { _ = c.Run(run) }() // its error is in c.err, for all waiters
	if err := c.WaitConnected(ctx); err != nil {
		_ = c.Close() // returns the same err, or nothing
		return nil, err
	}
	return c, nil
}

// Close ends a client made by Dial and waits until its goroutines have ended. If
// the client had stopped before, it returns the reason.
func (c *Client) Close() error {
	if c.stop == nil {
		return errors.New("client: Close is for clients made by Dial; end the context of Run")
	}
	c.stop()
	<-c.done
	return c.stopped()
}

// Run keeps the client connected, as a coordinator, until ctx ends, and then
// returns nil; or it returns a permanent error: ErrSuperseded, ErrTokenExpired, or
// the server's.
func (c *Client) Run(ctx context.Context) error { return c.run(ctx, nil) }

// Serve is Run for a client that also takes part in sessions: see [Service], and
// its implementation in package participant.
func (c *Client) Serve(ctx context.Context, s Service) error {
	if s == nil {
		return errors.New("client: Serve needs a service")
	}
	return c.run(ctx, s)
}

func (c *Client) run(ctx context.Context, s Service) error {
	c.mu.Lock()
	if c.started {
		c.mu.Unlock()
		return errors.New("client: it runs, or ran, already")
	}
	c.started = true
	c.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if s != nil {
		c.service = s
		err = s.Start(ctx, &Link{c})
	}
	if err == nil {
		err = c.stayConnected(ctx)
	}
	cancel()
	if s != nil {
		s.Wait()
	}
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
	return err
}

// stopped returns why Run has returned, nil if its context ended.
func (c *Client) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// WaitConnected waits until the client is registered with a node. It returns ctx's
// error, or why the client has stopped.
func (c *Client) WaitConnected(ctx context.Context) error {
	c.mu.Lock()
	connected := c.connected
	c.mu.Unlock()
	select {
	case <-connected:
		return nil
	case <-c.done:
		return c.gone()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone returns the error of calls on a client that has stopped.
func (c *Client) gone() error {
	if err := c.stopped(); err != nil {
		return err
	}
	return ErrClosed
}

// User returns the user id: Config.User, or the token's after the first token.
func (c *Client) User() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// isConnected reports whether the client is registered now.
func (c *Client) isConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.connected:
		return true
	default:
		return false
	}
}

func (c *Client) setConnected(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if yes {
		close(c.connected)
	} else {
		c.connected = make(chan struct{})
	}
}

// requestID returns an id for a message, unique among all clients.
func (c *Client) requestID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	return fmt.Sprintf("%s-%d", c.prefix, c.requests)
}

func (c *Client) emit(e request.Event) {
	if c.cfg.OnEvent == nil {
		return
	}
	c.events.Lock()
	defer c.events.Unlock()
	c.cfg.OnEvent(e)
}
