package client

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Errors of this package. What the server says is a [*wire.Error].
var (
	// ErrClosed is returned by calls on a client whose Run has returned.
	ErrClosed = errors.New("client: closed")
	// ErrSuperseded is returned by Run when the same user connected elsewhere.
	ErrSuperseded = errors.New("client: the same user has connected from elsewhere")
	// ErrTokenExpired is returned by Run when the token has expired and its source
	// has no newer one.
	ErrTokenExpired = errors.New("client: the token has expired, and there is no newer one")
	// ErrNoShare is returned by [ShareStore.Get] for a key without a share.
	ErrNoShare = errors.New("client: no share of that key")
	// ErrIdentityChanged is returned by [Trust], as an [*IdentityError], for a user
	// that was known by another identity.
	ErrIdentityChanged = errors.New("client: the identity has changed")
	// ErrNotPinned is the reason why a client that trusts nobody on first use refuses
	// a user whose identity is not pinned.
	ErrNotPinned = errors.New("client: the identity " + notPinnedHere)
	// ErrNotAttested is returned by Keygen and [CheckKey], as an
	// [*AttestationError], for a key that is not the one its participants attest.
	ErrNotAttested = errors.New("client: the key is not attested by its participants")
	// ErrProtected is returned by [ReadIdentity] for an identity that needs a
	// passphrase when there is none.
	ErrProtected = errors.New("client: the identity is protected by a passphrase")
	// ErrBadSignature is returned by Sign, with what is wrong, when the server
	// claims success for a signature that is none.
	ErrBadSignature = errors.New("client: the server's signature does not verify")
	// ErrLocked is returned by [OpenDirStore] when another process uses the
	// directory.
	ErrLocked = errors.New("client: another process uses the store")
)

// Targets for errors.Is of what the server refuses. Its message names the limit, or
// the user.
var (
	// ErrQuotaExceeded is returned by Keygen and Sign when the coordinator stores as
	// much in the cluster as it may.
	ErrQuotaExceeded = wire.Errorf(wire.CodeQuotaExceeded, "quota exceeded")
	// ErrUnknownUser is returned by Keygen when a participant is no user there.
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

// Outcome is Error without the kind: the status, the reason, and the parts that
// are blamed and that the server's part of the reason does not name.
func (e *OutcomeError) Outcome() string {
	text := string(e.Status)
	switch {
	case e.Status != "" && strings.HasPrefix(e.Reason, text):
		text = e.Reason // "cancelled by alice"
	case e.Reason != "":
		text += ": " + e.Reason
	}
	// A party's own words stand behind the first colon. A part that only they name
	// is told all the same.
	told, _, _ := strings.Cut(e.Reason, ": ")
	blamed := slices.DeleteFunc(slices.Clone(e.Culprits), func(part int) bool {
		return strings.Contains(told, fmt.Sprintf("(part %d)", part))
	})
	if len(blamed) > 0 {
		text += " (blamed: part " + strings.ReplaceAll(wire.FormatParts(blamed), ",", ", ") + ")"
	}
	return text
}
