package auth

import (
	"context"
	_ "embed"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// Defaults of [RevocationsConfig].
	defaultRevokedEvery = 250 * time.Millisecond
	defaultStaleAfter   = 6 * time.Second

	revokedPage     = 1000        // entries read at once
	revokedAllEvery = time.Minute // how often all is read again, whatever has changed
	maxTokenIDBytes = 256
)

var (
	//go:embed revoke.lua
	revokeSource string
	revokeScript = redis.NewScript(revokeSource)
)

// ErrRevoked is the error of [Revocations] for a token that was good once and is
// revoked, or whose account is disabled. Compare it with ==, as [wire.AsError] returns
// it: errors.Is compares codes.
var ErrRevoked = wire.Errorf(wire.CodeUnauthenticated, "token has been revoked; log in again")

// Revocation says which tokens are good no longer: one, by Token, or all that
// User has at that time.
type Revocation struct {
	Token      string    // a jti
	User       string    // a user id
	Generation int64     // the account's from then on; 0 if it has no account here
	At         time.Time // by Redis's clock; set when it is read
	By         string    // who wanted it
	Reason     string
}

// RevocationsConfig is what [NewRevocations] needs.
type RevocationsConfig struct {
	// Redis keeps them. Required.
	Redis redis.UniversalClient
	// Durable, where not nil, is what they are written with: a client that answers
	// when enough replicas have it too.
	Durable redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix string
	// Every is how often a node asks for what is new, and so how late at most it
	// learns of it. Zero value means 250ms.
	Every time.Duration
	// StaleAfter is how old what is known may be before no token is taken any more.
	// Zero value means 6s, a node's lease.
	StaleAfter time.Duration
	// Changed, where not nil, is called after more has become revoked, and Stale
	// when StaleAfter has passed, from Run's goroutine.
	Changed func()
	Stale   func()
	// Report, where not nil, is told when the store begins to fail, and why.
	Report func(error)
}

// Revocations knows which tokens are revoked before they expire.
//
// All nodes read one stream in Redis, revoked, each for itself and several times
// a second: there is no message that could be lost, and a node that was away
// reads what it has missed. What the stream once said is not forgotten because
// Redis forgets it. A node that cannot read for longer than StaleAfter takes no
// token at all ([Revocations.Check] returns CodeUnavailable), as it would without
// its lease.
//
// A token is revoked by its jti, or with all that its user has. For tokens of
// this cluster's logins the latter compares generations, which no clock can
// confuse: the account counts them, and the token says of which it is. For others
// it compares iat with the time of the revocation, and takes those for revoked
// that were issued up to 10 seconds later (another's clock may be ahead) or do
// not say when.
type Revocations struct {
	cfg RevocationsConfig

	// Touched only by Load's caller and Run's goroutine, which follows it.
	last    string // id of the newest entry read
	allAt   time.Time
	failing bool

	poke chan struct{} // of capacity 1: read now

	mu       sync.Mutex
	readAt   time.Time            // of the last time that Redis answered; zero before the first
	tokens   map[string]time.Time // jti, or the id of a login
	logins   map[string]time.Time // of a token that is revoked, though the others of its login are not
	users    map[string]Revocation
	disabled map[string]struct{}
}

// NewRevocations returns a list that knows nothing yet. It does no I/O.
func NewRevocations(cfg RevocationsConfig) (*Revocations, error) {
	if cfg.Redis == nil {
		return nil, errors.New("revocations: no redis client")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	if cfg.Durable == nil {
		cfg.Durable = cfg.Redis
	}
	if cfg.Every == 0 {
		cfg.Every = defaultRevokedEvery
	}
	if cfg.StaleAfter == 0 {
		cfg.StaleAfter = defaultStaleAfter
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	if cfg.Stale == nil {
		cfg.Stale = func() {}
	}
	if cfg.Report == nil {
		cfg.Report = func(error) {}
	}
	return &Revocations{
		cfg: cfg, poke: make(chan struct{}, 1),
		tokens: make(map[string]time.Time), logins: make(map[string]time.Time), users: make(map[string]Revocation), disabled: make(map[string]struct{}),
	}, nil
}

// key names the stream of revocations: written by whoever revokes, read by every
// node. TTL: MaxTTL after the last entry; older entries are trimmed.
func (r *Revocations) key() string { return r.cfg.Prefix + "revoked" }

// disabledKey names the hash of disabled accounts, user to since when: written
// with the account, read by every node. TTL: none.
func (r *Revocations) disabledKey() string { return r.cfg.Prefix + "accounts:disabled" }

// RevokeToken ends one token, by its jti. By is who wants it.
func (r *Revocations) RevokeToken(ctx context.Context, jti, by, reason string) error {
	if !validTokenID(jti) {
		return wire.Errorf(wire.CodeBadRequest, "jti must be 1 to %d bytes of text", maxTokenIDBytes)
	}
	return r.append(ctx, Revocation{Token: jti, By: by, Reason: reason})
}

// validTokenID reports whether a jti can be revoked.
func validTokenID(jti string) bool { return jti != "" && len(jti) <= maxTokenIDBytes && plain(jti) }

// plain reports whether s can stand in a store and on a screen.
func plain(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }

// append adds an entry to the stream.
func (r *Revocations) append(ctx context.Context, e Revocation) error {
	if err := checkReason(e.Reason); err != nil {
		return err
	}
	args := []any{MaxTTL.Milliseconds()}
	add := func(field, value string) {
		if value != "" {
			args = append(args, field, value)
		}
	}
	add("token", e.Token)
	add("user", e.User)
	if e.Generation > 0 {
		add("generation", strconv.FormatInt(e.Generation, 10))
	}
	add("by", e.By)
	add("at", time.Now().UTC().Format(time.RFC3339))
	add("reason", e.Reason)
	if err := revokeScript.Run(ctx, r.cfg.Durable, []string{r.key()}, args...).Err(); err != nil {
		return unavailable("revoke", err)
	}
	select {
	case r.poke <- struct{}{}:
	default:
	}
	return nil
}

// Load reads all there is. Before it has succeeded once, Check refuses all.
func (r *Revocations) Load(ctx context.Context) error {
	_, err := r.read(ctx)
	return err
}

// Run reads what is new until ctx ends.
func (r *Revocations) Run(ctx context.Context) error {
	tick := time.NewTicker(r.cfg.Every)
	defer tick.Stop()
	told := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-r.poke:
		}
		within, cancel := context.WithTimeout(ctx, r.cfg.StaleAfter/2)
		changed, err := r.read(within)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !r.failing {
			r.cfg.Report(err)
		}
		r.failing = err != nil
		if changed {
			r.cfg.Changed()
		}
		stale := r.Ready() != nil
		if stale && !told {
			r.cfg.Stale()
		}
		told = stale
	}
}

// Ready says why no token is taken, or nil.
func (r *Revocations) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready()
}

// ready is Ready with r.mu held.
func (r *Revocations) ready() error {
	if !r.readAt.IsZero() && time.Since(r.readAt) <= r.cfg.StaleAfter {
		return nil
	}
	return wire.Errorf(wire.CodeUnavailable, "which tokens are revoked is not known now; try again")
}

// Check returns nil for a token that is not revoked, ErrRevoked for one that is,
// and a *wire.Error with CodeUnavailable while that cannot be told.
func (r *Revocations) Check(c Claims) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ready(); err != nil {
		return err
	}
	if _, ok := r.disabled[c.Subject]; ok {
		return ErrRevoked
	}
	if _, ok := r.tokens[c.ID]; ok && c.ID != "" {
		return ErrRevoked
	}
	if _, ok := r.tokens[c.login()]; ok && c.login() != "" {
		return ErrRevoked
	}
	if e, ok := r.users[c.Subject]; ok && e.ends(c) {
		return ErrRevoked
	}
	return nil
}

// checkLogin is Check for a login's renewal: one whose token was revoked cannot
// be renewed either.
func (r *Revocations) checkLogin(user string, generation int64, login string) error {
	if err := r.Check(Claims{Subject: user, Generation: generation, ID: login}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.logins[login]; ok {
		return ErrRevoked
	}
	return nil
}

// known reports whether a token or login is known to be revoked.
func (r *Revocations) known(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, token := r.tokens[id]
	_, login := r.logins[id]
	return token || login
}

// ofUser returns the last revocation of all that a user had.
func (r *Revocations) ofUser(user string) (Revocation, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.users[user]
	return e, ok
}

// ends reports whether a user's revocation ends the token.
func (e Revocation) ends(c Claims) bool {
	if c.Generation > 0 && e.Generation > 0 {
		return c.Generation < e.Generation
	}
	return c.IssuedAt.IsZero() || !c.IssuedAt.After(e.At.Add(leeway))
}

// Guard returns a verifier that takes what v takes and is not revoked, also when
// v remembers it.
func (r *Revocations) Guard(v Verifier) Verifier { return guarded{v, r} }

type guarded struct {
	Verifier
	revoked *Revocations
}

// Verify implements [Verifier].
func (g guarded) Verify(ctx context.Context, token string) (Claims, error) {
	c, err := g.Verifier.Verify(ctx, token)
	if err == nil {
		err = g.revoked.Check(c)
	}
	if err != nil {
		return Claims{}, err
	}
	return c, nil
}
