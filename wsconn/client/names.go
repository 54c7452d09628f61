package client

import (
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// Names of other packages that a coordinator's program needs, so that it imports
// only this one.
type (
	// KeygenRequest requests a key.
	KeygenRequest = request.Keygen
	// SignRequest requests a signature.
	SignRequest = request.Sign
	// ReshareRequest requests a new epoch of a key; see [request.Refresh] and
	// [request.Replace].
	ReshareRequest = request.Reshare
	// NewEpoch is a certified epoch.
	NewEpoch = request.NewEpoch
	// Key is a generated key.
	Key = request.Key
	// Signature is a verified signature.
	Signature = request.Signature
	// Event is an event, for Config.OnEvent.
	Event = request.Event
	// TokenSource supplies tokens: [StaticToken], or the Token of a [rest.Renewer].
	TokenSource = rest.TokenSource
)

// StaticToken is a source of one token.
func StaticToken(token string) TokenSource { return rest.StaticToken(token) }
