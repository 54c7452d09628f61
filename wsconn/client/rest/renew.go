package rest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/secret"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	renewWithin = 45 * time.Second // one attempt, at all of the URLs
	// The pause after a failed renewal doubles between these.
	renewAgainMin = 500 * time.Millisecond
	renewAgainMax = 30 * time.Second
)

// LoginRenewable is Login with a refresh token beside the token, for a [Renewer].
// The label names the login in lists of the user's logins. A server without refresh
// tokens returns only a token.
func (a *Client) LoginRenewable(ctx context.Context, user, password, label string) (Token, error) {
	var t Token
	body := map[string]any{"username": user, "password": password, "refresh": true, "label": label}
	err := a.do(ctx, webCall{method: http.MethodPost, path: "/v1/login", body: body}, &t)
	if err == nil && t.Secret == "" {
		err = errors.New("log in: the server answered without a token")
	}
	t.ReceivedAt, t.Seed = time.Now(), rand.Text()
	return t, err
}

// Renew exchanges a token's refresh token for the next token, which has its seed.
// It may be repeated with the same token, through any node, as long as the next one
// has not been renewed.
func (a *Client) Renew(ctx context.Context, t Token) (Token, error) {
	next := Token{Seed: t.Seed}
	attempt := sha256.Sum256([]byte(t.Seed + "\x00" + t.Refresh))
	id := hex.EncodeToString(attempt[:16])
	body := map[string]string{"refresh_token": t.Refresh, "attempt": id}
	err := a.do(ctx, webCall{method: http.MethodPost, path: "/v1/token/refresh", body: body, once: id}, &next)
	if err == nil && (next.Secret == "" || next.Refresh == "") {
		err = errors.New("renew the login: the server answered without a token")
	}
	next.ReceivedAt = time.Now()
	return next, err
}

// Logout ends a login at the servers, with all its tokens: that of a refresh token,
// or, if it is "", that of Config.Token.
func (a *Client) Logout(ctx context.Context, refresh string) error {
	var answer struct{}
	return a.do(ctx, webCall{method: http.MethodPost, path: "/v1/logout", body: map[string]string{"refresh_token": refresh}}, &answer)
}

// WhoAmI is the servers' description of a token.
type WhoAmI struct {
	UserID    string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`
	TokenID   string      `json:"token_id,omitempty"`
	IssuedAt  time.Time   `json:"issued_at,omitzero"`
	ExpiresAt time.Time   `json:"expires_at"`
	Issuer    string      `json:"issuer"` // conclave, or other
}

// WhoAmI returns the servers' description of Config.Token.
func (a *Client) WhoAmI(ctx context.Context) (WhoAmI, error) {
	return fetch[WhoAmI](ctx, a, "/v1/whoami", nil)
}

// LoginInfo is a user's renewable login.
type LoginInfo struct {
	LoginID   string    `json:"login_id"` // RevokeTokens ends it by this id
	Label     string    `json:"label,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	RenewedAt time.Time `json:"renewed_at"`
	ExpiresAt time.Time `json:"expires_at"` // if it is not renewed
	Renewals  int64     `json:"renewals"`
}

// Logins lists a user's renewable logins: the caller's own, or, for an admin, any
// user's.
func (a *Client) Logins(ctx context.Context, user string) ([]LoginInfo, error) {
	l, err := fetch[List[LoginInfo]](ctx, a, "/v1/users/"+url.PathEscape(user)+"/logins", nil)
	return l.Items, err
}

// RevokeTokens ends all tokens of a user, or one login or token by its id: one of
// the two is "". For admins.
func (a *Client) RevokeTokens(ctx context.Context, user, id, reason string) error {
	var answer struct{}
	body := map[string]string{"user": user, "jti": id, "reason": reason}
	return a.do(ctx, webCall{method: http.MethodPost, path: "/v1/tokens/revoke", body: body}, &answer)
}

// Life returns from when to when the token is valid, by this machine's clock: its
// times are the server's, whose clock may differ.
func (t Token) Life() (from, until time.Time) {
	var claims struct {
		IssuedAt float64 `json:"iat"`
		Expires  float64 `json:"exp"`
	}
	parts := strings.Split(t.Secret, ".")
	if len(parts) == 3 {
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(raw, &claims)
		}
	}
	// Rounded down to whole seconds: it was issued up to one later than it says.
	life := time.Duration(claims.Expires-claims.IssuedAt-1) * time.Second
	if t.ReceivedAt.IsZero() || claims.IssuedAt <= 0 || life <= 0 {
		return t.ReceivedAt, t.ExpiresAt
	}
	return t.ReceivedAt, t.ReceivedAt.Add(life)
}

// renewAt returns when to renew a token: between half and two thirds of its life,
// spread, so that clients that logged in together do not renew together.
func (t Token) renewAt() time.Time {
	from, until := t.Life()
	life := until.Sub(from)
	sum := sha256.Sum256([]byte(t.Secret))
	return from.Add(life/2 + life/6*time.Duration(sum[0])/256)
}

// RenewerConfig configures [NewRenewer]. API, Load and Save are required.
type RenewerConfig struct {
	// API renews the logins. It needs no token.
	API *Client
	// Load returns the last saved token: by LoginRenewable's caller, by Save, or by
	// another process. It is called often.
	Load func() (Token, error)
	// Save stores the next token durably: its predecessor is no longer valid. The
	// seed is saved with it.
	Save func(Token) error
	// LockFile, where not empty, keeps processes that share Load's storage from
	// renewing at the same time. It is created.
	LockFile string
	// OnError, where not nil, is called when a renewal failed and will be retried.
	// Calls come from another goroutine, one at a time.
	OnError func(error)
}

// Renewer keeps a login renewed while its tokens are requested. It is safe for
// concurrent use. Each renewal runs in a goroutine of its own, which ends within a
// minute.
type Renewer struct {
	cfg RenewerConfig

	mu      sync.Mutex
	trying  chan struct{} // closed when the renewal has ended; nil: none runs
	notYet  time.Time     // no renewal before this time
	pause   time.Duration
	unsaved Token  // a token that Save could not store
	refused string // a refresh token that the server refuses
	why     error
}

// NewRenewer returns a Renewer. It does no I/O.
func NewRenewer(cfg RenewerConfig) (*Renewer, error) {
	if cfg.API == nil || cfg.Load == nil || cfg.Save == nil {
		return nil, errors.New("client: a Renewer needs an API, Load and Save")
	}
	if cfg.OnError == nil {
		cfg.OnError = func(error) {}
	}
	return &Renewer{cfg: cfg}, nil
}

// Token is a [TokenSource]. It renews the login in time, in the background while
// the token is valid, and waits only if it is not. Its error is not temporary for a
// login that has ended at the servers.
func (r *Renewer) Token(ctx context.Context) (string, error) {
	for {
		t, err := r.load()
		if err != nil {
			return "", err
		}
		now, over := time.Now(), SpentToken(ctx) == t.Secret
		if t.Refresh == "" || now.Before(t.renewAt()) && !over {
			return t.Secret, nil
		}
		done, err := r.renew(t, over)
		if err != nil {
			return "", err
		}
		if _, until := t.Life(); now.Before(until) && !over {
			return t.Secret, nil
		}
		select {
		case <-done:
		case <-ctx.Done():
			return "", fmt.Errorf("renew the login: %w", ctx.Err())
		}
	}
}

// load returns the newest token.
func (r *Renewer) load() (Token, error) {
	t, err := r.cfg.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && r.unsaved.Secret != "" && t.ReceivedAt.After(r.unsaved.ReceivedAt) {
		r.unsaved = Token{} // a new login was saved
	}
	if r.unsaved.Secret != "" {
		return r.unsaved, nil
	}
	return t, err
}

// renew starts a renewal of t, unless one runs, and returns a channel that is
// closed when the result may be checked; or an error if it cannot help. Over means
// that the servers have reported t as expired, whatever the clock says here.
func (r *Renewer) renew(t Token, over bool) (<-chan struct{}, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch wait := time.Until(r.notYet); {
	case r.why != nil && r.refused == t.Refresh:
		return nil, r.why
	case r.trying != nil:
		return r.trying, nil
	case wait > 0:
		later := make(chan struct{})
		time.AfterFunc(wait, func() { close(later) })
		return later, nil
	}
	done := make(chan struct{})
	r.trying = done
	go func() {
		err := r.once(t, over)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil {
			r.pause = min(max(2*r.pause, renewAgainMin), renewAgainMax)
			r.notYet = time.Now().Add(r.pause)
		} else {
			r.pause = 0
		}
		r.trying = nil
		close(done)
	}()
	return done, nil
}

// once renews the login of the token old, unless another process has.
func (r *Renewer) once(old Token, over bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), renewWithin)
	defer cancel()
	if r.cfg.LockFile != "" {
		lock, err := secret.LockFile(r.cfg.LockFile)
		if err != nil {
			if !errors.Is(err, secret.ErrLocked) {
				r.cfg.OnError(err)
			}
			return err
		}
		defer lock.Close()
	}
	t, err := r.load()
	if err == nil && r.keeps(t) {
		err = r.save(t)
	}
	if err != nil || t.Refresh == "" || time.Now().Before(t.renewAt()) && !(over && t.Secret == old.Secret) {
		return err
	}
	next, err := r.cfg.API.Renew(ctx, t)
	var told *wire.Error
	switch {
	case errors.As(err, &told) && (told.Code == wire.CodeUnauthenticated || told.Code == wire.CodeTokenExpired || told.Code == wire.CodeConflict):
		r.mu.Lock()
		r.refused, r.why = t.Refresh, err
		r.mu.Unlock()
		return nil
	case err != nil:
		r.cfg.OnError(fmt.Errorf("the login was not renewed, will try again: %w", err))
		return err
	}
	return r.save(next)
}

// keeps reports whether t is a token that Save could not store.
func (r *Renewer) keeps(t Token) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unsaved.Secret != "" && r.unsaved.Secret == t.Secret
}

func (r *Renewer) save(t Token) error {
	err := r.cfg.Save(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.unsaved = t // and no renewal before it is saved
		r.cfg.OnError(fmt.Errorf("the renewed login cannot be saved, will try again: %w", err))
		return err
	}
	r.unsaved = Token{}
	return nil
}

type spentKey struct{}

// WithSpentToken tells a [TokenSource] that the servers have reported a token as
// expired, so that it ignores its own clock: see [SpentToken].
func WithSpentToken(ctx context.Context, token string) context.Context {
	return context.WithValue(ctx, spentKey{}, token)
}

// SpentToken returns the token that the servers have reported as expired, if that
// is why a [TokenSource] is called, else "". Returning it again does not help.
func SpentToken(ctx context.Context) string {
	token, _ := ctx.Value(spentKey{}).(string)
	return token
}
