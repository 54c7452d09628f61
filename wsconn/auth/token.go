package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// MinSecretBytes is the least length of an HS256 secret: that of the hash.
	MinSecretBytes = 32
	// MaxTTL is the longest life that Issue gives to a token.
	MaxTTL = 366 * 24 * time.Hour

	// leeway forgives a clock that is ahead when a token was issued. An expired
	// token gets none: sockets close at the same moment.
	leeway = 10 * time.Second
)

// HS256 issues and verifies tokens signed with HMAC-SHA256 and a secret that all
// nodes share. Make one with [NewHS256].
type HS256 struct {
	current  []byte
	keys     jwt.VerificationKeySet // current, then previous ones
	issuer   string
	audience string
	now      func() time.Time
	parser   *jwt.Parser
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
			h.keys.Keys = append(h.keys.Keys, s)
		}
	}
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
		now:      time.Now,
		cache:    newTokenCache(maxCachedTokens),
	}
	h.keys.Keys = []jwt.VerificationKey{h.current}
	for _, option := range options {
		option(h)
	}
	for _, key := range h.keys.Keys {
		if n := len(key.([]byte)); n < MinSecretBytes {
			return nil, fmt.Errorf("jwt secret has %d bytes, it needs at least %d", n, MinSecretBytes)
		}
	}
	h.parser = newParser([]string{jwt.SigningMethodHS256.Alg()}, issuer, audience, h.now)
	return h, nil
}

// Issue returns a new token for the user sub, good for ttl (rounded down to
// whole seconds of the clock), and what it says.
func (h *HS256) Issue(sub string, roles []wire.Role, ttl time.Duration) (string, Claims, error) {
	switch {
	case !wire.ValidID(sub):
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: not a valid user id")
	case len(roles) == 0:
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: no role")
	case ttl < time.Second || ttl > MaxTTL:
		return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: life must be from 1s to %s", MaxTTL)
	}
	for _, r := range roles {
		if !r.Valid() {
			return "", Claims{}, wire.Errorf(wire.CodeBadRequest, "issue token: no such role %q", r)
		}
	}
	now := h.now().Truncate(time.Second)
	c := Claims{
		Subject:   sub,
		Roles:     append([]wire.Role(nil), roles...),
		IssuedAt:  now,
		ExpiresAt: now.Add(ttl).Truncate(time.Second),
		ID:        rand.Text(),
	}
	claims := jwt.MapClaims{
		"sub":   c.Subject,
		"roles": c.Roles,
		"iat":   c.IssuedAt.Unix(),
		"exp":   c.ExpiresAt.Unix(),
		"jti":   c.ID,
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

// Verify implements [Verifier]. A token once found good is remembered by its
// SHA-256 until it expires, so that a busy connection costs one hash a message.
func (h *HS256) Verify(_ context.Context, token string) (Claims, error) {
	if err := precheck(token); err != nil {
		return Claims{}, err
	}
	now := h.now()
	sum := sha256.Sum256([]byte(token))
	if c, ok := h.cache.get(sum); ok {
		if !now.Before(c.ExpiresAt) {
			return Claims{}, errTokenExpired()
		}
		return c, nil
	}
	c, err := verifyWith(h.parser, token, func(*jwt.Token) (any, error) { return h.keys, nil }, now)
	if err != nil {
		return Claims{}, err
	}
	h.cache.put(sum, c)
	return c, nil
}

func errTokenExpired() *wire.Error {
	return wire.Errorf(wire.CodeTokenExpired, "token has expired")
}

func precheck(token string) error {
	switch {
	case token == "":
		return wire.Errorf(wire.CodeUnauthenticated, "token is missing")
	case len(token) > wire.MaxTokenBytes:
		return wire.Errorf(wire.CodeUnauthenticated, "token is longer than %d bytes", wire.MaxTokenBytes)
	}
	return nil
}

// newParser returns a parser that accepts only the given algorithms, whatever
// a token's header asks for.
func newParser(algorithms []string, issuer, audience string, now func() time.Time) *jwt.Parser {
	options := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithTimeFunc(now),
		jwt.WithStrictDecoding(),
	}
	if issuer != "" {
		options = append(options, jwt.WithIssuer(issuer))
	}
	if audience != "" {
		options = append(options, jwt.WithAudience(audience))
	}
	return jwt.NewParser(options...)
}

// verifyWith checks the token's signature and claims. What it tells a client
// is one of a few sentences: the library's own errors may quote the token.
func verifyWith(parser *jwt.Parser, token string, key jwt.Keyfunc, now time.Time) (Claims, error) {
	var set claimSet
	parsed, err := parser.ParseWithClaims(token, &set, func(t *jwt.Token) (any, error) {
		// RFC 7515 section 4.1.11: what is marked critical must be understood, and
		// no such extension is.
		if _, ok := t.Header["crit"]; ok {
			return nil, errors.New("header has crit")
		}
		return key(t)
	})
	fault := tokenFault(err)
	if fault != nil && fault.Code != wire.CodeTokenExpired {
		return Claims{}, fault
	}
	// The signature is good, but what is no time is not an expired one either.
	c, err := set.claims()
	if err != nil {
		return Claims{}, err
	}
	if fault != nil || !parsed.Valid {
		return Claims{}, errTokenExpired()
	}
	if !now.Before(c.ExpiresAt) {
		return Claims{}, errTokenExpired()
	}
	return c, nil
}

// tokenFault returns nil for nil.
func tokenFault(err error) *wire.Error {
	if err == nil {
		return nil
	}
	bad := func(what string) *wire.Error {
		return wire.Errorf(wire.CodeUnauthenticated, "token is not valid: %s", what)
	}
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return bad("malformed")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return bad("wrong algorithm or signature")
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return bad("algorithm or header not supported")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return bad("a required claim is missing")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return bad("wrong issuer")
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return bad("wrong audience")
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return bad("not valid yet")
	case errors.Is(err, jwt.ErrTokenExpired): // and nothing else is wrong with it
		return errTokenExpired()
	}
	return bad("its claims are not acceptable")
}
