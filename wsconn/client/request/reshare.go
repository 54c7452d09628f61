package request

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Reshare requests a new epoch of a key: new shares for a committee, which may be
// another one than before. [Refresh] and [Replace] return common ones. It needs an
// identity, with which it is signed.
type Reshare struct {
	// Lineage is the key's, as trust.CheckLineage returns it. The new epoch follows its
	// last certificate.
	Lineage *statement.Lineage
	// Threshold and Members are those of the new committee. Members are in the order of
	// their parts; an Index of 0 is filled in. Their identities must be pinned.
	Threshold int
	Members   []identity.Member
	// NewIdentities are users of Members whose identity in Members was confirmed with
	// its owner, and may differ from the pinned one: such as of a new device.
	NewIdentities []string
	// RequestID makes the request idempotent: a repetition is the same reshare. Zero
	// value means a new one.
	RequestID string
	// ExpiresIn limits the session, to the second. Zero value means the server's own
	// deadlines.
	ExpiresIn time.Duration

	sessionID     string
	signedRequest string
}

// NewEpoch is a certified epoch that a request has led to.
type NewEpoch struct {
	KeyID        string       `json:"key_id"`
	SessionID    string       `json:"session_id"`
	Curve        pubkey.Curve `json:"curve"`
	AccountAddr  string       `json:"account_addr"`
	PublicKey    string       `json:"public_key"` // 0x hex
	Epoch        int          `json:"epoch"`
	Threshold    int          `json:"threshold"`
	Participants []string     `json:"participants"`
	Certificate  string       `json:"certificate"`

	// Lineage is the key's, with the new epoch.
	Lineage *statement.Lineage `json:"-"`
}

// Refresh returns a request for new shares of the same committee.
func Refresh(l *statement.Lineage) Reshare {
	e := l.Epoch()
	return Reshare{Lineage: l, Threshold: e.Threshold, Members: slices.Clone(e.Members)}
}

// Replace returns a request for a committee in which another member has the place of
// one. The other member may be the same user with another identity.
func Replace(l *statement.Lineage, user string, by identity.Member) (Reshare, error) {
	r := Refresh(l)
	at := slices.IndexFunc(r.Members, func(m identity.Member) bool { return m.User == user })
	if at < 0 {
		return Reshare{}, fmt.Errorf("%s is not in the committee of key %s", user, l.Epoch().KeyID)
	}
	by.Index = at + 1
	r.Members[at] = by
	return r, nil
}

// Wire returns the message that requests the reshare.
func (r Reshare) Wire() *wire.ReshareRequest {
	m := &wire.ReshareRequest{
		KeyID: r.Lineage.Epoch().KeyID, Threshold: r.Threshold, TotalParts: len(r.Members), SessionID: r.sessionID,
		ExpiresIn: seconds(r.ExpiresIn), SignedRequest: r.signedRequest,
	}
	for _, member := range r.Members {
		m.Participants = append(m.Participants, wire.Party{PartIndex: member.Index, UserID: member.User, Identity: member.Identity.String()})
	}
	return m
}

// complete numbers the members.
func (r *Reshare) complete() error {
	if r.Lineage == nil {
		return errors.New("client: a reshare needs the lineage of the key")
	}
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		if r.Members[i].Index == 0 {
			r.Members[i].Index = i + 1
		}
	}
	return nil
}

// PreparedReshare is a request for a new epoch, ready to be sent.
type PreparedReshare struct {
	Request Reshare // signed
	user    string
}

// errUnsigned is returned for a reshare by a coordinator without an identity.
var errUnsigned = errors.New("client: a reshare must be signed: the identity is missing")

// Reshare prepares a request for a new epoch: it returns ErrNotPinned if a new member's
// identity is not pinned, checks the request, and signs it.
func (a Asker) Reshare(r Reshare) (*PreparedReshare, error) {
	if a.Identity == nil {
		return nil, errUnsigned
	}
	if err := r.complete(); err != nil {
		return nil, err
	}
	for _, m := range r.Members {
		if err := a.mayEnter(r, m); err != nil {
			return nil, err
		}
	}
	e := r.Lineage.Epoch()
	link := r.Lineage.Head().Link()
	r.sessionID = wire.ReshareID(a.User, e.KeyID, r.RequestID)
	var err error
	if r.signedRequest, err = sign(a.Identity, a.User, statement.Request{
		Kind: string(KindReshare), SessionID: r.sessionID, KeyID: e.KeyID, Epoch: link.Number, Curve: e.Curve, Threshold: r.Threshold,
		Members: r.Members, AccountAddr: e.AccountAddr, Parent: link.Hash.String(),
	}, r.ExpiresIn); err != nil {
		return nil, err
	}
	if err := r.Wire().Validate(); err != nil {
		return nil, err
	}
	return &PreparedReshare{r, a.User}, nil
}

// mayEnter refuses a member whose identity is not pinned: a captured server must not put
// its own people into a committee.
func (a Asker) mayEnter(r Reshare, m identity.Member) error {
	if m.User == a.User && m.Identity == a.Identity.Public() || slices.Contains(r.NewIdentities, m.User) {
		return nil
	}
	known, ok, err := a.Trust.Look(m.User)
	if err != nil {
		return fmt.Errorf("known identities: %w", err)
	}
	policy := trust.Policy{PinnedOnly: true}
	return policy.Admit(m.User, known, ok, m.Identity)
}

// Result checks the outcome of the reshare: the certificate, with the lineage that it
// follows, and that it is of the requested epoch.
func (p *PreparedReshare) Result(out *wire.ReshareConfirm) (NewEpoch, error) {
	r, old := p.Request, p.Request.Lineage.Epoch()
	if out.Status != wire.StatusSuccess {
		return NewEpoch{}, &OutcomeError{
			Kind: KindReshare, SessionID: out.SessionID, KeyID: old.KeyID, Status: out.Status, Reason: out.Reason, Culprits: out.Culprits,
		}
	}
	c, err := statement.ParseCertificate(out.Certificate)
	if err != nil {
		return NewEpoch{}, fmt.Errorf("%w: %w", ErrNotCertified, err)
	}
	next, err := r.Lineage.Next(c)
	if err != nil {
		return NewEpoch{}, fmt.Errorf("%w: %w", ErrNotCertified, err)
	}
	e := next.Epoch()
	if e.SessionID != r.sessionID || e.Coordinator != p.user || e.Threshold != r.Threshold || !slices.Equal(e.Members, r.Members) {
		return NewEpoch{}, fmt.Errorf("%w: epoch %d is not the requested one", ErrNotCertified, e.Number)
	}
	done := NewEpoch{
		KeyID: e.KeyID, SessionID: e.SessionID, Curve: e.Curve, AccountAddr: e.AccountAddr, PublicKey: e.PublicKey, Epoch: e.Number,
		Threshold: e.Threshold, Certificate: c.String(), Lineage: next,
	}
	for _, m := range e.Members {
		done.Participants = append(done.Participants, m.User)
	}
	return done, nil
}

// ErrNotCertified is returned for a reshare that the server reports as successful
// without a certificate of the requested epoch. The key's former epoch counts.
var ErrNotCertified = errors.New("client: the new epoch is not certified")
