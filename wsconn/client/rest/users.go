package rest

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const usersPath = "/v1/users"

func userPath(user string) string { return usersPath + "/" + url.PathEscape(user) }

// UserInfo is an account at the servers, without its secrets.
type UserInfo struct {
	UserID       string      `json:"user_id"`
	Roles        []wire.Role `json:"roles"`
	Disabled     bool        `json:"disabled"`
	CreatedAt    time.Time   `json:"created_at"`
	Password     string      `json:"password"` // set, one_time (good for one login before OneTimeUntil) or used (it was)
	OneTimeUntil time.Time   `json:"one_time_until,omitzero"`
}

// UserPassword is an account with its server-generated password, "" if one was
// given. Printing it shows the password.
type UserPassword struct {
	UserInfo
	OneTimePassword string `json:"one_time_password,omitempty"`
}

// UserPage selects part of the accounts, by user id. The zero value is the
// beginning.
type UserPage struct {
	After string // the Next of the previous page
	Limit int    // at most 200; 0 for the server's default

	// Non-zero fields select: the beginning of the id, a role, and "enabled" or
	// "disabled".
	Prefix string
	Role   wire.Role
	State  string
}

// Users lists accounts. It is for admins, as all that follows, which returns a
// *wire.Error with CodeForbidden to others, and with CodeNotFound where tokens come
// from another issuer only.
func (a *Client) Users(ctx context.Context, p UserPage) (List[UserInfo], error) {
	q := url.Values{}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	for name, value := range map[string]string{"cursor": p.After, "prefix": p.Prefix, "role": string(p.Role), "state": p.State} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return fetch[List[UserInfo]](ctx, a, usersPath, q)
}

// User returns one account.
func (a *Client) User(ctx context.Context, user string) (UserInfo, error) {
	return fetch[UserInfo](ctx, a, userPath(user), nil)
}

// AddUser makes an account. Without a password the servers make one that is valid
// for one login, within three days.
func (a *Client) AddUser(ctx context.Context, user, password string, roles ...wire.Role) (UserPassword, error) {
	var u UserPassword
	body := map[string]any{"user_id": user, "roles": roles, "password": password}
	err := a.do(ctx, webCall{method: http.MethodPost, path: usersPath, body: body}, &u)
	return u, err
}

// SetUserPassword gives an account another password, or has the servers make one as
// AddUser does, and ends the account's tokens and logins.
func (a *Client) SetUserPassword(ctx context.Context, user, password string) (UserPassword, error) {
	var u UserPassword
	body := map[string]string{"password": password}
	err := a.do(ctx, webCall{method: http.MethodPost, path: userPath(user) + "/password", body: body}, &u)
	return u, err
}

// SetUserRoles gives an account other roles, and ends its tokens and logins. The
// last admin who can log in must stay one: CodeConflict.
func (a *Client) SetUserRoles(ctx context.Context, user string, roles ...wire.Role) (UserInfo, error) {
	var u UserInfo
	err := a.do(ctx, webCall{method: http.MethodPut, path: userPath(user) + "/roles", body: map[string]any{"roles": roles}}, &u)
	return u, err
}

// DisableUser disables an account and ends its tokens and logins, from any issuer.
// The last admin who can log in cannot be disabled: CodeConflict.
func (a *Client) DisableUser(ctx context.Context, user, reason string) (UserInfo, error) {
	return a.barUser(ctx, user, "/disable", reason)
}

// EnableUser enables an account. Its earlier tokens and logins stay ended.
func (a *Client) EnableUser(ctx context.Context, user string) (UserInfo, error) {
	return a.barUser(ctx, user, "/enable", "")
}

func (a *Client) barUser(ctx context.Context, user, verb, reason string) (UserInfo, error) {
	var u UserInfo
	err := a.do(ctx, webCall{method: http.MethodPost, path: userPath(user) + verb, query: reasonQuery(reason)}, &u)
	return u, err
}

// RemoveUser removes an account and ends its tokens and logins. Its keys and
// sessions stay, under the name. The last admin who can log in cannot be removed:
// CodeConflict.
func (a *Client) RemoveUser(ctx context.Context, user, reason string) error {
	var answer struct{}
	return a.do(ctx, webCall{method: http.MethodDelete, path: userPath(user), query: reasonQuery(reason)}, &answer)
}

func reasonQuery(reason string) url.Values {
	if reason == "" {
		return nil
	}
	return url.Values{"reason": {reason}}
}
