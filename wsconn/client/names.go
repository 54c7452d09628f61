package client

import (
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// What a coordinator's program writes of other packages, so that it imports this one
// alone.
type (
	// KeygenRequest asks for a key.
	KeygenRequest = request.Keygen
	// SignRequest asks for a signature.
	SignRequest = request.Sign
	// Key is a generated key.
	Key = request.Key
	// Signature is a signature that has been verified.
	Signature = request.Signature
	// Event is something that happened, for Config.OnEvent.
	Event = request.Event
	// TokenSource gives tokens: [StaticToken], or the Token of a [rest.Renewer].
	TokenSource = rest.TokenSource
)

// StaticToken is a source of one token.
func StaticToken(token string) TokenSource { return rest.StaticToken(token) }
