package service

import (
	"context"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/session"
)

// Run sweeps until ctx ends: it takes sessions from the due list and does what is left:
// messages, key records and audit entries of ends that a dead node did not write,
// deadlines, and parties that left. All nodes sweep; one at a time takes a due session.
func (v *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(v.cfg.SweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for v.sweep(ctx) == sweepBatch && ctx.Err() == nil {
			// a full batch: more is due
		}
	}
}

// sweep processes one batch of due sessions and returns its size.
func (v *Service) sweep(ctx context.Context) int {
	v.unscheduleEnded(ctx)
	due, err := v.cfg.Store.TakeDue(ctx, sweepBatch, sweepHold)
	if err != nil {
		if ctx.Err() == nil {
			v.log.Warn().Err(err).Msg("due list not read")
		}
		return 0
	}
	failed := 0
	for _, t := range due {
		if err := v.processDue(ctx, t); err != nil && ctx.Err() == nil {
			failed++
			v.log.WithLevel(levelOf(err)).Err(err).Str("session", t.ID).Msg("sweep incomplete, will be tried again")
		}
	}
	if len(due) > 0 {
		v.cfg.Observer.Swept(len(due), failed)
	}
	return len(due)
}

// processDue does everything left to do for one session. A session that cannot be
// processed now is due again when its hold ends.
func (v *Service) processDue(ctx context.Context, t Taken) error {
	s, now, err := v.cfg.Store.Load(ctx, t.ID)
	if errors.Is(err, ErrNotFound) {
		// Scheduled but never created, or no longer retained.
		return v.cfg.Store.Postpone(ctx, t.ID, t.Until, time.Time{})
	}
	if err != nil {
		return err
	}
	stuck, undelivered := v.drain(ctx, s)
	switch {
	case s.Phase.Final():
		err := v.afterDelivery(ctx, s, now, t.Until, sent{stuck: stuck}, undelivered)
		if v.cfg.Audit != nil && err == nil {
			// The audit has not confirmed its end; while it is unavailable, retry less
			// often than every hold.
			err = v.cfg.Store.Postpone(ctx, t.ID, t.Until, now.Add(retryEndIn))
		}
		return err
	case s.Kind.MakesEpoch() && (s.AllReported() || wantsNumber(s)):
		_, err = v.follow(ctx, s)
	case s.AllReported():
		_, err = v.storeKey(ctx, s)
	default:
		var changed bool
		if changed, err = v.reportFullMailboxes(ctx, s, now, stuck); !changed && err == nil {
			err = v.tick(ctx, s, now, t.Until, undelivered == nil, stuck)
		}
	}
	return errors.Join(undelivered, err)
}

// reportFullMailboxes reports to an open session which mailboxes have no room, and returns
// whether that changed it: it is then delivered, and due anew.
func (v *Service) reportFullMailboxes(ctx context.Context, s session.Session, now time.Time, stuck []refusal) (changed bool, err error) {
	for _, r := range stuck {
		if s.Phase.Final() || !wouldChange(s, r.event(s), now) {
			continue
		}
		changed = true
		if s, err = v.advance(ctx, change{target: target{id: s.ID}, ev: r.event(s)}); err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// tick applies the passing of time to s. If that changes nothing and nothing else is
// left to do, it sets when s is due again.
func (v *Service) tick(ctx context.Context, s session.Session, now, until time.Time, idle bool, stuck []refusal) error {
	ev := session.Tick{Full: v.wasFull(now.Sub(s.CreatedAt))}
	if s.Phase == session.Running && len(s.Signers) > 0 {
		var err error
		if ev.Offline, ev.Seen, err = v.absent(ctx, s); err != nil {
			return err
		}
	}
	if same, _, err := session.Step(s, ev, now); idle && err == nil && same.Same(s) { // the usual case
		return v.cfg.Store.Postpone(ctx, s.ID, until, lookAgain(s, now, stuck))
	}
	next, err := v.advance(ctx, change{target: target{id: s.ID}, ev: ev})
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case idle && next.Version == s.Version:
		return v.cfg.Store.Postpone(ctx, s.ID, until, lookAgain(next, now, stuck))
	}
	return nil
}

// absent returns the parties of s without a socket, and when each last connected or
// disconnected.
func (v *Service) absent(ctx context.Context, s session.Session) (parts []int, seen map[int]time.Time, err error) {
	online, err := v.cfg.Presence.Online(ctx, s.Users()...)
	if err != nil {
		return nil, nil, err
	}
	var users []string
	for i, p := range s.Parties {
		if !online[p.User] {
			parts, users = append(parts, i+1), append(users, p.User)
		}
	}
	if len(users) == 0 {
		return nil, nil, nil
	}
	last, err := v.cfg.Presence.LastSeen(ctx, users...)
	if err != nil {
		return nil, nil, err
	}
	seen = map[int]time.Time{}
	for k, user := range users {
		if at, ok := last[user]; ok {
			seen[parts[k]] = at
		}
	}
	return parts, seen, nil
}
