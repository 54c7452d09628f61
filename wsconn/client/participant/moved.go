package participant

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A signing is under one epoch of its key. Nothing is signed under an epoch that a later
// certificate held here has followed; the server is told of it. Under a later epoch than
// the one here nothing is signed before its certificate has come.

// epoch is the epoch under which a signing is asked for.
func (inv Invitation) epoch() int { return max(inv.Epoch, 1) }

// checkEpochOf refuses an invitation to sign under an epoch that is over, and asks for
// the certificates of one that is not known here.
func (p *participant) checkEpochOf(ctx context.Context, inv Invitation) error {
	k, err := p.keyEpochs(ctx, inv.ref())
	if err != nil {
		return err
	}
	switch current := k.current(); {
	case current > inv.epoch():
		return &errMoved{inv.epoch(), current}
	case p.cfg.Epochs != nil && current < inv.epoch() && inv.epoch() > 1:
		p.fetch(inv.KeyID, 0)
	}
	return nil
}

// sealedShare returns the share of an invitation's epoch; it may be pending.
func (p *participant) sealedShare(ctx context.Context, inv Invitation) (string, error) {
	if p.cfg.Epochs == nil {
		return p.cfg.Shares.Get(ctx, inv.KeyID, inv.AccountAddr)
	}
	return p.cfg.Epochs.GetEpoch(ctx, inv.KeyID, inv.AccountAddr, inv.epoch())
}

// certificateWait is how long an attempt waits for the certificate of its epoch.
const certificateWait = 10 * time.Second

// shareToSign opens the share with which an attempt signs: the one here, or the sealed
// copy that the server has sent.
func (p *participant) shareToSign(ctx context.Context, a attempt) (*share.Share, error) {
	k, err := p.awaitEpoch(ctx, a)
	if err != nil {
		return nil, err
	}
	sealed, err := p.sealedShare(ctx, a.inv)
	copied := errors.Is(err, ErrNoShare)
	if copied {
		if sealed, err = a.share, nil; sealed == "" {
			err = errors.New("there is no share of the key here")
		}
	}
	if err != nil {
		return nil, p.local(err, "the share store cannot be read")
	}
	held, err := share.Open(sealed, p.identity)
	if err != nil || k.lineage == nil || a.epoch == 1 {
		return held, err
	}
	if err := held.CheckEpoch(k.lineage.Epoch()); err != nil {
		return nil, err
	}
	if copied { // of a certified epoch, and checked with its certificate
		p.switching.Lock()
		defer p.switching.Unlock()
		if err := p.cfg.Shares.Put(ctx, sealed); err != nil {
			return nil, p.local(err, "the share could not be stored")
		}
		p.promote(ctx, a.inv.ref())
	}
	return held, nil
}

// awaitEpoch waits until the epoch of an attempt is the current one here. If the key has
// moved on, the error is an errMoved.
func (p *participant) awaitEpoch(ctx context.Context, a attempt) (*keyEpochs, error) {
	late := time.NewTimer(certificateWait)
	defer late.Stop()
	for {
		p.mu.Lock()
		news := p.news
		p.mu.Unlock()
		k, err := p.keyEpochs(ctx, a.inv.ref())
		if err != nil {
			return nil, err
		}
		current := k.current()
		switch {
		case current > a.epoch:
			return nil, &errMoved{a.epoch, current}
		case p.cfg.Epochs == nil || a.epoch == 1:
			return k, nil
		case current == a.epoch && a.certificate != "" && k.lineage.Current().Hash().String() != a.certificate:
			return nil, errors.New("the key's epoch has another certificate here")
		case current == a.epoch:
			return k, nil
		}
		p.fetch(a.inv.KeyID, 0)
		select {
		case <-news:
		case <-late.C:
			return nil, fmt.Errorf("the certificate of epoch %d of the key is not here", a.epoch)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// moved reports that an attempt was not begun because its key has moved to a later
// epoch. Nobody is to blame.
func (p *participant) moved(inv Invitation, attempt int, err error) {
	m := &wire.PartyFailed{SessionID: inv.SessionID, Attempt: attempt, PartIndex: inv.PartIndex, Reason: oneLine(err.Error(), wire.MaxReasonBytes), Moved: true}
	if k, err := p.keyEpochs(context.Background(), inv.ref()); err == nil {
		m.Certificate = k.certificate()
	}
	p.send(inv.SessionID, m, nil)
	p.link.Emit(Failed{Kind: inv.Kind, SessionID: inv.SessionID, KeyID: inv.KeyID, Attempt: attempt, Reason: m.Reason})
}

// behind answers an invitation under an epoch that is over with the certificate of the
// one that counts. It is not recorded: the session continues under that one.
func (p *participant) behind(inv Invitation, err error) {
	if !p.mayRespond() {
		return
	}
	reason := oneLine(err.Error(), wire.MaxReasonBytes)
	if inv.Kind == request.KindReshare {
		p.send(inv.SessionID, p.reshareResponse(inv, false, reason), nil)
		return
	}
	k, err := p.keyEpochs(context.Background(), inv.ref())
	if err != nil {
		return
	}
	no := false
	p.send(inv.SessionID, &wire.SignResponse{
		KeyID: inv.KeyID, PartIndex: inv.PartIndex, Response: &no, SessionID: inv.SessionID, Reason: reason, Certificate: k.certificate(),
	}, nil)
}

// movesOn reports whether an invitation continues a recorded signing under a later epoch
// of its key, with that one's committee.
func movesOn(inv Invitation, r Record) bool {
	return inv.Kind == request.KindSign && !r.Ended && r.Answer != Declined && inv.epoch() > r.Invitation.epoch()
}

// sameRequest reports whether an answer to one invitation answers the other one: all but
// the epoch and its committee is the same.
func sameRequest(a, b Invitation) bool {
	return a.KeyID == b.KeyID && a.Coordinator == b.Coordinator && a.AccountAddr == b.AccountAddr && a.Data == b.Data && a.Hash == b.Hash &&
		a.Digest == b.Digest && a.MinEpoch == b.MinEpoch && a.SignedRequest == b.SignedRequest
}

// acceptAgain repeats the agreement to a signing that continues under a later epoch. The
// error is the journal's.
func (p *participant) acceptAgain(ctx context.Context, inv, checked Invitation) error {
	t := p.find(inv.SessionID)
	if t == nil {
		return nil
	}
	p.mu.Lock()
	t.record.Invitation = inv
	r := t.record
	p.mu.Unlock()
	if err := p.write(ctx, r); err != nil {
		return err
	}
	p.answer(checked, true, "", nil)
	return nil
}

// resumeEpochs finishes what an earlier process may have left: shares of epochs that are
// over, and pending ones whose certificate it has missed.
func (p *participant) resumeEpochs(ctx context.Context, records []Record) error {
	if p.cfg.Epochs == nil {
		return nil
	}
	list, err := p.cfg.Shares.List(ctx)
	if err != nil {
		return fmt.Errorf("read shares: %w", err)
	}
	refs := map[keyRef]bool{}
	for _, s := range list {
		refs[keyRef{s.KeyID, s.AccountAddr}] = true
	}
	for _, r := range records {
		if r.Invitation.Reshare != nil && r.Answer == Accepted {
			refs[r.Invitation.ref()] = true
		}
	}
	p.switching.Lock()
	defer p.switching.Unlock()
	for ref := range refs {
		k, err := p.keyEpochs(ctx, ref)
		if err != nil {
			return err
		}
		if k.pending() {
			p.fetch(ref.id, 0)
		}
		p.promote(ctx, ref)
	}
	return nil
}
