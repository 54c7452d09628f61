package httpapi

import (
	"net/http"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
)

// RevokeRequest is the body of POST /v1/tokens/revoke: one of JTI and User.
type RevokeRequest struct {
	JTI    string `json:"jti,omitempty" doc:"the token_id of a login"`
	User   string `json:"user,omitempty" doc:"user whose current tokens are all revoked"`
	Reason string `json:"reason,omitempty"`
}

// RevokeResponse is the answer once the revocation is stored. Every node applies it
// within a second.
type RevokeResponse struct {
	Status string `json:"status" enum:"revoked"`
	JTI    string `json:"jti,omitempty"`
	User   string `json:"user,omitempty"`
}

func (a *api) revoke(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	if a.cfg.Revoker == nil {
		return 0, nil, errNothing
	}
	var req RevokeRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	by, _ := auth.FromContext(r.Context())
	if err := a.cfg.Revoker.Revoke(r.Context(), by, req.JTI, req.User, req.Reason); err != nil {
		return 0, nil, err
	}
	detail := "of " + req.User
	if req.JTI != "" {
		detail = "token " + req.JTI
	}
	if req.Reason != "" {
		detail += ": " + req.Reason
	}
	a.record(audit.Decision{Who: by.Subject, What: audit.TokenRevoke, Outcome: audit.OK, Account: req.User, Detail: detail})
	a.log.Info().Str("by", by.Subject).Str("jti", req.JTI).Str("account", req.User).Msg("tokens revoked")
	return http.StatusOK, RevokeResponse{Status: "revoked", JTI: req.JTI, User: req.User}, nil
}
