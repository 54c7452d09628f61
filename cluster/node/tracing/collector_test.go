package tracing

import (
	"compress/gzip"
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// answers is a collector that answers its requests in turn, repeating the last
// answer, and records the requests.
type answers struct {
	each []func(w http.ResponseWriter)

	mu    sync.Mutex
	heads []http.Header
	sent  []*otlp.TracesData
	at    []time.Time
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reader := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzip, err := gzip.NewReader(reader)
		if err != nil {
			http.Error(w, "not gzip", http.StatusBadRequest)
			return
		}
		reader = unzip
	}
	body, err := io.ReadAll(reader)
	var data otlp.TracesData
	if err = errors.Join(err, proto.Unmarshal(body, &data)); err != nil {
		http.Error(w, "not OTLP", http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heads, a.sent, a.at = append(a.heads, r.Header), append(a.sent, &data), append(a.at, time.Now())
	if len(a.each) > 0 {
		a.each[min(len(a.sent), len(a.each))-1](w)
	}
}

// requests returns how many were received.
func (a *answers) requests() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.sent)
}

// status answers with a status and a Retry-After, if one is given.
func status(code int, after ...string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for _, value := range after {
			w.Header().Set("Retry-After", value)
		}
		http.Error(w, "said the collector", code)
	}
}

// clientOf returns a collector client with that environment.
func clientOf(t *testing.T, server *httptest.Server, env map[string]string) *collector {
	t.Helper()
	endpoint, err := url.Parse(server.URL + "/v1/traces")
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCollector(endpoint, "1.2.3", func(name string) string { return env[name] }, func(variable string, err error) {
		t.Errorf("%s: %v", variable, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

// spansOf returns spans to send.
func spansOf(name string) []*otlp.ResourceSpans {
	return []*otlp.ResourceSpans{{ScopeSpans: []*otlp.ScopeSpans{{
		Scope: &common.InstrumentationScope{Name: instrument}, Spans: []*otlp.Span{{Name: name, TraceId: make([]byte, 16), SpanId: make([]byte, 8)}},
	}}}}
}

func serve(t *testing.T, each ...func(http.ResponseWriter)) (*answers, *httptest.Server) {
	t.Helper()
	a := &answers{each: each}
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	return a, server
}

// soon is a deadline that only a failing test reaches.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestCollectorGetsSpansAndHeaders(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{
		"plain": {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=a%20secret, X-Team = blue"},
		"gzip":  {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=other,more=x", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=a%20secret,x-team=blue", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"},
	} {
		got, server := serve(t)
		if err := clientOf(t, server, env).UploadTraces(soon(t), spansOf("lock")); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := &otlp.TracesData{ResourceSpans: spansOf("lock")}
		if len(got.sent) != 1 || !proto.Equal(got.sent[0], want) {
			t.Errorf("%s: got %v, want %v", name, got.sent, want)
		}
		for header, want := range map[string]string{
			"Api-Key": "a secret", "X-Team": "blue", "More": "", "Content-Type": "application/x-protobuf", "User-Agent": "conclaved/1.2.3",
			"Content-Encoding": strings.TrimPrefix(name, "plain"),
		} {
			if value := got.heads[0].Get(header); value != want {
				t.Errorf("%s: %s is %q, want %q", name, header, value, want)
			}
		}
	}
}

// TestCollectorRetries: a temporary failure is retried, not before the collector's
// Retry-After.
func TestCollectorRetries(t *testing.T) {
	t.Parallel()
	got, server := serve(t, status(http.StatusBadGateway), status(http.StatusGatewayTimeout), status(http.StatusServiceUnavailable, "soon"),
		status(http.StatusTooManyRequests, "1"), status(http.StatusOK))
	if err := clientOf(t, server, nil).UploadTraces(soon(t), spansOf("lock")); err != nil {
		t.Fatal(err)
	}
	if n := got.requests(); n != 5 {
		t.Fatalf("%d requests, want 5", n)
	}
	if pause := got.at[4].Sub(got.at[3]); pause < time.Second {
		t.Errorf("tried again after %v, want 1s or more", pause)
	}
	for _, sent := range got.sent {
		if !proto.Equal(sent, &otlp.TracesData{ResourceSpans: spansOf("lock")}) {
			t.Errorf("a try sent %v", sent)
		}
	}
}

// TestCollectorRefuses: a permanent refusal is not retried, and the error quotes
// the reason.
func TestCollectorRefuses(t *testing.T) {
	t.Parallel()
	for _, code := range []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusInternalServerError, http.StatusNotModified} {
		got, server := serve(t, status(code))
		err := clientOf(t, server, nil).UploadTraces(soon(t), spansOf("lock"))
		if err == nil || !strings.Contains(err.Error(), http.StatusText(code)) || got.requests() != 1 {
			t.Errorf("%d: %v after %d requests", code, err, got.requests())
		}
		if code != http.StatusNotModified && !strings.Contains(err.Error(), "said the collector") {
			t.Errorf("%d: %v does not quote the collector", code, err)
		}
	}
}

// TestCollectorThrottles: a pause longer than an export's deadline is kept without
// waiting, by the next exports too.
func TestCollectorThrottles(t *testing.T) {
	t.Parallel()
	got, server := serve(t, status(http.StatusTooManyRequests, "3600"), status(http.StatusOK))
	c := clientOf(t, server, nil)
	ctx, cancel := context.WithTimeout(t.Context(), maxRetryAfter/2)
	defer cancel()
	if err := c.UploadTraces(ctx, spansOf("lock")); err == nil || !strings.Contains(err.Error(), "429") {
		t.Errorf("got %v, want 429", err)
	}
	if err := c.UploadTraces(ctx, spansOf("lock")); !errors.Is(err, errThrottled) {
		t.Errorf("got %v, want errThrottled", err)
	}
	if n := got.requests(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	if pause := time.Until(c.notBefore); pause <= 0 || pause > maxRetryAfter {
		t.Errorf("the pause is %v, want up to %v", pause, maxRetryAfter)
	}
	c.notBefore = time.Now().Add(-time.Second)
	if err := c.UploadTraces(ctx, spansOf("lock")); err != nil || got.requests() != 2 {
		t.Errorf("%v after the pause, %d requests", err, got.requests())
	}
}

// TestCollectorEnds: a stopping node tries each batch once, and does not wait out a
// pause.
func TestCollectorEnds(t *testing.T) {
	t.Parallel()
	paused := make(chan struct{}, 100)
	got, server := serve(t, func(w http.ResponseWriter) {
		status(http.StatusServiceUnavailable, "50")(w)
		paused <- struct{}{}
	})
	c := clientOf(t, server, nil)
	failed := make(chan error, 1)
	go func() { failed <- c.UploadTraces(soon(t), spansOf("lock")) }()
	<-paused
	c.finish()
	select {
	case err := <-failed:
		if err == nil || got.requests() != 1 {
			t.Errorf("%v after %d requests", err, got.requests())
		}
	case <-time.After(40 * time.Second):
		t.Fatal("the export waits after the end")
	}
	c.notBefore = time.Time{}
	if err := c.UploadTraces(soon(t), spansOf("lock")); err == nil || got.requests() != 2 {
		t.Errorf("%v after %d requests, want 2", err, got.requests())
	}
}

// TestCollectorUnreachable: an export that cannot connect ends with its context.
func TestCollectorUnreachable(t *testing.T) {
	t.Parallel()
	_, server := serve(t)
	c := clientOf(t, server, nil)
	server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	if err := c.UploadTraces(ctx, spansOf("lock")); err == nil {
		t.Error("spans are sent to nobody")
	}
}

func TestPartialSuccess(t *testing.T) {
	t.Parallel()
	partial := func(spans uint64, message string) []byte {
		inner := protowire.AppendVarint(protowire.AppendTag(nil, rejectedSpans, protowire.VarintType), spans)
		inner = protowire.AppendString(protowire.AppendTag(inner, errorMessage, protowire.BytesType), message)
		outer := protowire.AppendFixed32(protowire.AppendTag(nil, 7, protowire.Fixed32Type), 1) // unknown field
		return protowire.AppendBytes(protowire.AppendTag(outer, partialSuccess, protowire.BytesType), inner)
	}
	for _, one := range []struct {
		kind  string
		reply []byte
		want  string
	}{
		{contentType, nil, ""},
		{contentType, partial(0, ""), ""},
		{contentType, partial(3, "too\nold"), `rejects 3 spans: too\nold`},
		{contentType, partial(0, "deprecated"), "rejects 0 spans: deprecated"},
		{contentType, partial(3, strings.Repeat("x", 1000)), strings.Repeat("x", maxQuoted)},
		{contentType, partial(3, "cut")[:8], ""},
		{"text/html", partial(3, "x"), ""},
	} {
		_, server := serve(t, func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", one.kind)
			_, _ = w.Write(one.reply)
		})
		err := clientOf(t, server, nil).UploadTraces(soon(t), spansOf("lock"))
		if (err == nil) != (one.want == "") || err != nil && (!strings.Contains(err.Error(), one.want) || len(err.Error()) > maxQuoted+100) {
			t.Errorf("%q %x: got %v, want %q", one.kind, one.reply, err, one.want)
		}
	}
}

func FuzzPartialSuccess(f *testing.F) {
	f.Add([]byte{0x0a, 0x05, 0x08, 0x03, 0x12, 0x01, 'x'})
	f.Fuzz(func(t *testing.T, reply []byte) {
		if err := rejected(contentType, reply); err != nil && len(err.Error()) > 4*maxQuoted+100 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "1.5": 0, "99999999999999999999": 0, "soon": 0,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:04:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// TestCollectorCertificates: the environment's files apply, for both sides.
func TestCollectorCertificates(t *testing.T) {
	t.Parallel()
	got := &answers{}
	server := httptest.NewUnstartedServer(got)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	c := clientOf(t, server, map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": roots})
	if err := c.UploadTraces(soon(t), spansOf("lock")); err != nil || got.requests() != 1 {
		t.Errorf("%v after %d requests", err, got.requests())
	}
	stranger := clientOf(t, server, nil)
	stranger.finish() // one try
	if err := stranger.UploadTraces(soon(t), spansOf("lock")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown collector: %v", err)
	}
	plain := &url.URL{Scheme: "http", Host: "c"}
	if _, err := newCollector(plain, "", func(name string) string { return map[string]string{"OTEL_EXPORTER_OTLP_CERTIFICATE": roots}[name] }, nil); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("certificates without TLS: %v", err)
	}
}

// TestEnvironmentIgnoresUnusable: an unusable variable is named, never quoted, and
// the exporter starts without it.
func TestEnvironmentIgnoresUnusable(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_HEADERS":            "hunter2,bad name=hunter2,x=%zz,ok=1,y=hunter2%0Az",
		"OTEL_EXPORTER_OTLP_COMPRESSION":        "zstd",
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": empty,
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": empty,
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":         empty + ".none",
	}
	warned := map[string]int{}
	c, err := newCollector(&url.URL{Scheme: "https", Host: "c"}, "", func(name string) string { return env[name] }, func(variable string, err error) {
		warned[variable]++
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s is quoted: %v", variable, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.gzip || c.header.Get("Ok") != "1" || len(c.header) != 3 {
		t.Errorf("gzip %v, header %v", c.gzip, slices.Sorted(maps.Keys(c.header)))
	}
	want := map[string]int{"OTEL_EXPORTER_OTLP_HEADERS": 4, "OTEL_EXPORTER_OTLP_COMPRESSION": 1, "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": 1, "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": 1}
	if !maps.Equal(warned, want) {
		t.Errorf("warned of %v, want %v", warned, want)
	}
}
