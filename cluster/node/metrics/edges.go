package metrics

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Values of the label reason of failed logins. Rate-limited attempts are not
// checked; rate_limited_total counts them.
var loginFaults = map[wire.Code]string{
	wire.CodeUnauthenticated: "password", wire.CodeRateLimited: "busy", wire.CodeUnavailable: "unavailable",
}

// noRoute is the value of the label route if no pattern matches.
const noRoute = "none"

func (m *Metrics) newEdges() {
	m.tokenFailures = m.counters("token_failures_total", "Tokens that were refused or could not be verified, by reason.", "reason")
	for _, fault := range auth.Faults {
		m.tokenFailures.WithLabelValues(fault)
	}
	m.loginFailures = m.counters("login_failures_total", "Failed logins, by reason, without rate-limited ones.", "reason")
	m.loginFailures.WithLabelValues(other)
	for _, fault := range loginFaults {
		m.loginFailures.WithLabelValues(fault)
	}
	m.requests = m.counters("http_requests_total", "HTTP requests, by route and status; 101 is a WebSocket.", "route", "status")
	m.requestTook = m.histograms("http_request_duration_seconds", "Duration of HTTP requests, from the header to the end of the response, by route.", fast, "route")
}

// Verifier returns next with its refusals counted.
func (m *Metrics) Verifier(next auth.Verifier) auth.Verifier { return verifier{next, m} }

type verifier struct {
	next auth.Verifier
	m    *Metrics
}

// Verify implements auth.Verifier.
func (v verifier) Verify(ctx context.Context, token string) (auth.Claims, error) {
	claims, err := v.next.Verify(ctx, token)
	if err != nil {
		v.m.tokenFailures.WithLabelValues(auth.Fault(err)).Inc()
	}
	return claims, err
}

// Accounts checks logins; *accounts.Store is one.
type Accounts interface {
	Authenticate(ctx context.Context, user, password string, turn auth.Turn) (auth.Account, error)
	Get(ctx context.Context, user string) (auth.Account, error)
}

// Logins returns next with its failed logins counted.
func (m *Metrics) Logins(next Accounts) Accounts { return logins{next, m} }

type logins struct {
	Accounts
	m *Metrics
}

// Authenticate implements Accounts.
func (l logins) Authenticate(ctx context.Context, user, password string, turn auth.Turn) (auth.Account, error) {
	account, err := l.Accounts.Authenticate(ctx, user, password, turn)
	if err != nil {
		fault, known := loginFaults[wire.AsError(err).Code]
		if !known {
			fault = other
		}
		l.m.loginFailures.WithLabelValues(fault).Inc()
	}
	return account, err
}

type routeKey struct{}

// HTTP returns next with its requests counted by the pattern that they matched. A
// mux inside of next that copies requests reports it with [Routed].
func (m *Metrics) HTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun, route, answer := time.Now(), "", &answered{ResponseWriter: w, status: http.StatusOK}
		r = r.WithContext(context.WithValue(r.Context(), routeKey{}, &route))
		defer func() {
			if route == "" {
				route = r.Pattern
			}
			if route == "" {
				route = noRoute
			}
			m.requests.WithLabelValues(route, statusText(answer.status)).Inc()
			m.requestTook.WithLabelValues(route).Observe(time.Since(begun).Seconds())
		}()
		next.ServeHTTP(answer, r)
	})
}

// Routed records, for [Metrics.HTTP], the pattern that r matched in an inner mux.
func Routed(r *http.Request) {
	if route, ok := r.Context().Value(routeKey{}).(*string); ok && r.Pattern != "" {
		*route = r.Pattern
	}
}

// statusText returns a value of the label status.
func statusText(status int) string {
	if http.StatusText(status) == "" {
		return other
	}
	return strconv.Itoa(status)
}

// answered records the status of an answer.
type answered struct {
	http.ResponseWriter
	status int
	said   bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answered) WriteHeader(status int) {
	if !a.said && status >= 200 { // 1xx are provisional
		a.status, a.said = status, true
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answered) Write(b []byte) (int, error) {
	a.said = true
	return a.ResponseWriter.Write(b)
}

// Flush implements http.Flusher.
func (a *answered) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Hijack implements http.Hijacker, for WebSockets.
func (a *answered) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h, ok := a.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, errors.ErrUnsupported
	}
	a.status, a.said = http.StatusSwitchingProtocols, true
	return h.Hijack()
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }
