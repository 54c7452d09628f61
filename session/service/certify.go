package service

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// certificateOf returns the certificate of a key's epoch; nil if there is none: an epoch
// 1 whose parties have not all attested it, or a number that is not certified here.
func (v *Service) certificateOf(ctx context.Context, keyID string, epoch int) (*statement.Certificate, error) {
	list, err := v.cfg.Store.Lineage(ctx, keyID, epoch-1, 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 1 && list[0].Number == epoch {
		c, err := statement.ParseCertificate(list[0].Text)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of key %s: %w", epoch, keyID, err)
		}
		return c, nil
	}
	if epoch != 1 {
		return nil, nil
	}
	k, err := v.cfg.Store.Key(ctx, keyID)
	if err != nil || k.Epoch > 1 {
		return nil, err
	}
	return v.firstCertificate(ctx, k)
}

// certify makes the certificate of a reshare that has all consents the key's, and
// completes the session.
func (v *Service) certify(ctx context.Context, s session.Session) (_ session.Session, err error) {
	ctx, done := v.cfg.Tracer.Begin(ctx, s.ID, partCertify)
	defer func() { done(err) }()
	c := s.Certificate()
	if c == nil {
		return s, nil
	}
	k, err := v.install(ctx, s.KeyID, c)
	switch {
	case errors.Is(err, errNotCertified), errors.Is(err, ErrNotFound):
		withSession(s, v.log.Error()).Err(err).Msg("certificate not accepted")
		return v.advance(ctx, change{target: target{id: s.ID}, ev: session.KeyLost{}})
	case err != nil:
		return s, err
	}
	v.moveSignings(ctx, k)
	return v.advance(ctx, change{target: target{id: s.ID}, ev: session.KeyStored{}})
}

// errNotCertified says that a certificate does not follow one that is known here, or is
// not valid.
var errNotCertified = errors.New("session: certificate not accepted")

// install verifies a certificate and makes it the key's if it counts more than the
// present one, any number of times. It returns the key's record after it.
// errNotCertified.
func (v *Service) install(ctx context.Context, keyID string, c *statement.Certificate) (session.Key, error) {
	for range commitTries {
		k, err := v.cfg.Store.Key(ctx, keyID)
		switch {
		case err != nil:
			return k, err
		case k.Status != session.KeyActive || c.Epoch.KeyID != k.ID || c.Epoch.Parent == nil:
			return k, errNotCertified
		case k.Epoch == c.Number() && k.Certificate == c.Hash().String():
			return k, nil
		}
		parent, err := v.certificateOf(ctx, k.ID, c.Epoch.Parent.Number)
		if err != nil {
			return k, err
		}
		if parent == nil {
			return k, fmt.Errorf("%w: number %d, which it follows, is not known here", errNotCertified, c.Epoch.Parent.Number)
		}
		if err := c.Verify(parent); err != nil {
			return k, fmt.Errorf("%w: %w", errNotCertified, err)
		}
		counts, err := v.counts(ctx, k, c)
		if err != nil || !counts {
			return k, err
		}
		next, err := v.store(ctx, k, parent, c)
		if !errors.Is(err, ErrStale) {
			return next, err
		}
	}
	return session.Key{}, fmt.Errorf("certify epoch %d of %s: lost %d races: %w", c.Number(), keyID, commitTries, ErrUnavailable)
}

// counts reports whether a verified certificate would be the key's among all that are
// known. At a fork the order of the siblings decides, not what follows them.
func (v *Service) counts(ctx context.Context, k session.Key, c *statement.Certificate) (bool, error) {
	if c.Epoch.Parent.Number == k.Epoch {
		return true, nil
	}
	texts, err := v.cfg.Store.Lineage(ctx, k.ID, 0, wire.MaxEpoch)
	if err != nil {
		return false, err
	}
	list := []*statement.Certificate{c}
	for _, t := range texts {
		known, err := statement.ParseCertificate(t.Text)
		if err != nil {
			return false, fmt.Errorf("certificate %d of key %s: %w", t.Number, k.ID, err)
		}
		list = append(list, known)
	}
	best, err := statement.Head(list)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errNotCertified, err)
	}
	return best.Epoch().Hash() == c.Hash(), nil
}

// store writes a certificate that is now the key's.
func (v *Service) store(ctx context.Context, k session.Key, parent, c *statement.Certificate) (session.Key, error) {
	now, err := v.cfg.Store.Now(ctx)
	if err != nil {
		return k, err
	}
	e, next := c.Epoch, k
	next.Epoch, next.Highest, next.Threshold, next.Certificate, next.Origin = e.Number, max(k.Highest, e.Number), e.Threshold, c.Hash().String(), e.Origin
	next.PublicKey, next.Participants = e.PublicKey, nil
	for _, m := range e.Members {
		next.Participants = append(next.Participants, m.User)
	}
	if next.ShareBytes, err = v.cfg.Store.ShareBytes(ctx, k.ID, e.Number, len(e.Members)); err != nil {
		return k, err
	}
	record := session.Epoch{
		Number: e.Number, Parent: e.Parent.Number, Threshold: e.Threshold, Participants: next.Participants, Session: e.SessionID,
		Certificate: next.Certificate, CertifiedAt: now,
	}
	made := Certification{Key: next, Certificates: []Certificate{{e.Number, c.String()}}}
	if parent.Number() == 1 && k.Epoch == 1 { // nothing of epochs is stored yet
		first := k.FirstEpoch()
		first.Certificate = parent.Hash().String()
		made.Epochs = append(made.Epochs, first)
		made.Certificates = append(made.Certificates, Certificate{1, parent.String()})
	}
	record.Bytes = next.KeyBytes(next.ShareBytes) - k.KeyBytes(k.ShareBytes)
	for _, text := range made.Certificates {
		record.Bytes += session.Allocated(len(text.Text))
	}
	made.Epochs = append(made.Epochs, record)
	err = v.cfg.Store.Certify(ctx, made)
	return next, err
}

// moveSignings moves the open signings of a key that have no running attempt to its
// epoch. A signing that is not reached is moved when one of its signers says that it
// has stopped.
func (v *Service) moveSignings(ctx context.Context, k session.Key) {
	_, open, _, err := v.cfg.Store.Signings(ctx, k.ID)
	if err != nil {
		v.log.Warn().Err(err).Str("key", k.ID).Msg("open signings not read")
		return
	}
	for _, o := range open {
		if _, err := v.advance(ctx, change{target: target{id: o.SessionID}, ev: session.Moved{Key: k}}); err != nil && !errors.Is(err, ErrNotFound) {
			v.log.Warn().Err(err).Str("session", o.SessionID).Str("key", k.ID).Msg("open signing not moved to the key's new epoch")
		}
	}
}

// bring installs the certificate, empty for none, that a member of s has sent, and
// returns the key's record after it. One that cannot be verified here is ignored.
func (v *Service) bring(ctx context.Context, s session.Session, text string) (session.Key, error) {
	k, err := v.cfg.Store.Key(ctx, s.KeyID)
	if err != nil || text == "" {
		return k, err
	}
	c, err := statement.ParseCertificate(text)
	if err != nil {
		return k, wire.Errorf(wire.CodeBadRequest, "certificate: %s", err)
	}
	if limit := wire.CertificateLimit(len(c.Epoch.Members), len(s.Parties)); len(text) > limit && len(text) > wire.CertificateLimit(v.cfg.MaxParties, v.cfg.MaxParties) {
		return k, wire.Errorf(wire.CodeTooLarge, "certificate is longer than %d bytes", limit)
	}
	next, err := v.install(ctx, s.KeyID, c)
	switch {
	case errors.Is(err, errNotCertified):
		withSession(s, v.log.Warn()).Err(err).Int("epoch", c.Number()).Msg("certificate of a member not accepted")
		return k, nil
	case err != nil:
		return k, err
	}
	if next.Epoch > k.Epoch {
		v.moveSignings(ctx, next)
	}
	return next, nil
}

// respondSigning takes an answer to an invitation to sign. One that comes with the
// certificate of a later epoch moves the signing instead: its sender is asked again.
func (v *Service) respondSigning(ctx context.Context, c Caller, p *wire.SignResponse) (session.Session, error) {
	a := &answer{p.KeyID, p.PartIndex, p.Response, p.SessionID, p.Reason}
	if p.Certificate == "" || p.SessionID == "" || !c.has(wire.RoleParticipant) {
		return v.respond(ctx, c, session.Sign, a)
	}
	s, err := v.loadFor(ctx, c, p.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	k, err := v.bring(ctx, s, p.Certificate)
	if err != nil {
		return session.Session{}, err
	}
	if k.Epoch > max(s.Epoch, 1) && len(s.Signers) == 0 {
		return v.advance(ctx, change{target: target{id: s.ID}, by: &c, keyID: p.KeyID, ev: session.Moved{Key: k}})
	}
	return v.respond(ctx, c, session.Sign, a)
}

// partyMoved takes a party's report that its key is in a later epoch than its attempt.
func (v *Service) partyMoved(ctx context.Context, c Caller, p *wire.PartyFailed) (session.Session, error) {
	s, err := v.loadFor(ctx, c, p.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	k, err := v.bring(ctx, s, p.Certificate)
	if err != nil {
		return session.Session{}, err
	}
	from := max(s.Epoch, 1)
	if s.Kind.MakesEpoch() {
		from = s.FromEpoch
	}
	var ev session.Event = session.PartyFailed{From: c.User, Party: p.PartIndex, Attempt: p.Attempt, Reason: p.Reason, Moved: true}
	if k.Epoch > from && !(s.Kind.MakesEpoch() && k.Epoch == s.Epoch) {
		stopped := p.Attempt
		if stopped == 0 {
			stopped = s.Attempt
		}
		ev = session.Moved{Key: k, From: c.User, Party: p.PartIndex, Stopped: stopped}
	}
	return v.advance(ctx, change{target: target{id: s.ID}, by: &c, ev: ev})
}

// sendCertificates puts the certificates that follow one into the mailbox of a member
// who asks for them, the lowest first.
func (v *Service) sendCertificates(ctx context.Context, c Caller, m wire.Message, p *wire.CertificateGet) (wire.Payload, error) {
	list, err := v.Lineage(ctx, c, p.KeyID, p.Epoch, mostCertificates)
	if err != nil {
		return nil, err
	}
	deliveries := make([]Delivery, len(list))
	for i, one := range list {
		frame, err := wire.Frame(c.User, &wire.EpochCertified{KeyID: p.KeyID, Epoch: one.Number, Certificate: one.Text}, m.RequestID)
		if err != nil {
			return nil, err
		}
		deliveries[i] = Delivery{To: c.User, Frame: frame, Payer: c.User}
	}
	if err := errors.Join(slices.DeleteFunc(v.cfg.Sender.Send(ctx, deliveries...), func(err error) bool { return err == nil })...); err != nil {
		return nil, err
	}
	if m.RequestID == "" {
		return nil, nil
	}
	return &wire.Ack{KeyID: p.KeyID}, nil
}
