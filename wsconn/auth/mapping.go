package auth

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// mapping locates the user and its roles in another issuer's tokens.
type mapping struct {
	user  claimPath
	roles []claimPath
	names map[string]wire.Role // nil: the issuer's roles have our names
}

// claimPath leads to a claim: the names of nested objects.
type claimPath []string

// parseClaimPath reads the name of a claim, or, where it begins with /, a JSON
// pointer (RFC 6901) to a nested one.
func parseClaimPath(text string) (claimPath, error) {
	if !strings.HasPrefix(text, "/") {
		if text == "" {
			return nil, errors.New("the name of a claim is empty")
		}
		return claimPath{text}, nil
	}
	var path claimPath
	for part := range strings.SplitSeq(text[1:], "/") {
		if rest := strings.NewReplacer("~0", "", "~1", "").Replace(part); strings.Contains(rest, "~") || part == "" {
			return nil, fmt.Errorf("%q is not a JSON pointer to a claim", text)
		}
		path = append(path, strings.NewReplacer("~1", "/", "~0", "~").Replace(part))
	}
	return path, nil
}

// in returns the value at the path, nil for none.
func (p claimPath) in(claims map[string]any) any {
	var at any = claims
	for _, name := range p {
		object, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = object[name]
	}
	return at
}

func (p claimPath) String() string {
	if len(p) == 1 {
		return p[0]
	}
	return "/" + strings.Join(p, "/")
}

// newMapping reads JWKSConfig's UserClaim, RolesClaim and Roles.
func newMapping(user, roles string, names map[string]string) (m mapping, err error) {
	if user == "" {
		user = "sub"
	}
	if m.user, err = parseClaimPath(user); err != nil {
		return m, fmt.Errorf("user claim: %w", err)
	}
	m.roles = []claimPath{{"role"}, {"roles"}}
	if roles != "" {
		path, err := parseClaimPath(roles)
		if err != nil {
			return m, fmt.Errorf("roles claim: %w", err)
		}
		m.roles = []claimPath{path}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		role := wire.Role(names[name])
		if name == "" || !role.Valid() {
			return m, fmt.Errorf("role %q=%q: the roles are coordinator, participant and admin", name, names[name])
		}
		if m.names == nil {
			m.names = map[string]wire.Role{}
		}
		m.names[name] = role
	}
	return m, nil
}

// apply replaces c's user and roles by those that the mapping finds.
func (m mapping) apply(c *Claims, claims map[string]any) error {
	subject, _ := m.user.in(claims).(string)
	var ok bool
	if c.Subject, ok = wire.UserOf(subject); !ok {
		return badToken(m.user.String() + " is not a text that can name a user")
	}
	c.Roles = nil
	for _, path := range m.roles {
		var err error
		if c.Roles, err = appendRoles(c.Roles, path.in(claims), m.names); err != nil {
			return badToken(path.String() + " is neither a string nor a list of strings")
		}
	}
	return nil
}
