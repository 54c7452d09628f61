package participant

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// request returns the request that a coordinator must have signed for an
// invitation. The invitation has been checked: hash and digest are filled in.
func (inv Invitation) request() statement.Request {
	r := statement.Request{
		Kind: string(inv.Kind), Coordinator: inv.Coordinator, SessionID: inv.SessionID, KeyID: inv.KeyID, Curve: inv.Curve,
		Threshold: inv.Threshold, Participants: inv.Participants,
		Data: inv.Data, Hash: inv.Hash, Digest: inv.Digest, AccountAddr: inv.AccountAddr,
	}
	switch inv.Kind {
	case request.KindKeygen:
		r.SessionID = "" // the server chooses it
	case request.KindReshare:
		r.Participants, r.Parent, r.Epoch = nil, inv.Reshare.Parent, inv.Reshare.From.Epoch
		r.Members, _ = inv.Reshare.members() // checked before; without members no request is valid
	default:
		r.Threshold, r.Epoch = 0, inv.MinEpoch // the threshold is the key's
	}
	return r
}

// checkSigner checks the signature over an invitation, and returns the invitation
// with its Signer. Holders are those of the key, nil without a share of it here.
// Unsigned requests pass, without a Signer, unless their coordinator is known to
// sign.
func (p *participant) checkSigner(inv Invitation, holders []string) (Invitation, error) {
	known, ok, err := p.known(inv.Coordinator)
	if err != nil {
		return inv, err
	}
	if inv.SignedRequest == "" {
		if p.cfg.Trust.PinnedOnly || ok && known.Pinned {
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
	if err := p.cfg.Trust.Admit(inv.Coordinator, known, ok, s.Identity); err != nil {
		if ok, _ := p.changes.Take(time.Now()); ok {
			p.link.IdentityChanged(err, inv.Kind, inv.SessionID, inv.KeyID)
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

// stillHolds refuses to begin a request after its time: a server could delay an
// approval until it benefits someone.
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
