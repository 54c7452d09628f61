package client

import (
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Trust decides whether id may be the identity of user. A participant asks it
// about each party of a key, and about a coordinator whose signed request was
// approved; its error is told to the others as the reason why this party does not
// go on. A coordinator asks it about participants that have attested a key and
// were not known.
type Trust func(user string, id identity.Public) error

// Truster is a store that knows identities, and trusts a user's first one.
type Truster interface {
	Trust(user string, id identity.Public) error
}

// Known is what is known of a user's identity.
type Known struct {
	User        string `json:"user_id"`
	Fingerprint string `json:"fingerprint"`
	// Pinned says that it was pinned by hand, and not trusted on first use.
	Pinned bool `json:"pinned"`
}

// KnownStore is a store that can tell whose identity it knows, and in which
// identities are pinned.
type KnownStore interface {
	// Known returns what is known of a user, and whether anything is.
	Known(user string) (Known, bool, error)
	// Pin notes the fingerprint of a user's identity, as its owner has told it. It
	// returns an [*IdentityError] if another one is known.
	Pin(user, fingerprint string) error
}

// pinned is what is known of a user after pinning a fingerprint.
func (k Known) pinned(user, fingerprint string) (Known, error) {
	canonical, err := identity.ParseFingerprint(fingerprint)
	switch {
	case err != nil:
		return k, err
	case !wire.StoredID(user):
		return k, fmt.Errorf("%q is no user id", user)
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

// sameIdentity holds an identity against the one in a key or a store.
func sameIdentity(user string, known, id identity.Public) error {
	if known != id {
		return &IdentityError{User: user, Known: known.Fingerprint(), Now: id.Fingerprint()}
	}
	return nil
}

// holds is sameIdentity for what is known by its fingerprint.
func (k Known) holds(id identity.Public) error {
	if now := id.Fingerprint(); now != k.Fingerprint {
		return &IdentityError{User: k.User, Known: k.Fingerprint, Now: now, Pinned: k.Pinned}
	}
	return nil
}

func (p *participant) known(user string) (Known, bool, error) {
	if p.c.cfg.Known == nil {
		return Known{}, false, nil
	}
	known, ok, err := p.c.cfg.Known(user)
	if err != nil {
		return known, false, p.local(err, "known identities cannot be read")
	}
	return known, ok, nil
}

// admits decides about an identity by what is known, and remembers nothing.
func admits(pinnedOnly bool, user string, known Known, ok bool, id identity.Public) error {
	if ok {
		if err := known.holds(id); err != nil {
			return err
		}
	}
	if pinnedOnly && !(ok && known.Pinned) {
		return fmt.Errorf("%w: %s, who comes with %s", ErrNotPinned, user, id.Fingerprint())
	}
	return nil
}

// trusts decides about an identity, and lets the store remember it.
func (p *participant) trusts(user string, id identity.Public) error {
	known, ok, err := p.known(user)
	if err != nil {
		return err
	}
	if err := admits(p.c.cfg.PinnedOnly, user, known, ok, id); err != nil {
		return err
	}
	return p.local(p.c.cfg.Trust(user, id), "known identities cannot be read")
}

// changed tells this side's people about a changed identity.
func (c *Client) changed(err error, kind Kind, sessionID, keyID string) {
	var e *IdentityError
	if !errors.As(err, &e) {
		return
	}
	c.log.Error().Str("session", sessionID).Str("key", keyID).Str("account", e.User).Str("known", e.Known).Str("now", e.Now).
		Bool("pinned", e.Pinned).Msg("identity has changed")
	c.emit(IdentityChanged{Kind: kind, SessionID: sessionID, KeyID: keyID, IdentityError: *e})
}
