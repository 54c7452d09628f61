package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// found is what a participant's message is for.
type found struct {
	id     string
	last   string  // the key's last signing that has ended, where the message named none
	loaded *loaded // the session, where it was looked at
}

// find names the session that a participant's message is for: the one it names,
// else the key's keygen, else the sender's only open signing on the key, else
// the key's last.
func (v *Service) find(ctx context.Context, c Caller, kind Kind, keyID, sessionID string) (found, error) {
	if sessionID != "" {
		return found{id: sessionID}, nil
	}
	key, open, last, err := v.cfg.Store.Signings(ctx, keyID)
	if err != nil {
		return found{}, err
	}
	if key.PartIndex(c.User) == 0 {
		return found{}, &wire.Error{Code: wire.CodeForbidden, Message: "you hold no part of this key", KeyID: keyID}
	}
	if kind == Keygen {
		if key.Session == "" {
			return found{}, ErrNotFound
		}
		return found{id: key.Session}, nil
	}
	var mine []string
	var only *loaded
	for _, o := range open {
		l, err := v.load(ctx, o.SessionID)
		switch s := l.session; {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return found{}, err
		case s.PartIndex(c.User) == 0:
		case s.Phase.Final():
			last = s.ID // so lately that it has not been closed yet
		default:
			mine, only = append(mine, s.ID), l
		}
	}
	switch {
	case len(mine) == 1:
		return found{mine[0], last, only}, nil
	case len(mine) > 1:
		slices.Sort(mine)
		return found{}, &wire.Error{
			Code: wire.CodeAmbiguous, Message: fmt.Sprintf("several signings are open, name one with session_id: %v", mine), KeyID: keyID,
		}
	case last != "":
		return found{id: last, last: last}, nil
	}
	return found{}, &wire.Error{Code: wire.CodeNotFound, Message: "no signing is open on this key", KeyID: keyID}
}

// late recognises, by its signature, a result that names no session and comes
// when the signing that it is for has ended and another is open: taken for a
// result of that one, it would put an honest party out. Where both sign the same
// data it serves either, and the open one needs it.
// What it found out about the open signing's signature it returns too.
func (v *Service) late(ctx context.Context, c Caller, f found, p *wire.SignResult) (ended Session, known *checked, late bool) {
	open := f.loaded.session.check(p.Signature)
	if open.ok {
		return Session{}, &open, false
	}
	ended, _, err := v.cfg.Store.Load(ctx, f.last)
	if err != nil || ended.Phase != Completed || ended.PartIndex(c.User) != p.PartIndex {
		return Session{}, &open, false
	}
	return ended, &open, ended.check(p.Signature).ok
}
