package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// mostWaiting is how many messages of a mailbox are looked at for an outcome.
const mostWaiting = 64

// repeated returns the signing of which s, a request that names no id, is a
// repetition: an equal one that is open, or whose outcome the coordinator has not
// acknowledged, so that it does not know of it. ErrNotFound says that s is new.
func (v *Service) repeated(ctx context.Context, c Caller, s wanted) (session.Session, error) {
	for _, o := range s.open {
		if o.Fingerprint != s.Fingerprint || o.Coordinator != s.Coordinator {
			continue
		}
		old, _, err := v.cfg.Store.Load(ctx, o.SessionID)
		switch {
		case errors.Is(err, ErrNotFound): // OpenSigning knows what to make of it
			continue
		case err != nil:
			return session.Session{}, err
		case !old.Phase.Final():
			return old, nil
		}
		// It has ended this moment: its outcome must be in the mailbox to be found there.
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

// unacknowledged returns the session, of those whose outcome c's mailbox holds
// unacknowledged, that is means; ErrNotFound if none is.
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

// repeatedKeygen returns the keygen of k, which has failed, if the request for it is
// the same one: by its request_id, or, where it has none, because the coordinator
// does not know the outcome yet. ErrNotFound says that it is another try.
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
