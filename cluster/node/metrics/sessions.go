package metrics

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

var (
	kinds    = session.Kinds()
	outcomes = []session.Phase{session.Completed, session.Rejected, session.Expired, session.Failed, session.Cancelled}
)

// Values of the label reason of lock failures.
const (
	lockHeld        = "held"        // by another, for too long
	lockUnavailable = "unavailable" // Redis did not answer
	lockCancelled   = "cancelled"   // who wanted it has gone
	lockLost        = "lost"        // it had ended before it was released
)

func (m *Metrics) newSessions() {
	m.started = m.counters("sessions_started_total", "Sessions that this node began, by kind.", "kind")
	m.attempts = m.counters("session_attempts_total", "Attempts that began with a step of this node, the first of a session included.", "kind")
	m.ended = m.counters("sessions_ended_total", "Sessions that ended with a step of this node, by kind and outcome.", "kind", "outcome")
	m.durations = m.histograms("session_duration_seconds", "From a session's beginning to its end, by kind and outcome.", slow, "kind", "outcome")
	for _, k := range kinds {
		m.started.WithLabelValues(string(k))
		m.attempts.WithLabelValues(string(k))
		for _, o := range outcomes {
			m.ended.WithLabelValues(string(k), string(o))
			m.durations.WithLabelValues(string(k), string(o))
		}
	}
	m.lockWait = m.histogram("lock_wait_seconds", "From asking for a session's lock, on this node and in Redis, to having it or giving up.", fast)
	m.lockFailures = m.counters("lock_failures_total", "Locks of sessions that were not had, or lost, by reason.", "reason")
	for _, reason := range []string{lockHeld, lockUnavailable, lockCancelled, lockLost} {
		m.lockFailures.WithLabelValues(reason)
	}
	m.quotaRefused = m.counters("quota_refused_total", "Requests refused for what their account stores already, or for naming nobody, by reason.", "reason")
	for _, reason := range service.RefusalReasons {
		m.quotaRefused.WithLabelValues(reason)
	}
	m.swept = m.counters("sweeper_sessions_total", "Sessions that were due and that this node's sweeper took, by what came of it.", "result")
	m.swept.WithLabelValues("ok")
	m.swept.WithLabelValues("failed")
}

// Began implements service.Observer.
func (m *Metrics) Began(s session.Session) { m.started.WithLabelValues(kindOf(s)).Inc() }

// Stepped implements service.Observer.
func (m *Metrics) Stepped(from, to session.Session) {
	kind := kindOf(to)
	if to.Attempt > from.Attempt {
		m.attempts.WithLabelValues(kind).Inc()
	}
	if to.Phase.Final() {
		m.ended.WithLabelValues(kind, string(to.Phase)).Inc()
		m.durations.WithLabelValues(kind, string(to.Phase)).Observe(to.EndedAt.Sub(to.CreatedAt).Seconds())
	}
}

// kindOf is a value of the label kind, whatever Redis holds.
func kindOf(s session.Session) string {
	if s.Kind.Known() {
		return string(s.Kind)
	}
	return string(session.Sign)
}

// Locked implements service.Observer.
func (m *Metrics) Locked(wait time.Duration, err error) {
	m.lockWait.Observe(wait.Seconds())
	switch {
	case err == nil:
	case errors.Is(err, cluster.ErrLocked):
		m.lockFailures.WithLabelValues(lockHeld).Inc()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		m.lockFailures.WithLabelValues(lockCancelled).Inc()
	default:
		m.lockFailures.WithLabelValues(lockUnavailable).Inc()
	}
}

// LockLost implements service.Observer.
func (m *Metrics) LockLost() { m.lockFailures.WithLabelValues(lockLost).Inc() }

// Swept implements service.Observer.
func (m *Metrics) Swept(taken, failed int) {
	m.swept.WithLabelValues("ok").Add(float64(taken - failed))
	m.swept.WithLabelValues("failed").Add(float64(failed))
}

// Denied implements service.Observer.
func (m *Metrics) Denied(reason string) {
	if !slices.Contains(service.RefusalReasons, reason) {
		reason = other
	}
	m.quotaRefused.WithLabelValues(reason).Inc()
}
