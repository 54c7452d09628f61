// Package request defines a coordinator's requests, how they are signed, and how
// their outcomes are checked. It does no I/O: packages client and rest send the
// requests, and give their types other names.
//
// Start here: [Keygen] and [Sign] are the requests, [Key] and [Signature] the
// results. A program that sends a request by its own means signs its body with
// [Sign.Body] or [Keygen.Body]. An [Asker] prepares requests, and the prepared
// requests check their outcomes.
//
// A signature is verified against the request, and a key against its participants'
// attestations. The server is trusted only for values that the request leaves open.
package request

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Keygen requests a new key.
type Keygen struct {
	// KeyID names the key. Zero value means a new random one. Repeating the request
	// with the same KeyID joins the same keygen, unless that has failed.
	KeyID string
	// Threshold is how many must sign: 2 to len(Participants).
	Threshold int
	// Participants are user ids; the first is part 1.
	Participants []string
	// Curve zero value means secp256k1.
	Curve pubkey.Curve
	// RequestID makes the request idempotent, even after the keygen has failed: a
	// repetition returns the same outcome. Zero value means a new one.
	RequestID string
	// ExpiresIn limits the session, to the second. Zero value means the server's
	// own deadlines.
	ExpiresIn time.Duration
	// SignedRequest is passed to the participants. Zero value means that one is
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

	// AttestedBy are all participants, in the order of their parts, or empty: then
	// only the server vouches for the address. See [Key.Attested].
	AttestedBy []trust.Attestor `json:"attested_by"`
}

// Attested reports whether all participants have attested the key, with identities
// that were known before.
func (k Key) Attested() bool {
	return len(k.AttestedBy) > 0 && !slices.ContainsFunc(k.AttestedBy, func(a trust.Attestor) bool { return a.First })
}

// Sign requests a signature.
type Sign struct {
	KeyID string
	// AccountAddr is the key's. With it the server need not be trusted for the key;
	// zero value means to trust it, which a request to be signed cannot.
	AccountAddr string
	// MinEpoch is the latest epoch of the key that the coordinator knows. A signed
	// request is valid under that epoch and later ones only. Zero value means every one.
	MinEpoch int
	// Data is 0x and hex, or text; Hash is its hash function. See pubkey.Digest.
	Data, Hash string
	// Participants are the user ids to invite. Zero value means every holder.
	Participants []string
	// RequestID makes the request idempotent: a repetition is the same signing.
	// Zero value means a new one.
	RequestID string
	// SessionID is one that the server has reserved for this request
	// (ReserveSigning of package rest). Zero value means the one computed from the
	// user, KeyID and RequestID ([wire.SigningID]). A server refuses any other.
	SessionID string
	// ExpiresIn limits the session, to the second. Zero value means the server's
	// own deadlines.
	ExpiresIn time.Duration
	// SignedRequest is passed to the participants. Zero value means that one is
	// made with Config.Identity, if there is one.
	SignedRequest string
}

// Signature is a verified signature.
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

	// Culprits are the part indexes of parties blamed and replaced during the
	// signing, as claimed by others.
	Culprits []int `json:"culprits,omitempty"`
}

// Wire returns the message that requests the key.
func (r Keygen) Wire() *wire.KeygenRequest {
	return &wire.KeygenRequest{
		KeyID: r.KeyID, Threshold: r.Threshold, TotalParts: len(r.Participants), Participants: r.Participants,
		Curve: string(r.Curve), ExpiresIn: seconds(r.ExpiresIn), SignedRequest: r.SignedRequest,
	}
}

// Wire returns the message that requests the signature.
func (r Sign) Wire() *wire.SignRequest {
	return &wire.SignRequest{
		KeyID: r.KeyID, Data: r.Data, AccountAddr: r.AccountAddr, Participants: r.Participants, SessionID: r.SessionID,
		Hash: r.Hash, MinEpoch: r.MinEpoch, ExpiresIn: seconds(r.ExpiresIn), SignedRequest: r.SignedRequest,
	}
}

// Check refuses, before anything is sent, requests that the server would refuse and
// ambiguous ones: it returns a [*wire.Error], or one of package pubkey's errors.
func (r Sign) Check() error {
	if err := r.Wire().Validate(); err != nil {
		return err
	}
	curve, _, err := pubkey.CurveOf(r.AccountAddr)
	if err != nil { // the server knows the curve; any unambiguous data will do
		_, _, err = pubkey.Digest(pubkey.Ed25519, r.Data, "")
		return err
	}
	_, _, err = pubkey.Digest(curve, r.Data, r.Hash)
	return err
}

// seconds rounds up, so that a short limit does not become 0.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// Check refuses, before anything is sent, requests that the server would refuse: it
// returns a [*wire.Error], or an error of package pubkey.
func (r Keygen) Check() error {
	_, err := r.complete()
	return err
}

// complete names a key without a name, and checks the request.
func (r *Keygen) complete() (pubkey.Curve, error) {
	if r.KeyID == "" {
		r.KeyID = "key-" + rand.Text()
	}
	curve, err := pubkey.ParseCurve(string(r.Curve))
	if err == nil {
		err = r.Wire().Validate()
	}
	return curve, err
}

// PreparedKeygen is a request for a key, ready to be sent.
type PreparedKeygen struct {
	Request Keygen // with its KeyID, and signed if it is to be
	curve   pubkey.Curve
	keys    trust.KeyVerifier
}

// Result checks the outcome of the keygen. The session is the request's, "" if the
// server has not sent it: the outcome may name another.
func (p *PreparedKeygen) Result(session string, out *wire.KeygenConfirm) (Key, error) {
	r, curve := p.Request, p.curve
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
	who, err := p.keys.Verify(statement.Attested{
		SessionID: session, KeyID: r.KeyID, Curve: curve, Threshold: r.Threshold, Participants: r.Participants,
		AccountAddr: out.AccountAddr, PublicKey: out.PublicKey,
	}, out.Attestations)
	if err != nil {
		return Key{}, err
	}
	return Key{
		KeyID: r.KeyID, SessionID: session, Curve: curve, AccountAddr: out.AccountAddr, PublicKey: out.PublicKey, AttestedBy: who,
	}, nil
}

// PreparedSign is a request for a signature, ready to be sent.
type PreparedSign struct {
	Request Sign // signed if it is to be
}

// Result checks the outcome of the signing, and the signature against the request.
func (p *PreparedSign) Result(out *wire.SignComplete) (Signature, error) {
	r := p.Request
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

// verified checks a signature against the request, and against the server's values
// only where the request leaves them open.
func verified(r Sign, out *wire.SignComplete) (Signature, error) {
	address := out.AccountAddr
	if r.AccountAddr != "" {
		address = r.AccountAddr
	}
	curve, address, err := pubkey.CurveOf(address)
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
