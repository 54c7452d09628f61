package node

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/cluster/node/metrics"
	"github.com/conclave-mpc/conclave/cluster/node/tracing"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/httpapi"
	"github.com/conclave-mpc/conclave/wsconn/webhook"
)

// tracesWithin is the time a stopping node has to export the remaining traces.
const tracesWithin = 2 * time.Second

// observers holds the instrumentation hooks; nil disables one.
type observers struct {
	cluster cluster.Observer
	session service.Observer
	tracer  service.Tracer
	sockets wsconn.Observer
	webhook webhook.Observer
}

// assembleObservers makes n.metrics and n.tracing, if configured, and their
// observers.
func (n *Node) assembleObservers() (o observers, err error) {
	if n.cfg.OTLPEndpoint != "" {
		n.tracing, err = tracing.New(tracing.Config{
			Endpoint: n.cfg.OTLPEndpoint, Ratio: n.cfg.TraceRatio, Node: n.cfg.NodeID, Version: Version, Log: &n.log,
		})
		if err != nil {
			return o, err
		}
		o.tracer = n.tracing
		n.hookRedis(n.tracing.Redis())
	}
	if n.cfg.AdminAddr == "" && n.tracing == nil {
		return o, nil
	}
	n.metrics = metrics.New(Version)
	n.hookRedis(n.metrics.Redis())
	n.tokens.verifier = n.metrics.Verifier(n.tokens.verifier)
	o.cluster, o.session, o.sockets, o.webhook = n.metrics, n.metrics, n.metrics, n.metrics
	if n.tracing != nil {
		o.sockets = tracedSockets{n.metrics, n.tracing}
	}
	return o, nil
}

func (n *Node) hookRedis(h redis.Hook) {
	n.rdb.AddHook(h)
	if n.durable != n.rdb {
		n.durable.AddHook(h)
	}
}

// tracedSockets combines two wsconn.Observers.
type tracedSockets struct {
	*metrics.Metrics
	tracing *tracing.Tracing
}

// Written implements wsconn.Observer.
func (t tracedSockets) Written(frame []byte, sent time.Time) {
	t.Metrics.Written(frame, sent)
	t.tracing.Written(frame, sent)
}

// counted returns the node's handler with its requests counted.
func (n *Node) counted(handler http.Handler) http.Handler {
	if n.metrics == nil {
		return handler
	}
	return n.metrics.HTTP(handler)
}

// countLogins counts failed logins, if logins are enabled.
func (n *Node) countLogins(web *httpapi.Config) {
	if n.metrics == nil {
		return
	}
	web.Routed = metrics.Routed
	if web.Logins != nil {
		web.Logins = n.metrics.Logins(web.Logins)
	}
}

// closeTracing exports the remaining traces.
func (n *Node) closeTracing(ctx context.Context) {
	if n.tracing == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tracesWithin)
	defer cancel()
	if err := n.tracing.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		n.log.Warn().Err(err).Msg("last traces not exported")
	}
}
