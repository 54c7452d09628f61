package session

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Key returns a key record to one who is involved in it, or an admin; to others
// it does not exist.
func (v *Service) Key(ctx context.Context, c Caller, id string) (Key, error) {
	if !wire.ValidID(id) {
		return Key{}, ErrNotFound
	}
	k, err := v.cfg.Store.Key(ctx, id)
	if err == nil && !k.Involves(c.User) && !c.has(wire.RoleAdmin) {
		return Key{}, ErrNotFound
	}
	return k, err
}

// Session returns a session to one who is involved in it, or an admin; to
// others it does not exist.
func (v *Service) Session(ctx context.Context, c Caller, id string) (Session, error) {
	if !wire.ValidID(id) {
		return Session{}, ErrNotFound
	}
	s, _, err := v.cfg.Store.Load(ctx, id)
	if err == nil && !s.Involves(c.User) && !c.has(wire.RoleAdmin) {
		return Session{}, ErrNotFound
	}
	return s, err
}

// Keys lists the caller's keys, newest first.
func (v *Service) Keys(ctx context.Context, c Caller, p Page) ([]Key, error) {
	ids, err := v.cfg.Store.KeysOf(ctx, c.User, p)
	if err != nil {
		return nil, err
	}
	return each(ids, func(id string) (Key, error) { return v.Key(ctx, c, id) })
}

// Sessions lists the caller's sessions that have not been forgotten, newest
// first.
func (v *Service) Sessions(ctx context.Context, c Caller, p Page) ([]Session, error) {
	ids, err := v.cfg.Store.SessionsOf(ctx, c.User, p)
	if err != nil {
		return nil, err
	}
	return each(ids, func(id string) (Session, error) { return v.Session(ctx, c, id) })
}

// each loads what ids name and skips what is not there any more.
func each[T any](ids []string, load func(string) (T, error)) ([]T, error) {
	list := make([]T, 0, len(ids))
	for _, id := range ids {
		item, err := load(id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, item)
	}
	return list, nil
}
