package session

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// find names the session that a participant's message is for: the one it names,
// else the key's keygen, else the sender's only open signing on the key, else
// the key's last. That last one it returns too where it has looked.
func (v *Service) find(ctx context.Context, c Caller, kind Kind, keyID, sessionID string) (id, last string, err error) {
	if sessionID != "" {
		return sessionID, "", nil
	}
	key, err := v.cfg.Store.Key(ctx, keyID)
	if err != nil {
		return "", "", err
	}
	if key.PartIndex(c.User) == 0 {
		return "", "", &wire.Error{Code: wire.CodeForbidden, Message: "you hold no part of this key", KeyID: keyID}
	}
	if kind == Keygen {
		if key.Session == "" {
			return "", "", ErrNotFound
		}
		return key.Session, "", nil
	}
	open, last, err := v.cfg.Store.Signings(ctx, keyID)
	if err != nil {
		return "", "", err
	}
	var mine []string
	for _, o := range open {
		s, _, err := v.cfg.Store.Load(ctx, o.SessionID)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return "", "", err
		case s.PartIndex(c.User) == 0:
		case s.Phase.Final():
			last = s.ID // so lately that it has not been closed yet
		default:
			mine = append(mine, s.ID)
		}
	}
	switch {
	case len(mine) == 1:
		return mine[0], last, nil
	case len(mine) > 1:
		slices.Sort(mine)
		return "", "", &wire.Error{
			Code: wire.CodeAmbiguous, Message: fmt.Sprintf("several signings are open, name one with session_id: %v", mine), KeyID: keyID,
		}
	case last != "":
		return last, last, nil
	}
	return "", "", &wire.Error{Code: wire.CodeNotFound, Message: "no signing is open on this key", KeyID: keyID}
}

// late recognises, by its signature, a result that names no session and comes
// when the signing that it is for has ended and another is open: taken for a
// result of that one, it would put an honest party out. Where both sign the same
// data it serves either, and the open one needs it.
func (v *Service) late(ctx context.Context, c Caller, last, open string, p *wire.SignResult) (Session, bool) {
	ended, _, err := v.cfg.Store.Load(ctx, last)
	if err != nil || ended.Phase != Completed || ended.PartIndex(c.User) != p.PartIndex {
		return Session{}, false
	}
	wanted, _, err := v.cfg.Store.Load(ctx, open)
	if err != nil || wanted.Digest == ended.Digest {
		return Session{}, false
	}
	m := machine{Session: ended}
	_, _, ok := m.verify(p.Signature)
	return ended, ok
}
