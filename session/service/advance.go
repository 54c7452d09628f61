package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// change is an event for a session.
type change struct {
	target
	ev session.Event
	// by is the sender of the message; nil for an event of the server. A user without a
	// part in the session gets ErrNotFound.
	by    *Caller
	keyID string // if set, the key that the message names: the session must be one of it
}

// advance applies an event to a session, and then what follows from it at once.
func (v *Service) advance(ctx context.Context, c change) (session.Session, error) {
	s, err := v.apply(ctx, c)
	if err != nil {
		return s, err
	}
	return v.proceed(ctx, s), nil // without the session's lock
}

// apply applies an event to a session: lock and load, step, commit, deliver.
func (v *Service) apply(ctx context.Context, c change) (_ session.Session, err error) {
	if !wire.StoredID(c.id) {
		return session.Session{}, ErrNotFound
	}
	ctx, end := v.cfg.Tracer.Begin(ctx, c.id, stepPart(c.ev))
	defer func() { end(err) }()
	if c.ended {
		if s, ok, err := v.stepEnded(ctx, c); ok {
			return s, about(err, s)
		}
	}
	lock, loaded, unlock, err := v.lock(ctx, c.id, c.ev)
	if err != nil {
		return session.Session{}, err
	}
	defer unlock()
	done, err := v.commit(ctx, lock.Token(), loaded, c)
	if !done.changed {
		v.release(ctx, c.id, lock)
		return done.session, about(err, done.session)
	}
	if !done.quiet {
		v.deliver(ctx, done)
	}
	v.notify(ctx, done.session, done.receipt.Watchers)
	return done.session, nil
}

// stepEnded applies an event to an ended session without its lock: its end is final. Ok
// is false if it has not ended or cannot be loaded; then the caller takes the lock.
func (v *Service) stepEnded(ctx context.Context, c change) (s session.Session, ok bool, _ error) {
	ended, err := v.acquireSlot(ctx)
	if err != nil {
		return session.Session{}, true, err
	}
	defer ended()
	l, err := v.load(ctx, c.id)
	if err != nil || !l.Session.Phase.Final() {
		return session.Session{}, false, nil
	}
	done, err := v.step(l, c)
	return done.session, err != nil || done.next == nil, err
}

func (v *Service) load(ctx context.Context, id string) (Loaded, error) {
	l := Loaded{Asked: time.Now()}
	ctx, done := v.cfg.Tracer.Begin(ctx, id, partLoad)
	var err error
	l.Session, l.Now, err = v.cfg.Store.Load(ctx, id)
	done(err)
	return l, err
}

// errOvertaken says that every try to commit lost a race to another node.
var errOvertaken = fmt.Errorf("session: lost every race: %w", ErrUnavailable)

// committed is the result of commit.
type committed struct {
	session session.Session // after it; as loaded, if it was refused
	changed bool
	quiet   bool      // no messages, and the due list needs no change
	at      time.Time // by the store's clock
	mark    time.Time // the session's place in the due list, written beforehand
	entries []Entry
	receipt Receipt
}

// stepped is the result of applying an event.
type stepped struct {
	session session.Session
	next    *session.Session // nil if nothing changes
	out     []session.Outgoing
}

func (v *Service) step(l Loaded, c change) (stepped, error) {
	s := l.Session
	if err := admits(s, c.by, c.ev); err != nil {
		return stepped{}, err // without the session, so that nothing of it is disclosed
	}
	if c.unread {
		var elsewhere bool
		if c.ev, elsewhere = c.elsewhere(s); elsewhere {
			return stepped{}, errElsewhere
		}
	}
	if c.keyID != "" && s.KeyID != c.keyID {
		return stepped{}, wire.Errorf(wire.CodeConflict, "the session is not one of that key")
	}
	next, out, err := session.Step(s, c.ev, l.Now)
	if err != nil || next.Same(s) {
		return stepped{session: s}, err
	}
	return stepped{session: s, next: &next, out: out}, nil
}

// admits returns nil if by may know of the session: its coordinator, an invited party,
// an admin, or, as nil, the server. For others it returns ErrNotFound, whatever the
// message; the audit records what was refused.
func admits(s session.Session, by *Caller, ev session.Event) error {
	if by == nil || s.Involves(by.User) || by.has(wire.RoleAdmin) {
		return nil
	}
	if _, cancels := ev.(session.Cancel); cancels {
		return &wire.Hidden{Told: ErrNotFound, Why: session.ErrNotMine}
	}
	return &wire.Hidden{Told: ErrNotFound, Why: session.ErrNotParty}
}

// commit is the middle of advance: it steps until no other node interferes. It releases
// the lock that token belongs to if something has changed.
func (v *Service) commit(ctx context.Context, token string, l Loaded, c change) (committed, error) {
	for try := range commitTries {
		if try > 0 {
			var err error
			if l, err = v.load(ctx, c.id); err != nil {
				return committed{}, err
			}
		}
		step, err := v.step(l, c)
		s := step.session
		if err != nil || step.next == nil {
			return committed{session: s}, err
		}
		next := *step.next
		if err := v.storeFirst(ctx, next, c.ev); err != nil {
			return committed{session: s}, err
		}
		entries, err := v.encode(ctx, next, step.out)
		if err != nil {
			return committed{session: s}, err
		}
		quiet := len(entries) == 0 && sameDue(s, next, c.ev)
		var mark Mark
		if !quiet {
			mark = l.mark()
		}
		committing, end := v.cfg.Tracer.Begin(ctx, c.id, partCommit)
		receipt, err := v.cfg.Store.Commit(committing, next, token, entries, mark)
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
		v.logStep(s, next, c.ev)
		v.cfg.Observer.Stepped(s, next)
		v.cfg.Tracer.Stepped(ctx, s, next)
		v.auditStep(next, c.ev)
		return committed{
			session: next, changed: true, quiet: quiet && !receipt.Backlog,
			at: l.Now, mark: mark.Due, entries: entries, receipt: receipt,
		}, nil
	}
	return committed{}, errOvertaken
}

// storeFirst writes what must be durable before the event that led to next is
// committed: the share of a party with an accepted report. It may be repeated.
func (v *Service) storeFirst(ctx context.Context, next session.Session, ev session.Event) error {
	if report, ok := ev.(session.Reshared); ok {
		return v.storeEpochShare(ctx, next, report)
	}
	report, ok := ev.(session.Generated)
	if !ok || next.Phase.Final() { // the reports differ: no key is made
		return nil
	}
	if limit := wire.ShareLimit(len(next.Parties)); len(report.Share) > limit {
		return wire.Errorf(wire.CodeTooLarge, "share_json is longer than %d bytes, the most for %d parties", limit, len(next.Parties))
	}
	// With it is stored the session's attestation: the first that was reported.
	attested := next.Parties[report.Party-1].Attested
	err := v.cfg.Store.PutShare(ctx, next.KeyID, next.ID, report.Party, report.Share, attested)
	if errors.Is(err, ErrStale) {
		return session.ErrEnded // the key now belongs to another keygen
	}
	return err
}

// mark is the due-list entry of this write. Reading and writing since the session was
// loaded may have taken long: the store's clock is at most Now plus the time elapsed
// here (measured, not read from a clock).
func (l Loaded) mark() Mark {
	at := l.Now.Add(time.Since(l.Asked))
	return Mark{Due: at.Add(redeliverIn), By: at.Add(commitWithin)}
}

// sameDue reports whether next is due when s was, according to the due list. A Tick's
// sweeper has moved that entry.
func sameDue(s, next session.Session, ev session.Event) bool {
	_, swept := ev.(session.Tick)
	return !swept && s.Phase == next.Phase && s.Deadline.Equal(next.Deadline) && !next.Phase.Final() && !next.AllReported()
}

// encode makes outbox entries of a step's messages.
func (v *Service) encode(ctx context.Context, s session.Session, out []session.Outgoing) ([]Entry, error) {
	if len(out) == 0 {
		return nil, nil
	}
	if err := v.addShares(ctx, s, out); err != nil {
		return nil, err
	}
	entries := make([]Entry, 0, len(out))
	for _, o := range out {
		frame, err := wire.Frame(o.To, o.Payload, o.RequestID)
		if err != nil {
			return nil, err
		}
		entries = append(entries, Entry{To: o.To, Frame: frame})
	}
	return entries, nil
}

// addShares adds the parties' stored shares to their signing parameters: Step has no
// store.
func (v *Service) addShares(ctx context.Context, s session.Session, out []session.Outgoing) error {
	var params []*wire.SignParams
	var parts []int
	for _, o := range out {
		if p, ok := o.Payload.(*wire.SignParams); ok {
			params, parts = append(params, p), append(parts, p.PartIndex)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	shares, err := v.cfg.Store.Shares(ctx, s.KeyID, max(s.Epoch, 1), parts...)
	if err != nil {
		return err
	}
	for i, p := range params {
		p.ShareJSON = shares[i]
	}
	return nil
}

// about adds the session to an error that a client sees, and its key unless the client
// may not know it.
func about(err error, s session.Session) error {
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
