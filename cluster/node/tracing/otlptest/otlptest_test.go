// Package otlptest tests the output of package tracing with the OpenTelemetry
// collector's own parser. It is a separate module, because that parser depends on
// gRPC.
package otlptest

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"

	"github.com/conclave-mpc/conclave/cluster/node/tracing"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// receiver is a collector that keeps the spans of its requests, and rejects some of
// each for the given reason, if any.
type receiver struct {
	rejects string

	mu     sync.Mutex
	spans  map[string]ptrace.Span // by name
	about  pcommon.Map            // attributes of the resource
	scopes map[string]bool
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	text, err := io.ReadAll(body)
	export := ptraceotlp.NewExportRequest()
	if err = errors.Join(err, export.UnmarshalProto(text)); err != nil || request.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.Traces().ResourceSpans().All() {
		r.about = resource.Resource().Attributes()
		for _, scope := range resource.ScopeSpans().All() {
			r.scopes[scope.Scope().Name()] = true
			for _, span := range scope.Spans().All() {
				r.spans[span.Name()] = span
			}
		}
	}
	answer := ptraceotlp.NewExportResponse()
	if r.rejects != "" {
		answer.PartialSuccess().SetRejectedSpans(2)
		answer.PartialSuccess().SetErrorMessage(r.rejects)
	}
	reply, err := answer.MarshalProto()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(reply)
}

// export traces a failing session with the environment's Tracing, and returns the
// collector's spans and the log.
func export(t *testing.T, rejects string) (*receiver, string) {
	t.Helper()
	got := &receiver{rejects: rejects, spans: map[string]ptrace.Span{}, scopes: map[string]bool{}}
	server := httptest.NewServer(got)
	t.Cleanup(server.Close)
	var said strings.Builder
	log := zerolog.New(&said)
	traces, err := tracing.New(tracing.Config{Endpoint: server.URL, Ratio: 1, Node: "n1", Version: "1.2.3", Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, done := traces.Message(t.Context(), wire.TypeSignRequest)
	ctx, end := traces.Begin(ctx, "sg-1", "lock")
	begun := time.Unix(1_700_000_000, 0)
	traces.Stepped(ctx, session.Session{}, session.Session{ID: "sg-1", Kind: session.Sign, Phase: session.Failed, Attempt: 2, CreatedAt: begun, EndedAt: begun.Add(time.Second)})
	end(wire.ErrNotFound)
	done(nil)
	if err := traces.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	return got, said.String()
}

func TestCollectorParsesSpans(t *testing.T) {
	for _, compression := range []string{"none", "gzip"} {
		t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
		got, said := export(t, "")
		if said != "" {
			t.Errorf("%s: it logs %s", compression, said)
		}
		for key, want := range map[string]string{"service.name": "conclaved", "service.instance.id": "n1", "service.version": "1.2.3"} {
			if value, _ := got.about.Get(key); value.AsString() != want {
				t.Errorf("%s: %s is %q, want %q", compression, key, value.AsString(), want)
			}
		}
		if !got.scopes["github.com/conclave-mpc/conclave"] {
			t.Errorf("%s: scopes %v", compression, got.scopes)
		}
		root, handle, lock := got.spans["sign"], got.spans["handle sign_request"], got.spans["lock"]
		for name, span := range map[string]ptrace.Span{"sign": root, "handle sign_request": handle, "lock": lock} {
			if span == (ptrace.Span{}) {
				t.Fatalf("%s: no span %q in %v", compression, name, got.spans)
			}
		}
		if handle.TraceID() != root.TraceID() || lock.TraceID() != root.TraceID() || !root.ParentSpanID().IsEmpty() ||
			handle.ParentSpanID() != root.SpanID() || lock.ParentSpanID() != handle.SpanID() {
			t.Errorf("%s: the spans are not one tree: %v", compression, got.spans)
		}
		if took := root.EndTimestamp().AsTime().Sub(root.StartTimestamp().AsTime()); took != time.Second {
			t.Errorf("%s: the session takes %v, want 1s", compression, took)
		}
		if root.Status().Code() != ptrace.StatusCodeError || root.Status().Message() != string(session.Failed) || lock.Status().Message() != string(wire.CodeNotFound) {
			t.Errorf("%s: status %q and %q", compression, root.Status().Message(), lock.Status().Message())
		}
		if handle.Kind() != ptrace.SpanKindServer || lock.Kind() != ptrace.SpanKindInternal {
			t.Errorf("%s: kinds %v and %v", compression, handle.Kind(), lock.Kind())
		}
		if attempt, _ := root.Attributes().Get("attempt"); attempt.Int() != 2 {
			t.Errorf("%s: attempt %v, want 2", compression, attempt.AsString())
		}
	}
}

// TestCollectorRejectsSpans: a collector that accepts only a part reports it, and
// that is logged.
func TestCollectorRejectsSpans(t *testing.T) {
	_, said := export(t, "spans are too old")
	if !strings.Contains(said, "rejects 2 spans: spans are too old") {
		t.Errorf("it logs %q", said)
	}
}
