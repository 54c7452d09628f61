package participant

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// attempt describes one run of the MPC.
type attempt struct {
	inv     Invitation
	number  int
	members []identity.Member
	share   string // of a signing: as the server sent it, may be empty

	// epoch is that of the shares, of a reshare the new one. certificate is, in a signing,
	// the hash of its certificate as the server says, "" if it has none.
	epoch       int
	certificate string
	places      []int              // of a reshare: this party's
	runs        map[int]*party.Run // this party's, by part or place
	quiet       bool               // another run of this party tells of the attempt
}

func (a attempt) parts() []int {
	parts := make([]int, len(a.members))
	for i, m := range a.members {
		parts[i] = m.Index
	}
	return parts
}

// users are the user ids of parts.
func (a attempt) users(parts []int) []string {
	var users []string
	for _, m := range a.members {
		if slices.Contains(parts, m.Index) {
			users = append(users, m.User)
		}
	}
	return users
}

func (p *participant) keygenParams(ctx context.Context, m *wire.KeygenParams) error {
	return p.begin(ctx, m.SessionID, m.Attempt, func(inv Invitation) (attempt, error) {
		members, err := checkKeygenParams(inv, m)
		return attempt{inv: inv, number: m.Attempt, members: members}, err
	})
}

func (p *participant) signParams(ctx context.Context, m *wire.SignParams) error {
	return p.begin(ctx, m.SessionID, m.Attempt, func(inv Invitation) (attempt, error) {
		members, err := checkSignParams(inv, m)
		return attempt{
			inv: inv, number: m.Attempt, members: members, share: m.ShareJSON, epoch: inv.epoch(), certificate: m.Certificate,
		}, err
	})
}

// maxRuns is the highest attempt that is run, as many as a server needs or far more. An
// attempt of a keygen or reshare burns a set of pre-parameters.
func maxRuns(kind request.Kind) int {
	switch kind {
	case request.KindKeygen:
		return 4
	case request.KindReshare:
		return 16
	}
	return 64
}

// begin starts a new attempt of a session to which this party has agreed, and stops
// the attempt before it. The error is the journal's.
func (p *participant) begin(ctx context.Context, sessionID string, number int, check func(Invitation) (attempt, error)) error {
	t := p.find(sessionID)
	if t == nil {
		p.log.Debug().Str("session", sessionID).Msg("parameters of no open session ignored")
		return nil
	}
	t.writing.Lock()
	p.mu.Lock()
	r := t.record
	p.mu.Unlock()
	defer t.writing.Unlock()
	switch {
	case r.Answer != Accepted:
		p.log.Warn().Str("session", sessionID).Msg("parameters of a session that was not accepted ignored")
		return nil
	case number <= r.Attempt:
		return nil // sent again, or replayed
	case number > maxRuns(r.Invitation.Kind):
		p.log.Warn().Str("session", sessionID).Int("attempt", number).Msg("parameters of one attempt too many ignored")
		return nil
	}
	r.Attempt = number
	if r.Invitation.Reshare != nil {
		r.Generated, r.Epoch = "", 0 // of the attempt before
	}
	if err := p.write(ctx, r); err != nil {
		return err
	}
	run, stop := context.WithCancel(ctx)
	p.mu.Lock()
	if t.stop != nil {
		t.stop()
	}
	t.record.Attempt, t.record.Generated, t.record.Epoch = r.Attempt, r.Generated, r.Epoch
	t.stop, t.runs, t.over = stop, nil, false
	seqs := t.current()
	p.mu.Unlock()
	p.link.Release(seqs...)
	p.link.Drop(sessionID, number)

	a, err := check(r.Invitation)
	if err == nil {
		err = stillHolds(r.Invitation)
	}
	if err != nil {
		stop()
		p.giveUp(t, r.Invitation, number, err)
		return nil
	}
	p.tasks.Go(func() {
		defer stop()
		p.execute(run, t, a)
	})
	return nil
}

// giveUp ends the newest attempt, and says why.
func (p *participant) giveUp(t *task, inv Invitation, number int, err error) {
	p.mu.Lock()
	mine := t.record.Attempt == number && !t.over
	if mine {
		t.over, t.runs = true, nil
		t.keepLater(number)
		t.stop()
	}
	p.mu.Unlock()
	p.convict(inv, number, err)
	var moved *errMoved
	if mine && errors.As(err, &moved) {
		p.moved(inv, number, err)
	} else if mine {
		p.link.IdentityChanged(err, inv.Kind, inv.SessionID, inv.KeyID)
		p.failed(inv, number, err.Error(), culpritsOf(err))
	}
}

// execute runs an attempt from its preparation to its report. It ends early with
// ctx: when the session ends, a newer attempt begins, or the client stops.
func (p *participant) execute(ctx context.Context, t *task, a attempt) {
	if a.inv.Kind == request.KindReshare {
		p.executeReshare(ctx, t, a)
		return
	}
	run, err := p.prepare(ctx, t, a)
	if err == nil {
		defer run.Close()
		if source, ok := p.cfg.PreParams.(interface{ Busy(n int) }); ok {
			source.Busy(1)
			defer source.Busy(-1)
		}
		a.runs = map[int]*party.Run{a.inv.PartIndex: run}
		if !p.attach(t, a) {
			return // a newer attempt; ctx has ended
		}
		err = p.drive(ctx, t, a, run)
	}
	if err == nil && a.inv.Kind == request.KindKeygen {
		// An existing share is kept, even if the client stops at this moment.
		err = p.generated(context.WithoutCancel(ctx), t, a, run.Share())
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		p.giveUp(t, a.inv, a.number, err)
		return
	}
	if a.inv.Kind == request.KindSign {
		p.signed(t, a, run.Signature())
	}
}

// prepare makes the run, after all possible checks.
func (p *participant) prepare(ctx context.Context, t *task, a attempt) (*party.Run, error) {
	if a.inv.Kind == request.KindKeygen {
		return p.prepareKeygen(ctx, t, a)
	}
	return p.prepareSign(ctx, a)
}

func (p *participant) binding(a attempt) party.Binding {
	return party.Binding{
		SessionID: a.inv.SessionID, Attempt: a.number, KeyID: a.inv.KeyID, Curve: a.inv.Curve,
		Threshold: a.inv.Threshold, TotalParts: len(a.inv.Participants), Parties: a.members, Self: a.inv.PartIndex,
	}
}

func (p *participant) prepareKeygen(ctx context.Context, t *task, a attempt) (*party.Run, error) {
	if err := p.trust(a.members, a.inv.PartIndex); err != nil {
		return nil, err
	}
	cfg := party.KeygenConfig{Binding: p.binding(a), Identity: p.identity, Concurrency: p.cfg.Concurrency}
	if isSecp256k1(a.inv.Curve) {
		pre, err := p.takePreParams(ctx, t)
		if err != nil {
			return nil, err
		}
		cfg.PreParams = pre
	}
	return party.NewKeygen(cfg)
}

// trust checks the other parties' identities; package party compares this party's
// with its own.
func (p *participant) trust(members []identity.Member, self int) error {
	for _, m := range members {
		if m.Index == self {
			continue
		}
		if err := p.trusts(m.User, m.Identity); err != nil {
			return blame(m.Index, fmt.Errorf("%s (part %d) is not trusted: %w", m.User, m.Index, err))
		}
	}
	return nil
}

// local hides this machine's file paths from the others: an error of the file
// system is logged, and replaced by text.
func (p *participant) local(err error, text string) error {
	var file *fs.PathError
	if !errors.As(err, &file) {
		return err
	}
	p.log.Error().Err(err).Msg(text)
	return errors.New(text)
}

// takePreParams ends the Want that was announced when the invitation was accepted.
func (p *participant) takePreParams(ctx context.Context, t *task) (*preparams.Set, error) {
	p.mu.Lock()
	announced := t.wanting
	t.wanting = false // the end of the session has nothing left to release
	p.mu.Unlock()
	if !announced {
		p.cfg.PreParams.Want()
	}
	pre, err := p.cfg.PreParams.Take(ctx)
	if err != nil {
		p.cfg.PreParams.Release()
	}
	return pre, err
}

func (p *participant) prepareSign(ctx context.Context, a attempt) (*party.Run, error) {
	held, err := p.shareToSign(ctx, a)
	if err != nil {
		return nil, err
	}
	public := held.Public()
	a.inv.Curve, a.inv.Threshold = public.Curve, public.Threshold
	if a.inv, err = digested(a.inv); err != nil {
		return nil, err
	}
	if err := p.checkShare(a.inv, public); err != nil {
		return nil, err
	}
	if err := sameParties(public, a.members); err != nil {
		return nil, err
	}
	if err := p.trust(a.members, a.inv.PartIndex); err != nil {
		return nil, err
	}
	digest, err := pubkey.Decode(a.inv.Digest)
	if err != nil {
		return nil, err
	}
	b := p.binding(a)
	b.TotalParts, b.Epoch = public.TotalParts, public.Epoch
	return party.NewSign(party.SignConfig{
		Binding: b, Identity: p.identity, Share: held, Digest: digest, Concurrency: p.cfg.Concurrency,
	})
}

// sameParties refuses signers whose identity differs from the key generation.
func sameParties(held share.Public, signers []identity.Member) error {
	for _, m := range signers {
		if m.Index < 1 || m.Index > len(held.Parties) || held.Parties[m.Index-1].User != m.User {
			return fmt.Errorf("part %d of the key is not %s", m.Index, m.User)
		}
		if err := trust.SameIdentity(m.User, held.Parties[m.Index-1].Identity, m.Identity); err != nil {
			return blame(m.Index, err)
		}
	}
	return nil
}

// drive starts a run and carries its messages until it ends. Its error is the
// run's, or that others have been silent for too long.
func (p *participant) drive(ctx context.Context, t *task, a attempt, run *party.Run) error {
	if err := run.Start(); err != nil && !errors.Is(err, party.ErrEnded) {
		return err
	}
	if a.inv.Kind != request.KindReshare {
		p.link.Emit(Started{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, a.parts()})
	}
	silence := p.cfg.SignSilence
	if a.inv.Kind != request.KindSign {
		silence = p.cfg.KeygenSilence
	}
	watch := watch{since: time.Now()}
	tick := time.NewTicker(max(min(silence/20, 250*time.Millisecond), time.Millisecond))
	defer tick.Stop()
	out, done := run.Out(), run.Done()
	for out != nil || done != nil {
		select {
		case m, ok := <-out:
			if !ok {
				out = nil
				continue
			}
			p.relay(t, a, m)
		case <-done:
			done = nil
		case <-tick.C:
			if silent := watch.look(run, p.link.Connected(), time.Now()); silent > silence {
				waiting := run.Waiting()
				return &blamed{fmt.Errorf("no word from part %s for %s", wire.FormatParts(waiting), silence), waiting}
			}
			if watch.stuck() && !a.quiet {
				p.link.Emit(Waiting{
					a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, watch.round, watch.rounds, watch.waiting, a.users(watch.waiting),
				})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if watch.turned(run) && !a.quiet {
			p.link.Emit(Round{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, watch.round, watch.rounds})
		}
	}
	return run.Err()
}

// generated stores a new share, and only then reports it.
func (p *participant) generated(ctx context.Context, t *task, a attempt, held *share.Share) error {
	sealed, err := held.Seal(p.identity.Recipient())
	if err != nil {
		return err
	}
	if err := p.cfg.Shares.Put(ctx, sealed); err != nil {
		p.log.Error().Err(err).Str("session", a.inv.SessionID).Str("key", a.inv.KeyID).Msg("share not stored")
		return errors.New("the share could not be stored")
	}
	public := held.Public()
	attestation, err := held.Attest(p.identity, a.inv.SessionID, a.inv.Coordinator)
	if err != nil {
		return err
	}
	p.mu.Lock()
	t.record.Generated = public.AccountAddr
	t.over, t.runs = true, nil
	r := t.record
	p.mu.Unlock()
	if err := p.write(ctx, r); err != nil {
		// A restart would report a failure, not the share, which others may know by then.
		p.log.Error().Err(err).Str("session", a.inv.SessionID).Msg("stored share not noted")
	}
	p.complete(a.inv, public, sealed, attestation)
	p.link.Emit(Finished{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, public.AccountAddr})
	return nil
}

func (p *participant) complete(inv Invitation, public share.Public, sealed string, attestation statement.Attestation) {
	p.send(inv.SessionID, &wire.KeygenComplete{
		KeyID: inv.KeyID, PartIndex: public.PartIndex, AccountAddr: public.AccountAddr, ShareJSON: sealed,
		SessionID: inv.SessionID, PublicKey: public.PublicKey, Attestation: attestation.String(),
	}, nil)
}

func (p *participant) signed(t *task, a attempt, signature []byte) {
	p.mu.Lock()
	t.over, t.runs = true, nil
	p.mu.Unlock()
	p.send(a.inv.SessionID, &wire.SignResult{
		KeyID: a.inv.KeyID, PartIndex: a.inv.PartIndex, Signature: pubkey.Encode(signature), SessionID: a.inv.SessionID,
	}, nil)
	p.link.Emit(Finished{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, a.inv.AccountAddr})
}
