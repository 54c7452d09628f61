package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// LoginRequest is the body of POST /v1/login.
type LoginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Refresh  bool   `json:"refresh,omitempty" doc:"true: also return a refresh token, which renews the login without the password"`
	Label    string `json:"label,omitempty" doc:"name of the login in lists, up to 64 bytes"`
}

// LoginResponse is the answer.
type LoginResponse struct {
	Token     string      `json:"token" doc:"JWT, for every WebSocket message and as bearer token of the web API"`
	ExpiresAt time.Time   `json:"expires_at"`
	TokenID   string      `json:"token_id" doc:"jti of the token, by which it can be revoked"`
	UserID    string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`

	RefreshToken     string    `json:"refresh_token,omitempty" doc:"if requested: exchange it at POST /v1/token/refresh before the token expires; it can be used once"`
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"`
	LoginID          string    `json:"login_id,omitempty" doc:"prefix of the token_id of all tokens of the login, by which it can be revoked"`
}

func (a *api) login(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Logins == nil || a.cfg.Issuer == nil {
		return 0, nil, wire.Errorf(wire.CodeNotFound, "there is no login here: the cluster accepts only tokens of another issuer")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBody)
	var req LoginRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	account, err := a.authenticate(r, req)
	a.recordLogin(r.Context(), req.Username, err)
	if err != nil {
		return 0, nil, err
	}
	if req.Refresh && a.cfg.Renewals != nil {
		got, err := a.cfg.Renewals.Begin(r.Context(), account, req.Label)
		if err != nil {
			return 0, nil, err
		}
		a.log.Info().Str("account", account.User).Str("jti", got.Claims.ID).Msg("logged in")
		return http.StatusOK, renewed(got), nil
	}
	token, claims, err := a.cfg.Issuer.IssueFor(account, a.cfg.TokenTTL)
	if err != nil {
		return 0, nil, err
	}
	a.log.Info().Str("account", account.User).Str("jti", claims.ID).Msg("logged in")
	return http.StatusOK, LoginResponse{
		Token: token, ExpiresAt: claims.ExpiresAt, TokenID: claims.ID, UserID: account.User, Roles: account.Roles,
	}, nil
}

// authenticate checks a password, unless there were too many failures.
func (a *api) authenticate(r *http.Request, req LoginRequest) (auth.Account, error) {
	from := auth.LoginFrom{Addr: a.address(r), Token: a.earlier(r, req.Username)}
	try, err := a.cfg.Attempts.Begin(r.Context(), req.Username, from)
	if err != nil {
		return auth.Account{}, err
	}
	account, err := a.cfg.Logins.Authenticate(r.Context(), req.Username, req.Password, try.Turn())
	switch {
	case err == nil:
		try.Succeeded(r.Context())
	case wire.AsError(err).Code == wire.CodeUnauthenticated:
		try.Failed()
	default:
		try.Undone(r.Context())
	}
	return account, err
}

// earlier returns the id of a token of user's that a login shows, expired or not,
// "" if it shows none that was valid and has not been revoked: its holder is a
// known client, from any address.
func (a *api) earlier(r *http.Request, user string) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	claims, ok := a.cfg.Issuer.Earlier(token)
	if !ok || claims.Subject != user || a.cfg.Still != nil && a.cfg.Still(claims) != nil {
		return ""
	}
	return claims.ID
}

// unlimited is Attempts without a limit.
type unlimited struct{}

func (unlimited) Begin(ctx context.Context, _ string, from auth.LoginFrom) (auth.LoginTry, error) {
	return unlimitedTry{limit.Network(from.Addr)}, ctx.Err()
}

type unlimitedTry struct{ network string }

func (t unlimitedTry) Turn() auth.Turn         { return auth.Turn{Network: t.network} }
func (unlimitedTry) Succeeded(context.Context) {}
func (unlimitedTry) Failed()                   {}
func (unlimitedTry) Undone(context.Context)    {}
