// Package client is Conclave's Go SDK: the other end of the WebSocket.
//
// A coordinator asks for keys and signatures:
//
//	c, err := client.Dial(ctx, client.Config{URLs: urls, Token: client.StaticToken(token)})
//	key, err := c.Keygen(ctx, client.KeygenRequest{Threshold: 2, Participants: []string{"alice", "bob", "carol"}})
//	sig, err := c.Sign(ctx, client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "hello"})
//
// A participant holds shares and answers invitations:
//
//	identity, _, err := client.LoadIdentity(filepath.Join(dir, "identity"), passphrase)
//	store, err := client.OpenDirStore(dir)
//	c, err := client.New(client.Config{URLs: urls, Token: source, Identity: identity, Store: store})
//	err = c.Serve(ctx, approve)
//
// Both live through the loss of a socket, a node or their own process. What a
// client says is kept until the server has acknowledged it as durable, and said
// again after a reconnect; what it is told is numbered, acknowledged and taken
// once. A participant writes in its [Journal] what it has promised and begun,
// so that after a restart it knows what it agreed to, and never runs the same
// attempt of the MPC twice.
//
// The server is not believed where it need not be: a participant computes the
// digest that it signs itself, compares the parameters of a run with the
// invitation that was approved, and the parties' identities with those of the
// key; a coordinator verifies the signature that it returns. A coordinator with an
// identity signs what it asks for, and a participant checks that what its approver
// is shown is what was signed, by whom it knows as that coordinator; an approver
// behind which nobody looks ([ApproveAll], [Policy], [SignedOnly]) takes nothing
// else. What convicts a party is kept ([EvidenceStore]). The MPC itself is
// package session/party. [Login] and [API] are the HTTP side. The package does
// not log or report tokens, round messages or shares.
//
// # Requirements
//
// A program that imports this package needs one line in its go.mod beside the
// requirement. tss-lib demands it, and Go takes it from the main module only:
//
//	replace github.com/agl/ed25519 => github.com/binance-chain/edwards25519 v0.0.0-20200305024217-f36fc4b53d43
//
// # Goroutines and locks
//
// [Client.Run] and [Client.Serve] own all goroutines and return when these have
// ended: the caller's own, which reads; one for each URL that is being dialled; one
// that writes to the socket; and, in a participant, one for each invitation that is
// asked about and each run, one that makes pre-parameters, and one that ends what
// has waited for too long. Calls of [API] return when what they have begun has
// ended. The mutexes of Client, servers, courier, inbox, participant, RateLog and
// the stores each guard their own struct's fields and are not held over I/O, except
// that those of RateLog and the stores are held while files are read or written.
//
// The API carries no promise of compatibility before v1.
package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Config says who a client is and where its servers are. URLs and Token are
// required; to serve as a participant, Identity and Store are too.
type Config struct {
	// URLs are the base URLs (http://host:port or https://host) of one or several
	// nodes, or of what balances load between them. When one fails, or does not
	// answer within a second, the next is tried, beside it; one that has failed is
	// tried after the others for a while. The WebSocket endpoint is /ws below each.
	URLs []string
	// Token is asked for a token before each connection and every TokenEvery.
	Token TokenSource
	// User is the user id, the token's subject. Zero value means to read it from
	// the token.
	User string
	// Role is what the client registers as. Zero value means participant in Serve
	// and coordinator in Run.
	Role wire.Role

	// Identity is who this client is to the other parties. A coordinator that has
	// one signs its requests with it.
	Identity *identity.Identity
	// Store keeps sealed shares.
	Store ShareStore
	// Journal keeps what the participant has promised and begun. Zero value means
	// the Store, if it is a Journal too.
	Journal Journal
	// Trust decides whether a user may have an identity. Zero value means the
	// Store's, if it is a [Truster] too.
	Trust Trust
	// Known tells, before Trust is asked, whose identity is known already and
	// whether it was pinned. Zero value means the Store's, if it is a [KnownStore]
	// too; without one nobody is known.
	Known func(user string) (Known, bool, error)
	// PinnedOnly refuses parties and coordinators whose identity was not pinned by
	// hand: nobody is trusted on first use.
	PinnedOnly bool
	// Evidence keeps what convicts a party. Zero value means the Store, if it is an
	// [EvidenceStore] too.
	Evidence EvidenceStore
	// PreParams supplies the pre-parameters of secp256k1 key generations. Zero
	// value means to make them when an invitation is approved.
	PreParams PreParamsSource
	// Concurrency is how many cores a run may use. Zero value means all.
	Concurrency int
	// MaxSessions is how many sessions a participant has open at once: those that
	// the approver is asked about, and those that it has accepted. Others wait.
	// Each pinned coordinator may have half of them, and always has 4 of its own,
	// beyond MaxSessions if it must; one that is known by an earlier approval may
	// have a quarter; all others share a quarter; and coordinators that are not
	// pinned have at most half together. For these accounts at most 2, 1/2 and 1
	// times MaxSessions wait; what comes then is declined. Zero value means 64.
	MaxSessions int
	// AskAtOnce is how many invitations the approver is asked about at once. The
	// next one is of a pinned coordinator if there is any, else of one that is
	// known, else of a stranger. One that stands at a terminal wants 1. Zero value
	// means MaxSessions and what pinned coordinators have beyond it.
	AskAtOnce int
	// SignedOnly declines what no pinned coordinator has signed without asking the
	// approver, and without writing it down: for approvers that would decline it
	// anyway, see the function [SignedOnly].
	SignedOnly bool
	// KeygensPerHour is how many keygens of one coordinator are approved in an
	// hour, and of all those together that are not known here: each costs a set of
	// pre-parameters and the place of a share. Zero value means 120, a negative
	// one no bound.
	KeygensPerHour int
	// SignSilence and KeygenSilence are how long a run may wait for others before
	// it names them and gives up. Zero values mean 15 seconds and 2 minutes.
	SignSilence   time.Duration
	KeygenSilence time.Duration

	// OnEvent, if set, is told what happens. Calls come one at a time from several
	// goroutines; it must return soon and not call the Client.
	OnEvent func(Event)
	// Log receives log lines. Nil means none.
	Log *zerolog.Logger
	// TLS is used for https URLs. Nil means Go's defaults.
	TLS *tls.Config

	// TokenEvery is how often the token source is asked for a newer token.
	// Zero value means 30 seconds.
	TokenEvery time.Duration
	// PingEvery is how often the connection is probed; after two and a half times
	// as long without a sign of life it is given up. Zero value means 3 seconds: a
	// node that hangs is left after 7.5.
	PingEvery time.Duration
	// RetryMin and RetryMax bound the pause before a reconnect. It grows while no
	// server is reached; where connections are made and do not last it stays below
	// 16 times RetryMin. Zero values mean 50 milliseconds and 5 seconds.
	RetryMin, RetryMax time.Duration
}

func (cfg *Config) setDefaults() {
	durations := []struct {
		field *time.Duration
		zero  time.Duration
	}{
		{&cfg.SignSilence, 15 * time.Second},
		{&cfg.KeygenSilence, 2 * time.Minute},
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
	if cfg.MaxSessions <= 0 {
		cfg.MaxSessions = 64
	}
	if cfg.AskAtOnce <= 0 {
		cfg.AskAtOnce = math.MaxInt
	}
	if cfg.KeygensPerHour == 0 {
		cfg.KeygensPerHour = 120
	}
	if cfg.Journal == nil {
		cfg.Journal, _ = cfg.Store.(Journal)
	}
	if t, ok := cfg.Store.(Truster); ok && cfg.Trust == nil {
		cfg.Trust = t.Trust
	}
	if k, ok := cfg.Store.(KnownStore); ok && cfg.Known == nil {
		cfg.Known = k.Known
	}
	if cfg.Evidence == nil {
		cfg.Evidence, _ = cfg.Store.(EvidenceStore)
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
	sockets []string // ws(s)://…/ws, as cfg.URLs
	servers *servers // which of them work
	log     zerolog.Logger
	prefix  string // of request ids, unique to this Client
	courier courier
	inbox   inbox
	serving *participant // nil for one that only coordinates; set before stop could be seen closed

	unanswered time.Time // when the last register was sent that nobody has answered; Run's alone

	stop context.CancelFunc // of Dial's own Run; nil otherwise
	done chan struct{}      // closed when Run has returned

	events sync.Mutex // serialises OnEvent

	mu        sync.Mutex
	started   bool
	err       error // why Run returned
	user      string
	token     string
	spent     string        // a token that the server found expired
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
		cfg: cfg, log: quietLog(*cfg.Log), prefix: rand.Text(), user: cfg.User,
		done: make(chan struct{}), connected: make(chan struct{}), waiters: map[*waiter]struct{}{},
		servers: newServers(len(cfg.URLs)),
	}
	for _, base := range cfg.URLs {
		u, err := parseBase(base)
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

func parseBase(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return nil, errors.New("client: the server URL cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("client: the server URL is not http://host or https://host") // what else it is may hold a password
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("client: the URL of %s must not hold a password, a query or a fragment", u.Host)
	}
	return u, nil
}

// Dial returns a client that runs, as a coordinator, and has registered. End it
// with Close. What keeps it from registering is tried again until ctx ends,
// unless trying again is of no use.
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	go func() { _ = c.Run(run) }() // its error is in c.err, for whoever waits
	if err := c.WaitConnected(ctx); err != nil {
		_ = c.Close() // returns what err is, or nothing
		return nil, err
	}
	return c, nil
}

// Close ends a client made by Dial and waits until its goroutines have ended.
// It returns why the client had stopped before, if it had.
func (c *Client) Close() error {
	if c.stop == nil {
		return errors.New("client: Close is for clients made by Dial; end the context of Run")
	}
	c.stop()
	<-c.done
	return c.stopped()
}

// Run keeps the client connected, as a coordinator, until ctx ends, and then
// returns nil; or it returns why it cannot go on: ErrSuperseded,
// ErrTokenExpired, or what the server said.
func (c *Client) Run(ctx context.Context) error { return c.run(ctx, nil) }

// Serve is Run for a participant. It asks approve about each invitation, in a
// goroutine of its own, and takes part in what is approved.
func (c *Client) Serve(ctx context.Context, approve Approver) error {
	if approve == nil {
		return errors.New("client: Serve needs an approver")
	}
	switch {
	case c.cfg.Identity == nil:
		return errors.New("client: a participant needs an identity")
	case c.cfg.Store == nil || c.cfg.Journal == nil:
		return errors.New("client: a participant needs a share store and a journal")
	case c.cfg.Trust == nil:
		return errors.New("client: a participant must know whom to trust: set Trust, or use a store that keeps known identities")
	}
	return c.run(ctx, approve)
}

func (c *Client) run(ctx context.Context, approve Approver) error {
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
	if approve != nil {
		c.serving = newParticipant(c, approve)
		err = c.serving.start(ctx)
	}
	if err == nil {
		err = c.stayConnected(ctx)
	}
	cancel()
	if c.serving != nil {
		c.serving.tasks.Wait()
	}
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
	return err
}

// stopped returns why Run has returned, nil for the end of its context.
func (c *Client) stopped() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// WaitConnected waits until the client is registered with a node. It returns
// ctx's error, or why the client has stopped.
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

// gone is the error of calls on a client that has stopped.
func (c *Client) gone() error {
	if err := c.stopped(); err != nil {
		return err
	}
	return ErrClosed
}

// User returns the user id: Config.User, or that of the token once there was
// one.
func (c *Client) User() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user
}

// isConnected reports whether the client is registered right now.
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

func (c *Client) emit(e Event) {
	if c.cfg.OnEvent == nil {
		return
	}
	c.events.Lock()
	defer c.events.Unlock()
	c.cfg.OnEvent(e)
}
