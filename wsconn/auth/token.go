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
	// MaxTTL is the longest life of a token. Revocations are kept for as long.
	MaxTTL = 366 * 24 * time.Hour

	// generationClaim is the claim of this cluster's own tokens that says which
	// of the account's generations they belong to; see [Revocation].
	generationClaim = "gen"

	// earlierFor is how long after its expiry a token still proves earlier access.
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
	issued   func() time.Time // clock for issuing
	policy   *policy
	cache    *tokenCache
}

// Option alters what [NewHS256] makes.
type Option func(*HS256)

// WithPrevious keeps tokens signed with earlier secrets valid until they expire, so
// that a secret can be changed without logging everyone out. None of them signs new
// tokens.
func WithPrevious(secrets ...[]byte) Option {
	return func(h *HS256) {
		for _, s := range secrets {
			h.keys.Keys = append(h.keys.Keys, append([]byte(nil), s...))
		}
	}
}

// WithMaxLife refuses tokens that live longer than d, from iat to exp and from now
// to exp. The default is [MaxTTL].
func WithMaxLife(d time.Duration) Option {
	return func(h *HS256) { h.maxLife = d }
}

// WithIssueClock replaces the clock for issuing tokens, but not the one for
// verifying them.
func WithIssueClock(now func() time.Time) Option {
	return func(h *HS256) { h.issued = now }
}

// WithClock replaces time.Now.
func WithClock(now func() time.Time) Option {
	return func(h *HS256) { h.now = now }
}

// NewHS256 returns an issuer and verifier of tokens under secret, which is used
// unchanged and must have at least [MinSecretBytes] bytes. A non-empty issuer or
// audience is written into every issued token and required in every verified one;
// an empty one is not checked.
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

// Issue returns a new token for the user sub, valid for ttl (rounded down to whole
// seconds of the clock), and its claims.
func (h *HS256) Issue(sub string, roles []wire.Role, ttl time.Duration) (string, Claims, error) {
	return h.issue(sub, roles, 0, "", ttl)
}

// IssueFor is Issue for an account that has logged in: the token belongs to the
// account's generation, so that revoking the account's tokens later ends it,
// whatever the clocks say.
func (h *HS256) IssueFor(account Account, ttl time.Duration) (string, Claims, error) {
	return h.issue(account.User, account.Roles, account.Generation, "", ttl)
}

// IssueForLogin is IssueFor for a token of a renewable login; the token's jti
// begins with the login's id.
func (h *HS256) IssueForLogin(account Account, login string, ttl time.Duration) (string, Claims, error) {
	return h.issue(account.User, account.Roles, account.Generation, login, ttl)
}

// Now returns the time of the clock for verifying tokens.
func (h *HS256) Now() time.Time { return h.now() }

// issue makes a token. Login is its login's id, or "".
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

// Earlier returns the claims of a token issued under one of the secrets, even if it
// expired up to 90 days ago, and whether it is one. It grants no access: it shows
// that its holder has had access before.
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
	// Revocations are not kept for ever.
	return c, err == nil && c.ID != "" && h.now().Sub(c.ExpiresAt) < earlierFor
}

// Verify implements [Verifier]. It caches a valid token by its SHA-256 until it
// expires, so that a busy connection costs one hash a message.
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
	// The kid is ignored: the secrets have no names, and are tried in turn.
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
