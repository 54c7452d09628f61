package rest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/servers"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	longPoll    = 5 * time.Second // for a session's end, in one call: a hanging server is noticed after it
	callAgainIn = 500 * time.Millisecond
	keysPath    = "/v1/keys"
)

// Answers of the web API.
type (
	NodeInfo     = wire.NodeInfo
	PresenceInfo = wire.PresenceInfo
)

// Nodes lists the live nodes. Only admins see where they are.
func (a *Client) Nodes(ctx context.Context) ([]NodeInfo, error) {
	l, err := fetch[List[NodeInfo]](ctx, a, "/v1/nodes", nil)
	return l.Items, err
}

// Presence says whether a user has a socket, and to admins, where.
func (a *Client) Presence(ctx context.Context, user string) (PresenceInfo, error) {
	return fetch[PresenceInfo](ctx, a, "/v1/presence/"+url.PathEscape(user), nil)
}

// Identity returns the registered identity of a user, if it has that fingerprint: the
// server is not trusted for it. Without one the error is ErrNoIdentity.
func (a *Client) Identity(ctx context.Context, user, fingerprint string) (identity.Public, error) {
	p, err := fetch[PresenceInfo](ctx, a, "/v1/presence/"+url.PathEscape(user), url.Values{"fingerprint": {fingerprint}})
	if err != nil {
		return identity.Public{}, err
	}
	if p.Identity == "" {
		return identity.Public{}, fmt.Errorf("%w: %s with %s", ErrNoIdentity, user, fingerprint)
	}
	id, err := identity.ParsePublic(p.Identity)
	if err != nil {
		return identity.Public{}, fmt.Errorf("the server's identity of %s: %w", user, err)
	}
	if now := id.Fingerprint(); now != fingerprint {
		return identity.Public{}, fmt.Errorf("the server returns another identity of %s, %s, than %s", user, now, fingerprint)
	}
	return id, nil
}

// ErrNoIdentity is returned by Identity if the user's client has never registered with
// that identity, or with another one since.
var ErrNoIdentity = errors.New("client: no such identity is registered")

// Keygen requests a key over HTTP and waits for it. It needs no WebSocket, so that
// a user may request several things at once, and beside a participant of its own.
// Errors are those of Keygen of package client. When no server is reachable it
// retries until ctx ends. RequestID is the Idempotency-Key, of visible ASCII
// characters: a repetition, even by another process, is the same keygen and returns
// its outcome.
func (a *Client) Keygen(ctx context.Context, r request.Keygen) (request.Key, error) {
	user, err := a.user(ctx)
	if err != nil {
		return request.Key{}, err
	}
	if r.RequestID == "" {
		r.RequestID = rand.Text()
	}
	if r.KeyID == "" {
		r.KeyID = wire.TaskKeyID(user, r.RequestID)
	}
	p, err := request.Asker{User: user, Identity: a.identity, Trust: a.trust}.Keygen(r)
	if err != nil {
		return request.Key{}, err
	}
	s, err := a.run(ctx, request.KindKeygen, webCall{method: http.MethodPost, path: keysPath, query: url.Values{"start": {"true"}}, body: p.Request.Wire(), once: r.RequestID})
	if err != nil {
		return request.Key{}, err
	}
	key, err := p.Result(s.SessionID, &wire.KeygenConfirm{
		KeyID: s.KeyID, Status: statusOf(s), AccountAddr: s.AccountAddr, SessionID: s.SessionID, PublicKey: s.PublicKey, Reason: s.Reason, Culprits: s.Culprits,
		Attestations: s.Attestations,
	})
	var changed *trust.IdentityError
	if errors.As(err, &changed) {
		a.emit(request.IdentityChanged{Kind: request.KindKeygen, SessionID: s.SessionID, KeyID: r.KeyID, IdentityError: *changed})
	}
	return key, err
}

func (a *Client) emit(e request.Event) {
	if a.onEvent != nil {
		a.onEvent(e)
	}
}

// Sign requests a signature over HTTP, waits for it and verifies it, as Keygen
// does. A RequestID is the Idempotency-Key, of visible ASCII characters.
func (a *Client) Sign(ctx context.Context, r request.Sign) (request.Signature, error) {
	if r.RequestID == "" {
		r.RequestID = rand.Text()
	}
	if err := r.Check(); err != nil {
		return request.Signature{}, err
	}
	asker := request.Asker{Identity: a.identity}
	if a.identity != nil && r.SignedRequest == "" {
		var err error
		if asker.User, err = a.user(ctx); err != nil {
			return request.Signature{}, err
		}
	}
	p, err := asker.Sign(r)
	if err != nil {
		return request.Signature{}, err
	}
	s, err := a.run(ctx, request.KindSign, webCall{method: http.MethodPost, path: signaturesPath(r.KeyID), query: url.Values{"start": {"true"}}, body: p.Request.Wire(), once: r.RequestID})
	if err != nil {
		return request.Signature{}, err
	}
	return p.Result(&wire.SignComplete{
		KeyID: s.KeyID, Status: statusOf(s), Signature: s.Signature, Data: s.Data, AccountAddr: s.AccountAddr, SessionID: s.SessionID,
		PublicKey: s.PublicKey, Reason: s.Reason, Culprits: s.Culprits,
	})
}

// user returns the token's user.
func (a *Client) user(ctx context.Context) (string, error) {
	if a.userID != "" {
		return a.userID, nil
	}
	token, err := a.freshToken(ctx)
	if err != nil {
		return "", err
	}
	return Subject(token)
}

// run starts a task and returns its session at its end.
func (a *Client) run(ctx context.Context, kind request.Kind, c webCall) (s SessionInfo, err error) {
	if a.onEvent == nil { // otherwise the result is wanted at once
		c.wait = longPoll
		c.query.Set("wait", longPoll.String())
	}
	var task wire.Task
	if err := a.persist(ctx, func() error { return a.do(ctx, c, &task) }); err != nil {
		return SessionInfo{}, err
	}
	if task.SessionID == "" {
		return SessionInfo{}, errors.New("client: the server has started nothing; is it an older one?")
	}
	a.emit(request.Requested{Kind: kind, SessionID: task.SessionID, KeyID: task.KeyID})
	if task.Session != nil && statusOf(*task.Session) != "" {
		s = *task.Session
	} else if s, err = a.WaitSession(ctx, task.SessionID); err != nil {
		return s, err
	}
	a.emit(request.Ended{Kind: kind, SessionID: s.SessionID, KeyID: s.KeyID, Status: statusOf(s), Reason: s.Reason, Culprits: s.Culprits})
	return s, nil
}

// WaitSession returns a session at its end, however long that takes.
func (a *Client) WaitSession(ctx context.Context, sessionID string) (SessionInfo, error) {
	for {
		var s SessionInfo
		call := webCall{method: http.MethodGet, path: sessionPath(sessionID), query: url.Values{"wait": {longPoll.String()}}, wait: longPoll}
		err := a.persist(ctx, func() error { return a.do(ctx, call, &s) })
		if err != nil || statusOf(s) != "" {
			return s, err
		}
	}
}

// persist repeats a call until it succeeds, is refused permanently, or ctx ends.
func (a *Client) persist(ctx context.Context, do func() error) error {
	for {
		err := do()
		if err == nil || !passes(err) {
			return err
		}
		select {
		case <-time.After(callAgainIn):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// passes reports whether a call that failed with err may succeed later: not after a
// refusal or a full storage, nor if the server is not Conclave or its certificate
// is not trusted.
func passes(err error) bool {
	var told *wire.Error
	if errors.As(err, &told) {
		return told.Temporary && told.Code != wire.CodeStorageFull || told.Code == wire.CodeUnavailable
	}
	var untrusted *tls.CertificateVerificationError
	return !errors.Is(err, servers.ErrNotConclave) && !errors.As(err, &untrusted)
}

// statusOf returns a session's outcome, empty before its end.
func statusOf(s SessionInfo) wire.Status {
	switch s.Phase {
	case "completed":
		return wire.StatusSuccess
	case "inviting", "running":
		return ""
	}
	return wire.Status(s.Phase)
}
