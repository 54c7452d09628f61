// Package httpapi is Conclave's web API: login, keygen and sign tasks from the
// request to the signature, keys and sessions and their progress, the audit, and
// health.
//
// It is an edge, as thin as the WebSocket's: it decodes, authenticates, calls the
// session service and encodes. It has no permission rules, except that reading the
// audit and managing accounts take an admin, that only an admin sees where nodes
// and users are, and that presence is shown to users who share a key with the user.
// Errors are problem documents (RFC 9457) whose code is that of the WebSocket's
// error message.
//
// Its operations are a table, in operations.go: the routes and the OpenAPI 3.1
// document at /openapi.json come from the same rows. Huma makes the document from
// the Go types; it does not execute the operations, since its error format is one
// setting for a whole program, which a program that embeds a node may use itself.
//
// Requests above a rate or concurrency limit are answered with 429 and Retry-After.
// The package starts no goroutine: a client that waits for a session, or follows
// its events, does so in its request's, and ends within a second of the start of
// the node's drain.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Logins checks passwords; accounts.Store of package cluster/store/accounts is one.
type Logins interface {
	Authenticate(ctx context.Context, user, password string, turn auth.Turn) (auth.Account, error)
	Get(ctx context.Context, user string) (auth.Account, error)
}

// Attempts limits failed logins; accounts.LoginThrottle is one.
type Attempts interface {
	// Begin is called before a password is checked. Its error is a *wire.Error with
	// wire.CodeRateLimited, or the context's.
	Begin(ctx context.Context, account string, from auth.LoginFrom) (auth.LoginTry, error)
}

// Issuer issues tokens; *auth.HS256 is one.
type Issuer interface {
	IssueFor(account auth.Account, ttl time.Duration) (string, auth.Claims, error)
	// Earlier returns the claims of a token that it has issued, even if expired.
	Earlier(token string) (auth.Claims, bool)
}

// Revoker ends tokens before they expire; accounts.Store is one.
type Revoker interface {
	// Revoke ends the named tokens, if by may.
	Revoke(ctx context.Context, by auth.Claims, jti, user, reason string) error
}

// Config configures the API. Sessions, Verifier and Ready are required.
type Config struct {
	Sessions *service.Service
	Verifier auth.Verifier
	Logins   Logins   // nil: no login here, tokens are another issuer's
	Issuer   Issuer   // nil: likewise
	Revoker  Revoker  // nil: no token can be revoked here
	Accounts Accounts // nil: no accounts here
	Renewals Renewals // nil: no login can be renewed here
	TokenTTL time.Duration
	// Still returns an error for claims that were valid and have been revoked. Nil:
	// they are valid until they expire.
	Still func(auth.Claims) error
	// Doubts returns an error while this process's clock is known to be wrong,
	// which is the answer to tokens expired by it. Nil: the clock is trusted.
	Doubts   func() error
	Ready    func(ctx context.Context) error // why the node should get no new clients; the answer is a *wire.Error of code unavailable
	Room     func() error                    // why nothing new may begin; nil for no such check
	MaxBytes int64                           // of a request body; zero means wire.DefaultMaxMessageBytes
	Cluster  Directory                       // nil: nodes and presence are not shown here
	Draining <-chan struct{}                 // closed when the node begins to drain; nil: never
	Version  string                          // of the server, for the document
	Audit    Auditor                         // nil disables it
	Trail    Trail                           // nil: the audit cannot be read here
	Log      *zerolog.Logger                 // nil disables logging

	// Routed, where not nil, is called when a request has matched its pattern
	// (http.Request.Pattern), to count it.
	Routed func(*http.Request)

	// Attempts limits failed logins. Nil means no limit.
	Attempts Attempts
	// Users limits the calls of each user, and Requests the keygens and signings
	// that it may request; the WebSocket shares them. Nil means no limit.
	Users, Requests *limit.Throttle
	// Bytes limits the bytes, in KiB, of the bodies of each user's calls; the
	// WebSocket shares it. Nil means no limit.
	Bytes *limit.Throttle
	// MaxStreams is how many event streams all users together may have open. Zero
	// means no limit.
	MaxStreams int
	// TrustedProxies are trusted to name a client's address.
	TrustedProxies []netip.Prefix
}

// DefaultTokenTTL is how long a token from login is valid.
const DefaultTokenTTL = 12 * time.Hour

const (
	readyWithin  = 2 * time.Second
	maxLoginBody = 8 << 10

	// The longest needed: a key's 128 participants, each id with its escapes three
	// times as long, and a signed_request.
	maxKeyBody    = 128<<10 + wire.MaxSignedRequestBytes
	maxRevokeBody = 8 << 10

	documentPath = "/openapi.json"
)

type api struct {
	cfg     Config
	log     zerolog.Logger
	busy    busy // calls
	streams busy // those calls that follow a session's events
	slowed  busy // refused for their rate, not yet answered
	alive   readiness

	strangers strangers
}

// New returns the API's handler.
func New(cfg Config) http.Handler {
	a := &api{
		cfg: cfg, log: zerolog.Nop(), busy: busy{most: maxBusy}, streams: busy{most: maxStreams, all: cfg.MaxStreams}, slowed: busy{most: maxSlowed},
		alive: readiness{ask: cfg.Ready}, strangers: newStrangers(),
	}
	if cfg.Log != nil {
		a.log = *cfg.Log
	}
	if a.cfg.Attempts == nil {
		a.cfg.Attempts = unlimited{}
	}
	if a.cfg.TokenTTL == 0 {
		a.cfg.TokenTTL = DefaultTokenTTL
	}
	if a.cfg.MaxBytes == 0 {
		a.cfg.MaxBytes = wire.DefaultMaxMessageBytes
	}
	guarded, mux := http.NewServeMux(), http.NewServeMux()
	operations := a.operations()
	for _, op := range operations {
		on := guarded
		if op.open {
			on = mux
		}
		on.HandleFunc(op.method+" "+op.path, a.handle(op))
	}
	document := openAPI(operations, cfg.Version)
	mux.HandleFunc("GET "+documentPath, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, document) })
	guarded.HandleFunc("/", nothing)
	mux.Handle("/v1/", auth.Middleware(cfg.Verifier, a.unauthenticated)(a.limited(a.routed(guarded))))
	mux.HandleFunc("/", nothing)
	return mux
}

func nothing(w http.ResponseWriter, _ *http.Request) { auth.WriteProblem(w, errNothing) }

var errNothing = wire.Errorf(wire.CodeNotFound, "no such resource or method")

// handle adapts an operation to net/http.
func (a *api) handle(op operation) http.HandlerFunc {
	most := a.cfg.MaxBytes
	if op.most > 0 {
		most = min(most, op.most)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, most)
		status, body, err := op.do(w, r)
		if err != nil {
			if op.audited != "" {
				a.refused(r, op.audited, wire.Cause(err))
			}
			a.report(r, err)
			if !op.open {
				a.slow(r, err)
			}
			auth.WriteProblem(w, err)
			return
		}
		respond(w, status, body)
	}
}

// routed calls Config.Routed for each request.
func (a *api) routed(next http.Handler) http.Handler {
	if a.cfg.Routed == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer a.cfg.Routed(r)
		next.ServeHTTP(w, r)
	})
}

// report logs errors for the operator; refusals concern only the client.
func (a *api) report(r *http.Request, err error) {
	line := a.log.Debug()
	switch code := wire.AsError(err).Code; {
	case code == wire.CodeInternal:
		line = a.log.Error()
	case auth.Status(code) >= http.StatusInternalServerError:
		line = a.log.Warn()
	}
	line.Err(err).Str("method", r.Method).Str("path", r.URL.Path).Msg("request refused")
}

// respond answers with a JSON document, without a body if body is nil, or not at
// all if the operation has answered itself (status 0).
func respond(w http.ResponseWriter, status int, body any) {
	switch {
	case status == 0:
	case body == nil:
		answerHeader(w.Header())
		w.WriteHeader(status)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			auth.WriteProblem(w, err)
			return
		}
		answer(w, status, append(text, '\n'))
	}
}

func answer(w http.ResponseWriter, status int, text []byte) {
	answerHeader(w.Header())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that has left cannot be told
}

func answerHeader(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// decode reads a JSON object from a request's body, whatever its Content-Type: curl
// -d declares a form, and no browser's form can send a token.
func decode(r *http.Request, into any) error {
	text, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return wire.Errorf(wire.CodeTooLarge, "request body is over %d bytes", large.Limit)
	}
	if err != nil {
		return wire.Errorf(wire.CodeBadRequest, "request body is incomplete")
	}
	if err := wire.Unmarshal(text, into); err != nil {
		return wire.Errorf(wire.CodeBadRequest, "request body: %s", err)
	}
	return nil
}

// caller returns the user whose token the middleware verified.
func caller(r *http.Request) service.Caller {
	claims, _ := auth.FromContext(r.Context())
	return service.Caller{User: claims.Subject, Roles: claims.Roles, Web: true}
}

// pathID returns an id from the path.
func pathID(r *http.Request, name string) (string, error) {
	id := r.PathValue(name)
	if !wire.StoredID(id) {
		return "", service.ErrNotFound
	}
	return id, nil
}

func (a *api) healthy(http.ResponseWriter, *http.Request) (int, any, error) {
	return http.StatusOK, Health{Status: "ok"}, nil
}

// Health answers /healthz and /readyz.
type Health struct {
	Status  string `json:"status" enum:"ok,ready"`
	Storage string `json:"storage,omitempty" enum:"full" doc:"full while new sessions are refused for lack of memory; running sessions continue"`
}

func (a *api) ready(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := a.alive.get(r.Context()); err != nil {
		if a.cfg.Doubts != nil && a.cfg.Doubts() != nil {
			return 0, nil, errors.Join(wire.Errorf(wire.CodeUnavailable, "not ready: %s", a.cfg.Doubts()), err)
		}
		if errors.Is(err, wire.Errorf(wire.CodeUnavailable, "")) {
			return 0, nil, err // it contains the reason
		}
		return 0, nil, errors.Join(wire.Errorf(wire.CodeUnavailable, "not ready"), err)
	}
	h := Health{Status: "ready"}
	if a.cfg.Room != nil && a.cfg.Room() != nil {
		h.Storage = "full"
	}
	return http.StatusOK, h, nil
}
