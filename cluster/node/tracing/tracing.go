// Package tracing follows sessions through all nodes, with OpenTelemetry.
//
// A session is one trace, whichever nodes work on it. Nothing is passed between
// them for that: the trace's id is a hash of the session's, and so is the id of its
// root span, which covers the whole session and is exported by the node that ends
// it. Below it are each node's spans: handling a message, the steps with their lock
// (and the load with it), commit and delivery, the round trips to Redis inside
// these that are not shared with others, and the writing of each message to its
// socket.
//
// The spans name sessions, kinds, phases, attempts, message types and error codes.
// They hold no user, no payload, no token, and no error text, which may quote a
// client's message.
//
// Work that concerns no session leaves no trace. The trace id alone decides whether
// a session is traced, so that all nodes with the same ratio decide alike.
//
// # Goroutines
//
// [New] starts the exporter's, which [Tracing.Shutdown] ends. Nothing waits for it:
// spans that it cannot keep up with are dropped.
package tracing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	instrument   = "github.com/conclave-mpc/conclave"
	service      = "conclaved"
	tracesPath   = "/v1/traces" // OTLP's, if the URL has no path
	exportWithin = 5 * time.Second
	exportEvery  = time.Second
)

// Config configures tracing. All but Log is required.
type Config struct {
	// Endpoint is an OTLP collector's URL, http:// or https://; without a path
	// /v1/traces is added; a query is not sent. Of the environment's
	// OTEL_EXPORTER_OTLP_… variables (and OTEL_EXPORTER_OTLP_TRACES_…, which win),
	// HEADERS, COMPRESSION, CERTIFICATE, CLIENT_CERTIFICATE and CLIENT_KEY count. The
	// protocol is protobuf over HTTP.
	Endpoint string
	// Ratio is the fraction of sessions traced, more than 0 and up to 1. All nodes
	// should have the same.
	Ratio         float64
	Node, Version string
	Log           *zerolog.Logger // nil means none
}

// Tracing traces for one node. Make it with [New].
type Tracing struct {
	collector *collector
	provider  *sdktrace.TracerProvider
	tracer    trace.Tracer
	below     uint64 // traces with a number below it are sampled
}

// New returns a Tracing that exports. It makes no call to the collector yet.
func New(cfg Config) (*Tracing, error) {
	endpoint, err := url.Parse(cfg.Endpoint)
	switch {
	case err != nil: // its text repeats the URL, which may hold a password
		return nil, errors.New("otlp endpoint: not a URL")
	case endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https":
		return nil, errors.New("otlp endpoint: want http://host:port or https://host:port")
	case endpoint.User != nil:
		return nil, errors.New("otlp endpoint: no password in the URL; set OTEL_EXPORTER_OTLP_HEADERS")
	case !(cfg.Ratio > 0 && cfg.Ratio <= 1):
		return nil, errors.New("trace ratio must be more than 0 and up to 1")
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	log := zerolog.Nop()
	if cfg.Log != nil {
		log = *cfg.Log
	}
	unusable := func(variable string, err error) {
		log.Warn().Err(err).Str("variable", variable).Msg("environment variable ignored")
	}
	collector, err := newCollector(endpoint, cfg.Version, os.Getenv, unusable)
	if err != nil {
		return nil, err
	}
	otlp, err := otlptrace.New(context.Background(), collector)
	if err != nil {
		return nil, fmt.Errorf("otlp exporter: %w", err)
	}
	t := &Tracing{collector: collector, below: math.MaxUint64}
	if cfg.Ratio < 1 {
		t.below = uint64(cfg.Ratio * math.MaxUint64)
	}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&exporter{SpanExporter: otlp, log: log}, sdktrace.WithBatchTimeout(exportEvery), sdktrace.WithExportTimeout(exportWithin)),
		sdktrace.WithIDGenerator(&ids{}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service), attribute.String("service.instance.id", cfg.Node), attribute.String("service.version", cfg.Version),
		)),
	)
	t.tracer = t.provider.Tracer(instrument)
	return t, nil
}

// Shutdown exports the remaining spans, trying each batch once, and ends the exporter.
func (t *Tracing) Shutdown(ctx context.Context) error {
	t.collector.finish()
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("end of tracing: %w", err)
	}
	return nil
}

// root is the span of a whole session, the same on all nodes.
func root(id string) trace.SpanContext {
	sum := sha256.Sum256([]byte("conclave session " + id))
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(sum[:16]), SpanID: trace.SpanID(sum[16:24]), TraceFlags: trace.FlagsSampled, Remote: true,
	})
}

// sampled reports whether a session is traced.
func (t *Tracing) sampled(root trace.SpanContext) bool {
	id := root.TraceID()
	return binary.BigEndian.Uint64(id[8:]) <= t.below
}

// under returns the context in which a span of that session begins: the current
// span's, if it is of the session, else the handled message's, else the session's
// root. It is false for a session that is not traced.
func (t *Tracing) under(ctx context.Context, id string) (context.Context, bool) {
	root := root(id)
	if !t.sampled(root) {
		return ctx, false
	}
	if now := trace.SpanContextFromContext(ctx); now.TraceID() == root.TraceID() {
		return ctx, true
	}
	if m, ok := ctx.Value(messageKey{}).(*message); ok {
		return m.under(ctx, t, id, root)
	}
	return trace.ContextWithSpanContext(ctx, root), true
}

func done(error) {}

// Begin implements service.Tracer.
func (t *Tracing) Begin(ctx context.Context, id, part string) (context.Context, func(error)) {
	under, ok := t.under(ctx, id)
	if !ok {
		return ctx, done
	}
	ctx, span := t.tracer.Start(under, part, trace.WithAttributes(attribute.String("session", id)))
	return ctx, func(err error) { end(span, err) }
}

// end ends a span, with the code of its error.
func end(span trace.Span, err error) {
	if err != nil {
		code := wire.CodeInternal
		var e *wire.Error
		if errors.As(err, &e) {
			code = e.Code
		}
		span.SetStatus(codes.Error, string(code))
	}
	span.End()
}

// Stepped implements service.Tracer.
func (t *Tracing) Stepped(ctx context.Context, from, to session.Session) {
	root := root(to.ID)
	if !t.sampled(root) {
		return
	}
	about := []attribute.KeyValue{
		attribute.String("session", to.ID), attribute.String("kind", string(to.Kind)), attribute.String("state", string(to.Phase)), attribute.Int("attempt", to.Attempt),
	}
	trace.SpanFromContext(ctx).SetAttributes(append(about, attribute.String("from_state", string(from.Phase)))...)
	if !to.Phase.Final() {
		return
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), rootKey{}, root)
	_, span := t.tracer.Start(ctx, string(to.Kind), trace.WithNewRoot(), trace.WithTimestamp(to.CreatedAt), trace.WithAttributes(about...))
	if to.Phase != session.Completed {
		span.SetStatus(codes.Error, string(to.Phase))
	}
	span.End(trace.WithTimestamp(to.EndedAt))
}

// ids makes the ids of spans, and gives a session's root its fixed ones.
type ids struct{ random randomIDs }

type rootKey struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g *ids) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	if root, ok := ctx.Value(rootKey{}).(trace.SpanContext); ok {
		return root.TraceID(), root.SpanID()
	}
	return g.random.trace(), g.random.span()
}

// NewSpanID implements sdktrace.IDGenerator.
func (g *ids) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return g.random.span() }

// exporter logs failures, once per outage.
type exporter struct {
	sdktrace.SpanExporter
	log zerolog.Logger

	mu      sync.Mutex
	failing bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case err != nil && !e.failing:
		e.log.Warn().Err(err).Int("spans", len(spans)).Msg("traces not exported")
	case err == nil && e.failing:
		e.log.Info().Msg("traces are exported again")
	}
	e.failing = err != nil
	return nil // the library would print it
}
