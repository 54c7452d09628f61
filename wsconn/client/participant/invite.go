package participant

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// An invitation is examined, and declined at once if it is not valid or if too many
// of its account wait already; of those only a digest of the id is kept. The others
// are recorded and wait for their turn (see places.go); then the approver is
// called.

const (
	// maxResponses bounds the unacknowledged answers. Beyond it, invitations
	// declined without a question get none.
	maxResponses = 256
	// minPatience is the minimum time for a question, whatever its deadline says:
	// the clocks may differ, and an honest server withdraws it.
	minPatience = 10 * time.Minute
)

// invited handles an invitation. The error is the journal's.
func (p *participant) invited(ctx context.Context, inv Invitation) error {
	if inv.SessionID == "" {
		p.log.Warn().Str("key", inv.KeyID).Msg("invitation without a session_id ignored")
		return nil
	}
	r, known, err := p.cfg.Journal.Read(ctx, inv.SessionID)
	if err != nil {
		return fmtJournal(err)
	}
	if known && !movesOn(inv, r) {
		p.again(inv, r)
		return nil
	}
	checked, err := p.examine(ctx, inv)
	var moved *errMoved
	switch {
	case errors.As(err, &moved): // no answer that stands: the server learns of the epoch, and invites again
		p.behind(inv, err)
		return nil
	case known && err == nil && r.Answer == Accepted && sameRequest(inv, r.Invitation):
		return p.acceptAgain(ctx, inv, checked)
	case known:
		p.forget(inv.SessionID)
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	} else if p.cfg.SignedOnly {
		reason = signedOnly(checked)
	}
	a := accountOf(checked)
	if reason == "" {
		if reason, err = p.admit(ctx, a, inv); err != nil {
			return err
		}
	}
	if reason == "" && a.rank != RankStranger {
		// A stranger could fill the journal with claims: its claim is recorded only
		// on approval.
		if err := p.claim(ctx, checked); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		return p.turnDown(ctx, checked, reason)
	}
	r = Record{Invitation: inv, At: time.Now().UTC(), Rank: a.rank}
	if err := p.write(ctx, r); err != nil {
		return err
	}
	p.link.Emit(Invited{Invitation: checked})
	p.add(ctx, r, &checked)
	p.pump()
	return nil
}

// again handles a repeated invitation. Its answer stands; an ended session does not
// begin again.
func (p *participant) again(inv Invitation, r Record) {
	declined := r.Answer == Declined
	if r.Answer == "" || r.Ended && !declined || !p.mayRespond() {
		return
	}
	if declined {
		p.respond(inv, false, "", nil)
		return
	}
	p.answer(r.Invitation, true, "", nil)
}

// mayRespond reports whether there is room for an optional answer.
func (p *participant) mayRespond() bool {
	return p.link.Unanswered(wire.TypeKeygenResponse, wire.TypeSignResponse, wire.TypeReshareResponse) < maxResponses
}

// admit returns why an invitation cannot wait here, "" if it can. If there is no
// room, it makes some by removing sessions that have been idle for long, since the
// server lost them. The error is the journal's.
func (p *participant) admit(ctx context.Context, a account, inv Invitation) (string, error) {
	p.mu.Lock()
	u := p.usage()
	reason, free := u.refuses(a, inv), u.free(a)
	var idle []Record
	if reason != "" || !free {
		for _, t := range p.sessions {
			if t.state == stateOpen && time.Since(t.record.At) > idleAfter && (t.over || t.record.Attempt == 0) {
				idle = append(idle, t.record)
			}
		}
	}
	p.mu.Unlock()
	for _, r := range idle {
		r.Ended = true
		if err := p.write(ctx, r); err != nil {
			return "", err
		}
		p.log.Warn().Str("session", r.Invitation.SessionID).Msg("idle session forgotten")
		p.forget(r.Invitation.SessionID)
	}
	if len(idle) > 0 {
		p.mu.Lock()
		reason = p.usage().refuses(a, inv)
		p.mu.Unlock()
	}
	return reason, nil
}

// turnDown declines an invitation without a question. The error is the journal's.
func (p *participant) turnDown(ctx context.Context, inv Invitation, reason string) error {
	err := p.write(ctx, Record{Invitation: Invitation{SessionID: inv.SessionID}, Answer: Declined, Ended: true})
	if err != nil {
		return err
	}
	reason = oneLine(reason, wire.MaxReasonBytes)
	if p.mayRespond() {
		p.respond(inv, false, reason, nil)
	}
	shown, leftOut := p.declines.Take(time.Now())
	if leftOut > 0 {
		p.link.Emit(Crowded{Declined: leftOut})
	}
	if shown {
		p.link.Emit(Invited{Invitation: inv, Refused: reason})
		p.link.Emit(Answered{Invitation: inv, Reason: reason})
	}
	return nil
}

// add registers a session. An unanswered one waits for its turn; checked is its
// invitation if it has just been examined, else nil.
func (p *participant) add(ctx context.Context, r Record, checked *Invitation) *task {
	until := r.At.Add(forgetAfter)
	if checked != nil && !checked.Deadline.IsZero() {
		until = checked.Deadline
	} else if !r.Invitation.Deadline.IsZero() {
		until = r.Invitation.Deadline
	}
	if soonest := time.Now().Add(minPatience); until.Before(soonest) {
		until = soonest
	}
	ctx, over := context.WithCancelCause(ctx)
	ctx, late := context.WithDeadline(ctx, until)
	end := func(cause error) { over(cause); late() }
	t := &task{record: r, account: newAccount(r.Rank, r.Invitation.Coordinator), end: end, state: stateOpen, size: r.Invitation.size()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[r.Invitation.SessionID] = t
	if r.Answer != "" {
		return t
	}
	came := time.Now()
	t.state = stateWaiting
	t.ask = func() {
		if checked != nil && time.Since(came) > time.Second {
			checked = nil // local data may have changed, and the time has
		}
		p.decide(ctx, t, checked)
		p.pump()
	}
	t.lapse = func() { p.lapse(ctx, t) }
	p.waiting = append(p.waiting, t)
	return t
}

// reapEvery is how often waiting invitations are checked for deadlines.
const reapEvery = 15 * time.Second

// reap ends waits whose deadline has passed, until ctx ends.
func (p *participant) reap(ctx context.Context) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.mu.Lock()
			waiting := slices.Clone(p.waiting)
			p.mu.Unlock()
			for _, t := range waiting {
				t.lapse()
			}
		case <-ctx.Done():
			return
		}
	}
}

// lapse removes a session that was not answered in time, if the deadline has ended
// ctx.
func (p *participant) lapse(ctx context.Context, t *task) {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return // otherwise the session ended, or this process ends, and the next one asks again
	}
	p.mu.Lock()
	r := t.record
	p.mu.Unlock()
	r.Answer, r.Ended = Declined, true
	if err := p.write(ctx, r); err != nil {
		p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Msg("lapsed invitation not noted")
	}
	p.forget(r.Invitation.SessionID)
	p.pump()
}

// forget removes a session from memory.
func (p *participant) forget(sessionID string) {
	p.mu.Lock()
	seqs := p.remove(sessionID)
	p.mu.Unlock()
	p.link.Release(seqs...)
}

// decide calls the approver for an invitation whose turn it is. Checked is nil if
// it must be examined first.
func (p *participant) decide(ctx context.Context, t *task, checked *Invitation) {
	// After a restart this comes before the token, which names the user.
	if err := p.link.AwaitUser(ctx); err != nil {
		p.lapse(ctx, t) // or the next process asks again
		return
	}
	p.mu.Lock()
	inv := t.record.Invitation
	p.mu.Unlock()
	if checked == nil {
		again, err := p.examine(ctx, inv)
		if err != nil {
			p.decided(ctx, t, inv, false, err.Error())
			return
		}
		checked = &again
	}
	ok, reason := p.consult(ctx, t.account, *checked)
	if ctx.Err() != nil {
		p.lapse(ctx, t)
		return
	}
	p.decided(ctx, t, *checked, ok, reason)
}

// consult calls the approver.
func (p *participant) consult(ctx context.Context, a account, inv Invitation) (ok bool, reason string) {
	if inv.Kind != request.KindSign {
		p.mu.Lock()
		counted := p.countKeygen(a, inv.SessionID, time.Now())
		p.mu.Unlock()
		if !counted {
			return false, "too many keys or reshares were asked for in the last hour"
		}
		defer func() {
			if !ok {
				p.mu.Lock()
				p.uncountKeygen(a, inv.SessionID)
				p.mu.Unlock()
			}
		}()
	}
	ok, reason, err := p.cfg.Approve(ctx, inv)
	switch {
	case err != nil:
		if ctx.Err() == nil {
			p.log.Error().Err(err).Str("session", inv.SessionID).Msg("approver failed")
		}
		return false, ""
	case !ok || inv.Signer == nil:
		return ok, reason
	}
	if a.rank == RankStranger {
		if err := p.claim(ctx, inv); err != nil {
			return false, err.Error()
		}
	}
	// Only the identity of an approved request is remembered on first use.
	if err := p.trusts(inv.Coordinator, inv.Signer.identity); err != nil {
		p.link.IdentityChanged(err, inv.Kind, inv.SessionID, inv.KeyID)
		return false, err.Error()
	}
	return true, reason
}

// decided records an answer and sends it.
func (p *participant) decided(ctx context.Context, t *task, inv Invitation, ok bool, reason string) {
	p.mu.Lock()
	// The values from the wire are kept: the parameters must repeat them.
	t.record.Answer = Declined
	if ok {
		t.record.Answer = Accepted
	}
	if inv.Reshare != nil && ok { // but for the places that this party takes
		own := *t.record.Invitation.Reshare
		own.Places = inv.Reshare.Places
		t.record.Invitation.Reshare, t.record.Invitation.PartIndex = &own, inv.PartIndex
	}
	r := t.record
	p.mu.Unlock()
	if err := p.write(ctx, r); err != nil {
		p.log.Error().Err(err).Str("session", inv.SessionID).Msg("answer not written down, not given")
		return
	}
	p.mu.Lock()
	t.state = stateOpen
	p.mu.Unlock()
	if ok {
		p.answer(inv, true, reason, nil)
		p.want(t)
		return
	}
	if p.mayRespond() {
		p.answer(inv, false, reason, p.closing(ctx, r))
	} else {
		// The server acknowledges nothing: a repetition need not be recorded.
		p.closing(ctx, r)(wire.Ack{}, nil)
		p.answer(inv, false, reason, nil)
	}
	p.forget(inv.SessionID) // no round message is held for it: that takes an acceptance
}

// closing returns the callback that records that the server knows of a refusal.
func (p *participant) closing(ctx context.Context, r Record) func(wire.Ack, *wire.Error) {
	return func(_ wire.Ack, e *wire.Error) {
		r.Ended = true
		if err := p.write(ctx, r); err != nil {
			p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Msg("refusal not noted")
		}
		if e != nil && !errors.Is(e, errEnded) {
			p.log.Warn().Err(e).Str("session", r.Invitation.SessionID).Msg("message refused")
		}
	}
}

// examine returns an invitation for the approver, with its Signer, or why it is
// declined without a question. It records nothing.
func (p *participant) examine(ctx context.Context, inv Invitation) (Invitation, error) {
	var holders []string
	checked, err := inv, error(nil)
	switch inv.Kind {
	case request.KindKeygen:
		err = p.checkKeygen(inv)
	case request.KindReshare:
		checked, err = p.checkReshare(ctx, inv)
	default:
		checked, holders, err = p.checkSign(ctx, inv)
	}
	if err != nil {
		return checked, err
	}
	if checked, err = p.checkSigner(checked, holders); err == nil && inv.Kind == request.KindReshare {
		err = pinnedSigner(checked)
	}
	return checked, err
}

// claim records that a signed keygen request is used for the invitation's session,
// and refuses one already used for another. In a signing the session is part of the
// signed data.
func (p *participant) claim(ctx context.Context, inv Invitation) error {
	if inv.Kind != request.KindKeygen || inv.Signer == nil {
		return nil
	}
	s, err := statement.ParseSignedRequest(inv.SignedRequest)
	if err != nil {
		return err
	}
	// Beyond its expiry a request is refused anyway; the day is for clocks that are
	// set back.
	first, err := p.cfg.Journal.Claim(ctx, s.ID(), inv.SessionID, s.ExpiresAt.Add(claimMargin))
	switch {
	case err != nil:
		p.log.Error().Err(err).Str("session", inv.SessionID).Msg("request cannot be noted")
		return errors.New("the request cannot be noted here")
	case first != inv.SessionID:
		return usedBefore(first)
	}
	return nil
}
