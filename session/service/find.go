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

// found is what a participant's message is for.
type found struct {
	id    string
	last  string // the key's last signing that has ended, where the message named none
	guess bool   // it is noted as open, and may be gone, or not the sender's
}

// over reports whether what was found had ended by then.
func (f found) over() bool { return f.id == f.last }

// wanting tells the signings apart that a message which names none may be for.
type wanting struct {
	waits func(session.Session) bool // it waits for such a message of the sender's
	meant func(session.Session) bool // it is what the message says; nil where that does not show
}

// choose returns the signing that a message is for among those that are open for
// its sender: of those that wait for it, the one that is meant, else the oldest,
// since whoever names none answers in the order in which it was asked. Where none
// waits there is no telling.
func (w wanting) choose(open []session.Session) (id string, ok bool) {
	open = slices.DeleteFunc(slices.Clone(open), func(s session.Session) bool { return !w.waits(s) })
	slices.SortFunc(open, func(a, b session.Session) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	if w.meant != nil {
		if i := slices.IndexFunc(open, w.meant); i >= 0 {
			return open[i].ID, true
		}
	}
	if len(open) == 0 {
		return "", false
	}
	return open[0].ID, true
}

// find names the session that a participant's message is for: the one it names,
// else the key's keygen, else that of the sender's open signings on the key that
// wants it, else the key's last.
func (v *Service) find(ctx context.Context, c Caller, kind session.Kind, keyID, sessionID string, want wanting) (found, error) {
	if sessionID != "" {
		return found{id: sessionID}, nil
	}
	key, open, last, err := v.cfg.Store.Signings(ctx, keyID)
	if err != nil {
		return found{}, err
	}
	if key.PartIndex(c.User) == 0 {
		none := &wire.Error{Code: wire.CodeForbidden, Message: "you hold no part of this key", KeyID: keyID}
		if !key.Involves(c.User) && !c.has(wire.RoleAdmin) {
			return found{}, &wire.Hidden{Told: ErrNotFound, Why: none}
		}
		return found{}, none
	}
	if !kind.OpensOnKey() {
		if key.Session == "" {
			return found{}, ErrNotFound
		}
		return found{id: key.Session}, nil
	}
	if len(open) == 1 { // as it is mostly; whether it still is shows when it is loaded
		return found{open[0].SessionID, last, true}, nil
	}
	var mine []session.Session
	for _, o := range open {
		l, err := v.load(ctx, o.SessionID)
		switch s := l.Session; {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return found{}, err
		case s.PartIndex(c.User) == 0:
		case s.Phase.Final():
			last = s.ID // so lately that it has not been closed yet
		default:
			mine = append(mine, s)
		}
	}
	switch {
	case len(mine) == 1:
		return found{id: mine[0].ID, last: last}, nil
	case len(mine) > 1:
		if id, ok := want.choose(mine); ok {
			return found{id: id, last: last}, nil
		}
		return found{}, ambiguous(keyID, mine)
	case last != "":
		return found{id: last, last: last}, nil
	}
	return found{}, noneOpen(keyID)
}

func ambiguous(keyID string, open []session.Session) error {
	ids := make([]string, len(open))
	for i, s := range open {
		ids[i] = s.ID
	}
	slices.Sort(ids)
	return &wire.Error{
		Code: wire.CodeAmbiguous, Message: fmt.Sprintf("several signings are open, and none waits for this; name one with session_id: %v", ids), KeyID: keyID,
	}
}

func noneOpen(keyID string) error {
	return &wire.Error{Code: wire.CodeNotFound, Message: "no signing is open on this key", KeyID: keyID}
}

// apply advances what was found for c's message. Where that was a guess, and wrong,
// it is the last one: the open signing does not ask c, or was lost with the node
// that was about to create it.
func (v *Service) apply(ctx context.Context, c Caller, f found, ch change) (session.Session, error) {
	ch.id, ch.over = f.id, f.over()
	if f.guess {
		ch.onlyOf = c.User
	}
	s, err := v.advance(ctx, ch)
	switch {
	case !f.guess || !errors.Is(err, ErrNotFound):
		return s, err
	case f.last == "":
		return s, noneOpen(ch.keyID)
	}
	ch.id, ch.over, ch.onlyOf = f.last, true, ""
	return v.advance(ctx, ch)
}

// late recognises, by its signature, a result that names no session and comes
// when the signing that it is for, the key's last, has ended and another is open:
// taken for a result of that one, it would put an honest party out. Where both sign
// the same data it serves either, and the open one needs it. Was is set to whether
// it was so late.
func (v *Service) late(ctx context.Context, c Caller, last string, p *wire.SignResult, was *bool) func(open session.Session) (session.Event, *session.Session) {
	return func(open session.Session) (session.Event, *session.Session) {
		ev, ok := session.Signed{From: c.User, Party: p.PartIndex, Signature: p.Signature}.Verify(open)
		if ok || open.ID == last {
			return ev, nil
		}
		ended, _, err := v.cfg.Store.Load(ctx, last)
		if err == nil && ended.Phase == session.Completed && ended.PartIndex(c.User) == p.PartIndex && verifies(ended, p.Signature) {
			*was = true
			return ev, &ended
		}
		return ev, nil
	}
}

// verifies reports whether a signature is one of what s signs, under its key.
func verifies(s session.Session, signature string) bool {
	_, ok := session.Signed{Signature: signature}.Verify(s)
	return ok
}
