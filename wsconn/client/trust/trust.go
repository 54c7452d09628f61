// Package trust says whose identity is whose, and which new keys are accepted by that.
// It stores nothing: a [Store] does, such as package dirstore's.
//
// Start here: [Of] and [Pinned] make the [Policy] of a store, for the Config of a
// client or a participant. [CheckKey] checks offline who has attested a key that the
// web API has shown.
//
// Identities are compared by their fingerprints. One that was pinned by hand is known
// for good; one that was only seen before is the same as then.
package trust

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Errors of this package.
var (
	// ErrIdentityChanged is returned, as an [*IdentityError], for a user that was
	// known by another identity.
	ErrIdentityChanged = errors.New("client: the identity has changed")
	// ErrNotPinned is the reason why a client that trusts nobody on first use refuses
	// a user whose identity is not pinned.
	ErrNotPinned = errors.New("client: the identity " + ReasonNotPinned)
)

// ReasonNotPinned is in every reason of a participant that declines because the
// identity of the coordinator is not pinned: by its policy of whom to hear, and
// not by what is asked for.
const ReasonNotPinned = "is not pinned here"

// NeedsPin reports whether the reason for which a participant declined, or a
// session was rejected, is that the coordinator's identity is not pinned there. It
// is for hints: whoever wrote the reason can write anything.
func NeedsPin(reason string) bool { return strings.Contains(reason, ReasonNotPinned) }

// Policy says which identities a client takes for those of their users. The zero
// value knows nobody.
type Policy struct {
	// Known returns what is known of a user, and whether anything is. Nil means that
	// nobody is known.
	Known func(user string) (Known, bool, error)
	// Trust decides whether id may be the identity of user, and may remember it. A
	// participant asks it about each party of a key, and about a coordinator whose
	// signed request was approved; its error is told to the others as the reason why
	// this party does not go on. A coordinator asks it about participants that have
	// attested a key and were not known; nil means that it takes them all.
	Trust func(user string, id identity.Public) error
	// PinnedOnly refuses identities that were not pinned by hand: nobody is trusted
	// on first use.
	PinnedOnly bool
}

// Of returns the policy of a store: whoever it knows is known, and it decides
// about the others.
func Of(s Store) Policy { return Policy{Known: s.Known, Trust: s.Trust} }

// Pinned is Of with PinnedOnly.
func Pinned(s Store) Policy {
	return Policy{Known: s.Known, Trust: s.Trust, PinnedOnly: true}
}

// Store is a store that knows identities, and decides about those of users
// that it does not know.
type Store interface {
	// Known returns what is known of a user, and whether anything is.
	Known(user string) (Known, bool, error)
	// Trust decides whether id may be the identity of user, and may remember it.
	Trust(user string, id identity.Public) error
}

// Known is what is known of a user's identity.
type Known struct {
	User        string `json:"user_id"`
	Fingerprint string `json:"fingerprint"`
	// Pinned says that it was pinned by hand, and not trusted on first use.
	Pinned bool `json:"pinned"`
}

// PinnedAs returns what is known of a user after pinning a fingerprint, as the
// identity's owner has told it. k is what was known before, the zero value if
// nothing was. An [*IdentityError] says that another identity is known.
func (k Known) PinnedAs(user, fingerprint string) (Known, error) {
	canonical, err := identity.ParseFingerprint(fingerprint)
	switch {
	case err != nil:
		return k, err
	case !wire.StoredID(user):
		return k, fmt.Errorf("%q is not a user id", user)
	case k.User != "" && k.Fingerprint != canonical:
		return k, &IdentityError{User: user, Known: k.Fingerprint, Now: canonical, Pinned: k.Pinned}
	}
	return Known{User: user, Fingerprint: canonical, Pinned: true}, nil
}

// IdentityError is returned when a user comes with another identity than the one
// that is known. It is an ErrIdentityChanged.
type IdentityError struct {
	User       string
	Known, Now string // fingerprints
	Pinned     bool   // the known one was pinned by hand
}

// Error shows both fingerprints.
func (e *IdentityError) Error() string {
	how := "known as"
	if e.Pinned {
		how = "pinned as"
	}
	return fmt.Sprintf("%s: %s was %s %s and is now %s", ErrIdentityChanged, e.User, how, e.Known, e.Now)
}

// Is reports that it is an ErrIdentityChanged.
func (e *IdentityError) Is(target error) bool { return target == ErrIdentityChanged }

// SameIdentity returns an [*IdentityError] if id is not the identity that is known
// from a key.
func SameIdentity(user string, known, id identity.Public) error {
	if known != id {
		return &IdentityError{User: user, Known: known.Fingerprint(), Now: id.Fingerprint()}
	}
	return nil
}

// Holds returns an [*IdentityError] if id has another fingerprint than the known
// one.
func (k Known) Holds(id identity.Public) error {
	if now := id.Fingerprint(); now != k.Fingerprint {
		return &IdentityError{User: k.User, Known: k.Fingerprint, Now: now, Pinned: k.Pinned}
	}
	return nil
}

// Look returns what is known of a user, and whether anything is.
func (p Policy) Look(user string) (Known, bool, error) {
	if p.Known == nil {
		return Known{}, false, nil
	}
	return p.Known(user)
}

// Admit decides about an identity by what Look has returned, and remembers
// nothing. It returns an [*IdentityError] or an ErrNotPinned.
func (p Policy) Admit(user string, known Known, ok bool, id identity.Public) error {
	if ok {
		if err := known.Holds(id); err != nil {
			return err
		}
	}
	if p.PinnedOnly && !(ok && known.Pinned) {
		return fmt.Errorf("%w: %s, who presents %s", ErrNotPinned, user, id.Fingerprint())
	}
	return nil
}
