package auth

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// leeway tolerates a clock that is ahead when a token was issued. An expired token
// gets none: sockets close at the same moment.
const leeway = 10 * time.Second

// policy is the set of demands on a token besides a valid signature by the right
// key.
type policy struct {
	parser  *jwt.Parser
	maxLife time.Duration
	now     func() time.Time
	mapping *mapping // of another issuer's claims; nil for this cluster's own
}

// newPolicy accepts only the given algorithms, whatever a token's header asks for.
// An empty issuer or audience is not checked.
func newPolicy(algorithms []string, issuer, audience string, maxLife time.Duration, now func() time.Time) (*policy, error) {
	if maxLife < time.Second || maxLife > MaxTTL {
		return nil, fmt.Errorf("the maximum lifetime of a token is %s, it must be from 1s to %s", maxLife, MaxTTL)
	}
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
	return &policy{parser: jwt.NewParser(options...), maxLife: maxLife, now: now}, nil
}

// verify checks the signature and the claims of a token whose header has passed
// parseHeader. Its client errors are a few fixed sentences: the library's own
// errors may quote the token.
func (p *policy) verify(token string, key jwt.Keyfunc) (Claims, *claimSet, error) {
	var set claimSet
	parsed, err := p.parser.ParseWithClaims(token, &set, key)
	fault := tokenFault(err)
	if fault != nil && fault.Code != wire.CodeTokenExpired {
		return Claims{}, nil, fault
	}
	// The signature is valid, but an invalid time is not an expired one.
	c, err := set.claims(p.mapping)
	if err != nil {
		return Claims{}, nil, err
	}
	now := p.now()
	if fault != nil || !parsed.Valid {
		return Claims{}, nil, errTokenExpired()
	}
	if _, err := c.unexpired(now); err != nil {
		return Claims{}, nil, err
	}
	if c.ExpiresAt.Sub(now) > p.maxLife+leeway || !c.IssuedAt.IsZero() && c.ExpiresAt.Sub(c.IssuedAt) > p.maxLife {
		return Claims{}, nil, badToken(fmt.Sprintf("it lives longer than %s", p.maxLife))
	}
	return c, &set, nil
}

// unexpired returns c, or the error for an expired token.
func (c Claims) unexpired(now time.Time) (Claims, error) {
	if !now.Before(c.ExpiresAt) {
		return Claims{}, errTokenExpired()
	}
	return c, nil
}

func errTokenExpired() *wire.Error {
	return wire.Errorf(wire.CodeTokenExpired, "token has expired")
}

func errTokenTooLong() *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "token is longer than %d bytes", wire.MaxTokenBytes)
}

// Reasons for refusing a token that an operator should tell apart.
const (
	whatMalformed = "malformed"
	whatSignature = "wrong algorithm or signature"
	whatIssuer    = "wrong issuer"
	whatAudience  = "wrong audience"
	whatNoKey     = "no such key"
	whatOldKey    = "its key is no longer in use"
)

const (
	notValid = "token is not valid: "
	missing  = "token is missing"
)

// Faults are the possible results of [Fault].
var Faults = []string{"expired", "revoked", "unavailable", "missing", "malformed", "signature", "issuer", "audience", "key", "other"}

// Fault returns, as one of Faults, why a [Verifier] has refused a token: for
// counting, not for clients.
func Fault(err error) string {
	e := wire.AsError(err)
	switch {
	case e == ErrRevoked:
		return "revoked"
	case e.Code == wire.CodeTokenExpired:
		return "expired"
	case e.Code == wire.CodeUnavailable:
		return "unavailable"
	}
	switch strings.TrimPrefix(e.Message, notValid) {
	case missing:
		return "missing"
	case whatMalformed:
		return "malformed"
	case whatSignature:
		return "signature"
	case whatIssuer:
		return "issuer"
	case whatAudience:
		return "audience"
	case whatNoKey, whatOldKey:
		return "key"
	}
	return "other"
}

func badToken(what string) *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, notValid+"%s", what)
}

// tokenFault returns nil for nil.
func tokenFault(err error) *wire.Error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenMalformed):
		return badToken(whatMalformed)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return badToken(whatSignature)
	case errors.Is(err, jwt.ErrTokenUnverifiable):
		return badToken("algorithm or header not supported")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return badToken("a required claim is missing")
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return badToken(whatIssuer)
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return badToken(whatAudience)
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		e := badToken("not valid yet")
		e.Temporary = true // or the clock here is behind
		return e
	case errors.Is(err, jwt.ErrTokenExpired): // the only fault
		return errTokenExpired()
	}
	return badToken("its claims are not acceptable")
}
