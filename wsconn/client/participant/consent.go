package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A member of the old committee consents last: when all members of the new one have
// attested their shares. Its consent is written before it is sent.

// pendingConsent is a statement whose consent waits for the certificate of the old
// epoch, or for the server to take it.
type pendingConsent struct {
	seq  uint64 // of the mailbox: a restart gets it again
	m    *wire.ReshareAttested
	sent bool // the consent is on its way
}

// attestedBy handles the statement that the new members have attested. The error is the
// store's.
func (p *participant) attestedBy(ctx context.Context, seq uint64, m *wire.ReshareAttested) error {
	t := p.find(m.SessionID)
	if t == nil {
		p.log.Debug().Str("session", m.SessionID).Msg("statement of no open session ignored")
		return nil
	}
	p.switching.Lock()
	defer p.switching.Unlock()
	return p.consent(ctx, t, pendingConsent{seq: seq, m: m})
}

// errNoLineage says that the certificate of the old epoch is not here yet.
var errNoLineage = errors.New("the certificate of the old epoch is not here")

// consent answers a statement, or keeps it until the certificate of the old epoch has
// come. The error is the store's. p.switching is held.
func (p *participant) consent(ctx context.Context, t *task, c pendingConsent) error {
	p.mu.Lock()
	r := t.record
	p.mu.Unlock()
	e, committee, err := p.checkAttested(ctx, r, c.m)
	if errors.Is(err, errNoLineage) {
		p.link.Hold(c.seq)
		p.mu.Lock()
		before := t.attested
		t.attested = &c
		p.mu.Unlock()
		if before != nil && before.seq != c.seq {
			p.link.Release(before.seq)
		}
		p.fetch(c.m.KeyID, 0)
		return nil
	}
	log := p.log.With().Str("session", c.m.SessionID).Str("key", c.m.KeyID).Int("epoch", c.m.Epoch).Logger()
	if err == nil {
		_, err = p.cfg.Epochs.Numbers(context.WithoutCancel(ctx), c.m.KeyID, r.Invitation.AccountAddr, func(n *Numbers) error {
			return n.Consent(e.Number, e.Hash())
		})
		if err != nil && !errors.Is(err, ErrNumberUsed) {
			return fmtJournal(err)
		}
	}
	var text string
	if err == nil {
		text, err = e.Consent(p.identity, committee)
	}
	if err != nil {
		p.mu.Lock()
		if t.attested != nil && t.attested.seq == c.seq {
			t.attested = nil
		}
		p.mu.Unlock()
		p.link.Release(c.seq)
		log.Warn().Err(err).Msg("no consent")
		p.link.Emit(Failed{
			Kind: r.Invitation.Kind, SessionID: c.m.SessionID, KeyID: c.m.KeyID, Attempt: c.m.Attempt, Reason: "no consent: " + err.Error(),
		})
		return nil
	}
	p.sendConsent(t, c, &wire.ReshareConsent{
		KeyID: c.m.KeyID, SessionID: c.m.SessionID, Epoch: e.Number, PartIndex: p.member(committee), AttestationsHash: e.Hash().String(), Sig: text,
	})
	return nil
}

// sendConsent sends a consent, and has the mailbox keep its statement until the server
// has taken it.
func (p *participant) sendConsent(t *task, c pendingConsent, m *wire.ReshareConsent) {
	p.link.Hold(c.seq)
	c.sent = true
	p.mu.Lock()
	before := t.attested
	t.attested = &c
	p.mu.Unlock()
	if before != nil && before.seq != c.seq {
		p.link.Release(before.seq)
	}
	p.send(c.m.SessionID, m, func(_ wire.Ack, e *wire.Error) {
		if e != nil && !errors.Is(e, errEnded) {
			p.log.Warn().Err(e).Str("session", c.m.SessionID).Msg("consent refused")
		}
		p.link.Release(c.seq)
	})
}

// consentAgain answers the statements of a key that have waited for a certificate.
// p.switching is held.
func (p *participant) consentAgain(ctx context.Context, ref keyRef) {
	type waits struct {
		t *task
		c pendingConsent
	}
	var list []waits
	p.mu.Lock()
	for _, t := range p.sessions {
		if t.attested != nil && t.record.Invitation.ref() == ref && !t.attested.sent {
			list = append(list, waits{t, *t.attested})
		}
	}
	p.mu.Unlock()
	for _, w := range list {
		if err := p.consent(ctx, w.t, w.c); err != nil {
			p.log.Error().Err(err).Str("key", ref.id).Msg("consent cannot be noted")
		}
	}
}

// checkAttested compares a statement with the accepted request, and verifies the
// attestations. It returns the new epoch and the old one, whose committee consents.
func (p *participant) checkAttested(ctx context.Context, rec Record, m *wire.ReshareAttested) (e, committee *statement.Epoch, err error) {
	inv, r := rec.Invitation, rec.Invitation.Reshare
	if rec.Answer != Accepted || r == nil || r.oldPlace() == 0 || m.KeyID != inv.KeyID {
		return nil, nil, errors.New("this party takes no part with an old share")
	}
	if e, err = statement.ParseEpoch([]byte(m.Statement)); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(checkStatement(inv, e), stillHolds(inv)); err != nil {
		return nil, nil, err
	}
	if e.Number != m.Epoch {
		return nil, nil, fmt.Errorf("the statement is of epoch %d, not %d", e.Number, m.Epoch)
	}
	if err := e.VerifyAttestations(m.Attestations); err != nil {
		return nil, nil, err
	}
	ref := inv.ref()
	k, err := p.keyEpochs(ctx, ref)
	switch current := k.currentOr(err); {
	case err != nil:
		return nil, nil, err
	case current > r.From.Epoch:
		return nil, nil, &errMoved{r.From.Epoch, current}
	case k.lineage == nil || current < r.From.Epoch:
		return nil, nil, errNoLineage
	case k.lineage.Head().Hash() != e.Parent.Hash:
		return nil, nil, errors.New("the statement follows another certificate than the one held here")
	case e.Number > max(k.numbers.Highest, r.From.Epoch)+maxNumberLead:
		return nil, nil, fmt.Errorf("epoch number %d is too far above %d", e.Number, k.numbers.Highest)
	}
	committee = k.lineage.Epoch()
	if e.Origin != committee.Origin || e.ChainCode != committee.ChainCode {
		return nil, nil, errors.New("the key's origin or chain code has changed")
	}
	if p.member(committee) == 0 {
		return nil, nil, errors.New("this party is no member of the old committee")
	}
	if p.member(e) > 0 { // its own attestation is among them: the share must be here
		if err := p.reread(ctx, ref, e); err != nil {
			return nil, nil, fmt.Errorf("the own new share: %w", err)
		}
	}
	return e, committee, nil
}

// currentOr is current of a key that could be read.
func (k *keyEpochs) currentOr(err error) int {
	if err != nil {
		return 0
	}
	return k.current()
}

// checkStatement compares a statement with the request that was accepted.
func checkStatement(inv Invitation, e *statement.Epoch) error {
	r := inv.Reshare
	members, err := r.members()
	if err != nil {
		return err
	}
	parent, err := statement.ParseHash(r.Parent)
	if err != nil {
		return err
	}
	same := e.KeyID == inv.KeyID && e.SessionID == inv.SessionID && e.Curve == inv.Curve && e.AccountAddr == inv.AccountAddr &&
		e.PublicKey == r.PublicKey && e.Coordinator == inv.Coordinator && e.Threshold == r.To.Threshold &&
		e.Parent != nil && *e.Parent == (statement.Parent{Number: r.From.Epoch, Hash: parent}) &&
		slices.EqualFunc(e.Members, members, func(a, b identity.Member) bool { return a == b })
	if !same {
		return errors.New("the statement differs from the request that was approved")
	}
	return nil
}
