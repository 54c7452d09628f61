package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Approver decides about an invitation. It may take its time: ctx ends when the
// session does, or the client. A refusal's reason is told to the coordinator. An
// error is logged and declines without a reason. Invitations are asked about
// concurrently, and again after a restart in which no answer was noted.
type Approver func(ctx context.Context, inv Invitation) (ok bool, reason string, err error)

// ApproveAll approves whatever a coordinator has signed whose identity was pinned
// by hand, and nothing else: where nobody looks, a captured server must not be
// able to ask.
func ApproveAll(ctx context.Context, inv Invitation) (bool, string, error) {
	return SignedOnly(ApproveUnsigned)(ctx, inv)
}

// ApproveUnsigned approves whatever is asked, on the server's word alone. It is
// for tests and for what is worth nothing.
func ApproveUnsigned(context.Context, Invitation) (bool, string, error) { return true, "", nil }

// SignedOnly asks approve about what a pinned coordinator has signed, and declines
// all else.
func SignedOnly(approve Approver) Approver {
	return func(ctx context.Context, inv Invitation) (bool, string, error) {
		switch {
		case inv.Signer == nil:
			return false, "the request is not signed, and nobody is there to decide", nil
		case !inv.Signer.Pinned:
			return false, fmt.Sprintf("the identity of %s is not pinned here, and nobody is there to decide", inv.Coordinator), nil
		}
		return approve(ctx, inv)
	}
}

const (
	forgetAfter = 8 * 24 * time.Hour // no session lives that long
	idleAfter   = time.Hour          // an idle session as old as that makes room for a new one
)

// participant is the serving side of a Client.
type participant struct {
	c       *Client
	approve Approver
	log     zerolog.Logger
	pre     PreParamsSource
	tasks   sync.WaitGroup // all goroutines

	mu       sync.Mutex
	sessions map[string]*task
}

// task is one session that has not ended. Its fields are guarded by
// participant.mu.
type task struct {
	record  Record
	end     context.CancelFunc // ends what is going on for the session
	stop    context.CancelFunc // ends the run of the newest attempt
	run     *party.Run         // of the newest attempt, once it is ready
	over    bool               // the newest attempt's run has ended
	wanting bool               // a set of pre-parameters is wanted for it
	early   []early
	bytes   int // of early
}

func newParticipant(c *Client, approve Approver) *participant {
	p := &participant{c: c, approve: approve, log: c.log, pre: c.cfg.PreParams, sessions: map[string]*task{}}
	if p.pre == nil {
		p.pre = &PreParamsMaker{Concurrency: c.cfg.Concurrency}
	}
	return p
}

// start takes up what the journal says was under way when the last process
// ended. What it sends waits for the connection.
func (p *participant) start(ctx context.Context) error {
	records, err := p.c.cfg.Journal.Open(ctx)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	p.tasks.Go(func() {
		p.pre.Run(ctx, func(found, of int) { p.c.emit(Preparing{found, of}) })
	})
	for _, r := range records {
		if time.Since(r.At) > forgetAfter || r.Answer == Declined {
			// The server has forgotten it too, or needs nothing more from here.
			if r.Answer == Declined {
				p.answer(r.Invitation, false, "")
				continue
			}
			r.Ended = true
			if err := p.write(ctx, r); err != nil {
				return err
			}
			continue
		}
		t, ctx := p.add(ctx, r)
		switch {
		case r.Answer == "":
			p.tasks.Go(func() { p.decide(ctx, t, r.Invitation) })
		case r.Attempt == 0:
			p.answer(r.Invitation, r.Answer == Accepted, "")
			if r.Answer == Accepted {
				p.want(t)
			}
		case r.Generated != "":
			p.report(ctx, r)
		default:
			t.over = true
			p.failed(r.Invitation, r.Attempt, "restarted", nil)
		}
	}
	return nil
}

// report sends keygen_complete for a share that was stored before a restart.
func (p *participant) report(ctx context.Context, r Record) {
	sealed, err := p.c.cfg.Store.Get(ctx, r.Invitation.KeyID, r.Generated)
	if err != nil {
		p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Str("key", r.Invitation.KeyID).Msg("stored share not found")
		p.failed(r.Invitation, r.Attempt, "the share it had made is not in its store", nil)
		return
	}
	// What is attested is what is sealed in the share, and not what is beside it.
	share, err := party.OpenShare(sealed, p.c.cfg.Identity)
	var attestation party.Attestation
	if err == nil {
		attestation, err = share.Attest(p.c.cfg.Identity, r.Invitation.SessionID, r.Invitation.Coordinator)
	}
	if err != nil {
		p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Str("key", r.Invitation.KeyID).Msg("stored share cannot be read")
		p.failed(r.Invitation, r.Attempt, "the share it had made cannot be read", nil)
		return
	}
	p.complete(r.Invitation, share.Public(), sealed, attestation)
}

// add makes a session known. The context ends with the session.
func (p *participant) add(ctx context.Context, r Record) (*task, context.Context) {
	ctx, end := context.WithCancel(ctx)
	t := &task{record: r, end: end}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions[r.Invitation.SessionID] = t
	return t, ctx
}

func (p *participant) find(sessionID string) *task {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[sessionID]
}

// receive takes a message for a participant. An error means that it could not be
// written down, and has not been taken.
func (p *participant) receive(ctx context.Context, seq uint64, payload wire.Payload) error {
	switch m := payload.(type) {
	case *wire.KeygenInvite:
		return p.invited(ctx, keygenInvitation(m))
	case *wire.SignInvite:
		return p.invited(ctx, signInvitation(m))
	case *wire.KeygenParams:
		return p.keygenParams(ctx, m)
	case *wire.SignParams:
		return p.signParams(ctx, m)
	case *wire.TSSMessage:
		p.roundMessage(seq, m)
	case *wire.SessionEnded:
		return p.sessionEnded(ctx, m)
	}
	return nil
}

// write notes a session's record.
func (p *participant) write(ctx context.Context, r Record) error {
	// The end of ctx is no reason to forget what has just been decided.
	if err := p.c.cfg.Journal.Write(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	return nil
}

func (p *participant) invited(ctx context.Context, inv Invitation) error {
	if inv.SessionID == "" {
		p.log.Warn().Str("key", inv.KeyID).Msg("invitation without a session_id ignored")
		return nil
	}
	r, known, err := p.c.cfg.Journal.Read(ctx, inv.SessionID)
	if err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	if known {
		// Sent again. What was answered stands; a session that ended does not begin
		// again.
		if r.Answer != "" && !r.Ended {
			p.answer(r.Invitation, r.Answer == Accepted, "")
		}
		return nil
	}
	if !p.room() {
		p.answer(inv, false, "too many sessions are open here")
		return nil
	}
	r = Record{Invitation: inv, At: time.Now().UTC()}
	if err := p.write(ctx, r); err != nil {
		return err
	}
	p.c.emit(Invited{inv})
	t, ctx := p.add(ctx, r)
	p.tasks.Go(func() { p.decide(ctx, t, inv) })
	return nil
}

// room reports whether another session may be opened. One of which nothing has
// been heard for long, because the server lost it, is forgotten to make room.
func (p *participant) room() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) < p.c.cfg.MaxSessions {
		return true
	}
	for id, t := range p.sessions {
		if time.Since(t.record.At) > idleAfter && (t.over || t.record.Answer == Accepted && t.record.Attempt == 0) {
			p.log.Warn().Str("session", id).Msg("idle session forgotten")
			p.c.inbox.release(p.remove(id)...)
			return true
		}
	}
	return false
}

// remove forgets a session in memory, and returns the mailbox numbers of the
// messages that were held for it. p.mu is held.
func (p *participant) remove(sessionID string) []uint64 {
	t := p.sessions[sessionID]
	if t == nil {
		return nil
	}
	delete(p.sessions, sessionID)
	if t.wanting {
		t.wanting = false
		p.pre.Release()
	}
	var seqs []uint64
	for _, e := range t.early {
		seqs = append(seqs, e.seq)
	}
	t.early, t.bytes = nil, 0
	t.end()
	if t.stop != nil {
		t.stop()
	}
	return seqs
}

// decide checks an invitation and asks the approver.
func (p *participant) decide(ctx context.Context, t *task, inv Invitation) {
	// After a restart this comes before the token, which says who is asked here.
	if err := p.c.awaitUser(ctx); err != nil {
		return // the next process asks again
	}
	checked, err := p.check(ctx, inv)
	ok, reason := false, ""
	switch {
	case err != nil:
		reason = err.Error()
	default:
		if ok, reason, err = p.approve(ctx, checked); err != nil {
			p.log.Error().Err(err).Str("session", inv.SessionID).Msg("approver failed")
			ok, reason = false, ""
		}
		// Only what was agreed to is worth remembering on first use.
		if ok && checked.Signer != nil {
			if err := p.trusts(inv.Coordinator, checked.Signer.identity); err != nil {
				p.c.changed(err, inv.Kind, inv.SessionID, inv.KeyID)
				ok, reason = false, err.Error()
			}
		}
	}
	if ctx.Err() != nil {
		return // the session has ended; or this process does, and the next one asks again
	}
	answer := Declined
	if ok {
		answer = Accepted
	}
	p.mu.Lock()
	// What came over the wire is kept: it is what the parameters must repeat.
	t.record.Answer = answer
	r := t.record
	p.mu.Unlock()
	if err := p.write(ctx, r); err != nil {
		p.log.Error().Err(err).Str("session", inv.SessionID).Msg("answer not written down, not given")
		return
	}
	p.answer(checked, ok, reason)
	if ok {
		p.want(t)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(inv.SessionID) // no round message is held for it: that takes an acceptance
}

// answer sends the response to an invitation.
func (p *participant) answer(inv Invitation, ok bool, reason string) {
	reason = oneLine(reason, wire.MaxReasonBytes)
	var m wire.Payload
	if inv.Kind == KindKeygen {
		m = &wire.KeygenResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	} else {
		m = &wire.SignResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	}
	p.send(inv.SessionID, m, nil)
	p.c.emit(Answered{Invitation: inv, Accepted: ok, Reason: reason})
}

// send hands a message to the courier. Done, if not nil, is told when it has
// taken effect.
func (p *participant) send(sessionID string, m wire.Payload, done func(wire.Ack, *wire.Error)) {
	if done == nil {
		done = func(_ wire.Ack, e *wire.Error) {
			if e != nil && !errors.Is(e, errEnded) {
				p.log.Warn().Err(e).Str("session", sessionID).Str("type", string(m.Type())).Msg("message refused")
			}
		}
	}
	if err := p.c.courier.add(p.c.requestID(), m, sessionID, done); err != nil {
		p.log.Error().Err(err).Str("session", sessionID).Msg("message cannot be sent")
	}
}

// errEnded is what messages for a session meet that has just ended.
var errEnded = wire.Errorf(wire.CodeSessionEnded, "the session has ended")

// want announces that a keygen will need pre-parameters.
func (p *participant) want(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inv := t.record.Invitation
	if inv.Kind == KindKeygen && isSecp256k1(inv.Curve) && !t.wanting && p.sessions[inv.SessionID] == t {
		t.wanting = true
		p.pre.Want()
	}
}

// failed reports that this party cannot go on with an attempt.
func (p *participant) failed(inv Invitation, attempt int, reason string, culprits []int) {
	culprits = slices.DeleteFunc(slices.Clone(culprits), func(i int) bool { return i == inv.PartIndex })
	reason = oneLine(reason, wire.MaxReasonBytes)
	p.log.Warn().Str("session", inv.SessionID).Str("key", inv.KeyID).Int("attempt", attempt).Ints("culprits", culprits).
		Str("reason", reason).Msg("cannot go on")
	p.send(inv.SessionID, &wire.PartyFailed{
		SessionID: inv.SessionID, Attempt: attempt, PartIndex: inv.PartIndex, Reason: reason, Culprits: culprits,
	}, nil)
	p.c.emit(Failed{
		Kind: inv.Kind, SessionID: inv.SessionID, KeyID: inv.KeyID, Attempt: attempt, Reason: reason, Culprits: culprits,
	})
}

// sessionEnded forgets a session, but not that it was there.
func (p *participant) sessionEnded(ctx context.Context, m *wire.SessionEnded) error {
	r, known, err := p.c.cfg.Journal.Read(ctx, m.SessionID)
	if err != nil {
		return fmt.Errorf("%w: %w", errJournal, err)
	}
	if known && !r.Ended {
		r.Ended = true
		if err := p.write(ctx, r); err != nil {
			return err
		}
	}
	p.mu.Lock()
	t := p.sessions[m.SessionID]
	seqs := p.remove(m.SessionID)
	p.mu.Unlock()
	p.c.inbox.release(seqs...)
	p.c.courier.drop(m.SessionID, 0)
	if t != nil {
		p.c.emit(Ended{Kind(m.Kind), m.SessionID, m.KeyID, m.Status, m.Reason, m.Culprits})
	}
	return nil
}
