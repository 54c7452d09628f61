package service

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A reshare's session is noted on its key while it is open: a key has one at a time. The
// store gives each attempt its number, before the session begins or after an attempt has
// failed. When enough old members have consented, the certificate is verified and
// becomes the key's, in one step; then the open signings move to the new epoch, and only
// then is the session complete. Every step may be repeated, by any node.

const (
	// mostAhead is by how much the greatest number that a member says it has seen may
	// exceed the greatest that was given: numbers are not to be burned by a liar.
	mostAhead = 1000
	// createWithin is how soon after its note on the key a reshare's session exists,
	// unless its node has died.
	createWithin = 30 * time.Second
	// mostCertificates is how many certificates answer one certificate_get.
	mostCertificates = 16
)

// RequestReshare starts a reshare and returns its session. The same request again
// returns the first one's session, by session_id, by request_id, or, if it has neither,
// while it is open. The caller has validated p.
func (v *Service) RequestReshare(ctx context.Context, c Caller, p *wire.ReshareRequest, requestID string) (session.Session, error) {
	if err := mayRequest(c); err != nil {
		return session.Session{}, err
	}
	if p.TotalParts > v.cfg.MaxParties {
		return session.Session{}, wire.Errorf(wire.CodeBadRequest, "total_parts is %d, this cluster allows %d", p.TotalParts, v.cfg.MaxParties)
	}
	for range commitTries {
		s, err := v.reshareRequested(ctx, c, p, requestID)
		if err != nil {
			return session.Session{}, err
		}
		begun, err := v.beginReshare(ctx, c, s, p)
		if !errors.Is(err, ErrStale) {
			return begun, about(err, s)
		}
	}
	return session.Session{}, fmt.Errorf("request reshare of %s: lost %d races: %w", p.KeyID, commitTries, ErrUnavailable)
}

// reshareRequested checks a request against its key and returns the session that it asks
// for, with its id. It has no parent yet.
func (v *Service) reshareRequested(ctx context.Context, c Caller, p *wire.ReshareRequest, requestID string) (session.Session, error) {
	k, err := v.cfg.Store.Key(ctx, p.KeyID)
	forbidden := &wire.Error{Code: wire.CodeForbidden, Message: "only the key's coordinator or an admin may reshare it", KeyID: p.KeyID}
	switch {
	case errors.Is(err, ErrNotFound):
		return session.Session{}, noSuchKey(p.KeyID)
	case err != nil:
		return session.Session{}, err
	case !k.Involves(c.User) && !c.has(wire.RoleAdmin):
		return session.Session{}, &wire.Hidden{Told: noSuchKey(p.KeyID), Why: forbidden}
	case k.Coordinator != c.User && !c.has(wire.RoleAdmin):
		return session.Session{}, forbidden
	case k.Status != session.KeyActive:
		return session.Session{}, &wire.Error{Code: wire.CodeConflict, Message: fmt.Sprintf("the key is %s, not active", k.Status), KeyID: p.KeyID}
	}
	s, err := session.NewReshare(k, k.Certificate, c.User, p, v.terms(v.cfg.KeygenTimeout))
	if err != nil {
		return session.Session{}, err
	}
	s.RequestID, s.Web = requestID, c.Web
	switch {
	case p.SessionID != "":
		s.ID = p.SessionID
		err = v.checkSessionID(ctx, s)
	case requestID != "":
		s.ID = wire.ReshareID(c.User, k.ID, requestID)
	}
	return s, err
}

// beginReshare notes a reshare on its key and begins it. ErrStale if the key has changed
// since it was read.
func (v *Service) beginReshare(ctx context.Context, c Caller, s session.Session, p *wire.ReshareRequest) (session.Session, error) {
	named := s.ID != ""
	if named {
		if old, _, err := v.cfg.Store.Load(ctx, s.ID); !errors.Is(err, ErrNotFound) {
			return sameRequest(old, s, err)
		}
	} else {
		s.ID = wire.ReshareIDPrefix + rand.Text()
	}
	if err := v.checkRoom(); err != nil {
		return session.Session{}, err
	}
	if err := v.checkUsers(ctx, c, s.Users()[s.Old:]); err != nil {
		return session.Session{}, err
	}
	parent, err := v.certificateOf(ctx, s.KeyID, s.FromEpoch)
	if err != nil {
		return session.Session{}, err
	}
	if parent == nil {
		return session.Session{}, wire.Errorf(wire.CodeConflict, "the key cannot be reshared: not all of its parties have attested it")
	}
	s.Parent, s.PublicKey, s.Origin = parent.Hash().String(), parent.Epoch.PublicKey, parent.Epoch.Origin
	opened, err := reserved(ctx, v, s.Coordinator, func() (OpenedReshare, error) {
		return v.cfg.Store.OpenReshare(ctx, s.KeyID, s.FromEpoch, v.reservation(s, s.NewShares()))
	})
	if err != nil {
		return session.Session{}, err
	}
	if opened.SessionID != s.ID {
		return v.otherReshare(ctx, opened, s, named)
	}
	s.Brief = opened.Grant.Brief
	if s.Next, err = v.cfg.Store.Number(ctx, s.KeyID, s.ID, s.FromEpoch); err != nil {
		return session.Session{}, err
	}
	return v.createSession(ctx, s, p.ExpiresIn, Loaded{})
}

// otherReshare answers a request for a key with another open reshare: an equal request's
// if this one names no session. It removes the note of one that has ended or was never
// created; ErrStale says so.
func (v *Service) otherReshare(ctx context.Context, opened OpenedReshare, s session.Session, named bool) (session.Session, error) {
	old, _, err := v.cfg.Store.Load(ctx, opened.SessionID)
	switch {
	case err == nil && old.Phase.Final(), errors.Is(err, ErrNotFound) && opened.Now.Sub(opened.Since) > createWithin:
		if err := v.cfg.Store.Settle(ctx, opened.SessionID, Settlement{ClosedOn: s.KeyID}); err != nil {
			return session.Session{}, err
		}
		return session.Session{}, ErrStale
	case err == nil && !named && old.Fingerprint == s.Fingerprint && old.Coordinator == s.Coordinator:
		return old, nil
	case err == nil || errors.Is(err, ErrNotFound):
		return session.Session{}, &wire.Error{Code: wire.CodeConflict, Message: "another reshare of the key is open: " + opened.SessionID, KeyID: s.KeyID, SessionID: opened.SessionID}
	}
	return session.Session{}, err
}

// wantsNumber reports whether a reshare waits for a number.
func wantsNumber(s session.Session) bool {
	_, wants := s.WantsNumber()
	return wants
}

// proceed does at once what a reshare needs from the store to go on. If that fails, the
// sweeper of any node does it.
func (v *Service) proceed(ctx context.Context, s session.Session) session.Session {
	if !s.Kind.MakesEpoch() || !s.AllReported() && !wantsNumber(s) {
		return s
	}
	next, err := v.follow(ctx, s)
	if err != nil {
		withSession(s, v.log.WithLevel(levelOf(err))).Err(err).Msg("reshare waits for the sweeper")
		return s
	}
	return next
}

// follow gives a reshare the number that it wants, or makes its certificate the key's.
func (v *Service) follow(ctx context.Context, s session.Session) (session.Session, error) {
	above, wants := s.WantsNumber()
	if !wants {
		return v.certify(ctx, s)
	}
	n, err := v.cfg.Store.Number(ctx, s.KeyID, s.ID, above)
	switch {
	case errors.Is(err, ErrStale):
		return v.advance(ctx, change{target: target{id: s.ID}, ev: session.KeyLost{}})
	case err != nil:
		return s, err
	}
	return v.advance(ctx, change{target: target{id: s.ID}, ev: session.Numbered{Number: n}})
}

// respondReshare takes a user's answer to its invitation.
func (v *Service) respondReshare(ctx context.Context, c Caller, p *wire.ReshareResponse) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	s, err := v.loadFor(ctx, c, p.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	k, err := v.bring(ctx, s, p.Certificate)
	if err != nil {
		return session.Session{}, err
	}
	if most := max(k.Highest, k.Epoch) + mostAhead; p.Highest > most {
		return session.Session{}, about(wire.Errorf(wire.CodeBadRequest, "highest is above %d: no member can have seen such a number", most), s)
	}
	if s.Kind.MakesEpoch() && k.Epoch > s.FromEpoch && k.Epoch != s.Epoch {
		return v.advance(ctx, change{target: target{id: s.ID}, keyID: p.KeyID, ev: session.Moved{Key: k}})
	}
	return v.advance(ctx, change{target: target{id: s.ID}, by: &c, keyID: p.KeyID, ev: session.Answered{
		From: c.User, Accept: *p.Response, Places: p.Places, Reason: p.Reason, Identity: c.Identity, Highest: p.Highest,
	}})
}

// loadFor loads a session for a caller who must have a part in it.
func (v *Service) loadFor(ctx context.Context, c Caller, id string) (session.Session, error) {
	if !wire.StoredID(id) {
		return session.Session{}, ErrNotFound
	}
	s, _, err := v.cfg.Store.Load(ctx, id)
	if err == nil {
		err = admits(s, &c, nil)
	}
	if err != nil {
		return session.Session{}, err
	}
	return s, nil
}

// completeReshare takes a new member's report.
func (v *Service) completeReshare(ctx context.Context, c Caller, p *wire.ReshareComplete) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	share, err := v.cfg.Shares.Protect(p.KeyID, p.PartIndex, p.ShareJSON)
	if err != nil {
		return session.Session{}, err
	}
	return v.advance(ctx, change{target: target{id: p.SessionID}, by: &c, keyID: p.KeyID, ev: session.Reshared{
		From: c.User, Party: p.PartIndex, Attempt: p.Attempt, Epoch: p.Epoch, AccountAddr: p.AccountAddr,
		Statement: p.Statement, Attestation: p.Attestation, Share: share,
	}})
}

// storeEpochShare stores the share of a new member whose report is accepted.
func (v *Service) storeEpochShare(ctx context.Context, next session.Session, ev session.Reshared) error {
	if next.Phase.Final() {
		return nil
	}
	n := len(next.Parties) - next.Old
	if limit := wire.ShareLimit(n); len(ev.Share) > limit {
		return wire.Errorf(wire.CodeTooLarge, "share_json is longer than %d bytes, the most for %d parties", limit, n)
	}
	if limit := wire.StatementLimit(n); len(ev.Statement) > limit {
		return wire.Errorf(wire.CodeTooLarge, "statement is longer than %d bytes, the most for %d parties", limit, n)
	}
	err := v.cfg.Store.PutEpochShare(ctx, next.KeyID, next.ID, ev.Epoch, ev.Party, ev.Share)
	if errors.Is(err, ErrStale) {
		return session.ErrEnded // the key has another open reshare, or a higher epoch
	}
	return err
}

// consent takes an old member's consent, once it is verified against the committee of
// the certificate that the new epoch follows.
func (v *Service) consent(ctx context.Context, c Caller, p *wire.ReshareConsent) (session.Session, error) {
	if !c.has(wire.RoleParticipant) {
		return session.Session{}, errRole(wire.RoleParticipant)
	}
	s, err := v.loadFor(ctx, c, p.SessionID)
	if err != nil {
		return session.Session{}, err
	}
	ev := session.Consented{From: c.User, Party: p.PartIndex, Epoch: p.Epoch, Hash: p.AttestationsHash, Consent: p.Sig}
	if s.Statement != "" && p.Epoch == s.Epoch && !s.Phase.Final() {
		if err := v.checkConsent(ctx, s, p); err != nil {
			return session.Session{}, about(err, s)
		}
		// The hash stands for the statement and the certificate that were verified, so
		// that the session takes the consent for no other.
		return v.advance(ctx, change{target: target{id: s.ID}, by: &c, keyID: p.KeyID, ev: ev})
	}
	if _, _, err := session.Step(s, ev, s.CreatedAt); err != nil {
		return session.Session{}, about(err, s)
	}
	if !s.Phase.Final() { // it has no statement, and Step would not refuse: never take it unverified
		return session.Session{}, about(session.ErrNotYet, s)
	}
	return s, nil
}

// checkConsent verifies a consent to the statement of s.
func (v *Service) checkConsent(ctx context.Context, s session.Session, p *wire.ReshareConsent) error {
	e, err := statement.ParseEpoch([]byte(s.Statement))
	if err != nil {
		return fmt.Errorf("statement of session %s: %w", s.ID, err)
	}
	if e.Hash().String() != p.AttestationsHash {
		return session.ErrStatement
	}
	parent, err := v.certificateOf(ctx, s.KeyID, s.FromEpoch)
	if err != nil {
		return err
	}
	if parent == nil || parent.Hash().String() != s.Parent {
		return wire.Errorf(wire.CodeConflict, "the key's certificate is not the one that this reshare follows")
	}
	if err := e.VerifyConsent(parent.Epoch, p.PartIndex, p.Sig); err != nil {
		return wire.Errorf(wire.CodeInvalidSignature, "%s", err)
	}
	return nil
}
