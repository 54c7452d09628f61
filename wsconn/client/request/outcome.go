package request

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ErrBadSignature is returned by Sign, with the cause, when the server reports
// success with a signature that does not verify.
var ErrBadSignature = errors.New("client: the server's signature does not verify")

// Targets of errors.Is for the server's refusals. The message names the limit, or
// the user.
var (
	// ErrQuotaExceeded is returned by Keygen and Sign when the coordinator has used
	// up its storage quota in the cluster.
	ErrQuotaExceeded = wire.Errorf(wire.CodeQuotaExceeded, "quota exceeded")
	// ErrUnknownUser is returned by Keygen when a participant is not a user of the
	// servers.
	ErrUnknownUser = wire.Errorf(wire.CodeUnknownUser, "unknown user")
)

// OutcomeError is returned by Keygen and Sign when the session ended without
// success.
type OutcomeError struct {
	Kind             Kind
	SessionID, KeyID string
	Status           wire.Status
	Reason           string
	Culprits         []int // part indexes
}

// Error says how the session ended and why.
func (e *OutcomeError) Error() string { return string(e.Kind) + " " + e.Outcome() }

// Outcome is Error without the kind: the status, the reason, and the blamed parts
// that the server's part of the reason does not name.
func (e *OutcomeError) Outcome() string {
	text := string(e.Status)
	switch {
	case e.Status != "" && strings.HasPrefix(e.Reason, text):
		text = e.Reason // "cancelled by alice"
	case e.Reason != "":
		text += ": " + e.Reason
	}
	// A party's own words follow the first colon. A part named only there is shown
	// too.
	told, _, _ := strings.Cut(e.Reason, ": ")
	blamed := slices.DeleteFunc(slices.Clone(e.Culprits), func(part int) bool {
		return strings.Contains(told, fmt.Sprintf("(part %d)", part))
	})
	if len(blamed) > 0 {
		text += " (blamed: part " + strings.ReplaceAll(wire.FormatParts(blamed), ",", ", ") + ")"
	}
	return text
}
