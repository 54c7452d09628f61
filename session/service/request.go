package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// taskSeparator separates the random part of a session_id that was handed out from the
// fingerprint of its request.
const taskSeparator = "."

// mayRequest returns an error unless c's role may request keys and signatures.
func mayRequest(c Caller) error {
	if !c.has(wire.RoleCoordinator) && !c.has(wire.RoleAdmin) {
		return errRole(wire.RoleCoordinator)
	}
	return nil
}

// keyRequested checks a valid keygen request and returns the key that it asks for.
func (v *Service) keyRequested(c Caller, p *wire.KeygenRequest) (session.Key, error) {
	if err := mayRequest(c); err != nil {
		return session.Key{}, err
	}
	if p.TotalParts > v.cfg.MaxParties {
		return session.Key{}, wire.Errorf(wire.CodeBadRequest, "total_parts is %d, this cluster allows %d", p.TotalParts, v.cfg.MaxParties)
	}
	curve, err := pubkey.ParseCurve(p.Curve)
	if err != nil {
		return session.Key{}, wire.Errorf(wire.CodeBadRequest, "%s", err)
	}
	return session.Key{ID: p.KeyID, Curve: curve, Epoch: 1, Threshold: p.Threshold, Participants: p.Participants, Coordinator: c.User}, nil
}

// RequestKeygen starts a keygen and returns its session. The same request again returns
// the first one's session, or its outcome; after a failure only with the same
// request_id: otherwise it is another try. The caller has validated p.
func (v *Service) RequestKeygen(ctx context.Context, c Caller, p *wire.KeygenRequest, requestID string) (session.Session, error) {
	want, err := v.keyRequested(c, p)
	if err != nil {
		return session.Session{}, err
	}
	return v.requestKeygen(ctx, c, want, p, requestID)
}

// requestKeygen is RequestKeygen for p that asks for want.
func (v *Service) requestKeygen(ctx context.Context, c Caller, want session.Key, p *wire.KeygenRequest, requestID string) (session.Session, error) {
	for range commitTries {
		k, err := v.keyNow(ctx, p.KeyID)
		if err == nil {
			k, err = v.asGenerated(ctx, k)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return session.Session{}, err
		}
		if k.Version > 0 && k.Coordinator != c.User || k.Version == 0 && !mayTake(c, p.KeyID, requestID) {
			return session.Session{}, &wire.Error{Code: wire.CodeConflict, Message: "the key_id is taken", KeyID: p.KeyID}
		}
		if k.Version > 0 && p.Curve == "" {
			want.Curve = k.Curve // a client that cannot name the curve means the one it requested over HTTP
		}
		if k.Version > 0 && k.Status != session.KeyFailed && k.Fingerprint() != want.Fingerprint() {
			return session.Session{}, &wire.Error{Code: wire.CodeConflict, Message: "the key_id stands for a key with other threshold, participants or curve", KeyID: p.KeyID}
		}
		if k.Status == session.KeyActive || k.Status == session.KeyGenerating {
			return v.resumeKeygen(ctx, c, k, p, requestID)
		}
		if k.Status == session.KeyFailed {
			old, err := v.repeatedKeygen(ctx, c, k, requestID)
			if err == nil {
				want.Curve = old.Curve
				return sameRequest(old, session.Session{Coordinator: c.User, Fingerprint: want.Fingerprint()}, nil)
			}
			if !errors.Is(err, ErrNotFound) {
				return session.Session{}, err
			}
		}
		if err := v.checkRoom(); err != nil {
			return session.Session{}, err
		}
		if err := v.checkUsers(ctx, c, p.Participants); err != nil {
			return session.Session{}, err
		}
		now, err := v.cfg.Store.Now(ctx)
		if err != nil {
			return session.Session{}, err
		}
		next := want
		next.Status, next.Session, next.Version, next.CreatedAt = session.KeyGenerating, wire.KeygenIDPrefix+rand.Text(), k.Version, now
		s := v.keygenOf(c, next, p, requestID)
		grant, err := v.reserve(ctx, &s, keygenShares(s))
		if err != nil {
			return session.Session{}, err
		}
		err = v.cfg.Store.PutKey(ctx, next)
		if err != nil {
			v.cancelReservation(ctx, s, grant)
		}
		if errors.Is(err, ErrStale) {
			continue
		}
		if err != nil {
			return session.Session{}, err
		}
		return v.createSession(ctx, s, p.ExpiresIn, Loaded{})
	}
	return session.Session{}, fmt.Errorf("request keygen %s: lost %d races: %w", p.KeyID, commitTries, ErrUnavailable)
}

// asGenerated returns a key's record with the committee that its keygen was requested
// for, which a reshare may have changed since.
func (v *Service) asGenerated(ctx context.Context, k session.Key) (session.Key, error) {
	if k.Epoch <= 1 {
		return k, nil
	}
	epochs, err := v.cfg.Store.EpochsOf(ctx, k.ID)
	if err != nil {
		return session.Key{}, err
	}
	if len(epochs) > 0 && epochs[0].Number == 1 {
		k.Epoch, k.Threshold, k.Participants = 1, epochs[0].Threshold, epochs[0].Participants
	}
	return k, nil
}

// mayTake reports whether c may take an unused key_id. One derived from a user and an
// Idempotency-Key can be computed by anyone, and belongs to that user; any other
// belongs to the first that requests it.
func mayTake(c Caller, keyID, requestID string) bool {
	return !wire.HasTaskForm(keyID) || requestID != "" && keyID == wire.TaskKeyID(c.User, requestID)
}

// keyNow returns a key record, updated if its keygen has failed and the record does not
// say so yet.
func (v *Service) keyNow(ctx context.Context, id string) (session.Key, error) {
	k, err := v.cfg.Store.Key(ctx, id)
	if err != nil || k.Status != session.KeyGenerating {
		return k, err
	}
	s, _, err := v.cfg.Store.Load(ctx, k.Session)
	if errors.Is(err, ErrNotFound) || err == nil && (!s.Phase.Final() || s.Phase == session.Completed) {
		return k, nil
	}
	if err != nil {
		return session.Key{}, err
	}
	if err := v.finish(ctx, s); err != nil {
		return session.Key{}, err
	}
	return v.cfg.Store.Key(ctx, id)
}

// resumeKeygen answers a request for a key that is being, or has been, made. If the
// session of a key being made is missing, the node that was about to create it died.
func (v *Service) resumeKeygen(ctx context.Context, c Caller, k session.Key, p *wire.KeygenRequest, requestID string) (session.Session, error) {
	s, _, err := v.cfg.Store.Load(ctx, k.Session)
	switch {
	case err == nil || !errors.Is(err, ErrNotFound):
		return s, err
	case k.Status == session.KeyGenerating:
		s := v.keygenOf(c, k, p, requestID)
		if _, err := v.reserve(ctx, &s, keygenShares(s)); err != nil {
			return session.Session{}, err
		}
		return v.createSession(ctx, s, p.ExpiresIn, Loaded{})
	}
	// The session has been forgotten; the key's record and attestations suffice for its
	// outcome.
	attested, err := v.cfg.Store.Attestations(ctx, k.ID, len(k.Participants))
	if err != nil {
		return session.Session{}, err
	}
	return k.Made(attested), nil
}

// keygenOf returns the session that makes k, not yet begun.
func (v *Service) keygenOf(c Caller, k session.Key, p *wire.KeygenRequest, requestID string) session.Session {
	s := session.NewKeygen(k, v.terms(v.cfg.KeygenTimeout))
	s.RequestID, s.SignedRequest, s.Web = requestID, p.SignedRequest, c.Web
	return s
}

// terms returns the terms of a session whose attempts may take run.
func (v *Service) terms(run time.Duration) session.Terms {
	return session.Terms{Invite: v.cfg.InviteTimeout, Run: run, Grace: v.cfg.AbsenceGrace}
}

// keygenShares is the most bytes that the shares of s's key may take together.
func keygenShares(s session.Session) int64 {
	return int64(len(s.Parties) * wire.ShareLimit(len(s.Parties)))
}

// wanted is a sign request as a session.
type wanted struct {
	session.Session           // without an id, not begun
	shares          int64     // bytes of the key's shares
	open            []Signing // those noted as open on the key
	expiresIn       int       // seconds, as requested
}

// signRequested checks a valid sign request against its key, which it reads once.
func (v *Service) signRequested(ctx context.Context, c Caller, p *wire.SignRequest) (wanted, error) {
	if err := mayRequest(c); err != nil {
		return wanted{}, err
	}
	k, open, _, err := v.cfg.Store.Signings(ctx, p.KeyID)
	switch {
	case errors.Is(err, ErrNotFound):
		return wanted{}, noSuchKey(p.KeyID)
	case err != nil:
		return wanted{}, err
	case !k.Involves(c.User) && !c.has(wire.RoleAdmin):
		return wanted{}, &wire.Hidden{Told: noSuchKey(p.KeyID), Why: errNotYours(p.KeyID)}
	case k.Coordinator != c.User && !c.has(wire.RoleAdmin):
		return wanted{}, errNotYours(p.KeyID)
	case k.Status != session.KeyActive:
		return wanted{}, &wire.Error{Code: wire.CodeConflict, Message: fmt.Sprintf("the key is %s, not active", k.Status), KeyID: p.KeyID}
	}
	s, err := session.NewSigning(k, c.User, p, v.terms(v.cfg.SignTimeout))
	if err != nil {
		return wanted{}, err
	}
	s.Web = c.Web
	return wanted{s, k.ShareBytes, open, p.ExpiresIn}, nil
}

func noSuchKey(id string) *wire.Error {
	return &wire.Error{Code: wire.CodeNotFound, Message: "no such key", KeyID: id}
}

func errNotYours(keyID string) *wire.Error {
	return &wire.Error{Code: wire.CodeForbidden, Message: "only the key's coordinator or an admin may sign with it", KeyID: keyID}
}

// RequestSign starts a signing and returns its session. The same request again returns
// the first one's session: by session_id, by request_id, or, if it has neither, by its
// content while that session is open or its outcome unacknowledged. The caller has
// validated p.
func (v *Service) RequestSign(ctx context.Context, c Caller, p *wire.SignRequest, requestID string) (session.Session, error) {
	want, err := v.signRequested(ctx, c, p)
	if err != nil {
		return session.Session{}, err
	}
	return v.requestSigning(ctx, c, want, p.SessionID, requestID)
}

// requestSigning is RequestSign for a checked request, with its ids.
func (v *Service) requestSigning(ctx context.Context, c Caller, s wanted, sessionID, requestID string) (session.Session, error) {
	s.RequestID = requestID
	match := false
	switch {
	case sessionID != "":
		s.ID = sessionID
		if err := v.checkSessionID(ctx, s.Session); err != nil {
			return session.Session{}, err
		}
	case requestID != "":
		s.ID = wire.SigningID(c.User, s.KeyID, requestID)
	default:
		if old, err := v.repeated(ctx, c, s); !errors.Is(err, ErrNotFound) {
			return old, err
		}
		s.ID, match = wire.SignIDPrefix+rand.Text(), true
	}
	for range commitTries {
		again, err := v.beginSigning(ctx, s, match)
		if errors.Is(err, errForgotten) {
			continue
		}
		return again, err
	}
	return session.Session{}, fmt.Errorf("request signing on %s: lost %d races: %w", s.KeyID, commitTries, ErrUnavailable)
}

// errSessionID is returned for a session_id under which its sender may not begin a
// signing. For ids of a server's form it is the same whether or not another user has
// such a session.
var errSessionID = wire.Errorf(wire.CodeBadRequest,
	"session_id is not one of yours: leave it out, or send the one that was handed out for this request, or the one that follows from your request_id")

// checkSessionID checks the id that a coordinator has chosen for the signing or reshare s. An id
// of a server's form must be one that only this coordinator can have: derived from its
// own request_id, handed out for this very request, or that of a session that it began
// before. Any other id is allowed if no other user has it.
func (v *Service) checkSessionID(ctx context.Context, s session.Session) error {
	derived := wire.IsSigningID
	if s.Kind.MakesEpoch() {
		derived = wire.IsReshareID
	}
	if derived(s.ID, s.Coordinator, s.KeyID, s.RequestID) {
		return nil
	}
	if _, print, ok := strings.Cut(s.ID, taskSeparator); ok && strings.HasPrefix(s.ID, wire.SignIDPrefix) {
		if print != s.Fingerprint {
			return wire.Errorf(wire.CodeConflict, "the session_id was handed out for another request")
		}
		return nil
	}
	old, _, err := v.cfg.Store.Load(ctx, s.ID)
	switch {
	case errors.Is(err, ErrNotFound) && !wire.HasSessionForm(s.ID):
		return nil
	case errors.Is(err, ErrNotFound), err == nil && (old.Kind != s.Kind || old.Coordinator != s.Coordinator):
		return errSessionID
	}
	return err
}

// errForgotten says that an equal signing was no longer open.
var errForgotten = errors.New("session: signing had ended")

func (v *Service) beginSigning(ctx context.Context, s wanted, match bool) (session.Session, error) {
	if !match {
		if old, _, err := v.cfg.Store.Load(ctx, s.ID); !errors.Is(err, ErrNotFound) {
			return sameRequest(old, s.Session, err)
		}
	}
	if err := v.checkRoomForSigning(ctx, s.Session, match); err != nil {
		return session.Session{}, err
	}
	none := Loaded{Asked: time.Now()}
	note := Signing{SessionID: s.ID, Fingerprint: s.Fingerprint, Coordinator: s.Coordinator}
	opened, err := reserved(ctx, v, s.Coordinator, func() (Opened, error) {
		return v.cfg.Store.OpenSigning(ctx, s.KeyID, note, v.reservation(s.Session, s.shares), match)
	})
	if errors.Is(err, ErrStale) {
		err = wire.Errorf(wire.CodeConflict, "the key is not active")
	}
	if err != nil {
		return session.Session{}, about(err, s.Session)
	}
	s.Brief = opened.Grant.Brief
	if id := opened.SessionID; id != s.ID {
		old, _, err := v.cfg.Store.Load(ctx, id)
		switch {
		case err == nil && !old.Phase.Final():
			return sameRequest(old, s.Session, nil)
		case err == nil:
			if err := v.cfg.Store.Settle(ctx, id, Settlement{ClosedOn: s.KeyID}); err != nil {
				return session.Session{}, err
			}
			return session.Session{}, errForgotten
		case !errors.Is(err, ErrNotFound):
			return session.Session{}, err
		}
		s.ID = id // noted by a node that died before it created the session
		if _, err := v.reserve(ctx, &s.Session, s.shares); err != nil {
			return session.Session{}, about(err, s.Session)
		}
	}
	none.Now = opened.Now
	return v.createSession(ctx, s.Session, s.expiresIn, none)
}

// sameRequest returns the session that an equal request started before.
func sameRequest(old, want session.Session, err error) (session.Session, error) {
	switch {
	case err != nil:
		return session.Session{}, err
	case old.Coordinator != want.Coordinator || old.Fingerprint != want.Fingerprint:
		return session.Session{}, wire.Errorf(wire.CodeConflict, "the session_id or request_id belongs to another request")
	}
	return old, nil
}

// createSession creates a session and sends its invitations. None is the recent load
// that found no session under its id, or the zero Loaded.
func (v *Service) createSession(ctx context.Context, s session.Session, expiresIn int, none Loaded) (session.Session, error) {
	done, err := v.acquireSlot(ctx)
	if err != nil {
		return session.Session{}, err
	}
	defer done()
	for range commitTries {
		begun, err := v.tryCreate(ctx, s, expiresIn, none)
		if errors.Is(err, ErrStale) {
			none = Loaded{}
			continue // too late for its place in the due list
		}
		return begun, err
	}
	return session.Session{}, fmt.Errorf("create session %s: %d times too late: %w", s.ID, commitTries, ErrUnavailable)
}

// tryCreate is createSession without retries: ErrStale says that it was too late for
// its place in the due list.
func (v *Service) tryCreate(ctx context.Context, s session.Session, expiresIn int, none Loaded) (_ session.Session, err error) {
	if none.Now.IsZero() || time.Since(none.Asked) > freshFor {
		none, err = v.load(ctx, s.ID)
		if !errors.Is(err, ErrNotFound) {
			return v.existing(ctx, none.Session, s, err)
		}
	}
	now := none.Now
	if expiresIn > 0 {
		s.ExpiresAt = now.Add(time.Duration(expiresIn) * time.Second)
	}
	ctx, end := v.cfg.Tracer.Begin(ctx, s.ID, partBegin)
	defer func() { end(err) }()
	s, out := session.Begin(s, now)
	entries, err := v.encode(ctx, s, out)
	if err != nil {
		return session.Session{}, err
	}
	mark := none.mark()
	receipt, created, err := v.cfg.Store.Create(ctx, s, entries, mark)
	if err != nil {
		return session.Session{}, err
	}
	if !created { // created by the same request through another node at this moment
		old, _, err := v.cfg.Store.Load(ctx, s.ID)
		return v.existing(ctx, old, s, err)
	}
	s.Version = 1
	withSession(s, v.log.Info()).Str("account", s.Coordinator).Int("invited", len(s.InvitedUsers())).Msg("session began")
	v.cfg.Observer.Began(s)
	v.cfg.Tracer.Stepped(ctx, session.Session{}, s)
	v.auditBegun(s)
	v.deliver(ctx, committed{session: s, at: now, mark: mark.Due, entries: entries, receipt: receipt})
	return s, nil
}

// existing returns the session that was found under want's id. It may have ended before
// this request noted it as open again.
func (v *Service) existing(ctx context.Context, old, want session.Session, err error) (session.Session, error) {
	if err == nil && old.Phase.Final() {
		err = v.finish(ctx, old)
		v.cancelReservation(ctx, old, Grant{Fresh: true})
	}
	return sameRequest(old, want, err)
}

// mostWaiting is how many messages of a mailbox are searched for an outcome.
const mostWaiting = 64

// repeated returns the signing that s, a request without an id, repeats: an equal one
// that is open, or whose outcome the coordinator has not acknowledged and so may not
// know. ErrNotFound says that s is new.
func (v *Service) repeated(ctx context.Context, c Caller, s wanted) (session.Session, error) {
	for _, o := range s.open {
		if o.Fingerprint != s.Fingerprint || o.Coordinator != s.Coordinator {
			continue
		}
		old, _, err := v.cfg.Store.Load(ctx, o.SessionID)
		switch {
		case errors.Is(err, ErrNotFound): // OpenSigning handles it
			continue
		case err != nil:
			return session.Session{}, err
		case !old.Phase.Final():
			return old, nil
		}
		// It has just ended: its outcome must be in the mailbox to be found there.
		if _, err := v.drain(ctx, old); err != nil {
			return session.Session{}, err
		}
	}
	return v.unacknowledged(ctx, c, func(id string) (session.Session, bool, error) {
		old, _, err := v.cfg.Store.Load(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return session.Session{}, false, nil
		}
		return old, err == nil && old.Kind == s.Kind && old.Coordinator == s.Coordinator && old.Fingerprint == s.Fingerprint, err
	})
}

// unacknowledged returns the session that is accepts, of those whose outcome is
// unacknowledged in c's mailbox; ErrNotFound if there is none.
func (v *Service) unacknowledged(ctx context.Context, c Caller, is func(id string) (session.Session, bool, error)) (session.Session, error) {
	if v.cfg.Waiting == nil {
		return session.Session{}, ErrNotFound
	}
	frames, err := v.cfg.Waiting.Waiting(ctx, c.User, c.Has, mostWaiting)
	if err != nil {
		return session.Session{}, fmt.Errorf("look for outcomes: %w", err)
	}
	for _, frame := range frames {
		if t := wire.FrameType(frame); t != wire.TypeSignComplete && t != wire.TypeKeygenConfirm {
			continue
		}
		m, err := wire.Decode(frame, len(frame))
		if err != nil {
			continue // of another version
		}
		var told struct {
			SessionID string `json:"session_id"`
		}
		if json.Unmarshal(m.Payload, &told) != nil || told.SessionID == "" {
			continue
		}
		if s, ok, err := is(told.SessionID); ok || err != nil {
			return s, err
		}
	}
	return session.Session{}, ErrNotFound
}

// repeatedKeygen returns the failed keygen of k if the request repeats it: by its
// request_id, or, without one, because the coordinator does not know the outcome yet.
// ErrNotFound says that it is another try.
func (v *Service) repeatedKeygen(ctx context.Context, c Caller, k session.Key, requestID string) (session.Session, error) {
	if requestID != "" {
		old, _, err := v.cfg.Store.Load(ctx, k.Session)
		if err == nil && old.RequestID != requestID {
			err = ErrNotFound
		}
		return old, err
	}
	return v.unacknowledged(ctx, c, func(id string) (session.Session, bool, error) {
		if id != k.Session {
			return session.Session{}, false, nil
		}
		s, _, err := v.cfg.Store.Load(ctx, id)
		if errors.Is(err, ErrNotFound) {
			return session.Session{}, false, nil
		}
		return s, err == nil, err
	})
}
