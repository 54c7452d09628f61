package client

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// waiter waits for a session's outcome.
type waiter struct {
	kind      request.Kind
	requestID string
	keyID     string
	sessionID string            // "" until the server has sent it; guarded by Client.mu
	outcome   chan wire.Payload // one of *wire.KeygenConfirm, *wire.SignComplete, *wire.ReshareConfirm
	refused   chan *wire.Error
}

// Keygen requests a key and waits for it. Its error is an [*OutcomeError] for a
// session that ends otherwise, a [*wire.Error] for a refused request. When ctx ends
// it returns ctx's error and the session continues; repeating the request joins it.
//
// The server's claim about the key is checked against the participants'
// attestations: if a participant whose identity is known has not attested the key,
// or has attested another, the error is an [*AttestationError]. With PinnedOnly in
// Config.Trust all participants must be pinned, else nothing is sent: ErrNotPinned.
func (c *Client) Keygen(ctx context.Context, r request.Keygen) (request.Key, error) {
	if err := r.Check(); err != nil {
		return request.Key{}, err
	}
	if err := c.awaitUser(ctx); err != nil {
		return request.Key{}, err
	}
	p, err := c.asker().Keygen(r)
	if err != nil {
		return request.Key{}, err
	}
	w := &waiter{kind: request.KindKeygen, requestID: r.RequestID, keyID: p.Request.KeyID}
	if w.requestID == "" {
		w.requestID = c.requestID()
	}
	out, err := c.await(ctx, w, p.Request.Wire())
	if err != nil {
		return request.Key{}, err
	}
	c.mu.Lock()
	session := w.sessionID
	c.mu.Unlock()
	key, err := p.Result(session, out.(*wire.KeygenConfirm))
	if errors.Is(err, trust.ErrNotAttested) {
		c.changed(err, request.KindKeygen, session, w.keyID)
		c.log.Error().Err(err).Str("session", session).Str("key", w.keyID).Msg("key not attested")
	}
	return key, err
}

// Sign requests a signature, waits for it and verifies it. Errors are those of
// Keygen, ErrBadSignature, and those of pubkey.Digest for data that cannot be
// signed, before anything is sent.
func (c *Client) Sign(ctx context.Context, r request.Sign) (request.Signature, error) {
	if r.RequestID == "" {
		r.RequestID = c.requestID()
	}
	if err := r.Check(); err != nil {
		return request.Signature{}, err
	}
	if c.cfg.Identity != nil && r.SignedRequest == "" {
		if err := c.awaitUser(ctx); err != nil { // the name is signed too
			return request.Signature{}, err
		}
	}
	p, err := c.asker().Sign(r)
	if err != nil {
		return request.Signature{}, err
	}
	w := &waiter{kind: request.KindSign, requestID: r.RequestID, keyID: r.KeyID, sessionID: p.Request.SessionID}
	out, err := c.await(ctx, w, p.Request.Wire())
	if err != nil {
		return request.Signature{}, err
	}
	return p.Result(out.(*wire.SignComplete))
}

// Reshare requests a new epoch of a key, waits for it, and verifies its certificate.
// Errors are those of Keygen, and ErrNotCertified; ErrNotPinned for a new member that is
// not pinned, before anything is sent. Until it succeeds the key's present epoch counts,
// whatever the error. The caller keeps the certificate, and names the epoch as MinEpoch
// in later requests to sign.
func (c *Client) Reshare(ctx context.Context, r request.Reshare) (request.NewEpoch, error) {
	if r.RequestID == "" {
		r.RequestID = c.requestID()
	}
	if err := c.awaitUser(ctx); err != nil {
		return request.NewEpoch{}, err
	}
	p, err := c.asker().Reshare(r)
	if err != nil {
		return request.NewEpoch{}, err
	}
	m := p.Request.Wire()
	w := &waiter{kind: request.KindReshare, requestID: r.RequestID, keyID: m.KeyID, sessionID: m.SessionID}
	out, err := c.await(ctx, w, m)
	if err != nil {
		return request.NewEpoch{}, err
	}
	return p.Result(out.(*wire.ReshareConfirm))
}

func (c *Client) asker() request.Asker {
	return request.Asker{User: c.User(), Identity: c.cfg.Identity, Trust: c.cfg.Trust}
}

// awaitUser waits until the user id has been read from the token.
func (c *Client) awaitUser(ctx context.Context) error {
	if c.User() != "" {
		return nil
	}
	return c.WaitConnected(ctx)
}

// Cancel ends a session of this coordinator's. It returns when the server has done
// so, or the reason why it does not.
func (c *Client) Cancel(ctx context.Context, sessionID string) error {
	refused := make(chan *wire.Error, 1)
	id := c.requestID()
	p := &wire.SessionCancel{SessionID: sessionID}
	if err := p.Validate(); err != nil {
		return err
	}
	err := c.courier.add(id, p, "", func(_ wire.Ack, e *wire.Error) { refused <- e })
	if err != nil {
		return err
	}
	select {
	case e := <-refused:
		if e != nil {
			return e
		}
		return nil
	case <-ctx.Done():
		c.courier.take(id)
		return ctx.Err()
	case <-c.done:
		return c.gone()
	}
}

// await sends a request and waits for its session's outcome.
func (c *Client) await(ctx context.Context, w *waiter, p wire.Payload) (wire.Payload, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	w.outcome, w.refused = make(chan wire.Payload, 1), make(chan *wire.Error, 1)
	c.mu.Lock()
	c.waiters[w] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waiters, w)
		c.mu.Unlock()
		c.courier.take(w.requestID) // a caller that has left no longer wants it
	}()
	err := c.courier.add(w.requestID, p, "", func(ack wire.Ack, e *wire.Error) {
		if e != nil {
			c.refusedRequest(w.requestID, e)
			return
		}
		c.begun(w.requestID, ack)
	})
	if err != nil {
		return nil, err
	}
	select {
	case out := <-w.outcome:
		return out, nil
	case e := <-w.refused:
		return nil, e
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.done:
		return nil, c.gone()
	}
}

// begun records the session that a request has started.
func (c *Client) begun(requestID string, ack wire.Ack) {
	var found *waiter
	c.mu.Lock()
	for w := range c.waiters {
		if w.requestID == requestID {
			w.sessionID, found = ack.SessionID, w
		}
	}
	c.mu.Unlock()
	if found != nil {
		c.emit(request.Requested{Kind: found.kind, SessionID: ack.SessionID, KeyID: found.keyID})
	}
}

func (c *Client) refusedRequest(requestID string, e *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.requestID == requestID {
			select {
			case w.refused <- e:
			default: // the waiter has it already
			}
		}
	}
}

// ended passes an outcome to its waiters: by the request it answers, by its
// session, or, for a request not yet acknowledged, a keygen by its key.
func (c *Client) ended(kind request.Kind, requestID, sessionID, keyID string, p wire.Payload) {
	c.courier.take(requestID) // an outcome acknowledges the request as well
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		mine := w.requestID == requestID || w.sessionID != "" && w.sessionID == sessionID ||
			kind == request.KindKeygen && w.sessionID == "" && w.keyID == keyID
		if w.kind != kind || w.keyID != keyID || !mine {
			continue
		}
		select {
		case w.outcome <- p:
		default: // the waiter has it already
		}
	}
}
