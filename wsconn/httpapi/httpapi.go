// Package httpapi is Conclave's web API: logging in, reserving keygen and sign
// tasks, reading keys and sessions, and health.
//
// It is an edge, as thin as the WebSocket's: it decodes, authenticates, calls
// the session service and encodes. There are no rules in it about who may do
// what, but for the one that reading the audit takes an admin. Errors are problem documents (RFC 9457) whose code is that of the
// WebSocket's error message.
//
//	POST   /v1/login                   {username, password} -> token
//	POST   /v1/tokens/revoke           {jti} or {user}, reason: ends tokens; for admins
//	POST   /v1/keys                    {threshold, total_parts, participants, curve} -> key_id
//	POST   /v1/keys/{id}/signatures    {data, hash, participants} -> session_id
//	GET    /v1/keys[/{id}]             the caller's keys, one key
//	GET    /v1/sessions[/{id}]         the caller's sessions, one session
//	DELETE /v1/sessions/{id}           cancel
//	GET    /v1/audit                   entries of the audit, ?after= and ?limit=; for admins
//	GET    /healthz, /readyz           200, or 503 and why
//
// With ?start=true the two POSTs also start what they reserve.
//
// What is asked too often, or by too many at one time, is answered with 429 and
// Retry-After. The package starts no goroutine.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/audit"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Logins checks passwords; *auth.Accounts is one.
type Logins interface {
	Authenticate(ctx context.Context, user, password string) (auth.Account, error)
	Get(ctx context.Context, user string) (auth.Account, error)
}

// Issuer makes tokens; *auth.HS256 is one.
type Issuer interface {
	IssueFor(account auth.Account, ttl time.Duration) (string, auth.Claims, error)
}

// Revoker ends tokens before they expire; *auth.Accounts is one.
type Revoker interface {
	// Revoke ends what is named, if by may.
	Revoke(ctx context.Context, by auth.Claims, jti, user, reason string) error
}

// Config is what the API works with. Sessions, Verifier and Ready are required.
type Config struct {
	Sessions *session.Service
	Verifier auth.Verifier
	Logins   Logins  // nil: no login here, tokens come from another issuer
	Issuer   Issuer  // nil: likewise
	Revoker  Revoker // nil: no token can be revoked here
	TokenTTL time.Duration
	Ready    func(ctx context.Context) error // why the node should get no new clients
	MaxBytes int64                           // of a request body; zero means wire.DefaultMaxMessageBytes
	Audit    Auditor                         // nil means none
	Trail    Trail                           // nil: the audit cannot be read here
	Log      *zerolog.Logger                 // nil means none

	// Routed, where not nil, is told when a request has met its pattern
	// (http.Request.Pattern), to count it.
	Routed func(*http.Request)

	// Attempts limits logging in. Users limits what each user may call, and
	// Requests how many keygens and signings it may ask for; the WebSocket's
	// share them. Nil means no limit.
	Attempts        *auth.LoginThrottle
	Users, Requests *auth.Throttle
	// TrustedProxies are believed when they name a client's address.
	TrustedProxies []netip.Prefix
}

// DefaultTokenTTL is how long a token from login is good.
const DefaultTokenTTL = 12 * time.Hour

const (
	readyWithin  = 2 * time.Second
	pageSize     = 50
	maxPageSize  = 200
	maxLoginBody = 8 << 10
)

type api struct {
	cfg   Config
	log   zerolog.Logger
	busy  busy
	alive readiness
}

// New returns the API's handler for the paths in the package comment.
func New(cfg Config) http.Handler {
	a := &api{cfg: cfg, log: zerolog.Nop(), alive: readiness{ask: cfg.Ready}}
	if cfg.Log != nil {
		a.log = *cfg.Log
	}
	if a.cfg.TokenTTL == 0 {
		a.cfg.TokenTTL = DefaultTokenTTL
	}
	if a.cfg.MaxBytes == 0 {
		a.cfg.MaxBytes = wire.DefaultMaxMessageBytes
	}
	guarded := http.NewServeMux()
	guarded.HandleFunc("POST /v1/keys", a.handle(a.audited(string(wire.TypeKeygenRequest), a.createKey)))
	guarded.HandleFunc("GET /v1/keys", a.handle(a.listKeys))
	guarded.HandleFunc("GET /v1/keys/{id}", a.handle(a.getKey))
	guarded.HandleFunc("POST /v1/keys/{id}/signatures", a.handle(a.audited(string(wire.TypeSignRequest), a.createSignature)))
	guarded.HandleFunc("GET /v1/sessions", a.handle(a.listSessions))
	guarded.HandleFunc("GET /v1/sessions/{id}", a.handle(a.getSession))
	guarded.HandleFunc("DELETE /v1/sessions/{id}", a.handle(a.audited(string(wire.TypeSessionCancel), a.cancelSession)))
	guarded.HandleFunc("POST /v1/tokens/revoke", a.handle(a.audited(audit.TokenRevoke, a.revoke)))
	guarded.HandleFunc("GET /v1/audit", a.handle(a.audited(audit.AuditRead, a.readAudit)))
	guarded.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		auth.WriteProblem(w, wire.Errorf(wire.CodeNotFound, "no such resource or method"))
	})

	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/login", a.handle(a.login))
	mux.Handle("/v1/", auth.Middleware(cfg.Verifier, a.report)(a.limited(a.routed(guarded))))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		respond(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", a.handle(a.ready))
	return mux
}

// routed tells Config.Routed of each request.
func (a *api) routed(next http.Handler) http.Handler {
	if a.cfg.Routed == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.cfg.Routed(r)
		next.ServeHTTP(w, r)
	})
}

// handle adapts a handler that returns its answer or an error.
func (a *api) handle(h func(r *http.Request) (status int, body any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, a.cfg.MaxBytes)
		status, body, err := h(r)
		if err != nil {
			a.report(r, err)
			auth.WriteProblem(w, err)
			return
		}
		respond(w, status, body)
	}
}

// report logs what an operator should know; refusals are the client's matter.
func (a *api) report(r *http.Request, err error) {
	line := a.log.Debug()
	switch code := auth.AsWire(err).Code; {
	case code == wire.CodeInternal:
		line = a.log.Error()
	case auth.Status(code) >= http.StatusInternalServerError:
		line = a.log.Warn()
	}
	line.Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("request refused")
}

func respond(w http.ResponseWriter, status int, body any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a client that is gone cannot be told
}

// decode reads a JSON object from a request's body.
func decode(r *http.Request, into any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return wire.Errorf(wire.CodeBadRequest, "Content-Type must be application/json")
		}
	}
	dec := json.NewDecoder(r.Body)
	err := dec.Decode(into)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return wire.Errorf(wire.CodeTooLarge, "request body is over %d bytes", large.Limit)
	}
	if err != nil {
		return wire.Errorf(wire.CodeBadRequest, "request body is not the JSON object that is needed")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return wire.Errorf(wire.CodeBadRequest, "request body has more than one JSON value")
	}
	return nil
}

// caller is the user whose token the middleware verified.
func caller(r *http.Request) session.Caller {
	claims, _ := auth.FromContext(r.Context())
	return session.Caller{User: claims.Subject, Roles: claims.Roles}
}

// pathID returns the {id} of a path.
func pathID(r *http.Request) (string, error) {
	id := r.PathValue("id")
	if !wire.ValidID(id) {
		return "", session.ErrNotFound
	}
	return id, nil
}

// pageOf reads ?limit= and ?before= (an RFC 3339 time: the next of the page
// before).
func pageOf(r *http.Request) (session.Page, error) {
	p := session.Page{Limit: pageSize}
	q := r.URL.Query()
	if text := q.Get("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxPageSize {
			return p, wire.Errorf(wire.CodeBadRequest, "limit must be from 1 to %d", maxPageSize)
		}
		p.Limit = n
	}
	if text := q.Get("before"); text != "" {
		t, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return p, wire.Errorf(wire.CodeBadRequest, "before must be an RFC 3339 time")
		}
		p.Before = t
	}
	return p, nil
}

func (a *api) ready(r *http.Request) (int, any, error) {
	if err := a.alive.get(r.Context()); err != nil {
		return 0, nil, errors.Join(wire.Errorf(wire.CodeUnavailable, "not ready"), err)
	}
	return http.StatusOK, map[string]string{"status": "ready"}, nil
}
