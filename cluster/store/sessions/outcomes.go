package sessions

import (
	"context"
	_ "embed"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session/service"
)

const (
	mostOutcomes = 100_000   // maximum waiting
	toldFor      = time.Hour // how long a delivery is remembered

	sinceBatch = 16 // oldest entries read per round trip
	sinceTries = 8
)

var (
	//go:embed put_outcome.lua
	putOutcomeSource string

	//go:embed outcome_since.lua
	outcomeSinceSource string

	putOutcomeScript   = redisx.NewScript(putOutcomeSource)
	outcomeSinceScript = redisx.NewScript(outcomeSinceSource)
)

// PutOutcome records that a session's outcome is to be delivered by webhook. It is
// false, and nothing is recorded, if too many wait.
func (s *Store) PutOutcome(ctx context.Context, id string) (bool, error) {
	return s.putOutcome(ctx, id, 0)
}

// RepeatOutcome records that it is to be delivered at once, whether it was
// delivered before or waits for its next try, and as waiting since at. It is false,
// and nothing is recorded, if too many wait.
func (s *Store) RepeatOutcome(ctx context.Context, id string, at time.Time) (bool, error) {
	// First: an entry for a non-waiting outcome is harmless.
	if err := s.do(ctx, "note outcome of "+id, s.sinceCall(id, at, 1)); err != nil {
		return false, err
	}
	return s.putOutcome(ctx, id, 1)
}

func (s *Store) putOutcome(ctx context.Context, id string, again int) (bool, error) {
	err := s.accepted(ctx, "note outcome of "+id, putOutcomeScript.Call([]string{s.keys.webhooks()}, id, mostOutcomes, again))
	if errors.Is(err, service.ErrStale) {
		return false, nil
	}
	return err == nil, err
}

func (s *Store) sinceCall(id string, at time.Time, replace int) *redisx.Call {
	return outcomeSinceScript.Call([]string{s.keys.webhooksSince()}, id, scoreText(score(at)), replace)
}

// OutcomeSince returns since when delivery of an outcome has been tried: since its
// first failed try was recorded here, as at, or it was requested again.
func (s *Store) OutcomeSince(ctx context.Context, id string, at time.Time) (time.Time, error) {
	doing, call := "note outcome of "+id, s.sinceCall(id, at, 0)
	if err := s.do(ctx, doing, call); err != nil {
		return time.Time{}, err
	}
	text, err := call.Text()
	if err != nil {
		return time.Time{}, unavailable(doing, err)
	}
	ms, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.Time{}, unavailable(doing, err)
	}
	return timeOf(ms), nil
}

// OutcomesWaiting returns how many outcomes are still to be delivered, and since
// when the oldest of them has waited, by Redis's clock: the zero time if there is
// none, and a future one if none has waited yet.
func (s *Store) OutcomesWaiting(ctx context.Context) (n int, oldest time.Time, err error) {
	const doing = "count outcomes"
	count := redis.NewIntCmd(ctx, "zcount", s.keys.webhooks(), "(0", "+inf")
	// An untried outcome is due since it was recorded; the others are beside.
	next := redis.NewZSliceCmd(ctx, "zrangebyscore", s.keys.webhooks(), "(0", "+inf", "withscores", "limit", 0, 1)
	if err := s.do(ctx, doing, count, next); err != nil {
		return 0, time.Time{}, err
	}
	for _, z := range next.Val() {
		oldest = timeOf(z.Score)
	}
	for range sinceTries {
		at, done, err := s.oldestSince(ctx)
		if err != nil {
			return 0, time.Time{}, err
		}
		if !at.IsZero() && (oldest.IsZero() || at.Before(oldest)) {
			oldest = at
		}
		if done {
			break
		}
	}
	return int(count.Val()), oldest, nil
}

// oldestSince returns the oldest entry of an outcome that still waits. Earlier
// entries whose outcome was delivered, by a node that then died, are removed. It is
// not done if all it read were such.
func (s *Store) oldestSince(ctx context.Context) (at time.Time, done bool, err error) {
	const doing = "read oldest outcomes"
	first := redis.NewZSliceCmd(ctx, "zrange", s.keys.webhooksSince(), 0, sinceBatch-1, "withscores")
	if err := s.do(ctx, doing, first); err != nil || len(first.Val()) == 0 {
		return time.Time{}, true, err
	}
	args := []any{"zmscore", s.keys.webhooks()}
	for _, z := range first.Val() {
		args = append(args, z.Member)
	}
	scores := redis.NewFloatSliceCmd(ctx, args...)
	if err := s.do(ctx, doing, scores); err != nil {
		return time.Time{}, true, err
	}
	over := []any{"zrem", s.keys.webhooksSince()}
	for i, z := range first.Val() {
		if scores.Val()[i] > 0 {
			at, done = timeOf(z.Score), true
			break
		}
		over = append(over, z.Member)
	}
	if len(over) > 2 {
		err = s.do(ctx, doing, redis.NewIntCmd(ctx, over...))
	}
	return at, done, err
}

// TakeOutcomes returns up to limit sessions whose outcomes are due for delivery,
// and postpones each by hold.
func (s *Store) TakeOutcomes(ctx context.Context, limit int, hold time.Duration) ([]service.Taken, error) {
	list, err := s.take(ctx, s.keys.webhooks(), limit, hold, toldFor.Milliseconds())
	if err != nil {
		return nil, unavailable("read outcomes", err)
	}
	return list, nil
}

// RetryOutcome sets when a taken outcome is due again.
func (s *Store) RetryOutcome(ctx context.Context, t service.Taken, at time.Time) error {
	return s.do(ctx, "note outcome of "+t.ID, s.moveOutcome(t, score(at)))
}

// OutcomeTold marks a taken outcome as delivered.
func (s *Store) OutcomeTold(ctx context.Context, t service.Taken) error {
	doing := "note outcome of " + t.ID
	err := s.accepted(ctx, doing, s.moveOutcome(t, -score(t.Until)))
	switch {
	case errors.Is(err, service.ErrStale): // it was requested again meanwhile
		return nil
	case err != nil:
		return err
	}
	return s.do(ctx, doing, redis.NewIntCmd(ctx, "zrem", s.keys.webhooksSince(), t.ID))
}

func (s *Store) moveOutcome(t service.Taken, to float64) *redisx.Call {
	return postponeScript.Call([]string{s.keys.webhooks()}, t.ID, scoreText(score(t.Until)), scoreText(to))
}

// timeOf converts a score to a time.
func timeOf(ms float64) time.Time { return time.UnixMicro(int64(math.Round(ms * 1000))).UTC() }
