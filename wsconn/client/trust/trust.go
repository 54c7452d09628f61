// Package trust decides which identity belongs to which user, and so which new keys
// are accepted. It stores nothing: a [Store] does, such as package dirstore's.
//
// Start here: [Of] and [Pinned] make the [Policy] of a store, for the Config of a
// client or a participant. [CheckKey] checks offline who has attested a key that
// the web API has shown.
//
// Identities are compared by their fingerprints. One pinned by hand is known for
// certain; one that was only seen before is known to be unchanged.
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
	// ErrNotPinned is the reason why a client without trust on first use refuses a
	// user whose identity is not pinned.
	ErrNotPinned = errors.New("client: the identity " + ReasonNotPinned)
)

// ReasonNotPinned is in every reason of a participant that declines because the
// coordinator's identity is not pinned: by its policy on coordinators, and not
// because of the request.
const ReasonNotPinned = "is not pinned here"

// NeedsPin reports whether the reason for which a participant declined, or a
// session was rejected, is that the coordinator's identity is not pinned there. It
// is for hints only: the reason's author can write anything.
func NeedsPin(reason string) bool { return strings.Contains(reason, ReasonNotPinned) }

// Policy decides which identities a client accepts as those of their users. The
// zero value knows none.
type Policy struct {
	// Known returns the known identity of a user, and whether there is one. Nil
	// means that there are none.
	Known func(user string) (Known, bool, error)
	// Trust decides whether id may be the identity of user, and may remember it. A
	// participant calls it for each party of a key, and for a coordinator whose
	// signed request was approved; its error is sent to the others as the reason
	// why this party stops. A coordinator calls it for participants that have
	// attested a key and were not known; nil means that it accepts them all.
	Trust func(user string, id identity.Public) error
	// Adopt replaces the known identity of a user, pinned if the one before was: a
	// participant that has agreed to a reshare calls it for a member with a new device,
	// once the epoch is certified. Nil means that known identities stay.
	Adopt func(user string, id identity.Public) error
	// PinnedOnly refuses identities that were not pinned by hand: there is no trust
	// on first use.
	PinnedOnly bool
}

// Adopter is a [Store] with [Policy.Adopt].
type Adopter interface {
	// Adopt replaces the known identity of a user by another one, pinned if the one
	// before was.
	Adopt(user string, id identity.Public) error
}

// Of returns the policy of a store: the identities it has are known, and it decides
// about the others.
func Of(s Store) Policy {
	p := Policy{Known: s.Known, Trust: s.Trust}
	if a, ok := s.(Adopter); ok {
		p.Adopt = a.Adopt
	}
	return p
}

// Pinned is Of with PinnedOnly.
func Pinned(s Store) Policy {
	p := Of(s)
	p.PinnedOnly = true
	return p
}

// Store keeps known identities, and decides about those of users that it does not
// know.
type Store interface {
	// Known returns the known identity of a user, and whether there is one.
	Known(user string) (Known, bool, error)
	// Trust decides whether id may be the identity of user, and may remember it.
	Trust(user string, id identity.Public) error
}

// Known is a known identity of a user.
type Known struct {
	User        string `json:"user_id"`
	Fingerprint string `json:"fingerprint"`
	// Pinned says that it was pinned by hand, and not trusted on first use.
	Pinned bool `json:"pinned"`
}

// PinnedAs returns a user's Known after pinning a fingerprint, as given by the
// identity's owner. k is the Known before, the zero value if there was none. An
// [*IdentityError] says that another identity is known.
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

// IdentityError is returned for a user with another identity than the known one. It
// is an ErrIdentityChanged.
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

// SameIdentity returns an [*IdentityError] if id is not the identity known from a
// key.
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

// Look returns the known identity of a user, and whether there is one.
func (p Policy) Look(user string) (Known, bool, error) {
	if p.Known == nil {
		return Known{}, false, nil
	}
	return p.Known(user)
}

// Admit decides about an identity by the result of Look, and remembers nothing. It
// returns an [*IdentityError] or an ErrNotPinned.
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
