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
	var full string
	var err error
	if done.receipt.Backlog {
		full, err = v.drain(ctx, done.session)
	} else {
		for i := range done.entries {
			done.entries[i].ID = done.receipt.IDs[i]
		}
		full, err = v.send(ctx, done.session, done.entries)
	}
	err = v.settle(ctx, done.session, done.at, done.mark, full, err)
	end(err)
	switch {
	case err != nil:
		of(done.session, v.log.Warn()).Err(err).Msg("delivery incomplete, left to the sweeper")
	case full == "" && len(done.entries) > 0:
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
		if full, err := v.send(ctx, s, entries); full != "" || err != nil {
			return full, err
		}
	}
}

// send delivers entries and removes them from the outbox. It returns a user
// whose mailbox is full, if there is one.
func (v *Service) send(ctx context.Context, s Session, entries []Entry) (full string, err error) {
	deliveries := make([]Delivery, len(entries))
	for i, e := range entries {
		deliveries[i] = Delivery{To: e.To, ID: s.ID + ":" + e.ID, Frame: e.Frame}
	}
	var done []string
	var failed []error
	unsent := map[string]bool{} // what follows a failure to the same user is not another
	for i, err := range v.cfg.Sender.Send(ctx, deliveries...) {
		to := entries[i].To
		switch {
		case err == nil:
			done = append(done, entries[i].ID)
		case unsent[to]:
		case errors.Is(err, ErrMailboxFull) && s.onWeb(to):
			// A backend that never has a socket: there is nobody to make room.
			done = append(done, entries[i].ID)
		case errors.Is(err, ErrMailboxFull):
			full, unsent[to] = to, true
		default:
			failed, unsent[to] = append(failed, fmt.Errorf("deliver to %s: %w", to, err)), true
		}
	}
	if len(done) > 0 {
		if err := v.cfg.Store.Delivered(ctx, s.ID, done); err != nil {
			failed = append(failed, err)
		}
	}
	return full, errors.Join(failed...)
}

// onWeb reports whether what s says to a user is on the web API for it: its
// outcome, for a coordinator who asked over HTTP.
func (s Session) onWeb(user string) bool {
	return s.Web && s.Phase.Final() && user == s.Coordinator && s.PartIndex(user) == 0
}

// settle does what must follow a commit, any number of times: the writes in
// other slots that an end requires, its entry in the audit, and the due list's
// next entry in place of
// mark, the one that the caller has put or found there. Full is a user whose
// mailbox was, and undelivered what else went wrong on the way to mailboxes. An
// open session with a full mailbox is swept at once, which ends it, loudly; the
// outcome of an ended one waits for room.
func (v *Service) settle(ctx context.Context, s Session, now, mark time.Time, full string, undelivered error) error {
	ended := s.Phase.Final()
	if full != "" {
		of(s, v.log.Error()).Str("account", full).Msg("mailbox is full")
	}
	if ended {
		if err := v.finish(ctx, s); err != nil {
			return errors.Join(undelivered, err)
		}
		if v.cfg.Outcomes != nil {
			if err := v.cfg.Outcomes.Ended(ctx, s); err != nil {
				return errors.Join(undelivered, err)
			}
		}
		if v.cfg.Audit != nil {
			v.auditEnd(s, full == "" && undelivered == nil)
		}
	}
	switch {
	case full != "" && !ended:
		return errors.Join(undelivered, v.cfg.Store.Schedule(ctx, s.ID, now))
	case undelivered != nil:
		return undelivered // due again at mark
	case full != "":
		return v.cfg.Store.Postpone(ctx, s.ID, mark, now.Add(retryFullIn))
	case ended && v.cfg.Audit != nil:
		return nil // until its end is in the audit
	case ended:
		return v.cfg.Store.Unschedule(ctx, s.ID)
	}
	return v.cfg.Store.Postpone(ctx, s.ID, mark, s.NextDue(now))
}

// finish brings the key record in line with a session that has ended.
func (v *Service) finish(ctx context.Context, s Session) error {
	if s.Kind == Sign {
		return v.cfg.Store.CloseSigning(ctx, s.KeyID, s.ID)
	}
	if s.Phase == Completed {
		return nil // the record was made active first
	}
	_, err := v.changeKey(ctx, s, func(k *Key) { k.Status = KeyFailed })
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
	k, err := v.changeKey(ctx, s, func(k *Key) {
		k.Status, k.AccountAddr, k.PublicKey = KeyActive, s.Parties[0].Result, s.PublicKey
	})
	switch {
	case errors.Is(err, ErrNotFound), err == nil && (k.Session != s.ID || k.Status != KeyActive):
		return v.advance(ctx, s.ID, "", nil, KeyLost{}, nil)
	case err != nil:
		return s, err
	}
	return v.advance(ctx, s.ID, "", nil, KeyStored{}, nil)
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
