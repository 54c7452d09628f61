package rest

import "github.com/conclave-mpc/conclave/wsconn/client/request"

// Names of package request that a program needs, so that it imports only this one.
type (
	// KeygenRequest requests a key.
	KeygenRequest = request.Keygen
	// SignRequest requests a signature.
	SignRequest = request.Sign
	// Key is a generated key.
	Key = request.Key
	// Signature is a verified signature.
	Signature = request.Signature
)
