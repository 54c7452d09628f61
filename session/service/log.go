package service

import (
	"fmt"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
)

// withSession adds a session's fields to a log line: with them its story can be read
// from the logs of all nodes.
func withSession(s session.Session, line *zerolog.Event) *zerolog.Event {
	return line.Str("session", s.ID).Str("kind", string(s.Kind)).Str("key", s.KeyID).
		Str("state", string(s.Phase)).Int("attempt", s.Attempt)
}

// logStep tells of a step: what moves a session on at level info.
func (v *Service) logStep(from, to session.Session, ev session.Event) {
	line := v.log.Info()
	if from.Phase == to.Phase && from.Attempt == to.Attempt {
		line = v.log.Debug()
	}
	line = withSession(to, line).Str("from_state", string(from.Phase)).Str("event", fmt.Sprintf("%T", ev))
	if to.Attempt > 0 {
		line = line.Ints("signers", to.Signers)
	}
	if to.Phase.Final() {
		line = line.Dur("dur", to.EndedAt.Sub(to.CreatedAt)).Ints("culprits", to.Culprits)
	}
	line.Msg("session advanced")
}
