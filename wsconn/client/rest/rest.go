// Package rest is a Go client of Conclave's web API: login, keys, signatures,
// sessions, users and the audit, over HTTP alone. It opens no WebSocket and links
// no library that computes with shares.
//
// Start here: [New] makes a client of the web API, [Client.Keygen] and
// [Client.Sign] send requests and wait.
//
//	api, err := rest.New(rest.Config{URLs: urls, Token: rest.StaticToken(token)})
//	key, err := api.Keygen(ctx, rest.KeygenRequest{Threshold: 2, Participants: []string{"alice", "bob", "carol"}})
//	sig, err := api.Sign(ctx, rest.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "hello"})
//
// [Login] exchanges a password for a [Token], and a [Renewer] keeps a login
// renewed: its Token method is a [TokenSource], of this package's clients and of
// those of package wsconn/client. The server is trusted as little as over a
// WebSocket: see package request.
//
// Calls return when all that they have started has ended; a Renewer's goroutine
// ends by itself.
package rest

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/servers"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	httpTimeout   = 30 * time.Second // for a whole call, excluding the wait requested from the server
	answerBegins  = 10 * time.Second // for the start of its answer, likewise
	maxAnswerSize = 16 << 20
)

// Config configures a Client.
type Config struct {
	// URLs are base URLs, of one or several nodes. When one does not answer within
	// a second the next is called too, and the first answer counts; but calls that
	// must not be made twice go to one that has just answered.
	URLs []string
	// Token is needed for everything except login.
	Token TokenSource
	// User is the user id. Zero value means that it is read from the token.
	User string
	// TLS is used for https URLs. Nil means Go's defaults.
	TLS *tls.Config
	// Identity signs the requests of Keygen and Sign. Nil means that they are not
	// signed, so that only participants with a person who decides approve them.
	Identity *identity.Identity
	// Trust decides whose attestations of a new key Keygen accepts. The zero value
	// knows no identities: see [request.Key.Attested].
	Trust trust.Policy
	// OnEvent, if set, receives the events of Keygen's and Sign's requests:
	// [request.Requested], [request.Ended] and [request.IdentityChanged]. It is
	// called in their goroutines and must return soon.
	OnEvent func(request.Event)
	// OnAnswer, if set, is called for each answer of a working server: including
	// refusals, but not 502, 503 and 504. It must return at once, and may be called
	// from several goroutines.
	OnAnswer func()
}

// Client is a client of the web API. The servers' errors are [*wire.Error]s. It is
// safe for concurrent use.
type Client struct {
	bases    []*url.URL
	servers  *servers.List
	token    TokenSource
	identity *identity.Identity
	trust    trust.Policy
	onEvent  func(request.Event) // may be nil
	onAnswer func()              // may be nil
	userID   string              // "": the token's
	http     *http.Client
}

// New returns a client that connects at its first call.
func New(cfg Config) (*Client, error) {
	if len(cfg.URLs) == 0 {
		return nil, errors.New("client: no URL")
	}
	a := &Client{
		servers: servers.New(len(cfg.URLs)), token: cfg.Token, identity: cfg.Identity, onEvent: cfg.OnEvent, onAnswer: cfg.OnAnswer, userID: cfg.User,
		trust: cfg.Trust,
	}
	for _, base := range cfg.URLs {
		u, err := servers.ParseBase(base)
		if err != nil {
			return nil, err
		}
		a.bases = append(a.bases, u)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = cfg.TLS
	a.http = &http.Client{
		Transport: transport,
		// A redirect would send the token, or the password, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// Close closes idle connections.
func (a *Client) Close() { a.http.CloseIdleConnections() }

// Token is the result of a login. Printing it shows only its user.
type Token struct {
	Secret    string      `json:"token"` // the JWT
	ExpiresAt time.Time   `json:"expires_at"`
	UserID    string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`

	// Refresh is the token that [Client.Renew] exchanges for the next token, until
	// RefreshUntil; "" if the login cannot be renewed.
	Refresh      string    `json:"refresh_token,omitempty"`
	RefreshUntil time.Time `json:"refresh_expires_at,omitzero"`
	// ReceivedAt is when the token arrived, by this machine's clock, and Seed a
	// secret of this client by which the servers recognize its repetitions. They
	// are saved with the token.
	ReceivedAt time.Time `json:"received_at,omitzero"`
	Seed       string    `json:"renewal_seed,omitempty"`
}

// String names the token's user.
func (t Token) String() string { return "client.Token(" + t.UserID + ")" }

// Format writes the result of String, whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// Login logs in at the node at baseURL.
func Login(ctx context.Context, baseURL, user, password string) (Token, error) {
	a, err := New(Config{URLs: []string{baseURL}})
	if err != nil {
		return Token{}, err
	}
	defer a.Close()
	return a.Login(ctx, user, password)
}

// Login exchanges a password for a token. If Config.Token has an earlier token of
// the same user, expired or not, it is shown to the server: password guesses by
// others then do not block this login.
func (a *Client) Login(ctx context.Context, user, password string) (Token, error) {
	var t Token
	body := map[string]string{"username": user, "password": password}
	err := a.do(ctx, webCall{method: http.MethodPost, path: "/v1/login", body: body}, &t)
	if err == nil && t.Secret == "" {
		err = errors.New("log in: the server answered without a token")
	}
	return t, err
}

// Answers of the web API.
type (
	KeyInfo     = wire.KeyInfo
	PartInfo    = wire.PartInfo
	SessionInfo = wire.SessionInfo
)

// List is a page of keys or sessions, newest first. Next is the Before of the
// following page, empty on the last one.
type List[T any] = wire.List[T]

// Page selects part of a list, newest first. The zero value is its beginning.
type Page struct {
	Before string // the Next of the previous page
	Limit  int    // 0 for the server's default

	// States, if any, selects by a key's status, or a session's phase. Kind and
	// KeyID are for sessions. With any of them a page may be short, even empty, and
	// still have a Next.
	States []string
	Kind   request.Kind
	KeyID  string
}

func (p Page) query() url.Values {
	q := url.Values{}
	if p.Before != "" {
		q.Set("cursor", p.Before)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	for name, value := range map[string]string{"state": strings.Join(p.States, ","), "kind": string(p.Kind), "key_id": p.KeyID} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

// Keys lists the caller's keys, or, for an admin, all, newest first.
func (a *Client) Keys(ctx context.Context, p Page) (List[KeyInfo], error) {
	return fetch[List[KeyInfo]](ctx, a, "/v1/keys", p.query())
}

// Key returns one key.
func (a *Client) Key(ctx context.Context, keyID string) (KeyInfo, error) {
	return fetch[KeyInfo](ctx, a, "/v1/keys/"+url.PathEscape(keyID), nil)
}

// Sessions lists the caller's sessions, or, for an admin, all, newest first.
func (a *Client) Sessions(ctx context.Context, p Page) (List[SessionInfo], error) {
	return fetch[List[SessionInfo]](ctx, a, "/v1/sessions", p.query())
}

// Session returns one session.
func (a *Client) Session(ctx context.Context, sessionID string) (SessionInfo, error) {
	return fetch[SessionInfo](ctx, a, sessionPath(sessionID), nil)
}

// AuditPage selects part of the audit, oldest first. The zero value is its
// beginning.
type AuditPage struct {
	After string // the Next of the previous page
	Limit int    // at most 1000; 0 for the server's default
}

// Audit returns part of the audit, to an admin. Nothing in it has been verified;
// see package audit.
func (a *Client) Audit(ctx context.Context, p AuditPage) (audit.Page, error) {
	q := url.Values{}
	if p.After != "" {
		q.Set("after", p.After)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	return fetch[audit.Page](ctx, a, "/v1/audit", q)
}

// ReserveKey returns a key id for a later keygen request with r.
func (a *Client) ReserveKey(ctx context.Context, r request.Keygen) (keyID string, err error) {
	var task struct {
		KeyID string `json:"key_id"`
	}
	body := r.Wire()
	body.KeyID = "" // the request asks for it
	err = a.do(ctx, webCall{method: http.MethodPost, path: "/v1/keys", body: body}, &task)
	return task.KeyID, err
}

// ReserveSigning returns a session id for a later signing request with r.
func (a *Client) ReserveSigning(ctx context.Context, r request.Sign) (sessionID string, err error) {
	var task struct {
		SessionID string `json:"session_id"`
	}
	err = a.do(ctx, webCall{method: http.MethodPost, path: signaturesPath(r.KeyID), body: r.Wire()}, &task)
	return task.SessionID, err
}

// CancelSession ends one of the caller's sessions.
func (a *Client) CancelSession(ctx context.Context, sessionID string) (SessionInfo, error) {
	return a.CancelSessionFor(ctx, sessionID, "")
}

// CancelSessionFor is CancelSession with a reason, for the participants.
func (a *Client) CancelSessionFor(ctx context.Context, sessionID, reason string) (SessionInfo, error) {
	var s SessionInfo
	err := a.do(ctx, webCall{method: http.MethodDelete, path: sessionPath(sessionID), query: reasonQuery(reason)}, &s)
	return s, err
}

// ResendOutcome has the outcome of an ended session sent to the webhook again, at
// once: for its coordinator, and admins. It returns a *wire.Error with
// CodeNotFound, also without a webhook, CodeForbidden, or CodeConflict for a
// session that has not ended.
func (a *Client) ResendOutcome(ctx context.Context, sessionID string) error {
	var answer struct{}
	return a.do(ctx, webCall{method: http.MethodPost, path: sessionPath(sessionID) + "/webhook"}, &answer)
}

// fetch returns the resource at path.
func fetch[T any](ctx context.Context, a *Client, path string, query url.Values) (v T, err error) {
	err = a.do(ctx, webCall{method: http.MethodGet, path: path, query: query}, &v)
	return v, err
}

func sessionPath(id string) string    { return "/v1/sessions/" + url.PathEscape(id) }
func signaturesPath(id string) string { return "/v1/keys/" + url.PathEscape(id) + "/signatures" }

// webCall is one call of the API. The path is escaped.
type webCall struct {
	method, path string
	query        url.Values
	once         string        // Idempotency-Key
	wait         time.Duration // how long the server may wait before it answers
	body         any           // nil for none
}

// open reports whether the call needs no token.
func (c webCall) open() bool {
	return c.path == "/v1/login" || c.path == "/v1/token/refresh" || c.path == "/v1/logout"
}

// repeatable reports whether the call may be made at two servers.
func (c webCall) repeatable() bool { return c.method != http.MethodPost || c.once != "" }

// reply is a server's answer: a body, or a refusal.
type reply struct {
	body []byte
	err  error
	from *url.URL
}

// do makes a call at the first base URL that answers, and once more if the token
// has expired there and the source has another.
func (a *Client) do(ctx context.Context, c webCall, into any) error {
	token, err := a.freshToken(ctx)
	if err != nil && !c.open() {
		return err
	}
	err = a.doWith(ctx, c, token, into)
	var told *wire.Error
	if c.open() || !errors.As(err, &told) || told.Code != wire.CodeTokenExpired {
		return err
	}
	if next, missing := a.freshToken(WithSpentToken(ctx, token)); missing == nil && next != token {
		return a.doWith(ctx, c, next, into)
	}
	return err
}

// doWith makes a call with a token, or without one.
func (a *Client) doWith(ctx context.Context, c webCall, token string, into any) error {
	var raw []byte
	if c.body != nil {
		var err error
		if raw, err = json.Marshal(c.body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	stagger := servers.StaggerBy + c.wait
	if !c.repeatable() {
		stagger = httpTimeout
		a.probe(ctx)
	}
	r, i, err := servers.Race(ctx, a.servers, stagger, func(ctx context.Context, i int) (reply, error) {
		body, err := a.once(ctx, a.bases[i], c, token, raw)
		if err == nil && !json.Valid(body) {
			err = notConclave(c, a.bases[i])
		}
		if err != nil && elsewhere(err) {
			return reply{}, err
		}
		return reply{body, err, a.bases[i]}, nil
	}, nil)
	switch {
	case err != nil:
		return err
	case r.err != nil:
		return r.err
	}
	a.servers.Answered(i)
	if err := wire.Unmarshal(r.body, into); err != nil {
		return notConclave(c, r.from)
	}
	return nil
}

func notConclave(c webCall, base *url.URL) error {
	return fmt.Errorf("%s %s: %w; is this its URL?", c.method, base.JoinPath(c.path), ErrNotConclave)
}

// elsewhere reports whether another server may answer a call that this one has not.
func elsewhere(err error) bool {
	var told *wire.Error
	return !errors.As(err, &told) || told.Code == wire.CodeUnavailable
}

// probe finds a server that answers, if there are several, for a call that must go
// to one only.
func (a *Client) probe(ctx context.Context) {
	if len(a.bases) == 1 {
		return
	}
	_, i, err := servers.Race(ctx, a.servers, servers.StaggerBy, func(ctx context.Context, i int) (reply, error) {
		_, err := a.once(ctx, a.bases[i], webCall{method: http.MethodGet, path: "/healthz"}, "", nil)
		var network *url.Error
		if errors.As(err, &network) {
			return reply{}, err
		}
		return reply{}, nil
	}, nil)
	if err == nil {
		a.servers.Answered(i)
	}
}

func (a *Client) freshToken(ctx context.Context) (string, error) {
	if a.token == nil {
		return "", errors.New("client: no token source")
	}
	token, err := a.token(ctx)
	return strings.TrimSpace(token), err
}

// newRequest makes a call's request to one base URL.
func newRequest(ctx context.Context, base *url.URL, c webCall, token string, body []byte) (*http.Request, error) {
	target := base.JoinPath(c.path) // keeps its escapes
	target.RawQuery = c.query.Encode()
	req, err := http.NewRequestWithContext(ctx, c.method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.method, c.path, err)
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if c.once != "" {
		req.Header.Set("Idempotency-Key", c.once)
	}
	return req, nil
}

// once makes a call at one base URL and returns the answer.
func (a *Client) once(ctx context.Context, base *url.URL, c webCall, token string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, httpTimeout+c.wait)
	defer cancel()
	req, err := newRequest(ctx, base, c, token, body)
	if err != nil {
		return nil, err
	}
	resp, err := a.begin(req, answerBegins+c.wait)
	if err != nil {
		return nil, err // an *url.Error, which says what was attempted
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize))
	if err != nil {
		return nil, fmt.Errorf("%s %s: read answer: %w", c.method, req.URL, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, servers.Problem(resp, answer)
	}
	return answer, nil
}

// answered reports an answer to OnAnswer.
func (a *Client) answered(resp *http.Response) {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return
	}
	if a.onAnswer != nil {
		a.onAnswer()
	}
}

// begin sends a request whose answer must begin within some time.
func (a *Client) begin(req *http.Request, within time.Duration) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	late := time.AfterFunc(within, func() { cancel(errNoAnswer) })
	resp, err := a.http.Do(req.WithContext(ctx))
	if !late.Stop() && err != nil && context.Cause(ctx) == errNoAnswer {
		err = &url.Error{Op: req.Method, URL: req.URL.Redacted(), Err: errNoAnswer}
	}
	if err == nil {
		a.answered(resp)
	}
	return resp, err
}

// errNoAnswer says that a server has accepted a call and not answered it.
var errNoAnswer = errors.New("it does not answer")

// ErrNotConclave is returned when the answering server is not Conclave.
var ErrNotConclave = servers.ErrNotConclave
