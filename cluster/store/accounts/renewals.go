package accounts

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	//go:embed login_renew.lua
	loginRenew  string
	renewScript = redisx.NewScript(loginRenew)
)

const (
	// DefaultRefreshTTL is how long a login can be renewed after its last renewal.
	DefaultRefreshTTL = 30 * 24 * time.Hour

	maxLoginsOfUser = 256
	maxLabelBytes   = 64
	maxAttemptBytes = 64
	// repeatWithin is how long after a renewal a client that names no attempt may
	// repeat it, once.
	repeatWithin = time.Minute

	// endsPerHour bounds how many entries an account adds to the revocation stream
	// by logging out: an entry is kept for a year.
	endsPerHour = 20
)

// RenewalsConfig configures [NewRenewals]. All but the durations is required.
type RenewalsConfig struct {
	// Redis keeps the logins' numbers.
	Redis redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix   string
	Tokens   *auth.HS256
	Accounts *Store
	Revoked  *Revocations
	// TokenTTL is the lifetime of tokens issued by a renewal.
	TokenTTL time.Duration
	// Idle is how long a login can be renewed after its last renewal. Zero value
	// means DefaultRefreshTTL.
	Idle time.Duration
	// Longest is how long after its beginning a login can be renewed at all. Zero
	// value means auth.MaxTTL, the maximum: revocations are kept for as long.
	Longest time.Duration
}

// Renewals lets clients that run unattended renew their login: a refresh token is
// exchanged for a new token and the next refresh token.
//
// A refresh token is verified by its code (HMAC-SHA256 under a key derived from the
// token secret), not by anything in Redis. Redis keeps only the number of each
// login's next refresh token, which detects a token that is used twice, and holds
// nothing worth stealing. A login ends as tokens do: when it is revoked (by its id,
// by one of its tokens, or with all of its user's tokens), when the password
// changes, and when the account is disabled.
//
// A refresh token that is used a second time ends its login, since one of its two
// bearers is a thief. The exception is the newest one: a client whose reply was
// lost repeats its named attempt, through any node and at any time until it has
// used the next token, and gets the same reply. Without a name for the attempt it
// may repeat it once within a minute.
//
// Redis may lose its newest writes (a failover, a backup): the numbers in tokens
// are then ahead of those in Redis, which adopts them.
//
// It starts no goroutine and is safe for concurrent use.
type Renewals struct {
	cfg  RenewalsConfig
	ends *limit.Throttle
}

// NewRenewals returns the renewable logins kept in cfg.Redis. It does no I/O.
func NewRenewals(cfg RenewalsConfig) (*Renewals, error) {
	if cfg.Redis == nil || cfg.Tokens == nil || cfg.Accounts == nil || cfg.Revoked == nil || cfg.TokenTTL <= 0 {
		return nil, errors.New("renewals: the configuration is not complete")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Idle == 0 {
		cfg.Idle = DefaultRefreshTTL
	}
	if cfg.Longest == 0 {
		cfg.Longest = auth.MaxTTL
	}
	if cfg.Idle < time.Second || cfg.Longest < cfg.Idle || cfg.Longest > auth.MaxTTL {
		return nil, fmt.Errorf("renewals: the refresh TTL must be from 1s to %s", auth.MaxTTL)
	}
	return &Renewals{cfg: cfg, ends: limit.NewThrottle(endsPerHour/3600.0, endsPerHour)}, nil
}

// Begin begins a login of an account that has just authenticated. The label is for
// people, up to 64 bytes.
func (r *Renewals) Begin(ctx context.Context, account auth.Account, label string) (auth.Renewed, error) {
	if len(label) > maxLabelBytes || !auth.IsText(label) {
		return auth.Renewed{}, wire.Errorf(wire.CodeBadRequest, "label must be up to %d bytes of text", maxLabelBytes)
	}
	c := auth.Refresh{User: account.User, Login: rand.Text(), Generation: account.Generation, Began: r.now().UnixMilli()}
	return r.next(ctx, account, c, "", label)
}

// Renew exchanges a refresh token for a new token and the next refresh token.
// Attempt is up to 64 visible ASCII characters by which the client alone identifies
// repetitions of one exchange; "" for none. The errors are *wire.Error:
// CodeUnauthenticated for an invalid or revoked token, CodeTokenExpired for a login
// that was not renewed in time, CodeUnavailable.
func (r *Renewals) Renew(ctx context.Context, refresh, attempt string) (auth.Renewed, error) {
	if len(attempt) > maxAttemptBytes || strings.ContainsFunc(attempt, func(c rune) bool { return c < '!' || c > '~' }) {
		return auth.Renewed{}, wire.Errorf(wire.CodeBadRequest, "attempt must be up to %d visible ASCII characters", maxAttemptBytes)
	}
	c, err := r.cfg.Tokens.ReadRefresh(refresh)
	if err != nil {
		return auth.Renewed{}, err
	}
	// From here on the user is known, also in a refusal.
	known := auth.Renewed{Account: auth.Account{User: c.User}, Login: c.Login}
	if err := c.Expired(r.now()); err != nil {
		return known, err
	}
	if err := r.cfg.Revoked.checkLogin(c.User, c.Generation, c.Login); err != nil {
		return known, ended(err)
	}
	account, err := r.cfg.Accounts.Get(ctx, c.User)
	switch {
	case wire.AsError(err).Code == wire.CodeNotFound && err != nil, err == nil && (account.Disabled || !account.LogsIn || account.Generation > c.Generation):
		return known, errLoginEnded()
	case err != nil:
		return known, err
	}
	account.Generation = max(account.Generation, c.Generation) // an older Redis may have lost it
	if renewed, err := r.next(ctx, account, c, attempt, ""); err == nil {
		return renewed, nil
	} else if err != errReused {
		return known, err
	}
	if r.ends.Take(c.User, 1) == 0 {
		if err := r.cfg.Revoked.append(ctx, auth.Revocation{Token: c.Login, By: c.User, Reason: "a refresh token was used twice"}); err != nil {
			return known, err
		}
	}
	return known, wire.Errorf(wire.CodeUnauthenticated, "the login has ended: a refresh token was used twice and may have been stolen; log in again")
}

var (
	errReused = errors.New("refresh token used twice")
	errLate   = wire.Errorf(wire.CodeConflict, "the login has been renewed by another request")
)

func errLoginEnded() *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "the login has been ended; log in again")
}

// ended reports a revocation as an ended login; its client needs to know no more.
func ended(err error) error {
	if wire.AsError(err) == auth.ErrRevoked {
		return errLoginEnded()
	}
	return err
}

// next makes the tokens that follow those of c.
func (r *Renewals) next(ctx context.Context, account auth.Account, c auth.Refresh, attempt, label string) (auth.Renewed, error) {
	now := r.now()
	until := min(now.Add(r.cfg.Idle).UnixMilli(), time.UnixMilli(c.Began).Add(r.cfg.Longest).UnixMilli())
	number, err := renewScript.Run(ctx, r.cfg.Redis, []string{loginsOfKey(r.cfg.Prefix, c.User)}, c.Login, c.Number, attempt, label, c.Began,
		max(until-now.UnixMilli(), 1), repeatWithin.Milliseconds(), maxLoginsOfUser).Int64()
	switch {
	case err != nil:
		return auth.Renewed{}, unavailable("renew login", err)
	case number == 0:
		return auth.Renewed{}, errReused
	case number < 0:
		return auth.Renewed{}, errLate
	}
	out := auth.Renewed{Account: account, Login: c.Login, Until: time.UnixMilli(until)}
	if out.Token, out.Claims, err = r.cfg.Tokens.IssueForLogin(account, c.Login, r.cfg.TokenTTL); err != nil {
		return auth.Renewed{}, err
	}
	c.Number, c.Until = number, until
	out.Refresh, err = r.cfg.Tokens.IssueRefresh(c)
	return out, err
}

// End ends the login of a refresh token, with all its tokens, and returns its user.
// It returns CodeRateLimited for an account that ends too many.
func (r *Renewals) End(ctx context.Context, refresh string) (user string, err error) {
	c, err := r.cfg.Tokens.ReadRefresh(refresh)
	if err != nil {
		return "", err
	}
	return c.User, r.end(ctx, c.User, c.Login)
}

// EndToken ends a token, and its login, if that can be renewed. Its errors are
// End's.
func (r *Renewals) EndToken(ctx context.Context, c auth.Claims) error {
	if login := c.Login(); login != "" {
		return r.end(ctx, c.Subject, login)
	}
	if c.ID == "" {
		return wire.Errorf(wire.CodeBadRequest, "the token has no jti and cannot be revoked on its own")
	}
	return r.end(ctx, c.Subject, c.ID)
}

func (r *Renewals) end(ctx context.Context, user, id string) error {
	if r.cfg.Revoked.known(id) {
		return nil
	}
	if err := auth.Charge(r.ends, user, 1, "too many logouts"); err != nil {
		return err
	}
	if err := r.cfg.Redis.HDel(ctx, loginsOfKey(r.cfg.Prefix, user), id).Err(); err != nil {
		return unavailable("end login", err)
	}
	return r.cfg.Revoked.append(ctx, auth.Revocation{Token: id, By: user, Reason: "logged out"})
}

// List returns a user's renewable logins, most recently renewed first.
func (r *Renewals) List(ctx context.Context, user string) ([]auth.Login, error) {
	if !wire.StoredID(user) {
		return nil, errNoAccount()
	}
	fields, err := r.cfg.Redis.HGetAll(ctx, loginsOfKey(r.cfg.Prefix, user)).Result()
	if err != nil {
		return nil, unavailable("list logins", err)
	}
	list := []auth.Login{}
	for id, text := range fields {
		var noted struct {
			Number  int64  `json:"number"`
			Began   int64  `json:"began"`
			Renewed int64  `json:"renewed"`
			Until   int64  `json:"until_ms"`
			Label   string `json:"label"`
		}
		if json.Unmarshal([]byte(text), &noted) != nil || r.now().UnixMilli() >= noted.Until || r.cfg.Revoked.known(id) {
			continue
		}
		// Logins from before all of the user's tokens were revoked have ended.
		if e, ok := r.cfg.Revoked.ofUser(user); ok && noted.Began <= e.At.UnixMilli() {
			continue
		}
		list = append(list, auth.Login{
			ID: id, Label: noted.Label, Began: time.UnixMilli(noted.Began), Renewed: time.UnixMilli(noted.Renewed),
			Until: time.UnixMilli(noted.Until), Count: noted.Number - 1,
		})
	}
	slices.SortFunc(list, func(a, b auth.Login) int {
		if c := b.Renewed.Compare(a.Renewed); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list, nil
}

func (r *Renewals) now() time.Time { return r.cfg.Tokens.Now() }
