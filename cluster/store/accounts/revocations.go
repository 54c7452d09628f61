package accounts

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// Defaults of [RevocationsConfig].
	defaultRevokedEvery = 250 * time.Millisecond
	defaultStaleAfter   = 6 * time.Second

	revokedPage     = 1000        // entries read at once
	revokedAllEvery = time.Minute // how often everything is read again
	maxTokenIDBytes = 256
)

var (
	//go:embed revoke.lua
	revokeSource string
	revokeScript = redisx.NewScript(revokeSource)
)

// RevocationsConfig configures [NewRevocations].
type RevocationsConfig struct {
	// Redis keeps them. Required.
	Redis redis.UniversalClient
	// Durable, if not nil, is the client for writes: it answers when enough
	// replicas have them too.
	Durable redis.UniversalClient
	// Prefix begins every key. Zero value means DefaultPrefix.
	Prefix string
	// Every is the polling interval, and so the longest delay before a node learns
	// of a revocation. Zero value means 250ms.
	Every time.Duration
	// StaleAfter is the age of the last read after which no token is accepted. Zero
	// value means 6s, a node's lease.
	StaleAfter time.Duration
	// Changed, if not nil, is called after new revocations are read, and Stale when
	// StaleAfter has passed, from Run's goroutine.
	Changed func()
	Stale   func()
	// Report, if not nil, is called when the store begins to fail, with the reason.
	Report func(error)
}

// Revocations knows which tokens are revoked before they expire.
//
// Each node reads one stream in Redis, revoked, several times a second: no message
// can be lost, and a node that was away reads the entries it has missed. A node keeps the
// entries it has read even if Redis loses them. A node that cannot read for longer
// than StaleAfter accepts no token at all ([Revocations.Check] returns
// CodeUnavailable), as it would without its lease.
//
// A token is revoked by its jti, or with all of its user's tokens. For tokens of
// this cluster's logins the latter compares generations, which do not depend on
// clocks: the account counts them, and each token holds its own. For other tokens
// it compares iat with the time of the revocation; tokens issued up to 10 seconds
// later (another clock may be ahead) or without an iat count as revoked.
type Revocations struct {
	cfg RevocationsConfig

	// Accessed only by Load's caller and then by Run's goroutine.
	last    string // id of the newest entry read
	allAt   time.Time
	failing bool

	poke chan struct{} // capacity 1: read now

	mu       sync.Mutex
	readAt   time.Time            // when Redis last answered; zero before the first
	tokens   map[string]time.Time // jti, or the id of a login
	logins   map[string]time.Time // logins with a revoked token whose other tokens are still valid
	users    map[string]auth.Revocation
	disabled map[string]struct{}
}

// NewRevocations returns an empty list. It does no I/O.
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
		tokens: make(map[string]time.Time), logins: make(map[string]time.Time), users: make(map[string]auth.Revocation), disabled: make(map[string]struct{}),
	}, nil
}

// RevokeToken ends one token, by its jti. By is the requester.
func (r *Revocations) RevokeToken(ctx context.Context, jti, by, reason string) error {
	if !auth.ValidTokenID(jti) {
		return wire.Errorf(wire.CodeBadRequest, "jti must be 1 to %d bytes of text", maxTokenIDBytes)
	}
	return r.append(ctx, auth.Revocation{Token: jti, By: by, Reason: reason})
}

// append adds an entry to the stream.
func (r *Revocations) append(ctx context.Context, e auth.Revocation) error {
	if err := checkReason(e.Reason); err != nil {
		return err
	}
	args := []any{auth.MaxTTL.Milliseconds()}
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
	if err := revokeScript.Run(ctx, r.cfg.Durable, []string{revokedKey(r.cfg.Prefix)}, args...).Err(); err != nil {
		return unavailable("revoke", err)
	}
	select {
	case r.poke <- struct{}{}:
	default:
	}
	return nil
}

// Load reads everything. Until it has succeeded once, Check refuses every token.
func (r *Revocations) Load(ctx context.Context) error {
	_, err := r.read(ctx)
	return err
}

// Run reads new entries until ctx ends.
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

// Ready returns why no token is accepted, or nil.
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
	return wire.Errorf(wire.CodeUnavailable, "revoked tokens cannot be checked now; try again")
}

// Check returns nil for a token that is not revoked, ErrRevoked for one that is,
// and a *wire.Error with CodeUnavailable while that is unknown.
func (r *Revocations) Check(c auth.Claims) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ready(); err != nil {
		return err
	}
	if _, ok := r.disabled[c.Subject]; ok {
		return auth.ErrRevoked
	}
	if _, ok := r.tokens[c.ID]; ok && c.ID != "" {
		return auth.ErrRevoked
	}
	if _, ok := r.tokens[c.Login()]; ok && c.Login() != "" {
		return auth.ErrRevoked
	}
	if e, ok := r.users[c.Subject]; ok && e.Ends(c) {
		return auth.ErrRevoked
	}
	return nil
}

// checkLogin is Check for a login's renewal: a login with a revoked token cannot be
// renewed either.
func (r *Revocations) checkLogin(user string, generation int64, login string) error {
	if err := r.Check(auth.Claims{Subject: user, Generation: generation, ID: login}); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.logins[login]; ok {
		return auth.ErrRevoked
	}
	return nil
}

// known reports whether a token or login is revoked.
func (r *Revocations) known(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, token := r.tokens[id]
	_, login := r.logins[id]
	return token || login
}

// ofUser returns the last revocation of all of a user's tokens.
func (r *Revocations) ofUser(user string) (auth.Revocation, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.users[user]
	return e, ok
}

// read reads new entries and reports whether there were any.
//
// The stream is read from the newest entry read. If that no longer exists, Redis
// has lost entries (a failover), or has trimmed them: then everything is read
// again, since new entries may have lower ids than the lost ones.
func (r *Revocations) read(ctx context.Context) (changed bool, err error) {
	asked := time.Now()
	var fresh []redis.XMessage
	all := r.last == "" || asked.Sub(r.allAt) > revokedAllEvery
	if !all {
		page, err := r.page(ctx, r.last)
		if err != nil {
			return false, err
		}
		if len(page) == 0 || page[0].ID != r.last {
			all = true
		} else {
			fresh = page[1:]
			all = len(page) == revokedPage
		}
	}
	if all {
		if fresh, err = r.everything(ctx); err != nil {
			return false, err
		}
		r.allAt = asked
	}
	var disabled map[string]string
	if all || len(fresh) > 0 {
		if disabled, err = r.cfg.Redis.HGetAll(ctx, disabledKey(r.cfg.Prefix)).Result(); err != nil {
			return false, fmt.Errorf("read disabled accounts: %w", err)
		}
	}
	changed = r.learn(fresh, disabled, asked)
	if len(fresh) > 0 {
		r.last = fresh[len(fresh)-1].ID
	} else if all {
		r.last = ""
	}
	return changed, nil
}

func (r *Revocations) page(ctx context.Context, from string) ([]redis.XMessage, error) {
	page, err := r.cfg.Redis.XRangeN(ctx, revokedKey(r.cfg.Prefix), from, "+", revokedPage).Result()
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	return page, nil
}

func (r *Revocations) everything(ctx context.Context) ([]redis.XMessage, error) {
	var all []redis.XMessage
	for from := "-"; ; {
		page, err := r.page(ctx, from)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < revokedPage {
			return all, nil
		}
		from = "(" + page[len(page)-1].ID
	}
}

// learn adds entries, and replaces the list of disabled users unless that was not
// read (nil). It reports whether any entry was new.
func (r *Revocations) learn(entries []redis.XMessage, disabled map[string]string, at time.Time) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readAt = at
	for _, m := range entries {
		e, ok := parseRevocation(m)
		if !ok || at.Sub(e.At) > auth.MaxTTL {
			continue
		}
		if e.Token != "" {
			_, known := r.tokens[e.Token]
			news = news || !known
			r.tokens[e.Token] = e.At
			if login, _, ok := strings.Cut(e.Token, "."); ok {
				r.logins[login] = e.At
			}
		}
		if old, known := r.users[e.User]; e.User != "" && (!known || e.At.After(old.At) || e.Generation > old.Generation) {
			e.Generation = max(e.Generation, old.Generation)
			if old.At.After(e.At) {
				e.At = old.At
			}
			r.users[e.User] = e
			news = true
		}
	}
	if disabled != nil {
		for user := range disabled {
			if _, known := r.disabled[user]; !known {
				news = true
			}
		}
		r.disabled = make(map[string]struct{}, len(disabled))
		for user := range disabled {
			r.disabled[user] = struct{}{}
		}
		r.forget(at)
	}
	return news
}

// forget drops entries that no token can outlive. r.mu is held.
func (r *Revocations) forget(now time.Time) {
	for _, of := range []map[string]time.Time{r.tokens, r.logins} {
		for id, at := range of {
			if now.Sub(at) > auth.MaxTTL {
				delete(of, id)
			}
		}
	}
	for user, e := range r.users {
		if now.Sub(e.At) > auth.MaxTTL {
			delete(r.users, user)
		}
	}
}

// parseRevocation parses an entry; a damaged one is skipped.
func parseRevocation(m redis.XMessage) (auth.Revocation, bool) {
	text := func(field string) string { s, _ := m.Values[field].(string); return s }
	ms, _, _ := strings.Cut(m.ID, "-")
	at, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return auth.Revocation{}, false
	}
	e := auth.Revocation{Token: text("token"), User: text("user"), By: text("by"), Reason: text("reason"), At: time.UnixMilli(at)}
	if e.Generation, err = strconv.ParseInt(text("generation"), 10, 64); err != nil {
		e.Generation = 0
	}
	return e, e.Token != "" || e.User != ""
}
