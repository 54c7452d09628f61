// Package auth says who is asking: it issues and verifies tokens, keeps
// accounts and their password hashes in Redis, and guards HTTP handlers.
//
// A [Verifier] turns a token into [Claims]; [HS256] is the one for tokens that
// Conclave issues itself, and others (a JWKS of another issuer, a list of
// revoked tokens around either) fit behind the same interface. [Accounts] holds
// who may log in. [Middleware] guards HTTP handlers and [WriteProblem] words
// their errors, so that the WebSocket and the web API speak the same codes.
//
// The package does not decide what a user may do with a key or a session: that
// is package session's. It starts no goroutine. Everything in it is safe for
// concurrent use.
package auth

import (
	"context"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Claims is what a verified token says about its bearer.
type Claims struct {
	Subject   string      // the user id, a wire.ValidID
	Roles     []wire.Role // known roles only, without repeats; shared, not to be modified
	IssuedAt  time.Time   // zero if the token does not say
	ExpiresAt time.Time   // the token is good before this moment
	ID        string      // the token's jti, "" if it has none
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
