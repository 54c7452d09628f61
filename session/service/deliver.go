package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// deliver puts a commit's messages into the recipients' mailboxes and then does the
// follow-up writes. What fails here stays in the outbox and the due list, for the
// sweeper of any node.
func (v *Service) deliver(ctx context.Context, done committed) {
	ctx, end := v.cfg.Tracer.Begin(ctx, done.session.ID, partDeliver)
	ctx = context.WithoutCancel(ctx) // committed messages are delivered even if the caller has gone
	ctx, cancel := context.WithTimeout(ctx, sweepHold)
	defer cancel()
	var got sent
	var err error
	if done.receipt.Backlog {
		got.stuck, err = v.drain(ctx, done.session)
	} else {
		for i := range done.entries {
			done.entries[i].ID = done.receipt.IDs[i]
		}
		got, err = v.send(ctx, done.session, done.entries)
	}
	err = v.afterDelivery(ctx, done.session, done.at, done.mark, got, err)
	end(err)
	switch {
	case err != nil:
		withSession(done.session, v.log.WithLevel(levelOf(err))).Err(err).Msg("delivery incomplete, left to the sweeper")
	case len(got.stuck) == 0 && len(done.entries) > 0:
		line := v.log.Debug()
		if done.session.Version == 1 { // the invitations
			line = v.log.Info()
		}
		withSession(done.session, line).Int("messages", len(done.entries)).Msg("session delivered")
	}
}

// drain delivers a session's whole outbox, oldest first. An entry whose mailbox has no
// room stays, and so do later ones for the same user; other users get theirs. It stops
// at the first batch with a delivery that failed for another reason.
func (v *Service) drain(ctx context.Context, s session.Session) (stuck []refusal, err error) {
	after, unheard := "", map[string]bool{}
	for {
		entries, err := v.cfg.Store.Outbox(ctx, s.ID, after)
		if err != nil || len(entries) == 0 {
			return stuck, err
		}
		after = entries[len(entries)-1].ID
		var forgotten []string
		entries = slices.DeleteFunc(entries, func(e Entry) bool {
			if unheard[e.To] {
				forgotten = append(forgotten, e.ID)
			}
			return unheard[e.To] || slices.ContainsFunc(stuck, func(r refusal) bool { return r.user == e.To })
		})
		got, err := v.send(ctx, s, entries)
		for _, user := range got.unheard {
			unheard[user] = true
		}
		stuck = append(stuck, got.stuck...)
		err = errors.Join(err, v.cfg.Store.Settle(ctx, s.ID, Settlement{Delivered: append(got.entries, forgotten...)}))
		if err != nil {
			return stuck, err
		}
	}
}

// refusal is a user whose mailbox has no room, and why: ErrMailboxFull, or ErrShareUsed
// for the coordinator's share.
type refusal struct {
	user string
	why  error
}

// event returns the session's event for r.
func (r refusal) event(s session.Session) session.Undeliverable {
	if errors.Is(r.why, ErrShareUsed) {
		return session.Undeliverable{User: r.user, Payer: s.Coordinator}
	}
	return session.Undeliverable{User: r.user}
}

// noRoom reports whether err says that a mailbox has no room.
func noRoom(err error) bool { return errors.Is(err, ErrMailboxFull) || errors.Is(err, ErrShareUsed) }

// sent is the result of delivering entries.
type sent struct {
	entries []string  // ids of entries that are settled and still in the outbox
	stuck   []refusal // users with entries left
	unheard []string  // users who will never be notified of the session, and need not be
}

// send delivers entries.
func (v *Service) send(ctx context.Context, s session.Session, entries []Entry) (got sent, err error) {
	if len(entries) == 0 {
		return sent{}, nil
	}
	deliveries := make([]Delivery, len(entries))
	for i, e := range entries {
		deliveries[i] = Delivery{
			To: e.To, ID: s.ID + ":" + e.ID, Frame: e.Frame, Payer: s.Coordinator, Group: s.ID, Ends: ends(wire.FrameType(e.Frame)),
		}
		if outlives(wire.FrameType(e.Frame)) {
			deliveries[i].Group = ""
		}
	}
	var failed []error
	state := map[string]error{} // why a user gets nothing more: a later entry to the same user is not another failure
	for i, err := range v.cfg.Sender.Send(ctx, deliveries...) {
		to, was := entries[i].To, state[entries[i].To]
		switch {
		case err == nil:
			got.entries = append(got.entries, entries[i].ID)
			continue
		case was != nil && !noRoom(was) && !errors.Is(was, errUnheard):
			continue
		case was == nil && !noRoom(err):
			failed, state[to] = append(failed, fmt.Errorf("deliver to %s: %w", to, err)), err
			continue
		case was == nil && (onWeb(s, to) || s.Phase.Final() && invites(wire.FrameType(entries[i].Frame))):
			// It is never notified, and need not be: the session ended first, or it is
			// a backend that never has a socket and cannot make room.
			got.unheard, state[to] = append(got.unheard, to), errUnheard
		case was == nil:
			got.stuck, state[to] = append(got.stuck, refusal{to, err}), err
		}
		if errors.Is(state[to], errUnheard) || s.Phase.Final() && !deliveries[i].Ends && deliveries[i].Group != "" { // no longer of use
			got.entries = append(got.entries, entries[i].ID)
		}
	}
	return got, errors.Join(failed...)
}

// errUnheard marks a user who is not notified of a session.
var errUnheard = errors.New("session: recipient not notified")

func invites(t wire.Type) bool {
	return t == wire.TypeKeygenInvite || t == wire.TypeSignInvite || t == wire.TypeReshareInvite
}

// outlives reports whether a message of this type is of use after its session's end. It
// belongs to no group, which the end would remove.
func outlives(t wire.Type) bool { return t == wire.TypeEpochCertified }

// ends reports whether a message of this type makes all earlier ones to the same user
// about the same session obsolete.
func ends(t wire.Type) bool {
	return t == wire.TypeSessionEnded || t == wire.TypeKeygenConfirm || t == wire.TypeSignComplete || t == wire.TypeReshareConfirm
}

// onWeb reports whether a user can read s's message on the web API: the outcome, for a
// coordinator that asked over HTTP.
func onWeb(s session.Session, user string) bool {
	return s.Web && s.Phase.Final() && user == s.Coordinator && s.PartIndex(user) == 0
}

// afterDelivery does the follow-up writes of a commit, any number of times: it removes
// sent entries from the outbox, does the writes in other slots and the audit entry that
// an end requires, and replaces mark, the due-list entry that the caller wrote or
// found, by the next. Undelivered is the error of the deliveries. A delivery without
// room is tried again from time to time; if that changes an open session, it is swept
// at once.
func (v *Service) afterDelivery(ctx context.Context, s session.Session, now, mark time.Time, got sent, undelivered error) error {
	for _, r := range got.stuck {
		withSession(s, v.log.Warn()).Str("account", r.user).Str("coordinator", s.Coordinator).AnErr("reason", r.why).Msg("no room in a mailbox")
	}
	rest := Settlement{Delivered: got.entries}
	if s.Phase.Final() {
		return v.afterEnd(ctx, s, now, mark, rest, len(got.stuck) > 0, undelivered)
	}
	if undelivered == nil {
		rest.From, rest.To = mark, lookAgain(s, now, got.stuck)
	}
	err := errors.Join(undelivered, v.cfg.Store.Settle(ctx, s.ID, rest)) // if undelivered, it is due again at mark
	if slices.ContainsFunc(got.stuck, func(r refusal) bool { return wouldChange(s, r.event(s), now) }) {
		err = errors.Join(err, v.cfg.Store.Schedule(ctx, s.ID, now))
	}
	return err
}

// wouldChange reports whether an event would change s.
func wouldChange(s session.Session, ev session.Event, now time.Time) bool {
	next, _, err := session.Step(s, ev, now)
	return err == nil && !next.Same(s)
}

// lookAgain is when an open session is due again.
func lookAgain(s session.Session, now time.Time, stuck []refusal) time.Time {
	due := s.NextDue(now)
	retry := now.Add(retryIn(now.Sub(s.CreatedAt)))
	if len(stuck) > 0 && (due.IsZero() || retry.Before(due)) {
		return retry
	}
	return due
}

// retryIn is the pause before another try at a mailbox without room, given how long the
// entry has waited.
func retryIn(waited time.Duration) time.Duration {
	return min(max(waited/4, retryFullIn), retryFullMost)
}

// afterEnd is afterDelivery for a session that has ended.
func (v *Service) afterEnd(ctx context.Context, s session.Session, now, mark time.Time, rest Settlement, stuck bool, undelivered error) error {
	if s.Kind.OpensOnKey() || s.Kind.MakesEpoch() {
		rest.ClosedOn = s.KeyID
	}
	var err error
	if rest.Release, err = v.releaseOf(ctx, s); err == nil {
		err = v.cfg.Store.Settle(ctx, s.ID, rest)
	}
	if err == nil && s.Kind.MakesKey() {
		err = v.finish(ctx, s)
	}
	if err == nil && v.cfg.Outcomes != nil {
		err = v.cfg.Outcomes.Ended(ctx, s)
	}
	if err != nil {
		return errors.Join(undelivered, err)
	}
	if v.cfg.Audit != nil {
		v.auditEnd(s, !stuck && undelivered == nil)
	}
	switch {
	case undelivered != nil:
		return undelivered // due again at mark
	case stuck:
		return v.cfg.Store.Postpone(ctx, s.ID, mark, now.Add(retryIn(now.Sub(s.EndedAt))))
	case v.cfg.Audit != nil:
		return nil // until the audit has its end
	}
	return v.cfg.Store.Unschedule(ctx, s.ID)
}

// finish updates the key record of a session that has ended.
func (v *Service) finish(ctx context.Context, s session.Session) error {
	if s.Kind.OpensOnKey() || s.Kind.MakesEpoch() {
		if err := v.cfg.Store.Settle(ctx, s.ID, Settlement{ClosedOn: s.KeyID}); err != nil {
			return err
		}
	}
	if !s.Kind.MakesKey() || s.Phase == session.Completed { // the record became active before
		return nil
	}
	_, err := v.changeKey(ctx, s, func(k *session.Key) { k.Status, k.Brief = session.KeyFailed, s.Brief })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// storeKey makes the key of a keygen with all results active and completes the session.
func (v *Service) storeKey(ctx context.Context, s session.Session) (_ session.Session, err error) {
	ctx, done := v.cfg.Tracer.Begin(ctx, s.ID, partStoreKey)
	defer func() { done(err) }()
	bytes, err := v.cfg.Store.ShareBytes(ctx, s.KeyID, 1, len(s.Parties))
	if err != nil {
		return s, err
	}
	k, err := v.changeKey(ctx, s, func(k *session.Key) {
		k.Status, k.AccountAddr, k.PublicKey, k.ShareBytes = session.KeyActive, s.Parties[0].Result, s.PublicKey, bytes
	})
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (k.Session != s.ID || k.Status != session.KeyActive):
		return v.advance(ctx, change{target: target{id: s.ID}, ev: session.KeyLost{}})
	case err != nil:
		return s, err
	}
	return v.advance(ctx, change{target: target{id: s.ID}, ev: session.KeyStored{}})
}

// changeKey updates the record of s's key while it is generating in s, and returns the
// resulting record; a record in any other state stays unchanged.
func (v *Service) changeKey(ctx context.Context, s session.Session, change func(*session.Key)) (session.Key, error) {
	for range commitTries {
		k, err := v.cfg.Store.Key(ctx, s.KeyID)
		if err != nil {
			return session.Key{}, err
		}
		if k.Session != s.ID || k.Status != session.KeyGenerating {
			return k, nil
		}
		change(&k)
		if err := v.cfg.Store.PutKey(ctx, k); !errors.Is(err, ErrStale) {
			return k, err
		}
	}
	return session.Key{}, fmt.Errorf("key record %s: lost %d races: %w", s.KeyID, commitTries, ErrUnavailable)
}
