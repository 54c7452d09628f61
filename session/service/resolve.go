package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// addressed is a participant's message with the fields that identify its session.
type addressed struct {
	kind             session.Kind
	keyID, sessionID string // sessionID is empty in messages of the seed's protocol
	// waits reports whether a signing waits for such a message from the sender.
	waits func(session.Session) bool
	// result is the event of a sign_result, else nil. Its signature tells signings
	// apart; resolve stores the result of verifying it there.
	result *session.Signed
	read   bool // the signings noted on the key are read before one is chosen
}

// target is the session that a message is for.
type target struct {
	id    string
	ended bool // it had ended when resolved: refusing or ignoring a message needs no lock

	// unread says that it is the only signing noted on the key and was not read: advance
	// reads it with its lock anyway. It then refuses with errElsewhere where resolve might
	// have chosen another; last is the key's last signing, which may be that one.
	unread bool
	last   string
}

// errElsewhere says that an unread target may not be the session that the message is for.
var errElsewhere = errors.New("session: the message may be for another session")

// deliverTo resolves a message and advances its session. If the only signing noted on
// the key turns out not to be the one, it reads what is noted and resolves again.
func (v *Service) deliverTo(ctx context.Context, c Caller, a addressed, ch change) (session.Session, error) {
	for { // twice at most: a target that was read is not unread
		to, err := v.resolve(ctx, c, a)
		if err != nil {
			return session.Session{}, err
		}
		ch.target = to
		if a.result != nil {
			ch.ev = *a.result
		}
		s, err := v.advance(ctx, ch)
		if !to.unread || !errors.Is(err, errElsewhere) && !errors.Is(err, ErrNotFound) {
			return s, err
		}
		a.read = true
	}
}

// elsewhere reports whether an unread target that has been loaded may be the wrong one:
// a result does not verify there and may verify in the last signing. It returns the
// event, with what verifying it has found.
func (c change) elsewhere(s session.Session) (session.Event, bool) {
	signed, ok := c.ev.(session.Signed)
	if !ok || c.last == "" {
		return c.ev, false
	}
	signed, verified := signed.Verify(s)
	return signed, !verified
}

// resolve returns the session that a participant's message is for: the one that it
// names; else the key's keygen, or for a signing
//
//   - the sender's open signing on the key, if there is one;
//   - of several, the one under which a result's signature verifies, else the oldest
//     that waits for the message, since a client that names no session answers in the
//     order in which it was asked;
//   - the key's last signing, if none is open for the sender, or if a result's signature
//     verifies there and not in the open one: counted as a result of that one, it would
//     exclude an honest party.
func (v *Service) resolve(ctx context.Context, c Caller, a addressed) (target, error) {
	if a.sessionID != "" {
		return target{id: a.sessionID}, nil
	}
	key, noted, last, err := v.cfg.Store.Signings(ctx, a.keyID)
	if err != nil {
		return target{}, err
	}
	if key.PartIndex(c.User) == 0 {
		none := &wire.Error{Code: wire.CodeForbidden, Message: "you hold no part of this key", KeyID: a.keyID}
		if !key.Involves(c.User) && !c.has(wire.RoleAdmin) {
			return target{}, &wire.Hidden{Told: ErrNotFound, Why: none}
		}
		return target{}, none
	}
	if !a.kind.OpensOnKey() {
		if key.Session == "" {
			return target{}, ErrNotFound
		}
		return target{id: key.Session}, nil
	}
	if len(noted) == 1 && !a.read {
		return target{id: noted[0].SessionID, unread: true, last: last}, nil
	}
	open, last, err := v.openTo(ctx, c.User, noted, last)
	switch {
	case err != nil:
		return target{}, err
	case len(open) == 0 && last == "":
		return target{}, noneOpen(a.keyID)
	case len(open) == 0:
		return target{id: last, ended: true}, nil
	}
	s, ok := a.choose(open)
	if !ok {
		return target{}, ambiguous(a.keyID, open)
	}
	late, err := v.isLate(ctx, c.User, a.result, s, last)
	if late {
		return target{id: last, ended: true}, err
	}
	return target{id: s.ID}, err
}

// openTo returns those of the signings noted as open on a key that are open and have
// invited user, and the key's last ended signing: one that is still noted as open, else
// last. A noted signing may not exist: its node may have died before it created the
// session.
func (v *Service) openTo(ctx context.Context, user string, noted []Signing, last string) (open []session.Session, _ string, _ error) {
	for _, n := range noted {
		l, err := v.load(ctx, n.SessionID)
		switch s := l.Session; {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return nil, "", err
		case s.PartIndex(user) == 0:
		case s.Phase.Final():
			last = s.ID
		default:
			open = append(open, s)
		}
	}
	return open, last, nil
}

// choose returns the open signing that a message without a session id is for; false if
// there are several and none waits for the message.
func (a addressed) choose(open []session.Session) (session.Session, bool) {
	if len(open) == 1 {
		return open[0], true
	}
	waiting := slices.DeleteFunc(slices.Clone(open), func(s session.Session) bool { return !a.waits(s) })
	slices.SortFunc(waiting, func(s, t session.Session) int {
		return cmp.Or(s.CreatedAt.Compare(t.CreatedAt), strings.Compare(s.ID, t.ID))
	})
	if a.result != nil {
		if i := slices.IndexFunc(waiting, func(s session.Session) bool { return verifies(s, a.result.Signature) }); i >= 0 {
			return waiting[i], true
		}
	}
	if len(waiting) == 0 {
		return session.Session{}, false
	}
	return waiting[0], true
}

// isLate reports whether a result without a session id arrived after the end of its
// signing, the key's last, while s is open: its signature verifies there, and not in s.
// If both sign the same data it serves either, and s needs it.
func (v *Service) isLate(ctx context.Context, user string, result *session.Signed, s session.Session, last string) (bool, error) {
	if result == nil || last == "" {
		return false, nil
	}
	var verified bool
	if *result, verified = result.Verify(s); verified {
		return false, nil
	}
	ended, _, err := v.cfg.Store.Load(ctx, last)
	if err != nil {
		return false, nil // s refuses it
	}
	return ended.Phase == session.Completed && ended.PartIndex(user) == result.Party && verifies(ended, result.Signature), nil
}

// verifies reports whether a signature is valid for s under its key.
func verifies(s session.Session, signature string) bool {
	_, ok := session.Signed{Signature: signature}.Verify(s)
	return ok
}

func ambiguous(keyID string, open []session.Session) error {
	ids := make([]string, len(open))
	for i, s := range open {
		ids[i] = s.ID
	}
	slices.Sort(ids)
	return &wire.Error{
		Code: wire.CodeAmbiguous, Message: fmt.Sprintf("several signings are open, and none expects this; name one with session_id: %v", ids), KeyID: keyID,
	}
}

func noneOpen(keyID string) error {
	return &wire.Error{Code: wire.CodeNotFound, Message: "no signing is open on this key", KeyID: keyID}
}
