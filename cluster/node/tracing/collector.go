package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	contentType = "application/x-protobuf"
	// Pauses between tries start at the shorter and double up to the longer. Each
	// is cut by up to a half at random.
	retryPauseFirst = 250 * time.Millisecond
	retryPauseMost  = 2 * time.Second
	// maxRetryAfter bounds a collector's Retry-After.
	maxRetryAfter = time.Minute
	// idleWithin is how long a connection without requests is kept.
	idleWithin = 90 * time.Second
	// maxReply is how much of a collector's reply is read, in bytes; maxQuoted is
	// how much of it an error quotes.
	maxReply  = 64 << 10
	maxQuoted = 200
)

// errThrottled is returned for spans due before the collector accepts more.
var errThrottled = errors.New("the collector asks for a pause")

// collector sends spans to an OTLP collector: protobuf over HTTP, one POST per
// batch (https://opentelemetry.io/docs/specs/otlp/#otlphttp). It implements
// otlptrace.Client. The SDK's batch processor calls UploadTraces from one goroutine
// at a time.
type collector struct {
	url    string
	header http.Header
	gzip   bool
	http   *http.Client

	notBefore time.Time // owned by the caller of UploadTraces: time of the next allowed request

	endOnce sync.Once
	ending  chan struct{} // closed by finish
}

// newCollector returns a client of the collector at that endpoint. It reads the
// environment's OTEL_EXPORTER_OTLP_… variables through getenv and reports unusable
// ones to warn, by name.
func newCollector(endpoint *url.URL, version string, getenv func(string) string, warn func(variable string, err error)) (*collector, error) {
	env := environment{getenv, warn}
	secured := env.tls()
	if secured != nil && endpoint.Scheme == "http" {
		return nil, errors.New("otlp endpoint: OTEL_EXPORTER_OTLP_ certificates need an https:// endpoint")
	}
	c := &collector{
		url:    (&url.URL{Scheme: endpoint.Scheme, Host: endpoint.Host, Path: endpoint.Path}).String(),
		header: http.Header{"User-Agent": {service + "/" + version}},
		gzip:   env.gzip(),
		http: &http.Client{
			Timeout: exportWithin,
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, TLSClientConfig: secured, ForceAttemptHTTP2: true,
				IdleConnTimeout: idleWithin, TLSHandshakeTimeout: exportWithin,
			},
		},
		ending: make(chan struct{}),
	}
	for name, values := range env.headers() {
		c.header[name] = values
	}
	c.header.Set("Content-Type", contentType)
	if c.gzip {
		c.header.Set("Content-Encoding", "gzip")
	}
	return c, nil
}

// Start implements otlptrace.Client. There is nothing to start.
func (c *collector) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *collector) Stop(context.Context) error {
	c.finish()
	c.http.CloseIdleConnections()
	return nil
}

// finish ends pauses: from now on each batch is tried once.
func (c *collector) finish() { c.endOnce.Do(func() { close(c.ending) }) }

// UploadTraces implements otlptrace.Client. It tries until the collector has
// accepted the spans or refused them for good, or ctx ends. It returns errThrottled
// without a try when the collector's Retry-After lasts longer than ctx.
func (c *collector) UploadTraces(ctx context.Context, spans []*otlp.ResourceSpans) error {
	body, err := c.encode(spans)
	if err != nil {
		return err
	}
	for pause := retryPauseFirst; ; pause = min(2*pause, retryPauseMost) {
		if !c.wait(ctx, time.Until(c.notBefore)) {
			return errThrottled
		}
		after, err := c.post(ctx, body)
		c.notBefore = time.Now().Add(min(after, maxRetryAfter))
		var again *temporaryError
		if err == nil || !errors.As(err, &again) {
			return err
		}
		if !c.wait(ctx, max(time.Until(c.notBefore), pause-rand.N(pause/2))) {
			return err
		}
	}
}

// encode returns a request's body. A TracesData has the encoding of an
// ExportTraceServiceRequest (trace.proto says so), whose package links gRPC.
func (c *collector) encode(spans []*otlp.ResourceSpans) ([]byte, error) {
	body, err := proto.Marshal(&otlp.TracesData{ResourceSpans: spans})
	if err != nil {
		return nil, fmt.Errorf("encode spans: %w", err)
	}
	if !c.gzip {
		return body, nil
	}
	var small bytes.Buffer
	w := gzip.NewWriter(&small)
	_, err = w.Write(body)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("compress spans: %w", err)
	}
	return small.Bytes(), nil
}

// wait waits for pause. It returns false at once if ctx ends earlier or the
// exporter ends.
func (c *collector) wait(ctx context.Context, pause time.Duration) bool {
	if pause <= 0 {
		return true
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-c.ending:
	}
	return false
}

// temporaryError is a failure after which the same request may be repeated.
type temporaryError struct{ error }

func (e *temporaryError) Unwrap() error { return e.error }

// post sends one request. It returns the collector's Retry-After, 0 if there is
// none, and a *temporaryError if another try makes sense.
func (c *collector) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header = c.header.Clone()
	response, err := c.http.Do(request)
	if err != nil {
		return 0, &temporaryError{err}
	}
	defer response.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	switch status := response.StatusCode; {
	case status >= 200 && status <= 299 && err != nil:
		return 0, fmt.Errorf("read the collector's reply: %w", err) // the spans were accepted
	case status >= 200 && status <= 299:
		return 0, rejected(response.Header.Get("Content-Type"), reply)
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return retryAfter(response.Header.Get("Retry-After"), time.Now()), &temporaryError{refused(response, reply)}
	default:
		return 0, refused(response, reply)
	}
}

// refused returns the error of a reply that is not 2xx.
func refused(response *http.Response, reply []byte) error {
	return fmt.Errorf("the collector answers %s: %s", response.Status, quoted(reply))
}

// quoted returns the start of a collector's text, as one printable line.
func quoted(text []byte) string {
	text = text[:min(len(text), maxQuoted)]
	quote := strconv.Quote(strings.ToValidUTF8(strings.TrimSpace(string(text)), "?"))
	return quote[1 : len(quote)-1]
}

// retryAfter parses that header (RFC 9110 section 10.2.3): seconds or a date. It is
// 0 for anything else.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if date, err := http.ParseTime(header); err == nil {
		return max(date.Sub(now), 0)
	}
	return 0
}

// Fields of ExportTraceServiceResponse and of its ExportTracePartialSuccess.
const (
	partialSuccess = 1
	rejectedSpans  = 1
	errorMessage   = 2
)

// rejected returns an error if a collector that accepted a request reports that it
// took only a part of it, or another warning. An unreadable reply is ignored: the
// request was accepted.
func rejected(kind string, reply []byte) error {
	if kind != contentType {
		return nil
	}
	var spans uint64
	var message []byte
	eachField(reply, func(field protowire.Number, _ uint64, partial []byte) {
		if field != partialSuccess {
			return
		}
		eachField(partial, func(field protowire.Number, number uint64, text []byte) {
			switch field {
			case rejectedSpans:
				spans = number
			case errorMessage:
				message = text
			}
		})
	})
	if spans == 0 && len(message) == 0 {
		return nil
	}
	return fmt.Errorf("the collector rejects %d spans: %s", spans, quoted(message))
}

// eachField calls call with each field of a message that is a number or has a
// length, up to the first malformed one.
func eachField(message []byte, call func(field protowire.Number, number uint64, bytes []byte)) {
	for len(message) > 0 {
		field, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(message)
		default:
			n = protowire.ConsumeFieldValue(field, kind, message)
		}
		if n < 0 {
			return
		}
		message = message[n:]
		call(field, number, bytes)
	}
}
