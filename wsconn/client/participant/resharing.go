package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// In an attempt of a reshare this party has a run for each of its places, one or two.
// Its new share is stored, pending, before this party attests it.

func (p *participant) reshareParams(ctx context.Context, m *wire.ReshareParams) error {
	return p.begin(ctx, m.SessionID, m.Attempt, func(inv Invitation) (attempt, error) {
		a, err := checkReshareParams(inv, m)
		if err == nil {
			err = p.takeNumber(ctx, inv, m.Epoch)
		}
		return a, err
	})
}

// checkReshareParams returns the parties of an attempt, by place.
func checkReshareParams(inv Invitation, m *wire.ReshareParams) (attempt, error) {
	r := inv.Reshare
	a := attempt{inv: inv, number: m.Attempt, epoch: m.Epoch}
	same := r != nil && m.KeyID == inv.KeyID && m.From.Epoch == r.From.Epoch && m.From.Threshold == r.From.Threshold && m.From.TotalParts == r.old() &&
		m.To.Threshold == r.To.Threshold && m.To.TotalParts == len(r.To.Members) && len(m.To.Parties) == len(r.To.Members) &&
		m.Certificate == r.Parent
	if !same {
		return a, errDiffer
	}
	quorum, _, err := membersOf(m.From.Parties)
	if err != nil {
		return a, err
	}
	for _, member := range quorum {
		if member.Index < 1 || member.Index > r.old() || r.From.Members[member.Index-1].User != member.User {
			return a, errDiffer
		}
	}
	for i, party := range m.To.Parties {
		if want := r.To.Members[i]; party.PartIndex != i+1 || party.UserID != want.User || party.Identity != want.Identity {
			return a, errDiffer
		}
	}
	members, err := r.members()
	if err != nil {
		return a, err
	}
	a.members = quorum
	for _, member := range members {
		member.Index += r.old()
		a.members = append(a.members, member)
	}
	for _, place := range m.Places {
		if !slices.Contains(r.Places, place) {
			return a, errors.New("the parameters give this party a place with which it takes no part")
		}
	}
	if len(m.Places) == 0 || r.newPlace() > 0 && !slices.Contains(m.Places, r.newPlace()) {
		return a, errors.New("the parameters leave this party out")
	}
	a.places = slices.Sorted(slices.Values(m.Places))
	return a, nil
}

// takeNumber records, before an attempt begins, that its number is used. No consent is
// given for a lower one from then on.
func (p *participant) takeNumber(ctx context.Context, inv Invitation, number int) error {
	ref := inv.ref()
	k, err := p.keyEpochs(ctx, ref)
	if err != nil {
		return err
	}
	switch current := k.current(); {
	case current > inv.Reshare.From.Epoch:
		return &errMoved{inv.Reshare.From.Epoch, current}
	case number <= inv.Reshare.From.Epoch || number > max(k.numbers.Highest, inv.Reshare.From.Epoch)+maxNumberLead:
		return fmt.Errorf("epoch number %d is not possible after %d", number, max(k.numbers.Highest, inv.Reshare.From.Epoch))
	}
	_, err = p.cfg.Epochs.Numbers(context.WithoutCancel(ctx), ref.id, ref.address, func(n *Numbers) error {
		if err := n.See(number); err != nil {
			return err
		}
		n.GiveUp(number - 1)
		return nil
	})
	return p.local(err, "the epoch number cannot be noted")
}

// executeReshare runs an attempt of a reshare, as execute does others.
func (p *participant) executeReshare(ctx context.Context, t *task, a attempt) {
	runs, err := p.prepareReshare(ctx, t, a)
	defer func() {
		for _, run := range runs {
			run.Close()
		}
	}()
	if err == nil {
		if source, ok := p.cfg.PreParams.(interface{ Busy(n int) }); ok {
			source.Busy(1)
			defer source.Busy(-1)
		}
		a.runs = runs
		a.inv.PartIndex, err = p.driveAll(ctx, t, a)
	}
	place := a.inv.Reshare.newPlace()
	if run := runs[place]; err == nil && run != nil {
		a.inv.PartIndex = place
		err = p.reshared(context.WithoutCancel(ctx), t, a, run.Share())
	} else if err == nil && ctx.Err() == nil {
		p.given(ctx, t, a)
	}
	if ctx.Err() == nil && err != nil {
		p.giveUp(t, a.inv, a.number, err)
	}
}

// driveAll drives all runs of an attempt, until all have ended or one has failed. It
// returns the place of the one that has.
func (p *participant) driveAll(ctx context.Context, t *task, a attempt) (place int, err error) {
	if !p.attach(t, a) {
		return a.places[0], context.Canceled // a newer attempt; ctx has ended
	}
	p.link.Emit(Started{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, a.parts()})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex
	var all sync.WaitGroup
	place = a.places[len(a.places)-1]
	for _, at := range a.places {
		mine := a
		mine.inv.PartIndex, mine.quiet = at, at != a.places[len(a.places)-1]
		all.Go(func() {
			failed := p.drive(ctx, t, mine, a.runs[at])
			mu.Lock()
			defer mu.Unlock()
			if failed != nil && err == nil {
				place, err = at, failed
				stop()
			}
		})
	}
	all.Wait()
	return place, err
}

// prepareReshare makes the runs of an attempt by place, after all possible checks.
func (p *participant) prepareReshare(ctx context.Context, t *task, a attempt) (map[int]*party.Run, error) {
	inv, r := a.inv, a.inv.Reshare
	held, err := p.openEpoch(ctx, inv.ref(), r.From.Epoch)
	if err != nil {
		return nil, err
	}
	parent, err := statement.ParseHash(r.Parent)
	if err != nil {
		return nil, err
	}
	if err := p.checkOld(a, held); err != nil {
		return nil, err
	}
	cfg := party.ReshareConfig{
		Identity: p.identity, Share: held, Concurrency: p.cfg.Concurrency,
		Binding: party.ReshareBinding{
			SessionID: inv.SessionID, Attempt: a.number, KeyID: inv.KeyID, Curve: inv.Curve, Epoch: a.epoch,
			From:      statement.From{Epoch: r.From.Epoch, Threshold: r.From.Threshold, TotalParts: r.old(), Certificate: parent},
			Threshold: r.To.Threshold, TotalParts: len(r.To.Members), Parties: a.members, PublicKey: r.PublicKey,
		},
	}
	if k, err := p.keyEpochs(ctx, inv.ref()); err == nil && k.lineage != nil && k.lineage.Head().Hash() == parent && len(k.lineage.Epoch().Points) > 0 {
		cfg.OldPoints = k.lineage.Epoch().Points
	}
	runs := map[int]*party.Run{}
	for _, place := range a.places {
		mine := cfg
		mine.Binding.Self = place
		if place > r.old() && isSecp256k1(inv.Curve) {
			if mine.PreParams, err = p.takePreParams(ctx, t); err != nil {
				return runs, err
			}
		}
		if runs[place], err = party.NewReshare(mine); err != nil {
			delete(runs, place)
			return runs, err
		}
	}
	return runs, nil
}

// checkOld compares the old members of an attempt with this party's share. Without one
// they must be those known here.
func (p *participant) checkOld(a attempt, held *share.Share) error {
	r := a.inv.Reshare
	var old []identity.Member
	for _, m := range a.members {
		if m.Index <= r.old() {
			old = append(old, m)
		}
	}
	if held != nil {
		return sameParties(held.Public(), old)
	}
	if slices.Contains(a.places, r.oldPlace()) && r.oldPlace() > 0 {
		return errors.New("there is no share of the old epoch here")
	}
	return p.trust(old, 0)
}

// openEpoch opens the share of an epoch, nil if it is not here.
func (p *participant) openEpoch(ctx context.Context, ref keyRef, epoch int) (*share.Share, error) {
	text, err := p.cfg.Epochs.GetEpoch(ctx, ref.id, ref.address, epoch)
	if errors.Is(err, ErrNoShare) {
		return nil, nil
	}
	if err != nil {
		return nil, p.local(err, "the share store cannot be read")
	}
	return share.Open(text, p.identity)
}

// reshared stores a new share, pending, and only then attests and reports it.
func (p *participant) reshared(ctx context.Context, t *task, a attempt, held *share.Share) error {
	sealed, err := held.Seal(p.identity.Recipient())
	if err != nil {
		return err
	}
	if err := p.cfg.Shares.Put(ctx, sealed); err != nil {
		p.log.Error().Err(err).Str("session", a.inv.SessionID).Str("key", a.inv.KeyID).Msg("share not stored")
		return errors.New("the share could not be stored")
	}
	r, newest := p.conclude(ctx, t, a, func(r *Record) { r.Generated, r.Epoch = a.inv.AccountAddr, a.epoch })
	if !newest {
		return nil // the share stays pending
	}
	if err := p.attest(r, held, sealed); err != nil {
		return err
	}
	p.link.Emit(Finished{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, a.inv.AccountAddr})
	return nil
}

// conclude records the end of this party's part in an attempt. It reports false, and
// changes nothing, if the attempt was given up or another one has begun.
func (p *participant) conclude(ctx context.Context, t *task, a attempt, change func(*Record)) (r Record, newest bool) {
	t.writing.Lock()
	defer t.writing.Unlock()
	p.mu.Lock()
	if t.record.Attempt != a.number || t.over {
		p.mu.Unlock()
		return Record{}, false
	}
	change(&t.record)
	t.over, t.runs = true, nil
	r = t.record
	p.mu.Unlock()
	if err := p.write(ctx, r); err != nil {
		// A restart would report a failure, not the share, which others may know by then.
		p.log.Error().Err(err).Str("session", a.inv.SessionID).Msg("end of the attempt not noted")
	}
	return r, true
}

// attest signs the statement about a stored share and reports it.
func (p *participant) attest(r Record, held *share.Share, sealed string) error {
	inv := r.Invitation
	parent, err := statement.ParseHash(inv.Reshare.Parent)
	if err != nil {
		return err
	}
	e, err := held.Epoch(inv.SessionID, inv.Coordinator, &statement.Parent{Number: inv.Reshare.From.Epoch, Hash: parent}, inv.Reshare.Origin, "")
	if err != nil {
		return err
	}
	text, err := e.Marshal()
	if err != nil {
		return err
	}
	attestation, err := e.Attest(p.identity)
	if err != nil {
		return err
	}
	p.send(inv.SessionID, &wire.ReshareComplete{
		KeyID: inv.KeyID, SessionID: inv.SessionID, Attempt: r.Attempt, Epoch: e.Number, PartIndex: held.Public().PartIndex,
		AccountAddr: inv.AccountAddr, ShareJSON: sealed, Statement: string(text), Attestation: attestation,
	}, nil)
	return nil
}

// given ends an attempt in which this party has given its old share and gets no new one.
func (p *participant) given(ctx context.Context, t *task, a attempt) {
	if _, newest := p.conclude(ctx, t, a, func(r *Record) { r.Gave = a.number }); !newest {
		return
	}
	p.link.Emit(Finished{a.inv.Kind, a.inv.SessionID, a.inv.KeyID, a.number, a.inv.AccountAddr})
}

// resumeReshare continues an accepted reshare of which an attempt had begun.
func (p *participant) resumeReshare(ctx context.Context, t *task, r Record) {
	t.over = true
	inv := r.Invitation
	switch {
	case r.Generated != "":
		held, err := p.openEpoch(ctx, inv.ref(), r.Epoch)
		if err == nil && held == nil {
			err = ErrNoShare
		}
		var sealed string
		if err == nil {
			sealed, err = p.cfg.Epochs.GetEpoch(ctx, inv.KeyID, inv.AccountAddr, r.Epoch)
		}
		if err == nil {
			err = p.attest(r, held, sealed)
		}
		if err != nil {
			p.log.Error().Err(err).Str("session", inv.SessionID).Str("key", inv.KeyID).Msg("stored share cannot be reported")
			p.failed(inv, r.Attempt, "the share it had made cannot be read", nil)
		}
	case r.Gave != r.Attempt:
		p.failed(inv, r.Attempt, "restarted", nil)
	}
}
