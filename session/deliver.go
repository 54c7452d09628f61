package session

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// deliver brings what a commit has said to its recipients' mailboxes and then
// does what must follow. Whatever fails here stays in the outbox and the due
// list, for the sweeper of any node.
func (v *Service) deliver(ctx context.Context, done committed) {
	ctx, end := v.cfg.Tracer.Begin(ctx, done.session.ID, partDeliver)
	ctx = context.WithoutCancel(ctx) // what is committed is said even if its sender has gone
	ctx, cancel := context.WithTimeout(ctx, sweepHold)
	defer cancel()
	var got sent
	var err error
	if done.receipt.Backlog {
		got.full, err = v.drain(ctx, done.session)
	} else {
		for i := range done.entries {
			done.entries[i].ID = done.receipt.IDs[i]
		}
		got, err = v.send(ctx, done.session, done.entries)
	}
	err = v.settle(ctx, done.session, done.at, done.mark, got, err)
	end(err)
	switch {
	case err != nil:
		of(done.session, v.log.WithLevel(levelOf(err))).Err(err).Msg("delivery incomplete, left to the sweeper")
	case got.full == "" && len(done.entries) > 0:
		line := v.log.Debug()
		if done.session.Version == 1 { // the invitations
			line = v.log.Info()
		}
		of(done.session, line).Int("messages", len(done.entries)).Msg("session delivered")
	}
}

// drain delivers a session's whole outbox, oldest first. It stops at the first
// batch that leaves something undelivered, so that nothing overtakes it.
func (v *Service) drain(ctx context.Context, s Session) (full string, err error) {
	for {
		entries, err := v.cfg.Store.Outbox(ctx, s.ID)
		if err != nil || len(entries) == 0 {
			return "", err
		}
		got, err := v.send(ctx, s, entries)
		err = errors.Join(err, v.cfg.Store.Settle(ctx, s.ID, Rest{Delivered: got.entries}))
		if got.full != "" || err != nil {
			return got.full, err
		}
	}
}

// sent is what became of entries.
type sent struct {
	entries []string // the ids of those that are done with, and still in the outbox
	full    string   // a user whose mailbox is full, if there is one
}

// send delivers entries.
func (v *Service) send(ctx context.Context, s Session, entries []Entry) (got sent, err error) {
	if len(entries) == 0 {
		return sent{}, nil
	}
	deliveries := make([]Delivery, len(entries))
	for i, e := range entries {
		deliveries[i] = Delivery{To: e.To, ID: s.ID + ":" + e.ID, Frame: e.Frame}
	}
	var failed []error
	unsent := map[string]bool{} // what follows a failure to the same user is not another
	for i, err := range v.cfg.Sender.Send(ctx, deliveries...) {
		to := entries[i].To
		switch {
		case err == nil:
			got.entries = append(got.entries, entries[i].ID)
		case unsent[to]:
		case errors.Is(err, ErrMailboxFull) && s.onWeb(to):
			// A backend that never has a socket: there is nobody to make room.
			got.entries = append(got.entries, entries[i].ID)
		case errors.Is(err, ErrMailboxFull):
			got.full, unsent[to] = to, true
		default:
			failed, unsent[to] = append(failed, fmt.Errorf("deliver to %s: %w", to, err)), true
		}
	}
	return got, errors.Join(failed...)
}

// onWeb reports whether what s says to a user is on the web API for it: its
// outcome, for a coordinator who asked over HTTP.
func (s Session) onWeb(user string) bool {
	return s.Web && s.Phase.Final() && user == s.Coordinator && s.PartIndex(user) == 0
}

// settle does what must follow a commit, any number of times: it empties the
// outbox of what was sent, does the writes in other slots that an end requires, and
// its entry in the audit, and puts the due list's next entry in place of mark, the
// one that the caller has put or found there. Undelivered is what went wrong on the
// way to mailboxes. An open session with a full mailbox is swept at once, which
// ends it, loudly; the outcome of an ended one waits for room.
func (v *Service) settle(ctx context.Context, s Session, now, mark time.Time, got sent, undelivered error) error {
	if got.full != "" {
		of(s, v.log.Error()).Str("account", got.full).Msg("mailbox is full")
	}
	rest := Rest{Delivered: got.entries}
	if s.Phase.Final() {
		return v.settleEnd(ctx, s, now, mark, rest, got.full, undelivered)
	}
	if got.full == "" && undelivered == nil {
		rest.From, rest.To = mark, s.NextDue(now)
	}
	err := errors.Join(undelivered, v.cfg.Store.Settle(ctx, s.ID, rest)) // if it was not delivered, it is due again at mark
	if got.full != "" {
		err = errors.Join(err, v.cfg.Store.Schedule(ctx, s.ID, now))
	}
	return err
}

func (v *Service) settleEnd(ctx context.Context, s Session, now, mark time.Time, rest Rest, full string, undelivered error) error {
	if s.Kind == Sign {
		rest.ClosedOn = s.KeyID
	}
	var err error
	if rest.Release, err = v.released(ctx, s); err == nil {
		err = v.cfg.Store.Settle(ctx, s.ID, rest)
	}
	if err == nil && s.Kind == Keygen {
		err = v.finish(ctx, s)
	}
	if err == nil && v.cfg.Outcomes != nil {
		err = v.cfg.Outcomes.Ended(ctx, s)
	}
	if err != nil {
		return errors.Join(undelivered, err)
	}
	if v.cfg.Audit != nil {
		v.auditEnd(s, full == "" && undelivered == nil)
	}
	switch {
	case undelivered != nil:
		return undelivered // due again at mark
	case full != "":
		return v.cfg.Store.Postpone(ctx, s.ID, mark, now.Add(retryFullIn))
	case v.cfg.Audit != nil:
		return nil // until its end is in the audit
	}
	return v.cfg.Store.Unschedule(ctx, s.ID)
}

// finish brings the key record in line with a session that has ended.
func (v *Service) finish(ctx context.Context, s Session) error {
	if s.Kind == Sign {
		return v.cfg.Store.Settle(ctx, s.ID, Rest{ClosedOn: s.KeyID})
	}
	if s.Phase == Completed {
		return nil // the record was made active first
	}
	_, err := v.changeKey(ctx, s, func(k *Key) { k.Status, k.Brief = KeyFailed, s.Brief })
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// storeKey makes the key of a keygen with all results active, and completes the
// session.
func (v *Service) storeKey(ctx context.Context, s Session) (_ Session, err error) {
	ctx, done := v.cfg.Tracer.Begin(ctx, s.ID, partStoreKey)
	defer func() { done(err) }()
	bytes, err := v.cfg.Store.ShareBytes(ctx, s.KeyID, len(s.Parties))
	if err != nil {
		return s, err
	}
	k, err := v.changeKey(ctx, s, func(k *Key) {
		k.Status, k.AccountAddr, k.PublicKey, k.ShareBytes = KeyActive, s.Parties[0].Result, s.PublicKey, bytes
	})
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (k.Session != s.ID || k.Status != KeyActive):
		return v.advance(ctx, change{id: s.ID, ev: KeyLost{}})
	case err != nil:
		return s, err
	}
	return v.advance(ctx, change{id: s.ID, ev: KeyStored{}})
}

// changeKey updates the record of s's key while it is generating in s, and
// returns the record as it is then; once it is anything else it stays so.
func (v *Service) changeKey(ctx context.Context, s Session, change func(*Key)) (Key, error) {
	for range commitTries {
		k, err := v.cfg.Store.Key(ctx, s.KeyID)
		if err != nil {
			return Key{}, err
		}
		if k.Session != s.ID || k.Status != KeyGenerating {
			return k, nil
		}
		change(&k)
		if err := v.cfg.Store.PutKey(ctx, k); !errors.Is(err, ErrStale) {
			return k, err
		}
	}
	return Key{}, fmt.Errorf("key record %s: lost %d races: %w", s.KeyID, commitTries, ErrUnavailable)
}
