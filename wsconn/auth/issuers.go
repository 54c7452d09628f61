package auth

import (
	"context"

	"github.com/golang-jwt/jwt/v5"
)

// Issuers verifies the tokens of this cluster's own accounts and those of another
// issuer. The algorithm alone selects the verifier: a secret is tried only on
// HS256, and a JWKS holds no secrets, so neither can be made to accept the other's
// tokens. Beyond that both are trusted alike: either may name any user in any role.
type Issuers struct {
	Own   *HS256
	Other *JWKS
}

// Verify implements [Verifier].
func (i Issuers) Verify(ctx context.Context, token string) (Claims, error) {
	h, err := parseHeader(token)
	switch {
	case err != nil:
		return Claims{}, err
	case h.alg == jwt.SigningMethodHS256.Alg():
		return i.Own.Verify(ctx, token)
	}
	return i.Other.Verify(ctx, token)
}
