package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// advance applies ev to a session: lock, load, step, commit, deliver. The keyID of the
// message, where it has one, must be the session's. Before is run with the
// stepped session between Step and commit, for what must be durable first; it
// may be repeated. Known is the session where the caller has just loaded it,
// else nil: what has changed since is found out by the commit, which is fenced
// by the version.
func (v *Service) advance(ctx context.Context, id, keyID string, known *loaded, ev Event, before func(Session) error) (_ Session, err error) {
	if !wire.ValidID(id) {
		return Session{}, ErrNotFound
	}
	ctx, end := v.cfg.Tracer.Begin(ctx, id, stepPart(ev))
	defer func() { end(err) }()
	lock, unlock, err := v.lock(ctx, id, ev)
	if err != nil {
		return Session{}, err
	}
	defer unlock()
	if known != nil && time.Since(known.begun) > knownFor {
		known = nil // others have had the lock meanwhile
	}
	done, err := v.commit(ctx, lock.Token(), id, keyID, known, ev, before)
	v.release(ctx, id, lock)
	if err != nil || !done.changed {
		return done.session, about(err, done.session)
	}
	if done.quiet {
		v.ring(ctx, done.session, done.receipt.Watchers)
		return done.session, nil
	}
	v.deliver(ctx, done)
	v.ring(ctx, done.session, done.receipt.Watchers)
	return done.session, nil
}

// loaded is a session as the store had it a moment ago.
type loaded struct {
	session Session
	now     time.Time // the store's, then
	begun   time.Time // ours, before
}

func (v *Service) load(ctx context.Context, id string) (*loaded, error) {
	l := loaded{begun: time.Now()}
	ctx, done := v.cfg.Tracer.Begin(ctx, id, partLoad)
	var err error
	l.session, l.now, err = v.cfg.Store.Load(ctx, id)
	done(err)
	return &l, err
}

// errOvertaken says that other nodes have changed a session each time this one
// was about to.
var errOvertaken = fmt.Errorf("session: lost every race: %w", ErrUnavailable)

// committed is what commit did.
type committed struct {
	session Session // after it; as loaded, if it was refused
	changed bool
	quiet   bool      // it says nothing, and the due list is right as it is
	at      time.Time // by the store's clock
	mark    time.Time // the session's place in the due list, put there before
	entries []Entry
	receipt Receipt
}

// commit is the middle of advance: it steps until no other node gets in between.
func (v *Service) commit(ctx context.Context, token, id, keyID string, known *loaded, ev Event, before func(Session) error) (committed, error) {
	for range commitTries {
		if known == nil {
			var err error
			if known, err = v.load(ctx, id); err != nil {
				return committed{}, err
			}
		}
		s, now, begun := known.session, known.now, known.begun
		known = nil
		if keyID != "" && s.KeyID != keyID {
			return committed{}, wire.Errorf(wire.CodeConflict, "the session is not one of that key")
		}
		next, out, err := Step(s, ev, now)
		if err != nil || next.equal(s) {
			return committed{session: s}, err
		}
		if before != nil {
			if err := before(next); err != nil {
				return committed{session: s}, err
			}
		}
		entries, err := v.encode(ctx, next, out)
		if err != nil {
			return committed{session: s}, err
		}
		// What was read and written meanwhile may have taken long: the store's clock
		// is not before this (the time that passed is measured, not told by a clock).
		at := now.Add(time.Since(begun))
		mark := at.Add(redeliverIn)
		quiet := len(entries) == 0 && sameDue(s, next, ev)
		if !quiet {
			if err := v.cfg.Store.Schedule(ctx, id, mark); err != nil {
				return committed{session: s}, err
			}
		}
		committing, end := v.cfg.Tracer.Begin(ctx, id, partCommit)
		receipt, err := v.cfg.Store.Commit(committing, next, token, entries, at.Add(commitWithin))
		end(err)
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return committed{session: s}, err
		}
		next.Version++
		v.relays.put(next)
		v.changed(next)
		v.logStep(s, next, ev)
		v.cfg.Observer.Stepped(s, next)
		v.cfg.Tracer.Stepped(ctx, s, next)
		v.auditStep(next, ev)
		return committed{
			session: next, changed: true, quiet: quiet && !receipt.Backlog,
			at: now, mark: mark, entries: entries, receipt: receipt,
		}, nil
	}
	return committed{}, errOvertaken
}

// sameDue reports whether next is to be looked at when s was, as the due list
// has it. The sweeper, whose event a Tick is, has moved that.
func sameDue(s, next Session, ev Event) bool {
	_, swept := ev.(Tick)
	return !swept && s.Phase == next.Phase && s.Deadline.Equal(next.Deadline) && !next.Phase.Final() && !next.stored()
}

// encode makes outbox entries of what a step says. A party's stored share joins
// its signing parameters here: Step knows no store.
func (v *Service) encode(ctx context.Context, s Session, out []Outgoing) ([]Entry, error) {
	entries := make([]Entry, 0, len(out))
	for _, o := range out {
		if p, ok := o.Payload.(*wire.SignParams); ok {
			share, err := v.cfg.Store.Share(ctx, s.KeyID, p.PartIndex)
			if err != nil {
				return nil, err
			}
			p.ShareJSON = share
		}
		frame, err := wire.Frame(o.To, o.Payload, o.RequestID)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{To: o.To, Frame: frame})
	}
	return entries, nil
}

// about adds the session to an error that a client sees, and its key unless the
// client may have no business with it.
func about(err error, s Session) error {
	var e *wire.Error
	if s.ID == "" || !errors.As(err, &e) || e.SessionID != "" || errors.Is(err, ErrUnavailable) {
		return err
	}
	told := *e
	told.SessionID = s.ID
	if e.Code != wire.CodeForbidden {
		told.KeyID = s.KeyID
	}
	return &told
}
