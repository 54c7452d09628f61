package httpapi

import (
	"net/http"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// LoginRequest is the body of POST /v1/login.
type LoginRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// LoginResponse answers it.
type LoginResponse struct {
	Token     string      `json:"token" doc:"a JWT, for every WebSocket message and as bearer token here"`
	ExpiresAt time.Time   `json:"expires_at"`
	TokenID   string      `json:"token_id" doc:"its jti, by which it can be revoked"`
	UserID    string      `json:"user_id"`
	Roles     []wire.Role `json:"roles"`
}

func (a *api) login(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Logins == nil || a.cfg.Issuer == nil {
		return 0, nil, wire.Errorf(wire.CodeNotFound, "this cluster takes tokens of another issuer, there is no login here")
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBody)
	var req LoginRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	if err := a.cfg.Attempts.Attempt(req.Username, a.address(r)); err != nil {
		a.recordLogin(r.Context(), req.Username, err)
		return 0, nil, err
	}
	account, err := a.cfg.Logins.Authenticate(r.Context(), req.Username, req.Password)
	a.recordLogin(r.Context(), req.Username, err)
	if err != nil {
		return 0, nil, err
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
