// Package httpapi is Conclave's web API: logging in, keygen and sign tasks from
// the request to the signature, keys and sessions and how they go on, the audit,
// and health.
//
// It is an edge, as thin as the WebSocket's: it decodes, authenticates, calls
// the session service and encodes. There are no rules in it about who may do
// what, but for those that reading the audit and looking after accounts take an
// admin, that only an admin is told where nodes and users are, and that presence is
// shown to who has a key in common with a user. Errors are problem documents (RFC
// 9457) whose code is that of the WebSocket's error message.
//
// Its operations are a table, in operations.go: what is routed, and what the
// OpenAPI 3.1 document at /openapi.json says, come from the same rows. The
// document is made by huma from the Go types; huma does not carry the operations
// out, since how it words errors is one setting for a whole program, and not ours
// to change in one that embeds a node.
//
// What is asked too often, or by too many at one time, is answered with 429 and
// Retry-After. The package starts no goroutine: who waits for a session, or
// follows its events, does it in its request's, and ends within a second of the
// node's beginning to drain.
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

// Issuer makes tokens; *auth.HS256 is one.
type Issuer interface {
	IssueFor(account auth.Account, ttl time.Duration) (string, auth.Claims, error)
	// Earlier returns what a token says that it has issued, also one that has expired.
	Earlier(token string) (auth.Claims, bool)
}

// Revoker ends tokens before they expire; accounts.Store is one.
type Revoker interface {
	// Revoke ends what is named, if by may.
	Revoke(ctx context.Context, by auth.Claims, jti, user, reason string) error
}

// Config is what the API works with. Sessions, Verifier and Ready are required.
type Config struct {
	Sessions *service.Service
	Verifier auth.Verifier
	Logins   Logins   // nil: no login here, tokens come from another issuer
	Issuer   Issuer   // nil: likewise
	Revoker  Revoker  // nil: no token can be revoked here
	Accounts Accounts // nil: there are none here
	Renewals Renewals // nil: no login can be renewed here
	TokenTTL time.Duration
	// Still returns an error for claims that were good once and are not any more.
	// Nil: they are good until they expire.
	Still func(auth.Claims) error
	// Doubts returns an error while this process's clock is known to be wrong, which
	// what has expired by it is told. Nil: it is believed.
	Doubts   func() error
	Ready    func(ctx context.Context) error // why the node should get no new clients; who asks is told a *wire.Error of code unavailable
	Room     func() error                    // why nothing new is begun; nil for no such thing
	MaxBytes int64                           // of a request body; zero means wire.DefaultMaxMessageBytes
	Cluster  Directory                       // nil: nodes and presence are not shown here
	Draining <-chan struct{}                 // closed when the node begins to drain; nil: never
	Version  string                          // of the server, for the document
	Audit    Auditor                         // nil means none
	Trail    Trail                           // nil: the audit cannot be read here
	Log      *zerolog.Logger                 // nil means none

	// Routed, where not nil, is told when a request has met its pattern
	// (http.Request.Pattern), to count it.
	Routed func(*http.Request)

	// Attempts limits failed logins. Nil means no limit.
	Attempts Attempts
	// Users limits what each user may call, and
	// Requests how many keygens and signings it may ask for; the WebSocket's
	// share them. Nil means no limit.
	Users, Requests *limit.Throttle
	// Bytes limits the bytes, in KiB, of the bodies of each user's calls; the
	// WebSocket shares it. Nil means no limit.
	Bytes *limit.Throttle
	// MaxStreams is how many streams of events all users together may have open.
	// Zero means no limit.
	MaxStreams int
	// TrustedProxies are believed when they name a client's address.
	TrustedProxies []netip.Prefix
}

// DefaultTokenTTL is how long a token from login is good.
const DefaultTokenTTL = 12 * time.Hour

const (
	readyWithin  = 2 * time.Second
	maxLoginBody = 8 << 10

	// The longest that is needed: of a key 128 participants, each id with its escapes
	// three times as long, and a signed_request.
	maxKeyBody    = 128<<10 + wire.MaxSignedRequestBytes
	maxRevokeBody = 8 << 10

	documentPath = "/openapi.json"
)

type api struct {
	cfg     Config
	log     zerolog.Logger
	busy    busy // calls
	streams busy // of them, those that follow a session's events
	slowed  busy // refused for their rate, not answered yet
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

// report logs what an operator should know; refusals are the client's matter.
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

// respond answers with a JSON document, with nothing where body is nil, or not at
// all where the operation has done so itself, which status 0 says.
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
	_, _ = w.Write(text) // a client that is gone cannot be told
}

func answerHeader(h http.Header) {
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// decode reads a JSON object from a request's body, whatever its Content-Type:
// curl -d says that it is a form, and no browser's form has a token to send.
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

// caller is the user whose token the middleware verified.
func caller(r *http.Request) service.Caller {
	claims, _ := auth.FromContext(r.Context())
	return service.Caller{User: claims.Subject, Roles: claims.Roles, Web: true}
}

// pathID returns an id in a path.
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
			return 0, nil, err // which says why
		}
		return 0, nil, errors.Join(wire.Errorf(wire.CodeUnavailable, "not ready"), err)
	}
	h := Health{Status: "ready"}
	if a.cfg.Room != nil && a.cfg.Room() != nil {
		h.Storage = "full"
	}
	return http.StatusOK, h, nil
}
