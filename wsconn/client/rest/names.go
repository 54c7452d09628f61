package rest

import "github.com/conclave-mpc/conclave/wsconn/client/request"

// What a program writes of package request, so that it imports this one alone.
type (
	// KeygenRequest asks for a key.
	KeygenRequest = request.Keygen
	// SignRequest asks for a signature.
	SignRequest = request.Sign
	// Key is a generated key.
	Key = request.Key
	// Signature is a signature that has been verified.
	Signature = request.Signature
)
