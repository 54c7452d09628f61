package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Renewals are logins that can be renewed; accounts.Renewals is one.
type Renewals interface {
	Begin(ctx context.Context, account auth.Account, label string) (auth.Renewed, error)
	Renew(ctx context.Context, refresh, attempt string) (auth.Renewed, error)
	End(ctx context.Context, refresh string) (user string, err error)
	EndToken(ctx context.Context, c auth.Claims) error
	List(ctx context.Context, user string) ([]auth.Login, error)
}

// RefreshRequest is the body of POST /v1/token/refresh.
type RefreshRequest struct {
	RefreshToken string `json:"refresh_token"`
	Attempt      string `json:"attempt,omitempty" doc:"up to 64 visible ASCII characters, a new secret value for each refresh token: a retry of the same exchange after a lost answer sends the same attempt and gets the same answer"`
}

// renewed returns the answer to a login or a renewal.
func renewed(r auth.Renewed) LoginResponse {
	return LoginResponse{
		Token: r.Token, ExpiresAt: r.Claims.ExpiresAt, TokenID: r.Claims.ID, UserID: r.Account.User, Roles: r.Account.Roles,
		RefreshToken: r.Refresh, RefreshExpiresAt: r.Until, LoginID: r.Login,
	}
}

func (a *api) refresh(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Renewals == nil {
		return 0, nil, errNothing
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBody)
	var req RefreshRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	got, err := a.cfg.Renewals.Renew(r.Context(), req.RefreshToken, req.Attempt)
	user := got.Account.User
	if user == "" { // the caller has no login of this cluster
		a.stranger(r, err)
		return 0, nil, err
	}
	if limited := auth.Charge(a.cfg.Users, user, callCost, "too many calls"); limited != nil {
		return 0, nil, limited
	}
	if err != nil {
		e := wire.AsError(err)
		if e.Code == wire.CodeUnauthenticated || e.Code == wire.CodeTokenExpired {
			a.record(audit.Decision{Who: user, What: audit.TokenRefresh, Outcome: audit.Refused, Code: string(e.Code), Detail: "login " + got.Login + ": " + e.Message})
		}
		return 0, nil, err
	}
	a.record(audit.Decision{Who: user, What: audit.TokenRefresh, Outcome: audit.OK, Detail: "login " + got.Login})
	a.log.Debug().Str("account", user).Str("jti", got.Claims.ID).Msg("login renewed")
	return http.StatusOK, renewed(got), nil
}

// LogoutRequest is the body of POST /v1/logout.
type LogoutRequest struct {
	RefreshToken string `json:"refresh_token,omitempty" doc:"refresh token of the login to end; default: the login of the token in Authorization"`
}

// LogoutResponse is the answer. Every node applies it within a second.
type LogoutResponse struct {
	Status string `json:"status" enum:"ended"`
	UserID string `json:"user_id"`
}

// logout takes a refresh token instead of a token, which may have expired.
func (a *api) logout(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Renewals == nil {
		return 0, nil, errNothing
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBody)
	var req LogoutRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	var user string
	var err error
	if req.RefreshToken != "" {
		user, err = a.cfg.Renewals.End(r.Context(), req.RefreshToken)
	} else {
		var c auth.Claims
		if c, err = auth.Bearer(r, a.cfg.Verifier); err == nil {
			user, err = c.Subject, a.cfg.Renewals.EndToken(r.Context(), c)
		}
	}
	if err != nil {
		if user == "" {
			a.stranger(r, err)
		}
		return 0, nil, err
	}
	a.record(audit.Decision{Who: user, What: audit.Logout, Outcome: audit.OK})
	return http.StatusOK, LogoutResponse{Status: "ended", UserID: user}, nil
}

// WhoAmI answers GET /v1/whoami.
type WhoAmI struct {
	UserID    string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`
	TokenID   string      `json:"token_id,omitempty"`
	IssuedAt  time.Time   `json:"issued_at,omitzero"`
	ExpiresAt time.Time   `json:"expires_at"`
	Issuer    string      `json:"issuer" enum:"conclave,other" doc:"other for a token verified by --jwks"`
}

func (a *api) whoAmI(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	c, _ := auth.FromContext(r.Context())
	issuer := "conclave"
	if c.Key != "" {
		issuer = "other"
	}
	return http.StatusOK, WhoAmI{
		UserID: c.Subject, Roles: append([]wire.Role{}, c.Roles...), TokenID: c.ID, IssuedAt: c.IssuedAt, ExpiresAt: c.ExpiresAt, Issuer: issuer,
	}, nil
}

// LoginInfo is a login that can be renewed.
type LoginInfo struct {
	LoginID   string    `json:"login_id" doc:"as jti of POST /v1/tokens/revoke it revokes the login"`
	Label     string    `json:"label,omitempty" doc:"name given by the client at login"`
	CreatedAt time.Time `json:"created_at"`
	RenewedAt time.Time `json:"renewed_at"`
	ExpiresAt time.Time `json:"expires_at" doc:"when the login expires if it is not renewed"`
	Renewals  int64     `json:"renewals"`
}

// logins lists a user's logins, to the user and to admins.
func (a *api) logins(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Renewals == nil {
		return 0, nil, errNothing
	}
	user, err := pathID(r, "user")
	if err != nil {
		return 0, nil, err
	}
	if c, _ := auth.FromContext(r.Context()); c.Subject != user && !c.Has(wire.RoleAdmin) {
		return 0, nil, wire.Errorf(wire.CodeForbidden, "only an admin may list the logins of others")
	}
	list, err := a.cfg.Renewals.List(r.Context(), user)
	if err != nil {
		return 0, nil, err
	}
	out := wire.List[LoginInfo]{Items: []LoginInfo{}}
	for _, l := range list {
		out.Items = append(out.Items, LoginInfo{
			LoginID: l.ID, Label: l.Label, CreatedAt: l.Began.UTC(), RenewedAt: l.Renewed.UTC(), ExpiresAt: l.Until.UTC(), Renewals: l.Count,
		})
	}
	return http.StatusOK, out, nil
}
