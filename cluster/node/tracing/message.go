package tracing

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// message is one being handled. Its session is known only when work on it begins;
// then it becomes a span, which starts at the message's start.
type message struct {
	kind  wire.Type
	begun time.Time

	mu   sync.Mutex
	span trace.Span // nil until then
}

type messageKey struct{}

// Message begins the handling of a message. done ends it, with its error; a message
// that concerned no session leaves no span.
func (t *Tracing) Message(ctx context.Context, kind wire.Type) (_ context.Context, done func(error)) {
	m := &message{kind: kind, begun: time.Now()}
	return context.WithValue(ctx, messageKey{}, m), func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.span != nil {
			end(m.span, err)
		}
	}
}

// under returns the context for work on the message's session.
func (m *message) under(ctx context.Context, t *Tracing, id string, root trace.SpanContext) (context.Context, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.span == nil {
		_, m.span = t.tracer.Start(trace.ContextWithSpanContext(ctx, root), "handle "+string(m.kind),
			trace.WithTimestamp(m.begun), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("session", id)))
	}
	if m.span.SpanContext().TraceID() != root.TraceID() { // a second session that the message concerns
		return trace.ContextWithSpanContext(ctx, root), true
	}
	return trace.ContextWithSpan(ctx, m.span), true
}

// Written records a mailbox frame written to its socket as a span of its session,
// from when it was sent, on any node.
func (t *Tracing) Written(frame []byte, sent time.Time) {
	id, kind := member(frame, "session_id"), member(frame, "type")
	if id == "" || !wire.StoredID(id) {
		return
	}
	root := root(id)
	if !t.sampled(root) {
		return
	}
	if now := time.Now(); sent.IsZero() || sent.After(now) { // by another node's clock
		sent = now
	}
	_, span := t.tracer.Start(trace.ContextWithSpanContext(context.Background(), root), "deliver "+kind,
		trace.WithTimestamp(sent), trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attribute.String("session", id)))
	span.End()
}

// member returns the first string of that name in a frame of ours, "" if there is
// none or it is not plain. (Quotes inside strings are escaped, so that no string's
// content is taken for a name.)
func member(frame []byte, name string) string {
	_, rest, _ := bytes.Cut(frame, []byte(`"`+name+`":"`))
	value, _, ok := bytes.Cut(rest, []byte(`"`))
	if !ok || len(value) > wire.MaxIDBytes || bytes.IndexByte(value, '\\') >= 0 {
		return ""
	}
	return string(value)
}

// randomIDs makes ids that are unique by chance; they are not secret.
type randomIDs struct{}

func (randomIDs) trace() (id trace.TraceID) {
	for !id.IsValid() {
		a, b := rand.Uint64(), rand.Uint64()
		for i := range 8 {
			id[i], id[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
		}
	}
	return id
}

func (randomIDs) span() (id trace.SpanID) {
	for !id.IsValid() {
		a := rand.Uint64()
		for i := range 8 {
			id[i] = byte(a >> (8 * i))
		}
	}
	return id
}

// Redis returns a hook that makes spans of a client's commands within an existing
// span.
func (t *Tracing) Redis() redis.Hook { return redisHook{t} }

type redisHook struct{ t *Tracing }

// DialHook implements redis.Hook.
func (h redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook implements redis.Hook.
func (h redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return next(ctx, cmd)
		}
		ctx, span := h.t.tracer.Start(ctx, "redis "+cmd.Name(), trace.WithSpanKind(trace.SpanKindClient))
		err := next(ctx, cmd)
		endRedis(span, err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return next(ctx, cmds)
		}
		name := "redis pipeline"
		if len(cmds) == 1 {
			name = "redis " + cmds[0].Name()
		}
		ctx, span := h.t.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.Int("commands", len(cmds))))
		err := next(ctx, cmds)
		endRedis(span, err)
		return err
	}
}

// endRedis ends a command's span. Redis's error text may quote arguments.
func endRedis(span trace.Span, err error) {
	if redisx.Failed(err) {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}
