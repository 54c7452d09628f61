package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/cluster/pipeline"
	"github.com/conclave-mpc/conclave/session"
)

const (
	mostOutcomes = 100_000   // that may wait to be told
	toldFor      = time.Hour // how long it is remembered that one was told
)

var (
	//go:embed put_outcome.lua
	putOutcomeSource string

	putOutcomeScript = pipeline.NewScript(putOutcomeSource)
)

// PutOutcome notes that somebody outside is to be told of a session's outcome. It
// is false, and nothing is noted, if too many wait.
func (s *Store) PutOutcome(ctx context.Context, id string) (bool, error) {
	err := s.accepted(ctx, "note outcome of "+id, putOutcomeScript.Call([]string{s.keys.webhooks()}, id, mostOutcomes))
	if errors.Is(err, session.ErrStale) {
		return false, nil
	}
	return err == nil, err
}

// TakeOutcomes returns up to limit sessions whose outcomes are due to be told, and
// puts each off by hold.
func (s *Store) TakeOutcomes(ctx context.Context, limit int, hold time.Duration) ([]session.Taken, error) {
	list, err := s.take(ctx, s.keys.webhooks(), limit, hold, toldFor.Milliseconds())
	if err != nil {
		return nil, unavailable("read outcomes", err)
	}
	return list, nil
}

// RetryOutcome says when one that was taken is due again.
func (s *Store) RetryOutcome(ctx context.Context, t session.Taken, at time.Time) error {
	return s.moveOutcome(ctx, t, score(at))
}

// OutcomeTold says that one that was taken is done with.
func (s *Store) OutcomeTold(ctx context.Context, t session.Taken) error {
	return s.moveOutcome(ctx, t, -score(t.Until))
}

func (s *Store) moveOutcome(ctx context.Context, t session.Taken, to float64) error {
	return s.do(ctx, "note outcome of "+t.ID,
		postponeScript.Call([]string{s.keys.webhooks()}, t.ID, scoreText(score(t.Until)), scoreText(to)))
}
