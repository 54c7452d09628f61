package request

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Asker is the requesting coordinator: with an identity it signs its requests. See
// statement.Request.
type Asker struct {
	User string
	// Identity signs the requests. Nil means that they are not signed, so that only
	// participants with a person who decides approve them.
	Identity *identity.Identity
	// Trust decides whose attestations of a new key are accepted.
	Trust trust.Policy
}

// Keygen prepares a request for a key: it names and checks it, returns
// ErrNotPinned if the outcome could not be accepted, and signs it unless it is
// signed. Errors are those of [Keygen.Check] as well.
func (a Asker) Keygen(r Keygen) (*PreparedKeygen, error) {
	curve, err := r.complete()
	if err != nil {
		return nil, err
	}
	keys := trust.KeyVerifier{User: a.User, Identity: a.Identity, Trust: a.Trust}
	if err := keys.Ready(r.Participants); err != nil {
		return nil, err
	}
	if a.Identity != nil && r.SignedRequest == "" {
		if err := signKeygen(a.Identity, a.User, &r, curve); err != nil {
			return nil, err
		}
	}
	return &PreparedKeygen{r, curve, keys}, nil
}

// Sign prepares a request for a signature: it checks it, and signs it unless it is
// signed. To be signed it needs an AccountAddr and a RequestID. Errors are those
// of [Sign.Check] as well.
func (a Asker) Sign(r Sign) (*PreparedSign, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if a.Identity != nil && r.SignedRequest == "" {
		if err := signSigning(a.Identity, a.User, &r); err != nil {
			return nil, err
		}
	}
	return &PreparedSign{r}, nil
}

// requestLife is how long a signed request is valid without a limit of its own.
const requestLife = time.Hour

// sign signs a coordinator's request.
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

// signKeygen fills in the SignedRequest of a valid request.
func signKeygen(id *identity.Identity, user string, r *Keygen, curve pubkey.Curve) (err error) {
	r.Curve = curve
	r.SignedRequest, err = sign(id, user, statement.Request{
		Kind: string(KindKeygen), KeyID: r.KeyID, Curve: curve, Threshold: r.Threshold, Participants: r.Participants,
	}, r.ExpiresIn)
	return err
}

// errAddressless is returned for a request that cannot be signed.
var errAddressless = errors.New("client: to sign a request the key's account address must be known: set AccountAddr")

// signSigning fills in the SignedRequest of a valid request, and the values needed
// to sign it.
func signSigning(id *identity.Identity, user string, r *Sign) error {
	if r.AccountAddr == "" {
		return errAddressless
	}
	curve, address, err := pubkey.CurveOf(r.AccountAddr)
	if err != nil {
		return err
	}
	digest, hash, err := pubkey.Digest(curve, r.Data, r.Hash)
	if err != nil {
		return err
	}
	r.AccountAddr, r.Hash = address, string(hash)
	if r.SessionID == "" {
		// The server derives the same id; but the signed data must be known before.
		r.SessionID = wire.SigningID(user, r.KeyID, r.RequestID)
	}
	r.SignedRequest, err = sign(id, user, statement.Request{
		Kind: string(KindSign), SessionID: r.SessionID, KeyID: r.KeyID, Epoch: r.MinEpoch, Curve: curve, Participants: r.Participants,
		Data: r.Data, Hash: r.Hash, Digest: pubkey.Encode(digest), AccountAddr: address,
	}, r.ExpiresIn)
	return err
}

// Errors of Body.
var (
	errNoIdentity  = errors.New("sign request: the identity is missing")
	errNoRequestID = errors.New("client: a request that another program sends needs a RequestID, which it sends as Idempotency-Key")
)

// Body returns the JSON body of POST /v1/keys/{key_id}/signatures?start=true with
// which a program without this package requests the signature as user, signed by
// that user's identity. The program must send RequestID as Idempotency-Key.
// AccountAddr must be known. The body is valid for ExpiresIn, or an hour. It calls
// no server. Errors are those of Sign of package rest before it sends anything.
func (r Sign) Body(user string, id *identity.Identity) ([]byte, error) {
	if r.RequestID == "" {
		return nil, errNoRequestID
	}
	if id == nil {
		return nil, errNoIdentity
	}
	r.SignedRequest = ""
	p, err := Asker{User: user, Identity: id}.Sign(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(p.Request.Wire())
}

// Body returns the JSON body of POST /v1/keys?start=true, as [Sign.Body] does. An
// empty KeyID becomes the one that the server derives from user and RequestID.
func (r Keygen) Body(user string, id *identity.Identity) ([]byte, error) {
	if r.RequestID == "" {
		return nil, errNoRequestID
	}
	if id == nil {
		return nil, errNoIdentity
	}
	r.SignedRequest = ""
	if r.KeyID == "" {
		r.KeyID = wire.TaskKeyID(user, r.RequestID)
	}
	p, err := Asker{User: user, Identity: id}.Keygen(r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(p.Request.Wire())
}
