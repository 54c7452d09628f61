// Package metrics counts a node's activity, for Prometheus.
//
// The packages that do the work do not know it: each reports to its own Observer
// (cluster.Observer, session.Observer, wsconn.Observer), and a [Metrics] is all
// three. The rest is observed: Redis's client through a hook ([Metrics.Redis]),
// HTTP through a handler around the node's ([Metrics.HTTP]), tokens and passwords
// through their verifiers, and gauges through [Sources].
//
// Each label has a closed set of values, whatever clients send: any other value is
// counted as "unknown" or "other". No label holds a user, a key, a session, an
// address or anything received from the network.
//
// Per-message metrics must cost next to nothing: their counters are looked up once,
// when the Metrics is made, and are then atomic additions without allocation. See
// the benchmarks.
//
// The package starts no goroutine. A Metrics is safe for concurrent use.
package metrics

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	namespace = "conclave"

	scrapes      = 4                // concurrent
	scrapeWithin = 10 * time.Second // for an answer
	readyWithin  = time.Second      // for a node's readiness check
)

// Bounds of histograms, in seconds or messages.
var (
	fast   = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}
	slow   = []float64{.1, .25, .5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600}
	counts = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}
)

// Metrics holds one node's metrics. Make it with [New].
type Metrics struct {
	registry *prometheus.Registry

	messages   *prometheus.CounterVec
	ofType     map[wire.Type]messageMeter
	ofUnknown  messageMeter
	closed     map[string]prometheus.Counter
	relayLag   prometheus.Histogram
	turnedAway prometheus.Counter

	appended, drained prometheus.Observer
	mailboxFull       prometheus.Counter
	shareUsed         prometheus.Counter
	groupFull         prometheus.Counter

	started, attempts, ended *prometheus.CounterVec
	durations                *prometheus.HistogramVec
	lockWait                 prometheus.Histogram
	lockFailures             *prometheus.CounterVec
	swept                    *prometheus.CounterVec
	quotaRefused             *prometheus.CounterVec

	redisTook   map[string]prometheus.Observer
	redisErrors map[string]prometheus.Counter

	webhookTries, webhookGivenUp *prometheus.CounterVec

	tokenFailures, loginFailures *prometheus.CounterVec
	requests                     *prometheus.CounterVec
	requestTook                  *prometheus.HistogramVec
}

// messageMeter holds the metrics of one message type.
type messageMeter struct {
	ok   prometheus.Counter
	took prometheus.Observer
}

// New returns the metrics of a node of that version.
func New(version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.gauge("build_info", "Always 1, labelled with the versions of conclaved and of Go.",
		prometheus.Labels{"version": version, "goversion": runtime.Version()}, func() float64 { return 1 })
	m.newSockets()
	m.newMailboxes()
	m.newSessions()
	m.newRedis()
	m.newEdges()
	m.newWebhook()
	return m
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, MaxRequestsInFlight: scrapes, Timeout: scrapeWithin,
	})
}

// Gatherer gives the metrics to a program that embeds a node.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Sources are read at each scrape.
type Sources struct {
	Open, Registered func() int                  // sockets
	MaxConnections   int                         // 0 for no limit
	Ready            func(context.Context) error // why the node should get no new clients
	Pool             func() Pool                 // connections to Redis
	Memory           func() Memory               // of Redis
	ClockOffset      func() time.Duration        // how far the node's clock is ahead of Redis's
	// Webhook returns how many outcomes are still to be sent, and for how long the
	// oldest has been waiting. Nil: there is no webhook.
	Webhook func() (waiting int, oldest time.Duration)
	// Limited returns the number of refusals by each of the node's limits, by the
	// limit's name. The names are a closed set.
	Limited map[string]func() uint64
}

// Memory is the usage of Redis; with several masters, of the fullest.
type Memory struct {
	Used, Max uint64 // bytes; a Max of 0 is no limit
	Full      bool   // new requests are refused
}

// Part is how much of its limit is used; 0 without one.
func (m Memory) Part() float64 {
	if m.Max == 0 {
		return 0
	}
	return float64(m.Used) / float64(m.Max)
}

// Pool is the state of the connections to Redis.
type Pool struct {
	Idle, Used int
	Timeouts   uint64 // of waits for a free one
}

// Watch adds the metrics from s. Call it once.
func (m *Metrics) Watch(s Sources) {
	m.gauge("connections_open", "Open sockets, registered or not.", nil, func() float64 { return float64(s.Open()) })
	m.gauge("connections_registered", "Sockets whose client has registered.", nil, func() float64 { return float64(s.Registered()) })
	m.gauge("connections_limit", "Maximum open sockets of the node; 0 for no limit.", nil, func() float64 { return float64(max(s.MaxConnections, 0)) })
	m.gauge("ready", "1 if the node accepts new clients, else 0.", nil, func() float64 {
		ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
		defer cancel()
		if s.Ready(ctx) != nil {
			return 0
		}
		return 1
	})
	const pool = "redis_pool_connections"
	m.gauge(pool, "Connections to Redis.", prometheus.Labels{"state": "idle"}, func() float64 { return float64(s.Pool().Idle) })
	m.gauge(pool, "Connections to Redis.", prometheus.Labels{"state": "used"}, func() float64 { return float64(s.Pool().Used) })
	m.total("redis_pool_timeouts_total", "Commands that timed out waiting for a free connection to Redis.", nil, func() uint64 { return s.Pool().Timeouts })
	m.gauge("clock_offset_seconds", "Offset of the node's clock from Redis's, positive if ahead; beyond 10 either way the node is not ready.", nil,
		func() float64 { return s.ClockOffset().Seconds() })
	m.gauge("redis_memory_used_bytes", "Memory used by Redis; with several masters, that of the fullest.", nil, func() float64 { return float64(s.Memory().Used) })
	m.gauge("redis_memory_max_bytes", "maxmemory of that Redis; 0 for no limit.", nil, func() float64 { return float64(s.Memory().Max) })
	m.gauge("redis_memory_full", "1 while new sessions are refused because Redis is short of memory, else 0.", nil, func() float64 {
		if s.Memory().Full {
			return 1
		}
		return 0
	})
	if s.Webhook == nil {
		s.Webhook = func() (int, time.Duration) { return 0, 0 }
	}
	m.gauge("webhook_pending_outcomes", "Outcomes queued for the webhook, in the whole cluster.", nil, func() float64 {
		n, _ := s.Webhook()
		return float64(n)
	})
	m.gauge("webhook_oldest_seconds", "Age of the oldest queued outcome.", nil, func() float64 {
		_, oldest := s.Webhook()
		return oldest.Seconds()
	})
	for limit, refused := range s.Limited {
		m.total("rate_limited_total", "Requests refused by rate limits, by limit.", prometheus.Labels{"limit": limit}, refused)
	}
}

func (m *Metrics) gauge(name, help string, labels prometheus.Labels, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels}, read))
}

func (m *Metrics) total(name, help string, labels prometheus.Labels, read func() uint64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(read()) }))
}

func (m *Metrics) counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) counters(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) histogram(name, help string, buckets []float64) prometheus.Histogram {
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	m.registry.MustRegister(h)
	return h
}

func (m *Metrics) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}
