package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// MinSecretBytes is the least length of an HS256 secret: that of the hash.
	MinSecretBytes = 32
	// MaxTTL is the longest life that any token may have. What is revoked is
	// remembered for as long.
	MaxTTL = 366 * 24 * time.Hour

	// generationClaim is the claim of this cluster's own tokens that says which
	// of the account's generations they belong to; see [Revocation].
	generationClaim = "gen"

	// earlierFor is how long after its expiry a token still shows that its bearer has
	// had access.
	earlierFor = 90 * 24 * time.Hour
)

// HS256 issues and verifies tokens signed with HMAC-SHA256 and a secret that all
// nodes share. Make one with [NewHS256].
type HS256 struct {
	current  []byte
	keys     jwt.VerificationKeySet // current, then previous ones
	issuer   string
	audience string
	maxLife  time.Duration
	now      func() time.Time
	issued   func() time.Time // the clock of what it issues
	policy   *policy
	cache    *tokenCache
}

// Option alters what [NewHS256] makes.
type Option func(*HS256)

// WithPrevious makes tokens signed with earlier secrets good until they expire,
// so that a secret can be changed without logging everybody out. None of them
// signs new tokens.
func WithPrevious(secrets ...[]byte) Option {
	return func(h *HS256) {
		for _, s := range secrets {
			h.keys.Keys = append(h.keys.Keys, append([]byte(nil), s...))
		}
	}
}

// WithMaxLife refuses tokens that live longer than d, from iat to exp and from
// now to exp. Without it the most is [MaxTTL].
func WithMaxLife(d time.Duration) Option {
	return func(h *HS256) { h.maxLife = d }
}

// WithIssueClock replaces the clock by which tokens are issued, but not the one by
// which they are verified.
func WithIssueClock(now func() time.Time) Option {
	return func(h *HS256) { h.issued = now }
}

// WithClock replaces time.Now.
func WithClock(now func() time.Time) Option {
	return func(h *HS256) { h.now = now }
}

// NewHS256 returns an issuer and verifier of tokens under secret, which is used
// as it is and must have at least [MinSecretBytes] bytes. A non-empty issuer or
// audience is written into every token issued and demanded of every token
// verified; an empty one is not looked at.
func NewHS256(secret []byte, issuer, audience string, options ...Option) (*HS256, error) {
	h := &HS256{
		current:  append([]byte(nil), secret...),
		issuer:   issuer,
		audience: audience,
		maxLife:  MaxTTL,
		now:      time.Now,
		cache:    newTokenCache(maxCachedTokens),
	}
	h.keys.Keys = []jwt.VerificationKey{h.current}
	for _, option := range options {
		option(h)
	}
	if h.issued == nil {
		h.issued = h.now
	}
	for _, key := range h.keys.Keys {
		if n := len(key.([]byte)); n < MinSecretBytes {
			return nil, fmt.Errorf("jwt secret has %d bytes, it needs at least %d", n, MinSecretBytes)
		}
	}
	var err error
	h.policy, err = newPolicy([]string{jwt.SigningMethodHS256.Alg()}, issuer, audience, h.maxLife, h.now)
	return h, err
}

// Issue returns a new token for the user sub, good for ttl (rounded down to
// whole seconds of the clock), and what it says.
func (h *HS256) Issue(sub string, roles []wire.Role, ttl time.Duration) (string, Claims, error) {
	return h.issue(sub, roles, 0, "", ttl)
}

// IssueFor is Issue for an account that has logged in: the token belongs to the
// account's generation, so that revoking the account's tokens later ends it,
// whatever the clocks say.
func (h *HS256) IssueFor(account Account, ttl time.Duration) (string, Claims, error) {
	return h.issue(account.User, account.Roles, account.Generation, "", ttl)
}

// IssueForLogin is IssueFor for a token of a login that can be renewed, by its id,
// with which the token's jti begins.
func (h *HS256) IssueForLogin(account Account, login string, ttl time.Duration) (string, Claims, error) {
	return h.issue(account.User, account.Roles, account.Generation, login, ttl)
}

// Now is the time by the clock that tokens are verified by.
func (h *HS256) Now() time.Time { return h.now() }

// issue makes a token. Login is that of which it is, or "".
func (h *HS256) issue(sub string, roles []wire.Role, generation int64, login string, ttl time.Duration) (string, Claims, error) {
	switch {
	case !wire.StoredID(sub), generation == 0 && !wire.ValidID(sub):
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: not a valid user id")
	case len(roles) == 0:
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: no role")
	case ttl < time.Second || ttl > h.maxLife:
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: life must be from 1s to %s", h.maxLife)
	}
	for _, r := range roles {
		if !r.Valid() {
			return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: no such role %q", r)
		}
	}
	now := h.issued().Truncate(time.Second)
	c := Claims{
		Subject:    sub,
		Roles:      append([]wire.Role(nil), roles...),
		IssuedAt:   now,
		ExpiresAt:  now.Add(ttl).Truncate(time.Second),
		ID:         rand.Text(),
		Generation: generation,
	}
	if login != "" {
		c.ID = login + "." + c.ID
	}
	claims := jwt.MapClaims{
		"sub":   c.Subject,
		"roles": c.Roles,
		"iat":   c.IssuedAt.Unix(),
		"exp":   c.ExpiresAt.Unix(),
		"jti":   c.ID,
	}
	if generation > 0 {
		claims[generationClaim] = generation
	}
	if h.issuer != "" {
		claims["iss"] = h.issuer
	}
	if h.audience != "" {
		claims["aud"] = h.audience
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(h.current)
	if err != nil {
		return "", Claims{}, fmt.Errorf("sign token: %w", err)
	}
	if len(token) > wire.MaxTokenBytes {
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: it would be longer than %d bytes", wire.MaxTokenBytes)
	}
	return token, c, nil
}

// Earlier returns what a token says that has been issued under one of the secrets,
// also if it has expired since, by at most 90 days, and whether it is one. It gives no access: it says
// that whoever shows it has had access before.
func (h *HS256) Earlier(token string) (Claims, bool) {
	if len(token) > wire.MaxTokenBytes {
		return Claims{}, false
	}
	if _, err := parseHeader(token); err != nil {
		return Claims{}, false
	}
	var set claimSet
	_, err := h.policy.parser.ParseWithClaims(token, &set, func(*jwt.Token) (any, error) { return h.keys, nil })
	if fault := tokenFault(err); fault != nil && fault.Code != wire.CodeTokenExpired {
		return Claims{}, false
	}
	c, err := set.claims(nil)
	if err == nil {
		c.Generation, err = set.generation()
	}
	// A revocation is not remembered for ever.
	return c, err == nil && c.ID != "" && h.now().Sub(c.ExpiresAt) < earlierFor
}

// Verify implements [Verifier]. A token once found good is remembered by its
// SHA-256 until it expires, so that a busy connection costs one hash a message.
func (h *HS256) Verify(_ context.Context, token string) (Claims, error) {
	if len(token) > wire.MaxTokenBytes {
		return Claims{}, errTokenTooLong()
	}
	sum := sha256.Sum256([]byte(token))
	if c, ok := h.cache.get(sum); ok {
		return c.unexpired(h.now())
	}
	if _, err := parseHeader(token); err != nil {
		return Claims{}, err
	}
	// A kid is not looked at: the secrets have no names, and are tried in turn.
	c, set, err := h.policy.verify(token, func(*jwt.Token) (any, error) { return h.keys, nil })
	if err == nil {
		c.Generation, err = set.generation()
	}
	if err == nil && c.Generation == 0 {
		err = c.nameable()
	}
	if err != nil {
		return Claims{}, err
	}
	h.cache.put(sum, c)
	return c, nil
}
