package service

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
)

// Observer counts events of sessions on this node. Its methods do not block, and are
// safe for concurrent use.
type Observer interface {
	// Began is called when this node has created a session.
	Began(s session.Session)
	// Stepped is called when a step has been committed, by the committing node. An end
	// is reported once in the cluster, unless that node dies at this moment.
	Stepped(from, to session.Session)
	// Locked is called when a session's lock was taken or refused, with the time this
	// took: this node's own lock, the slot and the cluster's lock.
	Locked(wait time.Duration, err error)
	// LockLost is called when a lock was lost before it was released.
	LockLost()
	// Swept is called when sessions were taken from the due list, with their number and
	// how many of them failed.
	Swept(taken, failed int)
	// Denied is called when a request was refused because of its account's quota or the
	// users it names; reason is one of RefusalReasons.
	Denied(reason string)
}

// Tracer follows the work on a session through all nodes. It is safe for concurrent
// use.
type Tracer interface {
	// Begin begins a part of the work on the session of that id. The context is for the
	// work inside; done ends it, with its error.
	Begin(ctx context.Context, session, part string) (_ context.Context, done func(error))
	// Stepped is called when the step that ctx belongs to has been committed. From
	// is the zero Session when to has just been created.
	Stepped(ctx context.Context, from, to session.Session)
}

// noObserver is the Observer of a Service without one.
type noObserver struct{}

func (noObserver) Began(session.Session)        {}
func (noObserver) Stepped(_, _ session.Session) {}
func (noObserver) Locked(time.Duration, error)  {}
func (noObserver) LockLost()                    {}
func (noObserver) Swept(_, _ int)               {}
func (noObserver) Denied(string)                {}

// noTracer is the Tracer of a Service without one.
type noTracer struct{}

func (noTracer) Begin(ctx context.Context, _, _ string) (context.Context, func(error)) {
	return ctx, noTracerDone
}
func (noTracer) Stepped(context.Context, session.Session, session.Session) {}

func noTracerDone(error) {}

// The parts of the work on a session that a Tracer sees, besides the steps.
const (
	partBegin    = "begin"
	partLock     = "lock" // and load
	partLoad     = "load"
	partCommit   = "commit"
	partDeliver  = "deliver"
	partStoreKey = "store key"
	partCertify  = "certify"
	partRelay    = "relay"
)

// stepPart names the part of the work that applies ev.
func stepPart(ev session.Event) string {
	switch ev.(type) {
	case session.Responded:
		return "step responded"
	case session.Generated:
		return "step generated"
	case session.Answered:
		return "step answered"
	case session.Numbered:
		return "step numbered"
	case session.Reshared:
		return "step reshared"
	case session.Consented:
		return "step consented"
	case session.Moved:
		return "step moved"
	case session.KeyStored:
		return "step key stored"
	case session.ShareRefused:
		return "step share refused"
	case session.KeyLost:
		return "step key lost"
	case session.Signed:
		return "step signed"
	case session.PartyFailed:
		return "step party failed"
	case session.Cancel:
		return "step cancel"
	case session.Undeliverable:
		return "step undeliverable"
	case session.Tick:
		return "step tick"
	}
	return "step"
}

// withSession adds a session's fields to a log line, so that its history can be read
// from the logs of all nodes.
func withSession(s session.Session, line *zerolog.Event) *zerolog.Event {
	return line.Str("session", s.ID).Str("kind", string(s.Kind)).Str("key", s.KeyID).
		Str("state", string(s.Phase)).Int("attempt", s.Attempt)
}

// logStep logs a step: at level info if it changes the session's phase or attempt.
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
