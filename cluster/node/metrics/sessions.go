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
	lockCancelled   = "cancelled"   // the caller has gone
	lockLost        = "lost"        // it had expired before it was released
)

func (m *Metrics) newSessions() {
	m.started = m.counters("sessions_started_total", "Sessions created by this node, by kind.", "kind")
	m.attempts = m.counters("session_attempts_total", "Attempts started by this node, including the first of a session.", "kind")
	m.ended = m.counters("sessions_ended_total", "Sessions ended by this node, by kind and outcome.", "kind", "outcome")
	m.durations = m.histograms("session_duration_seconds", "Duration of sessions from creation to end, by kind and outcome.", slow, "kind", "outcome")
	for _, k := range kinds {
		m.started.WithLabelValues(string(k))
		m.attempts.WithLabelValues(string(k))
		for _, o := range outcomes {
			m.ended.WithLabelValues(string(k), string(o))
			m.durations.WithLabelValues(string(k), string(o))
		}
	}
	m.lockWait = m.histogram("lock_wait_seconds", "Time to acquire a session's lock, on this node and in Redis, or to give up.", fast)
	m.lockFailures = m.counters("lock_failures_total", "Session locks that were not acquired or were lost, by reason.", "reason")
	for _, reason := range []string{lockHeld, lockUnavailable, lockCancelled, lockLost} {
		m.lockFailures.WithLabelValues(reason)
	}
	m.quotaRefused = m.counters("quota_refused_total", "Requests refused because of a storage quota or an unknown user, by reason.", "reason")
	for _, reason := range service.RefusalReasons {
		m.quotaRefused.WithLabelValues(reason)
	}
	m.swept = m.counters("sweeper_sessions_total", "Due sessions processed by this node's sweeper, by result.", "result")
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

// kindOf returns a value of the label kind, whatever Redis holds.
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
