package client

import (
	"errors"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// changed logs and emits a changed identity.
func (c *Client) changed(err error, kind request.Kind, sessionID, keyID string) {
	var e *trust.IdentityError
	if !errors.As(err, &e) {
		return
	}
	c.log.Error().Str("session", sessionID).Str("key", keyID).Str("account", e.User).Str("known", e.Known).Str("now", e.Now).
		Bool("pinned", e.Pinned).Msg("identity has changed")
	c.emit(request.IdentityChanged{Kind: kind, SessionID: sessionID, KeyID: keyID, IdentityError: *e})
}
