package client

import "errors"

// Errors of this package. The server's errors are [*wire.Error]s.
var (
	// ErrClosed is returned by calls on a client whose Run has returned.
	ErrClosed = errors.New("client: closed")
	// ErrSuperseded is returned by Run when the same user connected elsewhere.
	ErrSuperseded = errors.New("client: the same user has connected from elsewhere")
	// ErrTokenExpired is returned by Run when the token has expired and its source
	// has no newer one.
	ErrTokenExpired = errors.New("client: the token has expired, and there is no newer one")
)
