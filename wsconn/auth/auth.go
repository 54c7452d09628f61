// Package auth authenticates users: it issues and verifies tokens, hashes passwords
// and guards HTTP handlers.
//
// Start here: [NewHS256] makes the issuer and verifier of Conclave's own tokens,
// [NewJWKS] the verifier of another issuer's, and [Middleware] guards an HTTP handler
// with either. A [Verifier] turns a token into [Claims]; [Issuers] joins two
// verifiers, and [Guard] refuses tokens that are revoked. [WriteProblem] answers with
// an error, so that the WebSocket and the web API use the same codes. [Hasher] hashes
// and checks passwords.
//
// The package stores nothing. Accounts, logins, their limits and revocations are kept
// on Redis by package cluster/store/accounts; [Account], [Login], [Renewed],
// [Revocation], [LoginTry] and [Revoked] are its interface to the edges. The
// package does not decide what a user may do with a key or a session: package session
// does. Everything in it is safe for concurrent use, except a LoginTry.
//
// # Goroutines and locks
//
// The package starts no goroutines. [JWKS.Run] blocks until its context ends, and a
// JWKS's source is read by the goroutine that holds its turn.
package auth

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Claims are a verified token's claims about its user.
type Claims struct {
	Subject   string      // the user id: a wire.ValidID, or that of an account with an older name
	Roles     []wire.Role // known roles only, without repeats; shared, not to be modified
	IssuedAt  time.Time   // zero if absent from the token
	ExpiresAt time.Time   // the token is valid before this moment
	ID        string      // the token's jti, "" if it has none

	// Generation is one more than the number of times the account's tokens had been
	// revoked when this one was issued; 0 if its issuer does not say.
	Generation int64
	// Key is the thumbprint of the key in a JWKS that verified the token, "" for
	// one under this cluster's own secret.
	Key string
}

// Login returns the id of the token's login, "" if it cannot be renewed or its
// issuer does not say.
func (c Claims) Login() string {
	if login, _, ok := strings.Cut(c.ID, "."); ok && c.Generation > 0 && c.Key == "" {
		return login
	}
	return ""
}

// Has reports whether the user may act in that role.
func (c Claims) Has(role wire.Role) bool { return slices.Contains(c.Roles, role) }

// Verifier decides whether a token is valid.
type Verifier interface {
	// Verify returns the claims of token. Its error is or wraps a *wire.Error:
	// wire.CodeTokenExpired for an expired token, wire.CodeUnauthenticated for any
	// other invalid one, wire.CodeUnavailable if the answer is unknown. The error
	// never holds the token.
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
