package auth

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// claimSet is a token's claims as its issuer wrote them. Decoding refuses a
// repeated claim: all readers must agree on the subject.
type claimSet struct{ jwt.MapClaims }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *claimSet) UnmarshalJSON(b []byte) error {
	claims, err := decodeObject(b)
	s.MapClaims = claims
	return err
}

// maxExpiry is the end of what RFC 3339 can write, and well inside int64.
var maxExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// claims reads the claims that Conclave needs from a set with a valid signature.
// For another issuer, m locates the user and roles; else it is nil.
func (s *claimSet) claims(m *mapping) (Claims, error) {
	var c Claims
	if m != nil {
		if err := m.apply(&c, s.MapClaims); err != nil {
			return Claims{}, err
		}
	} else {
		sub, ok := s.MapClaims["sub"].(string)
		if !ok || !wire.StoredID(sub) {
			return Claims{}, badToken("sub is not a user id")
		}
		c.Subject = sub
		for _, name := range []string{"role", "roles"} {
			var err error
			if c.Roles, err = appendRoles(c.Roles, s.MapClaims[name], nil); err != nil {
				return Claims{}, badToken(fmt.Sprintf("%s is neither a string nor a list of strings", name))
			}
		}
	}
	// A number too large for a time would wrap round to any moment.
	seconds, ok := s.MapClaims["exp"].(float64)
	if !ok || seconds < 1 || seconds > float64(maxExpiry.Unix()) {
		return Claims{}, badToken("exp is not a time")
	}
	c.ExpiresAt = time.Unix(int64(seconds), 0)
	if iat, present := s.MapClaims["iat"]; present {
		issued, ok := iat.(float64)
		if !ok || issued < 0 || issued > seconds {
			return Claims{}, badToken("iat is not a time before exp")
		}
		c.IssuedAt = time.Unix(int64(issued), 0)
	}
	if id, present := s.MapClaims["jti"]; present {
		// A jti that cannot be revoked is refused.
		if c.ID, ok = id.(string); !ok || c.ID != "" && !ValidTokenID(c.ID) {
			return Claims{}, badToken("jti is not a short text")
		}
	}
	return c, nil
}

// nameable refuses the tokens of users with names that new users may not have. A
// token with a generation belongs to an existing account of this cluster.
func (c Claims) nameable() error {
	if !wire.ValidID(c.Subject) {
		return badToken("sub " + wire.IDRule)
	}
	return nil
}

// generation reads which of its account's generations the token belongs to. It is
// used only for this cluster's own tokens.
func (s *claimSet) generation() (int64, error) {
	claim, present := s.MapClaims[generationClaim]
	if !present {
		return 0, nil
	}
	n, ok := claim.(float64)
	if !ok || n < 1 || n > 1<<53 || n != float64(int64(n)) {
		return 0, badToken(generationClaim + " is not a number of a login")
	}
	return int64(n), nil
}

// appendRoles adds the roles in a claim that is a string or a list of strings.
// Roles of other systems are skipped: an issuer may serve several. Names, if given,
// map the issuer's role names to ours; no others count then.
func appendRoles(roles []wire.Role, claim any, names map[string]wire.Role) ([]wire.Role, error) {
	var list []any
	switch v := claim.(type) {
	case nil:
	case string:
		list = []any{v}
	case []any:
		list = v
	default:
		return nil, errors.New("not roles")
	}
	for _, entry := range list {
		name, ok := entry.(string)
		if !ok {
			return nil, errors.New("not a role")
		}
		r := wire.Role(name)
		if names != nil {
			r = names[name]
		}
		if r.Valid() && !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles, nil
}
