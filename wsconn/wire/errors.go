package wire

import (
	"errors"
	"fmt"
	"time"
)

// Code classifies an error for programs. Codes are stable; messages are not.
type Code string

// The codes of the error message and of the web API's problem documents.
const (
	CodeBadRequest       Code = "bad_request"       // malformed, or a field is missing, mistyped or out of range
	CodeUnknownType      Code = "unknown_type"      // no such message type, or not one a client sends
	CodeTooLarge         Code = "too_large"         // over a size limit
	CodeNotRegistered    Code = "not_registered"    // the first message must be register
	CodeUnauthenticated  Code = "unauthenticated"   // missing or invalid token
	CodeTokenExpired     Code = "token_expired"     // an expired token; log in again
	CodeForbidden        Code = "forbidden"         // this user may not do this
	CodeNotFound         Code = "not_found"         // no such key or session, or none of the user's
	CodeConflict         Code = "conflict"          // contradicts the current state
	CodeAmbiguous        Code = "ambiguous_session" // several sessions are open: name one with session_id
	CodeSessionEnded     Code = "session_ended"     // the session already has its outcome
	CodeInvalidSignature Code = "invalid_signature" // the signature does not verify under the key
	CodeShareNotSealed   Code = "share_not_sealed"  // a plain share, and the node has no CONCLAVE_SHARE_KEK
	CodeMailboxFull      Code = "mailbox_full"      // a recipient has too much unread
	CodeQuotaExceeded    Code = "quota_exceeded"    // the account's storage quota is used up, until something of it ends
	CodeRateLimited      Code = "rate_limited"      // slow down
	CodeUnknownUser      Code = "unknown_user"      // a participant is not a user of this cluster
	CodeStorageFull      Code = "storage_full"      // Redis has no memory for new data; current work continues
	CodeUnavailable      Code = "unavailable"       // Redis does not answer, or the node is draining; try again
	CodeInternal         Code = "internal"          // a fault of the server, logged there
)

// Error is an error that a client may see. Every other error becomes CodeInternal
// at the edge and is logged in full on the server.
type Error struct {
	Code      Code
	Message   string // for people; lower case, no secrets
	Temporary bool   // the same message may succeed later
	KeyID     string // the key concerned, where known
	SessionID string

	// RetryAfter is when the same may succeed, for a temporary error or a
	// quota_exceeded that knows; the web API sends it as a header. Zero means
	// unknown.
	RetryAfter time.Duration
}

// Error returns the message for people.
func (e *Error) Error() string { return e.Message }

// Is reports whether target is an *Error of the same code, so that
// errors.Is(err, wire.ErrNotFound) holds on either side of the connection.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Errorf returns an *Error of that code. Codes that pass with time (unavailable,
// rate_limited, mailbox_full, storage_full) are marked temporary.
func Errorf(code Code, format string, args ...any) *Error {
	temporary := code == CodeUnavailable || code == CodeRateLimited || code == CodeMailboxFull || code == CodeStorageFull
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Temporary: temporary}
}

// Hidden is an error of which the client sees less than the audit and the log do:
// for a user without a part in a key or session it does not exist, while the
// operators see who tried to reach it. errors.As and errors.Is find Told, so that
// nothing else can reach the client.
type Hidden struct {
	Told *Error
	Why  *Error
}

// Error returns the reason, which the client does not see.
func (h *Hidden) Error() string { return h.Why.Message }

// Unwrap returns the error that the client sees.
func (h *Hidden) Unwrap() error { return h.Told }

// AsError returns the *Error in err's tree, or one with only CodeInternal: clients
// must not see any other error.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf(CodeInternal, "internal error")
}

// Cause returns the error for operators: AsError's, or, for a *Hidden, the one that
// its client does not see.
func Cause(err error) *Error {
	var hidden *Hidden
	if errors.As(err, &hidden) {
		return hidden.Why
	}
	return AsError(err)
}

// Targets of errors.Is.
var (
	ErrNotFound    = Errorf(CodeNotFound, "not found")
	ErrForbidden   = Errorf(CodeForbidden, "forbidden")
	ErrConflict    = Errorf(CodeConflict, "conflict")
	ErrUnavailable = Errorf(CodeUnavailable, "unavailable")
)

// Conclave's own WebSocket close codes. A client reconnects after 4000 to 4499 (but
// not after CloseSuperseded: the newer socket of the same user would be superseded
// in turn) and after the standard 1001, 1006, 1011 and 1012, but not after 4500 to
// 4999.
const (
	CloseSuperseded   = 4001 // a newer socket of this user registered, on any node
	CloseTokenExpired = 4002 // reconnect with a fresh token
	CloseSlow         = 4003 // the client did not read in time; reconnect and resume
	CloseUnavailable  = 4004 // the node lost Redis; reconnect, to another node if possible
	CloseNotRegister  = 4500 // no register within the time allowed
	CloseBadToken     = 4501 // register with an invalid token
	CloseAbuse        = 4502 // kept sending refused messages
	CloseForbidden    = 4503 // register as another user, or in a role the token lacks
	CloseRevoked      = 4504 // the token was revoked, or its account disabled
)
