package client

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A coordinator with an identity signs what it asks for; a participant checks
// that what it is shown, all of it, is what was signed. See statement.Request.

// requestLife is how long a signed request holds that sets no limit itself.
const requestLife = time.Hour

// Signer is who has signed a request that an invitation shows.
type Signer struct {
	// Fingerprint is that of the coordinator's identity.
	Fingerprint string `json:"fingerprint"`
	// Pinned says that the identity was pinned by hand. Otherwise it is the one of
	// the coordinator's earlier requests, or, if First, this is the first one and
	// nobody but the server says whose it is.
	Pinned bool `json:"pinned"`
	First  bool `json:"first"`
	// IssuedAt and ExpiresAt are signed too.
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Nonce     string    `json:"nonce"` // hex

	identity identity.Public
}

// sign signs a request of a coordinator's.
func sign(id *identity.Identity, user string, r statement.Request, life time.Duration) (string, error) {
	r.Coordinator = user
	if life <= 0 {
		life = requestLife
	}
	now := time.Now()
	s, err := r.Sign(id, now, now.Add(life+time.Second)) // the second is lost to rounding
	if err != nil {
		return "", err
	}
	return s.String(), nil
}

// awaitUser waits until the token, which names the user, has been read.
func (c *Client) awaitUser(ctx context.Context) error {
	if c.User() != "" {
		return nil
	}
	return c.WaitConnected(ctx)
}

// signKeygen fills in SignedRequest, if this client signs.
func (c *Client) signKeygen(r *KeygenRequest, curve pubkey.Curve) error {
	if c.cfg.Identity == nil || r.SignedRequest != "" {
		return nil
	}
	return signKeygen(c.cfg.Identity, c.User(), r, curve)
}

// signKeygen fills in the SignedRequest of a request that is valid.
func signKeygen(id *identity.Identity, user string, r *KeygenRequest, curve pubkey.Curve) (err error) {
	r.Curve = curve
	r.SignedRequest, err = sign(id, user, statement.Request{
		Kind: string(KindKeygen), KeyID: r.KeyID, Curve: curve, Threshold: r.Threshold, Participants: r.Participants,
	}, r.ExpiresIn)
	return err
}

// errAddressless is returned for a request that cannot be signed.
var errAddressless = errors.New("client: to sign a request the key's account address must be known: set AccountAddr")

// signSigning fills in SignedRequest, and what must be known to sign it, if this
// client signs.
func (c *Client) signSigning(ctx context.Context, r *SignRequest) error {
	if c.cfg.Identity == nil || r.SignedRequest != "" {
		return nil
	}
	if err := r.wire().Validate(); err != nil {
		return err
	}
	if err := c.awaitUser(ctx); err != nil {
		return err
	}
	return signSigning(c.cfg.Identity, c.User(), r)
}

// signSigning fills in the SignedRequest of a request that is valid, and what
// must be known to sign it.
func signSigning(id *identity.Identity, user string, r *SignRequest) error {
	if r.AccountAddr == "" {
		return errAddressless
	}
	curve, address, err := curveOf(r.AccountAddr)
	if err != nil {
		return err
	}
	digest, hash, err := pubkey.Digest(curve, r.Data, r.Hash)
	if err != nil {
		return err
	}
	r.AccountAddr, r.Hash = address, string(hash)
	if r.SessionID == "" {
		// The server derives the same one; but what is signed must be known before.
		r.SessionID = wire.SigningID(user, r.KeyID, r.RequestID)
	}
	r.SignedRequest, err = sign(id, user, statement.Request{
		Kind: string(KindSign), SessionID: r.SessionID, KeyID: r.KeyID, Curve: curve, Participants: r.Participants,
		Data: r.Data, Hash: r.Hash, Digest: pubkey.Encode(digest), AccountAddr: address,
	}, r.ExpiresIn)
	return err
}

// request is what a coordinator must have signed for an invitation. The
// invitation has been checked: hash and digest are filled in.
func (inv Invitation) request() statement.Request {
	r := statement.Request{
		Kind: string(inv.Kind), Coordinator: inv.Coordinator, SessionID: inv.SessionID, KeyID: inv.KeyID, Curve: inv.Curve,
		Threshold: inv.Threshold, Participants: inv.Participants,
		Data: inv.Data, Hash: inv.Hash, Digest: inv.Digest, AccountAddr: inv.AccountAddr,
	}
	if inv.Kind == KindKeygen {
		r.SessionID = "" // the server names it
	} else {
		r.Threshold = 0 // the key has it
	}
	return r
}

// checkSigner checks the signature over an invitation, and returns the
// invitation with its Signer. Holders are those of the key, nil if there is no
// share of it here. What is not signed is let pass, without a Signer, unless its
// coordinator is known to sign.
func (p *participant) checkSigner(inv Invitation, holders []string) (Invitation, error) {
	known, ok, err := p.known(inv.Coordinator)
	if err != nil {
		return inv, err
	}
	if inv.SignedRequest == "" {
		if p.c.cfg.PinnedOnly || ok && known.Pinned {
			return inv, fmt.Errorf("%s has not signed the request", inv.Coordinator)
		}
		return inv, nil
	}
	s, err := statement.ParseSignedRequest(inv.SignedRequest)
	if err != nil {
		return inv, err
	}
	if err := errors.Join(s.Verify(inv.request(), holders), s.Current(time.Now())); err != nil {
		return inv, err
	}
	if err := admits(p.c.cfg.PinnedOnly, inv.Coordinator, known, ok, s.Identity); err != nil {
		if ok, _ := p.changes.take(time.Now()); ok {
			p.c.changed(err, inv.Kind, inv.SessionID, inv.KeyID)
		}
		return inv, fmt.Errorf("the request: %w", err)
	}
	inv.Signer = &Signer{
		Fingerprint: s.Identity.Fingerprint(), Pinned: ok && known.Pinned, First: !ok,
		IssuedAt: s.IssuedAt, ExpiresAt: s.ExpiresAt, Nonce: hex.EncodeToString(s.Nonce[:]), identity: s.Identity,
	}
	if inv.Deadline.IsZero() || inv.Deadline.After(s.ExpiresAt) {
		inv.Deadline = s.ExpiresAt
	}
	return inv, nil
}

func usedBefore(session string) error {
	return fmt.Errorf("the signed request was used before, in session %s", session)
}

// claimMargin is how long a used request is remembered beyond its expiry.
const claimMargin = 24 * time.Hour

// stillHolds refuses to begin what was asked for a time that is over: a server
// could keep an approval back until it suits somebody.
func stillHolds(inv Invitation) error {
	if inv.SignedRequest == "" {
		return nil
	}
	s, err := statement.ParseSignedRequest(inv.SignedRequest)
	if err != nil {
		return err
	}
	return s.Current(time.Now())
}

// usersOf lists the users of a key's parties.
func usersOf(members []identity.Member) []string {
	users := make([]string, len(members))
	for i, m := range members {
		users[i] = m.User
	}
	return slices.Clip(users)
}

// errNoRequestID is returned by Body.
var errNoRequestID = errors.New("client: a request that another program sends needs a RequestID, which it sends as Idempotency-Key")

// Body returns the JSON body of POST /v1/keys/{key_id}/signatures?start=true by which a
// program without this package asks for the signature as user, signed by that
// user's identity. The program must send RequestID as Idempotency-Key. AccountAddr must be known. The
// body holds for ExpiresIn, or an hour. It asks no server. Errors are those of
// [API.Sign] before it asks anybody.
func (r SignRequest) Body(user string, id *identity.Identity) ([]byte, error) {
	if r.RequestID == "" {
		return nil, errNoRequestID
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	if err := signSigning(id, user, &r); err != nil {
		return nil, err
	}
	return json.Marshal(r.wire())
}

// Body returns the JSON body of POST /v1/keys?start=true, as [SignRequest.Body] does. A
// KeyID that is empty becomes the one that the server derives from user and
// RequestID.
func (r KeygenRequest) Body(user string, id *identity.Identity) ([]byte, error) {
	if r.RequestID == "" {
		return nil, errNoRequestID
	}
	if r.KeyID == "" {
		r.KeyID = wire.TaskKeyID(user, r.RequestID)
	}
	curve, err := r.complete()
	if err != nil {
		return nil, err
	}
	if err := signKeygen(id, user, &r, curve); err != nil {
		return nil, err
	}
	return json.Marshal(r.wire())
}
