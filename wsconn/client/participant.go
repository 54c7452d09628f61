package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Approver decides about an invitation. It may take its time: ctx ends when the
// session does, and context.Cause is then its [*OutcomeError], when its deadline
// has passed, or when the client ends. A refusal's reason is told to the
// coordinator. An error is logged and declines without a reason. Invitations are
// asked about concurrently, and again after a restart in which no answer was noted.
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
// all else. With [Config.SignedOnly] a client does that before it writes the
// invitation down, which is cheaper under a flood.
func SignedOnly(approve Approver) Approver {
	return func(ctx context.Context, inv Invitation) (bool, string, error) {
		if reason := signedOnly(inv); reason != "" {
			return false, reason, nil
		}
		return approve(ctx, inv)
	}
}

// signedOnly returns why nobody needs to be asked about an invitation, "" if a
// pinned coordinator has signed it.
func signedOnly(inv Invitation) string {
	switch {
	case inv.Signer == nil:
		return "the request is not signed, and this participant approves without asking"
	case !inv.Signer.Pinned:
		return fmt.Sprintf("the identity of %s %s, and this participant approves without asking", inv.Coordinator, notPinnedHere)
	}
	return ""
}

// notPinnedHere is in every reason of a participant that declines because the
// identity of the coordinator is not pinned: by its policy of whom to hear, and
// not by what is asked for.
const notPinnedHere = "is not pinned here"

// NeedsPin reports whether the reason for which a participant declined, or a
// session was rejected, is that the coordinator's identity is not pinned there. It
// is for hints: whoever wrote the reason can write anything.
func NeedsPin(reason string) bool { return strings.Contains(reason, notPinnedHere) }

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

	declines budget // of events about what nobody was asked about
	changes  budget // of events about other identities in requests

	mu       sync.Mutex
	sessions map[string]*task
	waiting  []*task                 // of sessions, those that nobody has been asked about yet, as they came
	keygens  map[account][]allowance // of the last hour
}

// task is one session that has not ended. Its fields are guarded by
// participant.mu.
type task struct {
	record  Record
	account account
	size    int // of its invitation
	state   state
	ask     func()             // asks the approver; called once, when it has its turn
	lapse   func()             // forgets it if its deadline has passed
	end     func(cause error)  // ends the wait and the question; the first cause stays
	stop    context.CancelFunc // ends the run of the newest attempt
	run     *party.Run         // of the newest attempt, once it is ready
	over    bool               // the newest attempt's run has ended
	wanting bool               // a set of pre-parameters is wanted for it
	early   []early
	bytes   int // of early
}

func newParticipant(c *Client, approve Approver) *participant {
	p := &participant{
		c: c, approve: approve, log: c.log, pre: c.cfg.PreParams, sessions: map[string]*task{}, keygens: map[account][]allowance{},
		declines: budget{most: maxDeclines}, changes: budget{most: maxDeclines},
	}
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
		if err := p.resume(ctx, r); err != nil {
			return err
		}
	}
	p.pump()
	p.tasks.Go(func() { p.reap(ctx) })
	return nil
}

// resume takes up one session of the journal.
func (p *participant) resume(ctx context.Context, r Record) error {
	if time.Since(r.At) > forgetAfter && r.Answer != Declined {
		r.Ended = true // the server has forgotten it too
		return p.write(ctx, r)
	}
	if r.Answer == Declined {
		p.answer(r.Invitation, false, "", p.closing(ctx, r)) // the server may not have heard it
		return nil
	}
	t := p.add(ctx, r, nil)
	switch {
	case r.Answer == "":
	case r.Attempt == 0:
		p.answer(r.Invitation, r.Answer == Accepted, "", nil)
		p.want(t)
	case r.Generated != "":
		p.report(ctx, r)
	default:
		t.over = true
		p.failed(r.Invitation, r.Attempt, "restarted", nil)
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
	held, err := share.Open(sealed, p.c.cfg.Identity)
	var attestation statement.Attestation
	if err == nil {
		attestation, err = held.Attest(p.c.cfg.Identity, r.Invitation.SessionID, r.Invitation.Coordinator)
	}
	if err != nil {
		p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Str("key", r.Invitation.KeyID).Msg("stored share cannot be read")
		p.failed(r.Invitation, r.Attempt, "the share it had made cannot be read", nil)
		return
	}
	p.complete(r.Invitation, held.Public(), sealed, attestation)
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
		return fmtJournal(err)
	}
	return nil
}

func fmtJournal(err error) error { return fmt.Errorf("%w: %w", errJournal, err) }

// remove forgets a session in memory, and returns the mailbox numbers of the
// messages that were held for it. p.mu is held.
func (p *participant) remove(sessionID string) []uint64 {
	t := p.sessions[sessionID]
	if t == nil {
		return nil
	}
	delete(p.sessions, sessionID)
	p.waiting = slices.DeleteFunc(p.waiting, func(w *task) bool { return w == t })
	if t.wanting {
		t.wanting = false
		p.pre.Release()
	}
	var seqs []uint64
	for _, e := range t.early {
		seqs = append(seqs, e.seq)
	}
	t.early, t.bytes = nil, 0
	t.end(nil)
	if t.stop != nil {
		t.stop()
	}
	return seqs
}

// answer sends the response to an invitation. Done, if not nil, is told when it
// has taken effect.
func (p *participant) answer(inv Invitation, ok bool, reason string, done func(wire.Ack, *wire.Error)) {
	reason = oneLine(reason, wire.MaxReasonBytes)
	p.respond(inv, ok, reason, done)
	p.c.emit(Answered{Invitation: inv, Accepted: ok, Reason: reason})
}

func (p *participant) respond(inv Invitation, ok bool, reason string, done func(wire.Ack, *wire.Error)) {
	var m wire.Payload
	if inv.Kind == KindKeygen {
		m = &wire.KeygenResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	} else {
		m = &wire.SignResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	}
	p.send(inv.SessionID, m, done)
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
		return fmtJournal(err)
	}
	if known && !r.Ended {
		if r.Answer == "" && r.Rank == RankStranger {
			r.Answer = Declined // see ledger: strangers must not push out what others have ended
		}
		r.Ended = true
		if err := p.write(ctx, r); err != nil {
			return err
		}
	}
	p.mu.Lock()
	t := p.sessions[m.SessionID]
	if t != nil { // the first cause stays: that of remove comes second
		t.end(&OutcomeError{Kind(m.Kind), m.SessionID, m.KeyID, m.Status, m.Reason, m.Culprits})
	}
	seqs := p.remove(m.SessionID)
	p.mu.Unlock()
	p.c.inbox.release(seqs...)
	p.c.courier.drop(m.SessionID, 0)
	if t != nil {
		p.c.emit(Ended{Kind(m.Kind), m.SessionID, m.KeyID, m.Status, m.Reason, m.Culprits})
	}
	p.pump()
	return nil
}
