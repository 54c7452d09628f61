package service

import (
	"context"
	"slices"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Key returns a key record to a user who is involved in it, or an admin; to others
// ErrNotFound.
func (v *Service) Key(ctx context.Context, c Caller, id string) (session.Key, error) {
	if !wire.StoredID(id) {
		return session.Key{}, ErrNotFound
	}
	k, err := v.cfg.Store.Key(ctx, id)
	if err == nil && !k.Involves(c.User) && !c.has(wire.RoleAdmin) {
		return session.Key{}, ErrNotFound
	}
	return k, err
}

// KeyAttestations returns the attestations of an active key, as [Session.Attestations]
// does, but for as long as the key is in its first epoch. Those of later epochs are in
// their certificates. The caller has the key from Key.
func (v *Service) KeyAttestations(ctx context.Context, k session.Key) ([]string, error) {
	if k.Status != session.KeyActive || k.Epoch > 1 {
		return nil, nil
	}
	list, err := v.cfg.Store.Attestations(ctx, k.ID, len(k.Participants))
	if err != nil || !slices.ContainsFunc(list, func(a string) bool { return a != "" }) {
		return nil, err
	}
	return list, nil
}

// Session returns a session to a user who is involved in it, or an admin; to others
// ErrNotFound.
func (v *Service) Session(ctx context.Context, c Caller, id string) (session.Session, error) {
	if !wire.StoredID(id) {
		return session.Session{}, ErrNotFound
	}
	s, _, err := v.cfg.Store.Load(ctx, id)
	if err == nil && !s.Involves(c.User) && !c.has(wire.RoleAdmin) {
		return session.Session{}, ErrNotFound
	}
	return s, err
}

// acquaintedPages bounds how many of a caller's keys one call of Acquainted reads, in
// pages of examined: its newest 10,000.
const acquaintedPages = 20

// Acquainted reports whether the caller may see whether a user is connected: itself,
// any user for an admin, and users that share an active key with it, as coordinator or
// participant. A requested keygen is not enough: it may name any user. The keys read
// depend on the caller alone, so that the duration discloses nothing about the user.
func (v *Service) Acquainted(ctx context.Context, c Caller, user string) (bool, error) {
	if user == c.User || c.has(wire.RoleAdmin) {
		return true, nil
	}
	p := Page{Limit: examined}
	for range acquaintedPages {
		places, err := v.cfg.Store.KeysOf(ctx, c.User, p)
		if err != nil {
			return false, err
		}
		ids := make([]string, len(places))
		for i, place := range places {
			ids[i] = place.ID
		}
		shared, err := v.cfg.Store.ListedKeys(ctx, user, ids)
		if err != nil {
			return false, err
		}
		for some := range slices.Chunk(shared, 50) {
			keys, err := v.cfg.Store.KeyRecords(ctx, some)
			if err != nil {
				return false, err
			}
			if slices.ContainsFunc(keys, func(k session.Key) bool {
				return k.Status == session.KeyActive && k.Involves(c.User) && k.Involves(user)
			}) {
				return true, nil
			}
		}
		if len(places) < p.Limit {
			break
		}
		p.After = places[len(places)-1]
	}
	return false, nil
}

// examined is how many entries of a list one call reads at most, however few of them
// match.
const examined = 500

// KeyFilter selects the keys of a list. The zero value selects all.
type KeyFilter struct {
	States []session.KeyStatus
}

func (f KeyFilter) takes(k session.Key) bool {
	return len(f.States) == 0 || slices.Contains(f.States, k.Status)
}

// Filter selects the sessions of a list. The zero value selects all.
type Filter struct {
	States []session.Phase
	Kind   session.Kind
	KeyID  string
}

func (f Filter) takes(s session.Session) bool {
	return (len(f.States) == 0 || slices.Contains(f.States, s.Phase)) && (f.Kind == "" || s.Kind == f.Kind) && (f.KeyID == "" || s.KeyID == f.KeyID)
}

// Keys lists the caller's keys, or, for an admin, all, newest first. Next is where the
// list continues, the zero Place at its end. A call's cost is bounded by the page, and
// with a filter by the entries that it reads: then the page may be short, even empty,
// although the list continues.
func (v *Service) Keys(ctx context.Context, c Caller, f KeyFilter, p Page) (keys []session.Key, next Place, err error) {
	return list(p, func(p Page) ([]Place, error) { return v.cfg.Store.KeysOf(ctx, c.listed(), p) },
		func(ids []string) ([]session.Key, error) { return v.cfg.Store.KeyRecords(ctx, ids) },
		func(k session.Key) string { return k.ID },
		func(k session.Key) bool { return (k.Involves(c.User) || c.has(wire.RoleAdmin)) && f.takes(k) })
}

// Sessions lists the caller's sessions that have not been forgotten, or, for an admin,
// all, as Keys does.
func (v *Service) Sessions(ctx context.Context, c Caller, f Filter, p Page) (sessions []session.Session, next Place, err error) {
	return list(p, func(p Page) ([]Place, error) { return v.cfg.Store.SessionsOf(ctx, c.listed(), p) },
		func(ids []string) ([]session.Session, error) { return v.cfg.Store.LoadAll(ctx, ids) },
		func(s session.Session) string { return s.ID },
		func(s session.Session) bool { return (s.Involves(c.User) || c.has(wire.RoleAdmin)) && f.takes(s) })
}

// listed returns whose lists a caller reads: its own, or all users' for an admin.
func (c Caller) listed() string {
	if c.has(wire.RoleAdmin) {
		return ""
	}
	return c.User
}

// list reads a page of an index and selects the wanted entries, reading no more than
// examined.
func list[T any](p Page, read func(Page) ([]Place, error), load func([]string) ([]T, error), idOf func(T) string, wanted func(T) bool) (items []T, next Place, err error) {
	for seen := 0; seen < examined; {
		part := Page{After: p.After, Limit: min(p.Limit-len(items), examined-seen)}
		if seen > 0 {
			part.Limit = min(max(part.Limit, p.Limit), examined-seen) // few match: fewer, longer reads
		}
		places, err := read(part)
		if err != nil {
			return nil, Place{}, err
		}
		ids := make([]string, len(places))
		for i, place := range places {
			ids[i] = place.ID
		}
		loaded, err := load(ids)
		if err != nil {
			return nil, Place{}, err
		}
		for _, place := range places {
			p.After = place
			if len(loaded) == 0 || idOf(loaded[0]) != place.ID {
				continue // it has been forgotten
			}
			item := loaded[0]
			loaded = loaded[1:]
			if !wanted(item) {
				continue
			}
			if items = append(items, item); len(items) == p.Limit {
				return items, place, nil
			}
		}
		if len(places) < part.Limit {
			return items, Place{}, nil
		}
		seen += len(places)
	}
	return items, p.After, nil
}
