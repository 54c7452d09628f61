package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// claimSet is a token's claims as its issuer wrote them. Decoding refuses a
// claim that is named twice: what one reader takes for the subject must be what
// every reader does. Names are compared exactly, which encoding/json does not
// do for struct fields.
type claimSet struct{ jwt.MapClaims }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *claimSet) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return errors.New("claims are not an object")
	}
	s.MapClaims = jwt.MapClaims{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return err
		}
		key := name.(string) // a decoder inside an object yields nothing else here
		if _, twice := s.MapClaims[key]; twice {
			return errors.New("a claim is given twice")
		}
		s.MapClaims[key] = value
	}
	return nil
}

// maxExpiry is the end of what RFC 3339 can write, and well inside int64.
var maxExpiry = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// claims reads what Conclave needs from a set whose signature is good.
func (s *claimSet) claims() (Claims, error) {
	bad := func(what string) error {
		return wire.Errorf(wire.CodeUnauthenticated, "token is not valid: %s", what)
	}
	sub, ok := s.MapClaims["sub"].(string)
	if !ok || !wire.ValidID(sub) {
		return Claims{}, bad("sub is not a user id")
	}
	// A number too great for a time would wrap round to any moment.
	seconds, ok := s.MapClaims["exp"].(float64)
	if !ok || seconds < 1 || seconds > float64(maxExpiry.Unix()) {
		return Claims{}, bad("exp is not a time")
	}
	c := Claims{Subject: sub, ExpiresAt: time.Unix(int64(seconds), 0)}
	if iat, err := s.GetIssuedAt(); err == nil && iat != nil {
		c.IssuedAt = iat.Time
	}
	if id, present := s.MapClaims["jti"]; present {
		if c.ID, ok = id.(string); !ok {
			return Claims{}, bad("jti is not a string")
		}
	}
	for _, name := range []string{"role", "roles"} {
		var err error
		if c.Roles, err = appendRoles(c.Roles, s.MapClaims[name]); err != nil {
			return Claims{}, bad(fmt.Sprintf("%s is neither a string nor a list of strings", name))
		}
	}
	return c, nil
}

// appendRoles adds the roles in a claim that is a string or a list of strings.
// Roles of other systems are passed over: an issuer may serve several.
func appendRoles(roles []wire.Role, claim any) ([]wire.Role, error) {
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
		if r := wire.Role(name); r.Valid() && !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	return roles, nil
}
