package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/internal/quiet"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	maxDeclines = 20 // events a minute about invitations declined without a question

	forgetAfter = 8 * 24 * time.Hour // no session lives that long
	idleAfter   = time.Hour          // an idle session of that age makes room for a new one
)

// participant is the [client.Service] of a [Participant]. Link, identity and log are
// set by Start.
type participant struct {
	cfg      Config
	link     *client.Link
	identity *identity.Identity
	log      zerolog.Logger
	tasks    sync.WaitGroup // all goroutines

	declines quiet.Budget // of events about invitations declined without a question
	changes  quiet.Budget // of events about other identities in requests

	mu       sync.Mutex
	sessions map[string]*task
	waiting  []*task              // of sessions, those not yet passed to the approver, by arrival
	keygens  map[account][]asked  // of the last hour
	fetched  map[string]time.Time // when the certificates of a key were last asked for

	// switching is held over the store's I/O while certificates, consents and epochs
	// change. It is never taken with mu held.
	switching sync.Mutex
	staged    []staged // certificates that cannot be verified yet, oldest first

	news chan struct{} // closed, and replaced, when a certificate has been stored; guarded by mu
}

// task is one session that has not ended. Its fields are guarded by
// participant.mu.
type task struct {
	writing sync.Mutex // orders the writes of record by its attempts; taken before participant.mu

	record  Record
	account account
	size    int // of its invitation
	state   state
	ask     func()             // calls the approver; called once, when its turn comes
	lapse   func()             // removes it if its deadline has passed
	end     func(cause error)  // ends the wait and the question; the first cause stays
	stop    context.CancelFunc // ends the run of the newest attempt
	runs    map[int]*party.Run // of the newest attempt, once they are ready, by part or place
	over    bool               // the newest attempt's run has ended
	wanting bool               // a set of pre-parameters is wanted for it
	early   []early
	bytes   int // of early

	attested *pendingConsent // of a reshare: the newest statement to consent to
}

func newParticipant(cfg Config) *participant {
	return &participant{
		cfg: cfg, sessions: map[string]*task{}, keygens: map[account][]asked{}, fetched: map[string]time.Time{}, news: make(chan struct{}),
		declines: quiet.Budget{Most: maxDeclines}, changes: quiet.Budget{Most: maxDeclines},
	}
}

// Start resumes the work that the journal had in progress when the last process
// ended. Messages that it sends wait for the connection.
func (p *participant) Start(ctx context.Context, l *client.Link) error {
	if l.Identity() == nil {
		return errors.New("client: a participant needs an identity")
	}
	p.link, p.identity, p.log = l, l.Identity(), l.Log()
	records, err := p.cfg.Journal.Open(ctx)
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	p.tasks.Go(func() {
		p.cfg.PreParams.Run(ctx, func(found, of int) { p.link.Emit(Preparing{found, of}) })
	})
	if err := p.resumeEpochs(ctx, records); err != nil {
		return err
	}
	for _, r := range records {
		if err := p.resume(ctx, r); err != nil {
			return err
		}
	}
	p.pump()
	p.tasks.Go(func() { p.reap(ctx) })
	return nil
}

// resume resumes one session of the journal.
func (p *participant) resume(ctx context.Context, r Record) error {
	if time.Since(r.At) > forgetAfter && r.Answer != Declined {
		r.Ended = true // the server has forgotten it too
		return p.write(ctx, r)
	}
	if r.Answer == Declined {
		p.answer(r.Invitation, false, "", p.closing(ctx, r)) // the server may not have received it
		return nil
	}
	t := p.add(ctx, r, nil)
	switch {
	case r.Answer == "":
	case r.Attempt == 0:
		p.answer(r.Invitation, r.Answer == Accepted, "", nil)
		p.want(t)
	case r.Invitation.Reshare != nil:
		p.resumeReshare(ctx, t, r)
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
	sealed, err := p.cfg.Shares.Get(ctx, r.Invitation.KeyID, r.Generated)
	if err != nil {
		p.log.Error().Err(err).Str("session", r.Invitation.SessionID).Str("key", r.Invitation.KeyID).Msg("stored share not found")
		p.failed(r.Invitation, r.Attempt, "the share it had made is not in its store", nil)
		return
	}
	// The attestation covers the sealed content of the share, and not the data beside it.
	held, err := share.Open(sealed, p.identity)
	var attestation statement.Attestation
	if err == nil {
		attestation, err = held.Attest(p.identity, r.Invitation.SessionID, r.Invitation.Coordinator)
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

// Wait waits until all goroutines have ended.
func (p *participant) Wait() { p.tasks.Wait() }

// Receive handles a message. An error means that it could not be recorded, and was
// not taken.
func (p *participant) Receive(ctx context.Context, seq uint64, payload wire.Payload) error {
	switch m := payload.(type) {
	case *wire.KeygenInvite:
		return p.invited(ctx, keygenInvitation(m))
	case *wire.SignInvite:
		return p.invited(ctx, signInvitation(m))
	case *wire.KeygenParams:
		return p.keygenParams(ctx, m)
	case *wire.SignParams:
		return p.signParams(ctx, m)
	case *wire.ReshareInvite:
		inv, err := reshareInvitation(m)
		if err != nil {
			p.log.Warn().Err(err).Str("session", m.SessionID).Msg("invitation to a reshare is not valid")
			return nil
		}
		return p.invited(ctx, inv)
	case *wire.ReshareParams:
		return p.reshareParams(ctx, m)
	case *wire.ReshareAttested:
		return p.attestedBy(ctx, seq, m)
	case *wire.EpochCertified:
		return p.certified(ctx, m)
	case *wire.TSSMessage:
		p.roundMessage(seq, m)
	case *wire.SessionEnded:
		return p.sessionEnded(ctx, m)
	}
	return nil
}

// write records a session.
func (p *participant) write(ctx context.Context, r Record) error {
	// The end of ctx must not lose the decision just made.
	if err := p.cfg.Journal.Write(context.WithoutCancel(ctx), r); err != nil {
		return fmtJournal(err)
	}
	return nil
}

// errJournal wraps errors that keep a participant from recording its state. It
// stops the client: unrecorded messages must be delivered again, to this process or
// the next.
var errJournal = errors.New("client: the journal cannot be written")

func fmtJournal(err error) error { return fmt.Errorf("%w: %w", errJournal, err) }

// remove removes a session from memory, and returns the mailbox numbers of the
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
		p.cfg.PreParams.Release()
	}
	var seqs []uint64
	for _, e := range t.early {
		seqs = append(seqs, e.seq)
	}
	if t.attested != nil {
		seqs = append(seqs, t.attested.seq)
	}
	t.early, t.bytes = nil, 0
	t.end(nil)
	if t.stop != nil {
		t.stop()
	}
	return seqs
}

// answer sends the response to an invitation. Done, if not nil, is called when it
// has taken effect.
func (p *participant) answer(inv Invitation, ok bool, reason string, done func(wire.Ack, *wire.Error)) {
	reason = oneLine(reason, wire.MaxReasonBytes)
	p.respond(inv, ok, reason, done)
	p.link.Emit(Answered{Invitation: inv, Accepted: ok, Reason: reason})
}

func (p *participant) respond(inv Invitation, ok bool, reason string, done func(wire.Ack, *wire.Error)) {
	var m wire.Payload
	switch inv.Kind {
	case request.KindKeygen:
		m = &wire.KeygenResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	case request.KindReshare:
		m = p.reshareResponse(inv, ok, reason)
	default:
		m = &wire.SignResponse{KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &ok, SessionID: inv.SessionID, Reason: reason}
	}
	p.send(inv.SessionID, m, done)
}

// send passes a message to the courier. Done, if not nil, is called when it has
// taken effect.
func (p *participant) send(sessionID string, m wire.Payload, done func(wire.Ack, *wire.Error)) {
	if done == nil {
		done = func(_ wire.Ack, e *wire.Error) {
			if e != nil && !errors.Is(e, errEnded) {
				p.log.Warn().Err(e).Str("session", sessionID).Str("type", string(m.Type())).Msg("message refused")
			}
		}
	}
	if err := p.link.Send(sessionID, m, done); err != nil {
		p.log.Error().Err(err).Str("session", sessionID).Msg("message cannot be sent")
	}
}

// errEnded is the error of messages for a session that has just ended.
var errEnded = wire.Errorf(wire.CodeSessionEnded, "the session has ended")

// want announces that a new share will need pre-parameters.
func (p *participant) want(t *task) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inv := t.record.Invitation
	makes := inv.Kind == request.KindKeygen || inv.Reshare != nil && inv.Reshare.newPlace() > 0
	if makes && isSecp256k1(inv.Curve) && !t.wanting && p.sessions[inv.SessionID] == t {
		t.wanting = true
		p.cfg.PreParams.Want()
	}
}

// failed reports that this party cannot continue an attempt.
func (p *participant) failed(inv Invitation, attempt int, reason string, culprits []int) {
	culprits = slices.DeleteFunc(slices.Clone(culprits), func(i int) bool {
		return i == inv.PartIndex || inv.Reshare != nil && slices.Contains(inv.Reshare.Places, i)
	})
	reason = oneLine(reason, wire.MaxReasonBytes)
	p.log.Warn().Str("session", inv.SessionID).Str("key", inv.KeyID).Int("attempt", attempt).Ints("culprits", culprits).
		Str("reason", reason).Msg("cannot go on")
	p.send(inv.SessionID, &wire.PartyFailed{
		SessionID: inv.SessionID, Attempt: attempt, PartIndex: inv.PartIndex, Reason: reason, Culprits: culprits,
	}, nil)
	p.link.Emit(Failed{
		Kind: inv.Kind, SessionID: inv.SessionID, KeyID: inv.KeyID, Attempt: attempt, Reason: reason, Culprits: culprits,
	})
}

// sessionEnded removes a session, but remembers that it existed.
func (p *participant) sessionEnded(ctx context.Context, m *wire.SessionEnded) error {
	r, known, err := p.cfg.Journal.Read(ctx, m.SessionID)
	if err != nil {
		return fmtJournal(err)
	}
	if known && !r.Ended {
		if r.Answer == "" && r.Rank == RankStranger {
			r.Answer = Declined // see ledger: strangers must not displace sessions that others have ended
		}
		r.Ended = true
		if err := p.write(ctx, r); err != nil {
			return err
		}
	}
	p.mu.Lock()
	t := p.sessions[m.SessionID]
	if t != nil { // the first cause stays: that of remove comes second
		t.end(&request.OutcomeError{Kind: request.Kind(m.Kind), SessionID: m.SessionID, KeyID: m.KeyID, Status: m.Status, Reason: m.Reason, Culprits: m.Culprits})
	}
	seqs := p.remove(m.SessionID)
	p.mu.Unlock()
	p.link.Release(seqs...)
	p.link.Drop(m.SessionID, 0)
	if t != nil {
		p.link.Emit(request.Ended{Kind: request.Kind(m.Kind), SessionID: m.SessionID, KeyID: m.KeyID, Status: m.Status, Reason: m.Reason, Culprits: m.Culprits})
	}
	p.pump()
	return nil
}
