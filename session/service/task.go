package service

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// noteBytes bounds the size of an idempotency key's note in Redis.
const noteBytes = 512

// Task holds the options of a request over HTTP.
type Task struct {
	// Start begins the session, in the caller's name. Without it only an id is handed
	// out, and a message over the WebSocket begins the session.
	Start bool
	// Once, if set, makes the request idempotent: the same request of the same user,
	// through any node, is the same task, and a different one under the same name is a
	// conflict. It is the request's request_id too.
	Once string
}

// KeygenTask reserves a key_id for the keygen that p describes, and starts it if
// t.Start is set; otherwise the session is zero. A keygen_request for the key_id must
// equal p. A key_id in p is ignored, unless the task is started: a coordinator's
// signature over the request covers it.
func (v *Service) KeygenTask(ctx context.Context, c Caller, p *wire.KeygenRequest, t Task) (keyID string, s session.Session, err error) {
	if err := mayRequest(c); err != nil {
		return "", session.Session{}, err
	}
	switch own := t.Start && p.KeyID != ""; {
	case own:
	case t.Once != "":
		p.KeyID = wire.TaskKeyID(c.User, t.Once)
	default:
		p.KeyID = wire.KeyIDPrefix + rand.Text()
	}
	if err := p.Validate(); err != nil {
		return "", session.Session{}, err
	}
	k, err := v.keyRequested(c, p)
	if err != nil {
		return "", session.Session{}, err
	}
	unsigned := *p
	unsigned.SignedRequest = "" // a repeated request is signed anew
	forget, err := v.rememberRequest(ctx, c, t.Once, &unsigned)
	if err != nil {
		return "", session.Session{}, err
	}
	if t.Start {
		s, err = v.requestKeygen(ctx, c, k, p, t.Once)
	} else if err = v.checkUsers(ctx, c, p.Participants); err == nil {
		err = v.reserveKey(ctx, k, t.Once != "")
	}
	if err != nil {
		forget(ctx, err)
	}
	return p.KeyID, s, err
}

// reserveKey writes the record of a key_id that is handed out. Again says that it may
// have been handed out before.
func (v *Service) reserveKey(ctx context.Context, k session.Key, again bool) error {
	if again {
		if _, err := v.cfg.Store.Key(ctx, k.ID); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	if err := v.checkRoom(); err != nil {
		return err
	}
	now, err := v.cfg.Store.Now(ctx)
	if err != nil {
		return err
	}
	k.Status, k.CreatedAt = session.KeyReserved, now
	brief, refund, err := v.charge(ctx, k.Coordinator, k.ReservedBytes(), session.ReservedFor)
	if err != nil {
		return err
	}
	k.Brief = brief
	if err = v.cfg.Store.PutKey(ctx, k); err != nil {
		refund(ctx)
	}
	switch {
	case errors.Is(err, ErrStale) && again:
		return nil
	case errors.Is(err, ErrStale): // the store's client wrote it, lost the answer and retried
		return fmt.Errorf("reserve a key: %w: %w", ErrUnavailable, err)
	case err != nil:
		return err
	}
	v.record(audit.Decision{Who: k.Coordinator, What: audit.KeyReserve, Outcome: audit.OK, Key: k.ID})
	return nil
}

// SignTask hands out a session_id for the signing that p describes, and starts it if
// t.Start is set; otherwise the session is zero. The id carries a fingerprint of the
// request, so that nothing needs to be stored and a sign_request with that id must
// equal p. A session_id in p is ignored, unless the task is started, as KeygenTask
// does.
func (v *Service) SignTask(ctx context.Context, c Caller, p *wire.SignRequest, t Task) (sessionID string, s session.Session, err error) {
	if !t.Start {
		p.SessionID = ""
	}
	if err := mayRequest(c); err != nil {
		return "", session.Session{}, err
	}
	if err := p.Validate(); err != nil {
		return "", session.Session{}, err
	}
	want, err := v.signRequested(ctx, c, p)
	if err != nil {
		return "", session.Session{}, err
	}
	unsigned := *p
	unsigned.SignedRequest = ""
	forget, err := v.rememberRequest(ctx, c, t.Once, &unsigned)
	if err != nil {
		return "", session.Session{}, err
	}
	switch {
	case p.SessionID != "":
	case t.Once != "":
		p.SessionID = wire.SigningID(c.User, p.KeyID, t.Once)
	default:
		p.SessionID = wire.SignIDPrefix + rand.Text() + taskSeparator + want.Fingerprint
	}
	if t.Start {
		if s, err = v.requestSigning(ctx, c, want, p.SessionID, t.Once); err != nil {
			forget(ctx, err)
		}
	}
	return p.SessionID, s, err
}

// ReshareTask starts the reshare that p describes and returns its session. Once makes it
// idempotent, as [Task].Once does.
func (v *Service) ReshareTask(ctx context.Context, c Caller, p *wire.ReshareRequest, once string) (session.Session, error) {
	if err := mayRequest(c); err != nil {
		return session.Session{}, err
	}
	if err := p.Validate(); err != nil {
		return session.Session{}, err
	}
	if _, err := v.reshareRequested(ctx, c, p, once); err != nil {
		return session.Session{}, err
	}
	unsigned := *p
	unsigned.SignedRequest = ""
	forget, err := v.rememberRequest(ctx, c, once, &unsigned)
	if err != nil {
		return session.Session{}, err
	}
	s, err := v.RequestReshare(ctx, c, p, once)
	if err != nil {
		forget(ctx, err)
	}
	return s, err
}

// rememberRequest notes a user's request under an Idempotency-Key, and refuses another
// one under the same key. Forget removes the note of a request that was refused for the
// user's quota and so has changed nothing.
func (v *Service) rememberRequest(ctx context.Context, c Caller, name string, p wire.Payload) (forget func(context.Context, error), _ error) {
	forget = func(context.Context, error) {}
	if name == "" {
		return forget, nil
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	request, id := wire.Fingerprint("idempotent", string(p.Type()), string(text)), wire.Fingerprint("idempotency", c.User, name)
	kept, err := v.cfg.Store.Remembered(ctx, id)
	if err == nil && kept == "" {
		var brief bool
		var refund func(context.Context)
		if brief, refund, err = v.charge(ctx, c.User, noteBytes, session.ReservedFor); err != nil {
			return nil, err
		}
		forget = func(ctx context.Context, err error) {
			if !errors.Is(err, errOverQuota) && !errors.Is(err, errUnknownUser) {
				return
			}
			refund(ctx)
			if err := v.cfg.Store.Forget(ctx, id); err != nil {
				v.log.Warn().Err(err).Msg("the note of a refused request is still there")
			}
		}
		kept, err = v.cfg.Store.Remember(ctx, id, request, brief)
	}
	if err == nil && kept != request {
		err = wire.Errorf(wire.CodeConflict, "the Idempotency-Key was used for another request")
	}
	return forget, err
}
