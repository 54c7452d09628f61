package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Accounts manages accounts on behalf of an admin; accounts.Store is one. For other
// callers each method returns a *wire.Error with CodeForbidden.
type Accounts interface {
	Account(ctx context.Context, by auth.Claims, user string) (auth.Account, error)
	Page(ctx context.Context, by auth.Claims, f auth.AccountFilter, after string, limit int) (list []auth.Account, more bool, err error)
	Create(ctx context.Context, by auth.Claims, user, password string, roles []wire.Role) (oneTime string, err error)
	ChangePassword(ctx context.Context, by auth.Claims, user, password string) (oneTime string, err error)
	ChangeRoles(ctx context.Context, by auth.Claims, user string, roles []wire.Role) error
	Bar(ctx context.Context, by auth.Claims, user string, disabled bool, reason string) error
	Remove(ctx context.Context, by auth.Claims, user, reason string) error
}

// usersCost is the cost of a list of users in Config.Users, beside the page: it
// scans all keys of Redis.
const usersCost = 500

var errNoAccounts = wire.Errorf(wire.CodeNotFound, "there are no accounts here: tokens come from another issuer (--jwks), which manages its users")

// UserInfo is an account, without its secrets.
type UserInfo struct {
	UserID       string      `json:"user_id"`
	Roles        []wire.Role `json:"roles"`
	Disabled     bool        `json:"disabled"`
	CreatedAt    time.Time   `json:"created_at"`
	Password     string      `json:"password" enum:"set,one_time,used" doc:"one_time: valid for one login, until one_time_until; used: that login has taken place, and only its renewals work"`
	OneTimeUntil time.Time   `json:"one_time_until,omitzero"`
}

// UserRequest is the body of POST /v1/users.
type UserRequest struct {
	UserID   string      `json:"user_id" minLength:"1" maxLength:"128"`
	Roles    []wire.Role `json:"roles" minItems:"1"`
	Password string      `json:"password,omitempty" doc:"8 to 1024 bytes; if omitted, the server generates one that is valid for one login, within three days"`
}

// RolesRequest is the body of PUT /v1/users/{user}/roles.
type RolesRequest struct {
	Roles []wire.Role `json:"roles" minItems:"1"`
}

// PasswordRequest is the body of POST /v1/users/{user}/password.
type PasswordRequest struct {
	Password string `json:"password,omitempty" doc:"as in POST /v1/users"`
}

// UserPassword is a user with the generated password, which is shown only here.
type UserPassword struct {
	UserInfo
	OneTimePassword string `json:"one_time_password,omitempty"`
}

// RemovedUser answers DELETE /v1/users/{user}. Every node applies it within a second.
type RemovedUser struct {
	Status string `json:"status" enum:"removed"`
	UserID string `json:"user_id"`
}

var (
	prefixParam = queryParam("prefix", "only users whose id begins with this text", &huma.Schema{Type: huma.TypeString, MaxLength: ptr(wire.MaxIDBytes)})
	roleParam   = queryParam("role", "only users with this role", &huma.Schema{Type: huma.TypeString, Enum: []any{string(wire.RoleCoordinator), string(wire.RoleParticipant), string(wire.RoleAdmin)}})
	stateParam  = queryParam("state", "only users in this state", &huma.Schema{Type: huma.TypeString, Enum: []any{"enabled", "disabled"}})
	whyParam    = queryParam("reason", "reason, recorded in the audit", &huma.Schema{Type: huma.TypeString, MaxLength: ptr(wire.MaxReasonBytes)})
)

// accounts are the operations on users.
func (a *api) accounts() []operation {
	const ends = " Revokes the user's tokens and logins; every node closes the user's sockets within a second."
	return []operation{{
		method: "GET", path: "/v1/users", id: "list-users", summary: "List accounts",
		about:  "For admins, sorted by user id. Like all operations on users, 404 if the cluster accepts only tokens of another issuer.",
		params: []*huma.Param{limitParam(maxPageSize, pageSize), cursorParam, prefixParam, roleParam, stateParam}, ok: http.StatusOK, answer: wire.List[UserInfo]{},
		fails: []int{badRequest, forbidden, notFound}, do: a.listUsers,
	}, {
		method: "POST", path: "/v1/users", id: "create-user", summary: "Add an account", about: "For admins.",
		body: UserRequest{}, ok: http.StatusCreated, answer: UserPassword{}, fails: []int{badRequest, forbidden, notFound, conflict, tooLarge, noRoom},
		audited: audit.UserAdd, most: maxLoginBody, do: a.createUser,
	}, {
		method: "GET", path: "/v1/users/{user}", id: "get-user", summary: "Get an account", about: "For admins.",
		params: []*huma.Param{userParam}, ok: http.StatusOK, answer: UserInfo{}, fails: []int{forbidden, notFound}, do: a.getUser,
	}, {
		method: "PUT", path: "/v1/users/{user}/roles", id: "change-roles", summary: "Replace the roles of an account",
		about:  "For admins. The last admin who can log in cannot lose the role admin (409)." + ends,
		params: []*huma.Param{userParam}, body: RolesRequest{}, ok: http.StatusOK, answer: UserInfo{}, fails: []int{badRequest, forbidden, notFound, conflict, tooLarge},
		audited: audit.UserRoles, most: maxLoginBody, do: a.changeRoles,
	}, {
		method: "POST", path: "/v1/users/{user}/password", id: "change-password", summary: "Set a new password for an account",
		about:  "For admins. With the body {} the server generates a password that is valid for one login." + ends,
		params: []*huma.Param{userParam}, body: PasswordRequest{}, ok: http.StatusOK, answer: UserPassword{}, fails: []int{badRequest, forbidden, notFound, tooLarge},
		audited: audit.UserPassword, most: maxLoginBody, do: a.changePassword,
	}, {
		method: "POST", path: "/v1/users/{user}/disable", id: "disable-user", summary: "Disable an account",
		about: "For admins. Logins are refused, and so are the user's tokens of any issuer. No body is needed. The last admin who can log in cannot be disabled by that admin (409)." + ends,

		params: []*huma.Param{userParam, whyParam}, ok: http.StatusOK, answer: UserInfo{}, fails: []int{badRequest, forbidden, notFound, conflict},
		audited: audit.UserDisable, do: func(_ http.ResponseWriter, r *http.Request) (int, any, error) { return a.bar(r, true) },
	}, {
		method: "POST", path: "/v1/users/{user}/enable", id: "enable-user", summary: "Enable a disabled account",
		about:  "For admins. Tokens that were revoked stay revoked. No body is needed.",
		params: []*huma.Param{userParam, whyParam}, ok: http.StatusOK, answer: UserInfo{}, fails: []int{badRequest, forbidden, notFound},
		audited: audit.UserEnable, do: func(_ http.ResponseWriter, r *http.Request) (int, any, error) { return a.bar(r, false) },
	}, {
		method: "DELETE", path: "/v1/users/{user}", id: "remove-user", summary: "Remove an account",
		about:  "For admins. Keys and sessions are kept under the name: a new account of that name is the same user. The last admin who can log in cannot be removed by that admin (409)." + ends,
		params: []*huma.Param{userParam, whyParam}, ok: http.StatusOK, answer: RemovedUser{}, fails: []int{badRequest, forbidden, notFound, conflict},
		audited: audit.UserRemove, do: a.removeUser,
	}}
}

// managed returns a call's target account, and its caller.
func (a *api) managed(r *http.Request) (user string, by auth.Claims, err error) {
	by, _ = auth.FromContext(r.Context())
	switch {
	case !by.Has(wire.RoleAdmin):
		return "", by, wire.Errorf(wire.CodeForbidden, "only an admin may manage accounts")
	case a.cfg.Accounts == nil:
		return "", by, errNoAccounts
	case r.PathValue("user") == "":
		return "", by, nil
	}
	if user, err = pathID(r, "user"); err != nil {
		return "", by, wire.Errorf(wire.CodeNotFound, "not a valid user id")
	}
	return user, by, nil
}

func userInfo(known auth.Account) UserInfo {
	u := UserInfo{
		UserID: known.User, Roles: append([]wire.Role{}, known.Roles...), Disabled: known.Disabled, CreatedAt: known.CreatedAt.UTC(), Password: "set", OneTimeUntil: known.Once,
	}
	switch {
	case known.Spent:
		u.Password = "used"
	case !known.Once.IsZero():
		u.Password = "one_time"
	}
	return u
}

// changed records the change of an account, and returns its new state.
func (a *api) changed(r *http.Request, by auth.Claims, what, user, detail string) (UserInfo, error) {
	a.record(audit.Decision{Who: by.Subject, What: what, Outcome: audit.OK, Account: user, Detail: detail})
	a.log.Info().Str("by", by.Subject).Str("account", user).Msg("account changed: " + what)
	known, err := a.cfg.Accounts.Account(r.Context(), by, user)
	if err != nil {
		known.User = user
	}
	return userInfo(known), err
}

func (a *api) listUsers(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	q := r.URL.Query()
	limit, err := limitOf(q, pageSize, maxPageSize)
	if err != nil {
		return 0, nil, err
	}
	f := auth.AccountFilter{Prefix: q.Get("prefix"), Role: wire.Role(q.Get("role"))}
	if f.Role != "" && !f.Role.Valid() {
		return 0, nil, wire.Errorf(wire.CodeBadRequest, "role must be coordinator, participant or admin")
	}
	switch state := q.Get("state"); state {
	case "":
	case "enabled", "disabled":
		f.Disabled = ptr(state == "disabled")
	default:
		return 0, nil, wire.Errorf(wire.CodeBadRequest, "state must be enabled or disabled")
	}
	after, err := base64.RawURLEncoding.Strict().DecodeString(q.Get("cursor"))
	if err != nil || len(after) > 0 && !wire.StoredID(string(after)) {
		return 0, nil, wire.Errorf(wire.CodeBadRequest, "cursor must be the next of a page")
	}
	if err := auth.Charge(a.cfg.Users, by.Subject, usersCost+limit, "too many long lists"); err != nil {
		return 0, nil, err
	}
	list, more, err := a.cfg.Accounts.Page(r.Context(), by, f, string(after), limit)
	if err != nil {
		return 0, nil, err
	}
	l := wire.List[UserInfo]{Items: make([]UserInfo, 0, len(list))}
	for _, known := range list {
		l.Items = append(l.Items, userInfo(known))
	}
	if more {
		l.Next = base64.RawURLEncoding.EncodeToString([]byte(list[len(list)-1].User))
	}
	return http.StatusOK, l, nil
}

func (a *api) getUser(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	user, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	known, err := a.cfg.Accounts.Account(r.Context(), by, user)
	return http.StatusOK, userInfo(known), err
}

func (a *api) createUser(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	_, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	var req UserRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	if err := auth.Charge(a.cfg.Users, by.Subject, filterCost, "too many passwords are being set"); err != nil {
		return 0, nil, err
	}
	oneTime, err := a.cfg.Accounts.Create(r.Context(), by, req.UserID, req.Password, req.Roles)
	if err != nil {
		return 0, nil, err
	}
	info, err := a.changed(r, by, audit.UserAdd, req.UserID, "roles "+roleWords(req.Roles)+passwordWords(oneTime))
	return withPassword(http.StatusCreated, info, oneTime, err)
}

// withPassword answers with a generated password. It is not stored anywhere, so it
// is sent even if the account cannot be read again, with its id alone.
func withPassword(status int, info UserInfo, oneTime string, err error) (int, any, error) {
	if err != nil && oneTime != "" {
		info.Password, err = "one_time", nil
	}
	return status, UserPassword{info, oneTime}, err
}

func roleWords(roles []wire.Role) string {
	words := make([]string, len(roles))
	for i, r := range roles {
		words[i] = string(r)
	}
	return strings.Join(slices.Compact(words), ",")
}

func passwordWords(oneTime string) string {
	if oneTime != "" {
		return ", with a password for one login"
	}
	return ""
}

func (a *api) changeRoles(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	user, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	var req RolesRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	if err := a.cfg.Accounts.ChangeRoles(r.Context(), by, user, req.Roles); err != nil {
		return 0, nil, err
	}
	info, err := a.changed(r, by, audit.UserRoles, user, "roles "+roleWords(req.Roles)+", tokens revoked")
	return http.StatusOK, info, err
}

func (a *api) changePassword(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	user, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	var req PasswordRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	if err := auth.Charge(a.cfg.Users, by.Subject, filterCost, "too many passwords are being set"); err != nil {
		return 0, nil, err
	}
	oneTime, err := a.cfg.Accounts.ChangePassword(r.Context(), by, user, req.Password)
	if err != nil {
		return 0, nil, err
	}
	info, err := a.changed(r, by, audit.UserPassword, user, "password set, tokens revoked"+passwordWords(oneTime))
	return withPassword(http.StatusOK, info, oneTime, err)
}

func (a *api) bar(r *http.Request, disabled bool) (int, any, error) {
	user, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	what, detail := audit.UserEnable, "tokens revoked"
	if disabled {
		what = audit.UserDisable
	}
	reason := r.URL.Query().Get("reason")
	if err := a.cfg.Accounts.Bar(r.Context(), by, user, disabled, reason); err != nil {
		return 0, nil, err
	}
	if reason != "" {
		detail += ": " + reason
	}
	info, err := a.changed(r, by, what, user, detail)
	return http.StatusOK, info, err
}

func (a *api) removeUser(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	user, by, err := a.managed(r)
	if err != nil {
		return 0, nil, err
	}
	reason := r.URL.Query().Get("reason")
	if err := a.cfg.Accounts.Remove(r.Context(), by, user, reason); err != nil {
		return 0, nil, err
	}
	detail := "tokens revoked"
	if reason != "" {
		detail += ": " + reason
	}
	a.record(audit.Decision{Who: by.Subject, What: audit.UserRemove, Outcome: audit.OK, Account: user, Detail: detail})
	a.log.Info().Str("by", by.Subject).Str("account", user).Msg("account removed")
	return http.StatusOK, RemovedUser{Status: "removed", UserID: user}, nil
}
