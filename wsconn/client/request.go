package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// KeygenRequest asks for a new key.
type KeygenRequest struct {
	// KeyID names the key. Zero value means a new random one. The same request
	// again with the same KeyID is the same keygen, unless that has failed.
	KeyID string
	// Threshold is how many must sign: 2 to len(Participants).
	Threshold int
	// Participants are user ids; the first is part 1.
	Participants []string
	// Curve zero value means secp256k1.
	Curve pubkey.Curve
	// RequestID makes the request idempotent, also once the keygen has failed: the
	// same again returns the same outcome. Zero value means a new one.
	RequestID string
	// ExpiresIn limits the session, to the second. Zero value means the server's
	// own deadlines.
	ExpiresIn time.Duration
	// SignedRequest is passed to the participants. Zero value means one that is
	// made with Config.Identity, if there is one.
	SignedRequest string
}

// Key is a generated key.
type Key struct {
	KeyID       string       `json:"key_id"`
	SessionID   string       `json:"session_id"`
	Curve       pubkey.Curve `json:"curve"`
	AccountAddr string       `json:"account_addr"`
	PublicKey   string       `json:"public_key"` // 0x hex; empty if no participant reported it

	// AttestedBy are all participants, in the order of their parts, or nobody: then
	// the address is the server's word alone. See [Key.Attested].
	AttestedBy []Attestor `json:"attested_by"`
}

// SignRequest asks for a signature.
type SignRequest struct {
	KeyID string
	// AccountAddr is the key's. With it the server need not be believed about the
	// key; zero value means to take its word, which a request that is to be signed
	// cannot.
	AccountAddr string
	// Data is 0x and hex, or text; Hash what is done to it. See pubkey.Digest.
	Data, Hash string
	// Participants are the user ids to invite. Zero value means every holder.
	Participants []string
	// RequestID makes the request idempotent: the same again is the same signing.
	// Zero value means a new one.
	RequestID string
	// SessionID is one that the server has handed out for this request
	// ([API.ReserveSigning]). Zero value means the one that follows from the user, KeyID and
	// RequestID ([wire.SigningID]). A server refuses any other.
	SessionID string
	// ExpiresIn limits the session, to the second. Zero value means the server's
	// own deadlines.
	ExpiresIn time.Duration
	// SignedRequest is passed to the participants. Zero value means one that is
	// made with Config.Identity, if there is one.
	SignedRequest string
}

// Signature is a signature that has been verified.
type Signature struct {
	KeyID       string       `json:"key_id"`
	SessionID   string       `json:"session_id"`
	Curve       pubkey.Curve `json:"curve"`
	AccountAddr string       `json:"account_addr"`
	PublicKey   string       `json:"public_key"` // 0x hex
	Data        string       `json:"data"`
	Hash        pubkey.Hash  `json:"hash"`
	Digest      string       `json:"digest"`    // 0x hex
	Signature   string       `json:"signature"` // 0x hex: secp256k1 r‖s‖v, 65 bytes; ed25519 R‖S, 64 bytes

	// Culprits are the part indexes of those who were blamed on the way and
	// replaced, on the word of others.
	Culprits []int `json:"culprits,omitempty"`
}

func (r KeygenRequest) wire() *wire.KeygenRequest {
	return &wire.KeygenRequest{
		KeyID: r.KeyID, Threshold: r.Threshold, TotalParts: len(r.Participants), Participants: r.Participants,
		Curve: string(r.Curve), ExpiresIn: seconds(r.ExpiresIn), SignedRequest: r.SignedRequest,
	}
}

func (r SignRequest) wire() *wire.SignRequest {
	return &wire.SignRequest{
		KeyID: r.KeyID, Data: r.Data, AccountAddr: r.AccountAddr, Participants: r.Participants, SessionID: r.SessionID,
		Hash: r.Hash, ExpiresIn: seconds(r.ExpiresIn), SignedRequest: r.SignedRequest,
	}
}

// check refuses, before anybody is asked, what the server would refuse or what
// could be meant in two ways: *wire.Error, or one of package pubkey's errors.
func (r SignRequest) check() error {
	if err := r.wire().Validate(); err != nil {
		return err
	}
	curve, _, err := curveOf(r.AccountAddr)
	if err != nil { // the server knows; any data will do that has one reading
		_, _, err = pubkey.Digest(pubkey.Ed25519, r.Data, "")
		return err
	}
	_, _, err = pubkey.Digest(curve, r.Data, r.Hash)
	return err
}

// seconds rounds up, so that a short limit does not become none.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// waiter waits for a session's outcome.
type waiter struct {
	kind      Kind
	requestID string
	keyID     string
	sessionID string            // "" until the server has told it; guarded by Client.mu
	outcome   chan wire.Payload // one of *wire.KeygenConfirm, *wire.SignComplete
	refused   chan *wire.Error
}

// complete gives a key that has no name one, and checks the request.
func (r *KeygenRequest) complete() (pubkey.Curve, error) {
	if r.KeyID == "" {
		r.KeyID = "key-" + rand.Text()
	}
	curve, err := pubkey.ParseCurve(string(r.Curve))
	if err == nil {
		err = r.wire().Validate()
	}
	return curve, err
}

// Keygen asks for a key and waits for it. A session that ends otherwise is an
// [*OutcomeError], a refused request a [*wire.Error]. When ctx ends it returns
// ctx's error and the session goes on; the same request again joins it.
//
// The server's word for the key is checked against what the participants attest:
// a key that somebody whose identity is known has not attested, or that they have
// attested otherwise, is an [*AttestationError]. With Config.PinnedOnly all
// participants must be pinned, else nothing is asked: ErrNotPinned.
func (c *Client) Keygen(ctx context.Context, r KeygenRequest) (Key, error) {
	curve, err := r.complete()
	if err != nil {
		return Key{}, err
	}
	if err := c.awaitUser(ctx); err != nil {
		return Key{}, err
	}
	believer := c.believer()
	if err := believer.ready(r.Participants); err != nil {
		return Key{}, err
	}
	if err := c.signKeygen(&r, curve); err != nil {
		return Key{}, err
	}
	if r.RequestID == "" {
		r.RequestID = c.requestID()
	}
	w := &waiter{kind: KindKeygen, requestID: r.RequestID, keyID: r.KeyID}
	p, err := c.await(ctx, w, r.wire())
	if err != nil {
		return Key{}, err
	}
	c.mu.Lock()
	session := w.sessionID
	c.mu.Unlock()
	key, err := generated(r, curve, believer, session, p.(*wire.KeygenConfirm))
	if errors.Is(err, ErrNotAttested) {
		c.changed(err, KindKeygen, session, r.KeyID)
		c.log.Error().Err(err).Str("session", session).Str("key", r.KeyID).Msg("key not attested")
	}
	return key, err
}

// generated checks the outcome of a keygen. The session is the one that the
// request has become, "" if the server has not told: the outcome may say another.
func generated(r KeygenRequest, curve pubkey.Curve, b believer, session string, out *wire.KeygenConfirm) (Key, error) {
	if out.Status != wire.StatusSuccess {
		return Key{}, &OutcomeError{
			Kind: KindKeygen, SessionID: out.SessionID, KeyID: r.KeyID, Status: out.Status, Reason: out.Reason, Culprits: out.Culprits,
		}
	}
	if addr, err := curve.ParseAddress(out.AccountAddr); err != nil || addr != out.AccountAddr {
		return Key{}, fmt.Errorf("keygen of %s: the server's account address is not one of %s", r.KeyID, curve)
	}
	if out.PublicKey != "" {
		pub, err := curve.ParseKey(out.PublicKey)
		if err != nil {
			return Key{}, fmt.Errorf("keygen of %s: the server's public key: %w", r.KeyID, err)
		}
		if addr, err := curve.Address(pub); err != nil || addr != out.AccountAddr {
			return Key{}, fmt.Errorf("keygen of %s: the server's public key is not that of the account address", r.KeyID)
		}
	}
	if session == "" {
		session = out.SessionID
	}
	who, err := b.attested(r, curve, session, out)
	if err != nil {
		return Key{}, err
	}
	return Key{
		KeyID: r.KeyID, SessionID: session, Curve: curve, AccountAddr: out.AccountAddr, PublicKey: out.PublicKey, AttestedBy: who,
	}, nil
}

// Sign asks for a signature, waits for it and verifies it. Errors are those of
// Keygen, ErrBadSignature, and those of pubkey.Digest for data that cannot be
// signed, before anybody is asked.
func (c *Client) Sign(ctx context.Context, r SignRequest) (Signature, error) {
	if r.RequestID == "" {
		r.RequestID = c.requestID()
	}
	if err := r.check(); err != nil {
		return Signature{}, err
	}
	if err := c.signSigning(ctx, &r); err != nil {
		return Signature{}, err
	}
	w := &waiter{kind: KindSign, requestID: r.RequestID, keyID: r.KeyID, sessionID: r.SessionID}
	p, err := c.await(ctx, w, r.wire())
	if err != nil {
		return Signature{}, err
	}
	return signed(r, p.(*wire.SignComplete))
}

// signed checks the outcome of a signing.
func signed(r SignRequest, out *wire.SignComplete) (Signature, error) {
	if out.Status != wire.StatusSuccess {
		return Signature{}, &OutcomeError{
			Kind: KindSign, SessionID: out.SessionID, KeyID: r.KeyID, Status: out.Status, Reason: out.Reason, Culprits: out.Culprits,
		}
	}
	s, err := verified(r, out)
	if err != nil {
		return Signature{}, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return s, nil
}

// verified checks a signature against the request, and against the server's word
// only for what the request leaves open.
func verified(r SignRequest, out *wire.SignComplete) (Signature, error) {
	address := out.AccountAddr
	if r.AccountAddr != "" {
		address = r.AccountAddr
	}
	curve, address, err := curveOf(address)
	if err != nil {
		return Signature{}, err
	}
	digest, hash, err := pubkey.Digest(curve, r.Data, r.Hash)
	if err != nil {
		return Signature{}, err
	}
	sig, err := pubkey.Decode(out.Signature)
	if err != nil {
		return Signature{}, err
	}
	whole, pub, err := curve.CompleteFor(address, digest, sig)
	if err != nil {
		return Signature{}, err
	}
	return Signature{
		KeyID: r.KeyID, SessionID: out.SessionID, Curve: curve, AccountAddr: address, PublicKey: pubkey.Encode(pub),
		Data: r.Data, Hash: hash, Digest: pubkey.Encode(digest), Signature: pubkey.Encode(whole), Culprits: out.Culprits,
	}, nil
}

// curveOf returns the curve that an account address is of, and its canonical
// form: an Ethereum address begins with 0x, which no base58 text does.
func curveOf(address string) (pubkey.Curve, string, error) {
	for _, curve := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		if canonical, err := curve.ParseAddress(address); err == nil {
			return curve, canonical, nil
		}
	}
	return "", "", errors.New("the account address is one of no known curve")
}

// Cancel ends a session of this coordinator's. It returns when the server has
// done so, or why it does not.
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
		c.courier.take(w.requestID) // a caller that has left does not mean it any more
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

// begun notes which session a request has become.
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
		c.emit(Requested{Kind: found.kind, SessionID: ack.SessionID, KeyID: found.keyID})
	}
}

func (c *Client) refusedRequest(requestID string, e *wire.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		if w.requestID == requestID {
			select {
			case w.refused <- e:
			default: // told before
			}
		}
	}
}

// ended hands an outcome to those who wait for it: by the request it answers, by
// its session, or, for a request whose acknowledgement has not come yet, a
// keygen by its key.
func (c *Client) ended(kind Kind, requestID, sessionID, keyID string, p wire.Payload) {
	c.courier.take(requestID) // an outcome acknowledges the request as well
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		mine := w.requestID == requestID || w.sessionID != "" && w.sessionID == sessionID ||
			kind == KindKeygen && w.sessionID == "" && w.keyID == keyID
		if w.kind != kind || w.keyID != keyID || !mine {
			continue
		}
		select {
		case w.outcome <- p:
		default: // told before
		}
	}
}
