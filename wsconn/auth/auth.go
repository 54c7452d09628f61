// Package auth says who is asking: it issues and verifies tokens, keeps
// accounts and their password hashes in Redis, and guards HTTP handlers.
//
// A [Verifier] turns a token into [Claims]. [HS256] is the one for tokens that
// Conclave issues itself, [JWKS] the one for those of another issuer, [Issuers]
// both; [Revocations] guards any of them. [Accounts] holds who may log in.
// [Middleware] guards HTTP handlers and [WriteProblem] words their errors, so
// that the WebSocket and the web API speak the same codes.
//
// The package does not decide what a user may do with a key or a session: that
// is package session's. Everything in it is safe for concurrent use.
//
// # Keys
//
// All after the prefix.
//
//	account:{<user>}   hash    password_hash, roles, identity, disabled, created_at, once, generation; the last alone of one that was removed
//	accounts:lock      string  token of a change that may take an admin away; TTL adminsLockFor
//	logins:{<user>}    hash    login to JSON: number of the next refresh token, label, began, renewed, until_ms; TTL until none can be renewed
//	accounts:disabled  hash    user to since when (RFC 3339): whose tokens no node takes
//	revoked            stream  token or user, generation, by, at, reason; the id is when, by Redis's clock, ms; TTL MaxTTL
//
// # Goroutines and locks
//
// The package starts none. [JWKS.Run] and [Revocations.Run] block until their
// context ends, and whoever holds a JWKS's turn reads its source.
// Revocations.mu guards what is known to be revoked and is never held during I/O.
package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Claims is what a verified token says about its bearer.
type Claims struct {
	Subject   string      // the user id: a wire.ValidID, or of an account that has another one from before
	Roles     []wire.Role // known roles only, without repeats; shared, not to be modified
	IssuedAt  time.Time   // zero if the token does not say
	ExpiresAt time.Time   // the token is good before this moment
	ID        string      // the token's jti, "" if it has none

	// Generation counts how often the account's tokens had been revoked when this
	// one was issued, and one; 0 if its issuer does not say.
	Generation int64
	// Key is the thumbprint of the key in a JWKS that verified the token, "" for
	// one under this cluster's own secret.
	Key string
}

// login is the id of the login that the token is of, "" if that cannot be renewed
// or its issuer does not say.
func (c Claims) login() string {
	if login, _, ok := strings.Cut(c.ID, "."); ok && c.Generation > 0 && c.Key == "" {
		return login
	}
	return ""
}

// Has reports whether the bearer may act in that role.
func (c Claims) Has(role wire.Role) bool { return slices.Contains(c.Roles, role) }

// Verifier decides whether a token is good.
type Verifier interface {
	// Verify returns what token says. Its error is or wraps a *wire.Error:
	// wire.CodeTokenExpired for a token that was good once, wire.CodeUnauthenticated
	// for every other that is not, wire.CodeUnavailable if it could not tell. The
	// error never holds the token.
	Verify(ctx context.Context, token string) (Claims, error)
}

type contextKey struct{}

// NewContext returns ctx carrying c, for [FromContext].
func NewContext(ctx context.Context, c Claims) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// FromContext returns the claims of the request or message that ctx belongs to.
func FromContext(ctx context.Context) (Claims, bool) {
	c, ok := ctx.Value(contextKey{}).(Claims)
	return c, ok
}
