package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// start makes a Tracing whose collector counts the spans it receives.
func start(t *testing.T, ratio float64) (*Tracing, *atomic.Int64) {
	t.Helper()
	var requests atomic.Int64
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	tr, err := New(Config{Endpoint: collector.URL, Ratio: ratio, Node: "n1", Version: "0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		collector.Close()
	})
	return tr, &requests
}

// TestTraceOfSession: two nodes that know only a session's id agree on its trace,
// and on whether it is traced.
func TestTraceOfSession(t *testing.T) {
	t.Parallel()
	a, _ := start(t, 0.5)
	b, _ := start(t, 0.5)
	traced := 0
	for i := range 1000 {
		id := fmt.Sprint("sg-", i)
		ctx, done := a.Begin(context.Background(), id, "lock")
		other, otherDone := b.Begin(context.Background(), id, "lock")
		here, there := trace.SpanContextFromContext(ctx), trace.SpanContextFromContext(other)
		if here.IsValid() != there.IsValid() || here.TraceID() != there.TraceID() || here.IsValid() && here.SpanID() == there.SpanID() {
			t.Fatalf("session %s is %v and %v", id, here, there)
		}
		if here.IsValid() {
			traced++
			if here.TraceID() != root(id).TraceID() {
				t.Fatalf("session %s has the trace %v", id, here.TraceID())
			}
		}
		done(nil)
		otherDone(errors.New("x"))
	}
	if traced < 400 || traced > 600 { // 6 standard deviations
		t.Errorf("%d of 1000 are traced, want about half", traced)
	}
}

// TestMessageWithoutSession: work without a session leaves no span, and neither do
// untraced sessions.
func TestMessageWithoutSession(t *testing.T) {
	t.Parallel()
	tr, requests := start(t, 1e-18)
	ctx, done := tr.Message(context.Background(), wire.TypePing)
	done(nil)
	ctx, end := tr.Begin(ctx, "sg-1", "step")
	tr.Stepped(ctx, session.Session{}, session.Session{ID: "sg-1", Phase: session.Completed})
	tr.Written([]byte(`{"type":"sign_invite","payload":{"session_id":"sg-1"}}`), time.Now())
	end(nil)
	all, _ := start(t, 1)
	_, done = all.Message(context.Background(), wire.TypePing)
	done(wire.ErrNotFound)
	all.Written([]byte(`{"type":"pong","payload":{}}`), time.Now())
	all.Written([]byte(`{"payload":{"session_id":"\u0022; drop"}}`), time.Now())
	for _, one := range []*Tracing{tr, all} {
		if err := one.provider.ForceFlush(context.Background()); err != nil {
			t.Error(err)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests to the collector", n)
	}
}

func TestMember(t *testing.T) {
	t.Parallel()
	for frame, want := range map[string]string{
		`{"type":"x","payload":{"key_id":"k","session_id":"sg-1"}}`:       "sg-1",
		`{"payload":{"data":"\"session_id\":\"sg-2\"","session_id":"s"}}`: "s",
		`{"payload":{"data":"\"session_id\":\"sg-2\""}}`:                  "",
		`{"payload":{"session_id":"a\nb"}}`:                               "",
		`{"payload":{"session_id":"` + strings.Repeat("x", 200) + `"}}`:   "",
		`{"payload":{"session_id":"cut`:                                   "",
	} {
		if got := member([]byte(frame), "session_id"); got != want {
			t.Errorf("%s: %q, want %q", frame, got, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, says := range map[string]string{
		"": "want http://", "collector:4318": "otlp endpoint", "grpc://c:4317": "want http://", "http://": "want http://", "http://u:hunter2@c": "no password", "http://c:%zz": "not a URL",
	} {
		_, err := New(Config{Endpoint: endpoint, Ratio: 1})
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v, want %q", endpoint, err, says)
		}
	}
	for _, ratio := range []float64{0, -1, 1.1} {
		if _, err := New(Config{Endpoint: "http://c", Ratio: ratio}); err == nil {
			t.Errorf("ratio %g is taken", ratio)
		}
	}
}
