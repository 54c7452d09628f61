package service

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Auditor records decisions. Its methods do not block; they are safe for concurrent
// use.
type Auditor interface {
	// Record stores d, or counts it if it cannot.
	Record(d audit.Decision)
	// RecordOnce stores d once, however often it is given under that name on any node,
	// and then calls then if not nil. It is best effort; the caller repeats it until
	// then was called.
	RecordOnce(name string, d audit.Decision, then func())
}

func (v *Service) record(d audit.Decision) {
	if v.cfg.Audit != nil {
		v.cfg.Audit.Record(d)
	}
}

// auditBegun records the request that began s.
func (v *Service) auditBegun(s session.Session) {
	d := audit.Decision{
		Time: s.CreatedAt, Who: s.Coordinator, What: string(s.Kind.Request()), Outcome: audit.Accepted,
		Session: s.ID, Key: s.KeyID, Digest: s.Digest,
		Detail: fmt.Sprintf("%s, %d of %s", s.Curve, s.Threshold, strings.Join(s.InvitedUsers(), ", ")),
	}
	if s.Kind.MakesEpoch() {
		users := s.Users()
		d.Detail = fmt.Sprintf("%s, epoch %d: %d of %s; next: %d of %s", s.Curve, s.FromEpoch, s.Threshold, strings.Join(users[:s.Old], ", "),
			s.ToThreshold, strings.Join(users[s.Old:], ", "))
	}
	v.record(d)
}

// auditStep records the decision of a committed event. An end has its own entry, see
// [Service.auditEnd].
func (v *Service) auditStep(to session.Session, ev session.Event) {
	d := audit.Decision{Session: to.ID, Key: to.KeyID, Digest: to.Digest}
	switch ev := ev.(type) {
	case session.Responded:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(to.Kind.Response()), audit.Declined, part(ev.Party, ev.Reason)
		if ev.Accept {
			d.Outcome = audit.Accepted
		}
	case session.Generated:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypeKeygenComplete), audit.Stored, part(ev.Party, ev.AccountAddr)
		if to.Phase.Final() { // the reports differ: no share is stored
			d.Outcome = audit.Reported
		}
	case session.Answered:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(to.Kind.Response()), audit.Declined, placesText(ev.Places, ev.Reason)
		if ev.Accept {
			d.Outcome = audit.Accepted
		}
	case session.Reshared:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypeReshareComplete), audit.Stored, epochText(ev.Epoch, part(ev.Party, ev.AccountAddr))
		if to.Phase.Final() { // the reports differ
			d.Outcome = audit.Reported
		}
	case session.Consented:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypeReshareConsent), audit.Accepted, epochText(ev.Epoch, part(ev.Party, ""))
	case session.Signed:
		if to.Phase != session.Completed {
			return // refused, and the sender is told
		}
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypeSignResult), audit.Accepted, part(ev.Party, "")
	case session.PartyFailed:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypePartyFailed), audit.Reported, part(ev.Party, ev.Reason)
		d.Culprits = partsText(ev.Culprits)
	case session.Cancel:
		d.Who, d.What, d.Outcome, d.Detail = ev.From, string(wire.TypeSessionCancel), audit.Accepted, ev.Reason
	default:
		return // caused by no user
	}
	v.record(d)
}

// auditEnd records how s ended, exactly once, and then takes it off the due list if
// nothing else is left to do. Until then s stays there, so that another node takes over
// if this one dies: no end is missing from the audit. The entry repeats who answered
// what, because entries of the answers may have been lost with a node.
func (v *Service) auditEnd(s session.Session, done bool) {
	var then func()
	if done {
		then = func() { v.ended.add(s.ID) }
	}
	v.cfg.Audit.RecordOnce(s.ID+"/"+string(s.Phase), audit.Decision{
		Time: s.EndedAt, Who: s.Coordinator, What: audit.Ended, Outcome: string(s.Phase), Session: s.ID, Key: s.KeyID,
		Digest: s.Digest, Culprits: partsText(s.Culprits), Detail: story(s),
	}, then)
}

// story summarizes a session in a line.
func story(s session.Session) string {
	var accepted, declined []int
	for i, p := range s.Parties {
		switch p.Response {
		case session.Accepted:
			accepted = append(accepted, i+1)
		case session.Declined:
			declined = append(declined, i+1)
		}
	}
	text := string(s.Kind)
	add := func(name, value string) {
		if value != "" {
			text += ", " + name + " " + value
		}
	}
	add("accepted by", partsText(accepted))
	add("declined by", partsText(declined))
	add("last tried with", partsText(s.Signers))
	if s.Kind.MakesEpoch() && s.Epoch > 0 {
		add("epoch", fmt.Sprint(s.Epoch))
	}
	if s.Attempt > 1 {
		add("attempt", fmt.Sprint(s.Attempt))
	}
	if s.Reason != "" {
		text += ": " + s.Reason
	}
	return text
}

func part(index int, more string) string {
	text := fmt.Sprintf("part %d", index)
	if more != "" {
		text += ": " + more
	}
	return text
}

// placesText names places of a reshare, with more.
func placesText(places []int, more string) string {
	text := "places " + partsText(places)
	if len(places) == 0 {
		text = "no places"
	}
	if more != "" {
		text += ": " + more
	}
	return text
}

func epochText(number int, more string) string { return fmt.Sprintf("epoch %d, %s", number, more) }

func partsText(parts []int) string {
	if len(parts) == 0 {
		return ""
	}
	return wire.FormatParts(parts)
}

// idSet collects session ids. The zero value is ready.
type idSet struct {
	mu  sync.Mutex
	ids []string
}

func (s *idSet) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, id)
}

func (s *idSet) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := s.ids
	s.ids = nil
	return ids
}

// unscheduleEnded takes sessions whose end is in the audit off the due list. If that
// fails they become due again and are added again.
func (v *Service) unscheduleEnded(ctx context.Context) {
	ids := v.ended.take()
	if len(ids) == 0 {
		return
	}
	if err := v.cfg.Store.Unschedule(ctx, ids...); err != nil && ctx.Err() == nil {
		v.log.Warn().Err(err).Msg("ended sessions are still in the due list")
	}
}
