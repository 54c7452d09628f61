package rest

import "github.com/conclave-mpc/conclave/wsconn/client/request"

// Names of package request that a program needs, so that it imports only this one.
type (
	// KeygenRequest requests a key.
	KeygenRequest = request.Keygen
	// SignRequest requests a signature.
	SignRequest = request.Sign
	// ReshareRequest requests a new epoch of a key.
	ReshareRequest = request.Reshare
	// Key is a generated key.
	Key = request.Key
	// Signature is a verified signature.
	Signature = request.Signature
	// NewEpoch is a certified epoch that a request has led to.
	NewEpoch = request.NewEpoch
)
