package auth

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Types that stores of accounts, logins and revocations exchange with this package
// and with the edges. Package cluster/store/accounts implements the interfaces.

// Account is one account as others may see it: without its password.
type Account struct {
	User      string
	Roles     []wire.Role
	Identity  string // public identity as the user's client registered it; "" before that
	Disabled  bool
	LogsIn    bool      // has a password; false where only an identity is known
	CreatedAt time.Time // zero where only an identity is known
	Once      time.Time // its password is valid for one login, before then; zero for any other
	Spent     bool      // the one login has been used
	// Generation is the generation of tokens issued now; the account's earlier
	// tokens have a smaller one.
	Generation int64
}

// OneTimeFor is how long a password for one login stays valid.
const OneTimeFor = 72 * time.Hour

// AccountFilter selects accounts. The zero value selects all.
type AccountFilter struct {
	Prefix   string    // of the user id
	Role     wire.Role // "" for any
	Disabled *bool     // nil for either
}

// Selects reports whether the filter selects an account, ignoring its Prefix.
func (f AccountFilter) Selects(a Account) bool {
	return (f.Role == "" || slices.Contains(a.Roles, f.Role)) && (f.Disabled == nil || a.Disabled == *f.Disabled)
}

// LoginFrom says where a login comes from.
type LoginFrom struct {
	// Addr is the client's address; the zero Addr means unknown.
	Addr netip.Addr
	// Token is the id of an earlier token of the same account, which the client has
	// shown and which was verified except for its expiry; "" for none.
	Token string
}

// LoginTry is one login in progress, for which the limits were checked. Exactly one
// of Succeeded, Failed and Undone must be called. It is not safe for concurrent use.
type LoginTry interface {
	// Turn returns how the login waits for its password to be hashed.
	Turn() Turn
	// Succeeded is called after a correct password. It costs nothing, and the
	// account knows its network from then on.
	Succeeded(ctx context.Context)
	// Failed is called after a wrong password.
	Failed()
	// Undone refunds the cost of a login whose password was not checked.
	Undone(ctx context.Context)
}

// Login is a login that can be renewed.
type Login struct {
	ID      string
	Label   string // as given by its client
	Began   time.Time
	Renewed time.Time // last renewal
	Until   time.Time // when it ends if it is not renewed
	Count   int64     // of renewals
}

// Renewed is the result of a renewable login, and of each renewal.
type Renewed struct {
	Account Account
	Token   string
	Claims  Claims
	Login   string // id of the login, the prefix of its tokens' jti
	Refresh string
	Until   time.Time // the refresh token is valid before then
}

// ErrRevoked is the error of [Revoked] for a token that was valid and is revoked,
// or whose account is disabled. Compare it with ==, as [wire.AsError] returns it:
// errors.Is compares codes.
var ErrRevoked = wire.Errorf(wire.CodeUnauthenticated, "token has been revoked; log in again")

// Revocation names the revoked tokens: one, by Token, or all that User has at that
// time.
type Revocation struct {
	Token      string    // a jti
	User       string    // a user id
	Generation int64     // the account's from then on; 0 if it has no account here
	At         time.Time // by Redis's clock; set when it is read
	By         string    // who requested it
	Reason     string
}

// Ends reports whether a revocation of all of a user's tokens covers c.
func (e Revocation) Ends(c Claims) bool {
	if c.Generation > 0 && e.Generation > 0 {
		return c.Generation < e.Generation
	}
	return c.IssuedAt.IsZero() || !c.IssuedAt.After(e.At.Add(leeway))
}

// Revoked reports which tokens are revoked.
type Revoked interface {
	// Check returns nil for a token that is not revoked, ErrRevoked for one that
	// is, and a *wire.Error with wire.CodeUnavailable while the answer is unknown.
	Check(c Claims) error
}

// Guard returns a verifier that accepts the tokens that v accepts and that are not
// revoked, even where v caches them.
func Guard(v Verifier, revoked Revoked) Verifier { return guarded{v, revoked} }

type guarded struct {
	Verifier
	revoked Revoked
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

// maxTokenIDBytes bounds a jti.
const maxTokenIDBytes = 256

// ValidTokenID reports whether a jti can be revoked: 1 to 256 bytes of text.
func ValidTokenID(jti string) bool { return jti != "" && len(jti) <= maxTokenIDBytes && IsText(jti) }

// IsText reports whether s may be stored and displayed: UTF-8 without control
// characters.
func IsText(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) }
