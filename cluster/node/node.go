// Package node assembles a Conclave server: only this package knows every other
// one. It is importable, so that a Go program can be a node itself.
//
//	n, err := node.New(node.Config{Redis: "redis://127.0.0.1:6379/0", JWTSecret: secret})
//	if err != nil { … }
//	if err := n.Start(); err != nil { … }
//	defer n.Stop(context.Background())
//
// The three halves of a server do not know each other: wsconn holds sockets,
// cluster moves messages between users wherever they are connected, session
// decides. The router joins them: it is wsconn's handler, and the adapters beside
// it give session its mailboxes, locks and presence.
//
// The package decides nothing itself, and links no tss-lib: a server cannot compute
// with shares. A program that imports it needs only the requirement in its go.mod.
// The tests of whole clusters are in package cluster/e2e.
//
// # Goroutines
//
// Start begins the HTTP server, the admin listener's server, the cluster node, the
// session sweeper, the audit's writer, the webhook's sender, and one goroutine each
// that closes all sockets when Redis has been unreachable for longer than the
// node's lease, checks Redis's memory, reads revoked tokens (and closes the sockets
// opened with them), reloads the JWKS, and checks the TLS certificate's files. New
// begins the exporter of traces, if configured. Stop ends them all, the audit's
// writer after all sources of decisions.
package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/node/metrics"
	"github.com/conclave-mpc/conclave/cluster/node/tracing"
	"github.com/conclave-mpc/conclave/cluster/store/accounts"
	auditstore "github.com/conclave-mpc/conclave/cluster/store/audit"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/httpapi"
	"github.com/conclave-mpc/conclave/wsconn/webhook"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Version is shown in the list of nodes.
const Version = "0.1.0"

const (
	startWithin  = 10 * time.Second // for Redis to answer at start
	stopWithin   = 20 * time.Second // for a stopping node to finish its work
	headerWithin = 10 * time.Second // for an HTTP request's header, and an idle connection's next request
	bodyWithin   = 30 * time.Second // for a request, header and body
	answerWithin = 90 * time.Second // from its header to its answer's last byte: waiting for a session's end takes 30 s
	headerBytes  = 16 << 10         // a token is at most half of that
)

// Node is one server.
type Node struct {
	cfg      Config
	log      zerolog.Logger
	rdb      redis.UniversalClient
	durable  redis.UniversalClient // for writes that must not be lost; rdb if one server's confirmation suffices
	cluster  *cluster.Node
	sessions *service.Service
	tokens   tokens
	sockets  *wsconn.Server
	server   *http.Server
	webhook  *webhook.Sender // nil without one
	audit    *auditstore.Log
	memory   *memory
	metrics  *metrics.Metrics // nil for none
	tracing  *tracing.Tracing // nil for none
	listener net.Listener

	admin         *http.Server // nil without an admin listener
	adminListener net.Listener

	draining atomic.Bool
	leaving  chan struct{} // closed when draining begins
	leave    sync.Once

	cancel  context.CancelFunc // ends everything that Start began
	running *errgroup.Group

	endAudit context.CancelFunc // ends the audit's writer, last
	audited  chan struct{}      // closed when it has ended
}

// New assembles a node: it checks the configuration and opens the listener, so that
// Addr is known. It makes no call to Redis and starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Log.With().Str("node", cfg.NodeID).Logger(), leaving: make(chan struct{})}
	var err error
	if n.rdb, err = newRedis(cfg); err != nil {
		return nil, err
	}
	n.durable = n.rdb
	if cfg.RedisWaitReplicas > 0 {
		if n.durable, err = newRedis(cfg); err != nil {
			return nil, errors.Join(err, n.rdb.Close())
		}
		waitForReplicas(n.durable, cfg.RedisWaitReplicas)
	}
	if n.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", cfg.Listen, err), n.closeRedis())
	}
	if err := n.listenAdmin(); err != nil {
		return nil, errors.Join(err, n.release())
	}
	if err := n.assemble(); err != nil {
		return nil, errors.Join(err, n.release())
	}
	return n, nil
}

func (n *Node) assemble() error {
	n.memory = newMemory(n.rdb, n.cfg.RedisMemoryReserve, n.log)
	n.hookRedis(n.memory)
	if err := n.assembleTokens(); err != nil {
		return err
	}
	observers, err := n.assembleObservers()
	if err != nil {
		return err
	}
	users, err := accounts.New(accounts.Config{Redis: n.rdb, Prefix: n.cfg.RedisPrefix, Revocations: n.tokens.revoked})
	if err != nil {
		return err
	}
	if err := n.assembleRenewals(users); err != nil {
		return err
	}
	shares, err := service.NewShareKeeper(n.cfg.ShareKEK)
	if err != nil {
		return err
	}
	n.audit, err = auditstore.New(auditstore.Config{
		Redis: n.durable, Prefix: n.cfg.RedisPrefix, NodeID: n.cfg.NodeID, Log: &n.log,
		Full: func() bool { return n.memory.Room() != nil },
	})
	if err != nil {
		return err
	}
	line, locks := redisx.New(n.durable), redisx.New(n.rdb)
	if n.durable == n.rdb {
		locks = line
	}
	n.cluster, err = cluster.New(cluster.Config{
		Redis: n.rdb, Durable: n.durable, Pipeline: locks, Prefix: n.cfg.RedisPrefix, NodeID: n.cfg.NodeID, Address: n.Addr(), Version: Version, Log: n.cfg.Log,
		Notified: n.notified, Agree: n.cfg.agree(),
		Observer: observers.cluster,
	})
	if err != nil {
		return err
	}
	store := sessions.New(sessions.Config{Redis: n.durable, Pipeline: line, Prefix: n.cfg.RedisPrefix, Retention: n.cfg.SessionRetention, Quota: n.cfg.quota()})
	outcomes, err := n.assembleWebhook(store, observers.webhook)
	if err != nil {
		return err
	}
	n.sessions, err = service.New(service.Config{
		Store:  store,
		Locker: locker{n.cluster, store, locks == line}, Sender: sender{n.cluster}, Presence: presence{n.cluster}, Waiting: waiting{n.cluster}, Shares: shares,
		InviteTimeout: n.cfg.InviteTimeout, KeygenTimeout: n.cfg.KeygenTimeout, SignTimeout: n.cfg.SignTimeout,
		AbsenceGrace: n.cfg.AbsenceGrace, MaxParties: n.cfg.MaxParties, Audit: n.audit, Log: &n.log,
		Users: newUsers(&n.cfg, users, presence{n.cluster}), NodeID: n.cfg.NodeID, Storage: n.memory, Notifier: notifier{n.cluster}, Outcomes: outcomes,
		Observer: observers.session, Tracer: observers.tracer,
	})
	if err != nil {
		return err
	}
	limits := newLimits(&n.cfg, n.rdb)
	r := &router{node: n.cfg.NodeID, cluster: n.cluster, sessions: n.sessions, identities: users, shares: shares, limits: limits, tracing: n.tracing, log: n.log}
	n.sockets, err = wsconn.New(wsconn.Config{
		Verifier: n.tokens.verifier, Revoked: n.tokens.still, Handler: r, Log: &n.log, Audit: n.audit, MaxMessageBytes: n.cfg.MaxMessageBytes,
		AllowedOrigins: n.cfg.AllowedOrigins, RateLimit: n.cfg.RateLimit, Reveal: r.reveal, DrainSpread: n.cfg.DrainSpread,
		MaxConnections: n.cfg.MaxConnections, MaxUnregistered: n.cfg.MaxUnregistered, Users: limits.messages, Registers: limits.registers, Bytes: limits.bytes,
		Observer: observers.sockets, Doubts: n.doubts,
	})
	if err != nil {
		return err
	}
	n.assembleHTTP(users, limits)
	return nil
}

// assembleWebhook makes the webhook's sender, if configured.
func (n *Node) assembleWebhook(store *sessions.Store, observer webhook.Observer) (service.Outcomes, error) {
	if n.cfg.Webhook == "" {
		return nil, nil
	}
	var err error
	n.webhook, err = webhook.New(webhook.Config{
		URL: n.cfg.Webhook, Secrets: n.cfg.WebhookSecrets, Queue: store, Agent: "conclave/" + Version, Now: n.cluster.Now, Observe: observer, Log: &n.log,
	})
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return n.webhook, nil
}

// assembleHTTP makes the servers of both listeners.
func (n *Node) assembleHTTP(users *accounts.Store, limits limits) {
	mux := http.NewServeMux()
	mux.Handle("/ws", n.sockets)
	web := httpapi.Config{
		Sessions: n.sessions, TokenTTL: n.cfg.TokenTTL, Ready: n.Ready, Room: n.memory.Room, MaxBytes: int64(n.cfg.MaxMessageBytes), Log: &n.log,
		Audit: n.audit, Trail: trail{n.audit}, Cluster: directory{n.cluster, users}, Still: n.tokens.still, Doubts: n.doubts, Draining: n.leaving, Version: Version,
		Attempts: limits.logins, Users: limits.messages, Requests: limits.requests, Bytes: limits.bytes, MaxStreams: maxStreams(n.cfg.MaxConnections), TrustedProxies: n.cfg.proxies,
	}
	n.tokens.issue(&web, users)
	n.countLogins(&web)
	api := httpapi.New(web)
	mux.Handle("/", api)
	n.watch(limits)
	n.assembleAdmin(api)
	n.server = &http.Server{
		Handler: n.counted(mux), ReadHeaderTimeout: headerWithin, ReadTimeout: bodyWithin, WriteTimeout: answerWithin, IdleTimeout: headerWithin,
		MaxHeaderBytes: headerBytes, ConnState: newWebConns(n.cfg.MaxConnections, n.sockets.Count).state,
		ErrorLog: stdlog.New(httpLog{n.log}, "", 0),
	}
}

// httpLog receives the HTTP server's log: failed connections, such as handshakes of
// clients that do not trust the certificate, and panics.
type httpLog struct{ log zerolog.Logger }

// Write implements io.Writer.
func (h httpLog) Write(line []byte) (int, error) {
	level, what := zerolog.DebugLevel, "connection failed"
	if strings.HasPrefix(string(line), "http: panic") {
		level, what = zerolog.ErrorLevel, "request panicked"
	}
	h.log.WithLevel(level).Str("err", strings.TrimSpace(string(line))).Msg(what)
	return len(line), nil
}

func (n *Node) closeRedis() error {
	if n.durable == n.rdb {
		return n.rdb.Close()
	}
	return errors.Join(n.rdb.Close(), n.durable.Close())
}

// release frees New's resources, for a node that is not started.
func (n *Node) release() error {
	n.closeTracing(context.Background())
	return errors.Join(n.listener.Close(), n.closeAdmin(), n.closeRedis())
}

// Start checks that Redis answers and is durable, and serves until Stop. It returns
// once the node accepts connections. A node that did not start cannot be used
// again.
func (n *Node) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	if err := n.checkRedis(ctx); err != nil {
		return errors.Join(err, n.release())
	}
	if err := n.cluster.SetClock(ctx); err != nil {
		return errors.Join(err, n.release())
	}
	if err := n.loadTokens(ctx); err != nil {
		return errors.Join(err, n.release())
	}
	listener := n.listener
	if n.cfg.certificate != nil {
		listener = tls.NewListener(listener, n.cfg.certificate.serverConfig())
	}
	n.startAudit()
	var base context.Context
	base, n.cancel = context.WithCancel(context.Background())
	n.running, base = errgroup.WithContext(base)
	n.running.Go(func() error { return n.cluster.Run(base) })
	n.running.Go(func() error { return n.sessions.Run(base) })
	n.running.Go(func() error { return n.watchLease(base) })
	n.running.Go(func() error { return n.memory.run(base) })
	if n.webhook != nil {
		n.running.Go(func() error { return n.webhook.Run(base) })
	}
	n.runTokens(base)
	if n.cfg.certificate != nil {
		n.running.Go(func() error { return n.cfg.certificate.run(base) })
	}
	n.running.Go(func() error {
		if err := n.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve: %w", err)
		}
		return nil
	})
	n.runAdmin()
	n.log.Info().Str("address", n.Addr()).Str("admin", n.AdminAddr()).Str("version", Version).Msg("node started")
	return nil
}

// watchLease closes all sockets when the node has been without Redis for longer
// than its lease, so that clients move to other nodes.
func (n *Node) watchLease(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.cluster.Lost():
			n.sockets.Close(wire.CloseUnavailable)
		}
	}
}

// Addr is the address that the node listens on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// ID is the node's name in the cluster.
func (n *Node) ID() string { return n.cfg.NodeID }

// Ready returns why the node should get no new clients, or nil.
func (n *Node) Ready(ctx context.Context) error {
	if n.draining.Load() {
		return errors.New("draining")
	}
	if err := n.tokens.revoked.Ready(); err != nil {
		return err
	}
	err := n.cluster.Ready(ctx)
	if errors.Is(err, cluster.ErrDiffers) || errors.Is(err, cluster.ErrIDTaken) {
		return errors.Join(n.disagrees(), err)
	}
	return err
}

// Stop drains the node and stops it: not ready, sockets closed with "going away"
// over a few seconds, requests in flight finished, everything released. It returns
// when done or when ctx ends, at the latest after 20 seconds.
func (n *Node) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	n.draining.Store(true)
	n.leave.Do(func() { close(n.leaving) })
	n.cluster.SetDraining(true)
	n.log.Info().Int("connections", n.sockets.Count()).Msg("node draining")
	errs := []error{n.sockets.Drain(ctx)}
	errs = append(errs, n.server.Shutdown(ctx))
	errs = append(errs, n.closeAdmin())
	if n.cancel != nil {
		n.cancel()
		errs = append(errs, n.running.Wait())
		n.stopAudit()
	}
	n.closeTracing(ctx)
	errs = append(errs, n.closeRedis())
	n.log.Info().Msg("node stopped")
	return errors.Join(errs...)
}

// Run starts the node, serves until ctx ends or a permanent failure, and stops it.
func (n *Node) Run(ctx context.Context) error {
	if err := n.Start(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- n.running.Wait() }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
}
