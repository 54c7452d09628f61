package sessions_test

import (
	"testing"
	"time"
)

// TestOutcomeIsAskedForAgain: an outcome that was delivered, or waits for its next
// try, is due at once when requested again, and has waited since then.
func TestOutcomeIsAskedForAgain(t *testing.T) {
	each(t, func(b bench) {
		put := func(ok bool, err error) {
			t.Helper()
			if b.ok(err); !ok {
				b.Fatal("not noted")
			}
		}
		take := func() int {
			b.Helper()
			taken, err := b.TakeOutcomes(b.ctx, 16, time.Minute)
			b.ok(err)
			return len(taken)
		}
		put(b.PutOutcome(b.ctx, "s"))
		taken, err := b.TakeOutcomes(b.ctx, 16, time.Minute)
		b.ok(err)
		if len(taken) != 1 || take() != 0 {
			b.Fatalf("took %v, and then more", taken)
		}
		put(b.PutOutcome(b.ctx, "s"))
		if take() != 0 {
			b.Fatal("noted anew while it is tried")
		}
		now := b.now().Truncate(time.Microsecond)
		ended := now.Add(-48 * time.Hour)
		since, err := b.OutcomeSince(b.ctx, "s", ended)
		if b.ok(err); !since.Equal(ended) {
			b.Errorf("waits since %s, want %s", since, ended)
		}
		put(b.RepeatOutcome(b.ctx, "s", now))
		if since, err = b.OutcomeSince(b.ctx, "s", ended); err != nil || !since.Equal(now) {
			b.Errorf("asked for again at %s, waits since %s: %v", now, since, err)
		}
		// The try in flight ends: it must not remove the new one.
		b.ok(b.OutcomeTold(b.ctx, taken[0]))
		if since, err = b.OutcomeSince(b.ctx, "s", ended); err != nil || !since.Equal(now) {
			b.Errorf("an earlier try ended, and it waits since %s, want %s: %v", since, now, err)
		}
		if taken, err = b.TakeOutcomes(b.ctx, 16, time.Minute); err != nil || len(taken) != 1 {
			b.Fatalf("took %v after it was asked for again: %v", taken, err)
		}
		b.ok(b.OutcomeTold(b.ctx, taken[0]))
		if take() != 0 {
			b.Error("told, and due all the same")
		}
		put(b.RepeatOutcome(b.ctx, "s", now))
		if take() != 1 {
			b.Error("told, asked for again, and not due")
		}
	})
}

// TestOutcomesWaiting: waiting outcomes are counted, and the oldest is found beside
// entries left by a node that died after delivering an outcome.
func TestOutcomesWaiting(t *testing.T) {
	each(t, func(b bench) {
		waiting := func(want int, oldest time.Time, within time.Duration) {
			b.Helper()
			n, at, err := b.OutcomesWaiting(b.ctx)
			if b.ok(err); n != want || at.Sub(oldest).Abs() > within {
				b.Errorf("%d wait, the oldest since %s; want %d since %s", n, at, want, oldest)
			}
		}
		waiting(0, time.Time{}, 0)
		now := b.now().Truncate(time.Microsecond)
		for _, id := range []string{"told", "tried", "new"} {
			_, err := b.PutOutcome(b.ctx, id)
			b.ok(err)
		}
		waiting(3, now, time.Minute)
		for i := range 40 { // more than one round trip reads
			_, err := b.OutcomeSince(b.ctx, "left-"+string(rune('a'+i%26))+string(rune('a'+i/26)), now.Add(-100*time.Hour))
			b.ok(err)
		}
		tried := now.Add(-2 * time.Hour)
		for id, at := range map[string]time.Time{"told": now.Add(-3 * time.Hour), "tried": tried} {
			_, err := b.OutcomeSince(b.ctx, id, at)
			b.ok(err)
		}
		waiting(3, now.Add(-3*time.Hour), 0)
		taken, err := b.TakeOutcomes(b.ctx, 16, time.Minute)
		b.ok(err)
		for _, t := range taken {
			if t.ID == "told" {
				b.ok(b.OutcomeTold(b.ctx, t))
			}
		}
		waiting(2, tried, 0)
		if left := b.rdb.ZCard(b.ctx, b.prefix+"webhooks:since").Val(); left != 1 {
			b.Errorf("%d entries are left, want that of what waits", left)
		}
	})
}
