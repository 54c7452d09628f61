package party

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/statement"
)

// Errors of this package. Neither they nor any text wrapped around them holds secrets.
var (
	// ErrNotAuthentic is returned by [Run.Accept] for a message that was not signed by
	// its alleged sender for exactly this run, round and recipient: a forgery, a
	// replay, a reflection, a copy from another session or attempt, or one damaged in
	// transit. It names no culprit: the origin is unknown; the run goes on as if
	// the message had not arrived.
	ErrNotAuthentic = errors.New("party: message is not authentic in this run")
	// ErrEnded is returned by [Run.Accept] when the run needs no more messages.
	ErrEnded = errors.New("party: run has ended")
	// ErrClosed is [Run.Err] after [Run.Close] ended the run.
	ErrClosed = errors.New("party: run was closed")
)

// Error says why a run failed, and whose fault it was if known.
type Error struct {
	// Reason is one line, in lower case, without secrets.
	Reason string
	// Culprits are the part indexes of parties that provably violated the protocol,
	// ascending; empty if unknown. The party's own index is never among them.
	Culprits []int
	// Evidence holds the signed messages that prove it, if there are any: two unequal
	// ones of one sender for the same place; one that does not decode or that the guard
	// refuses; or one and the echo that contains another. The binding of the run is
	// needed to check their signatures.
	Evidence []Message
	// Proof is set if the one culprit has signed two different messages for one place:
	// it suffices as evidence for anyone. Nil otherwise.
	Proof *statement.Evidence
	// Err is the cause, if one exists as an error.
	Err error
}

// Error returns the reason and the culprits.
func (e *Error) Error() string {
	if len(e.Culprits) == 0 {
		return "party: " + e.Reason
	}
	names := make([]string, len(e.Culprits))
	for i, c := range e.Culprits {
		names[i] = fmt.Sprint(c)
	}
	return fmt.Sprintf("party: %s (part %s)", e.Reason, strings.Join(names, ", "))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
