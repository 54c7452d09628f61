package party

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

const (
	evidenceVersion  = 1
	maxEvidenceBytes = 8 << 20
)

// Evidence shows to anybody, without help from those who took part, that one
// party of a run has signed two different messages where it may sign one. It
// holds all that the signatures are bound to and nothing secret; the digest, on
// ed25519 the message itself, is part of it.
//
// Its identities are what the run was bound to. Whether these are the people
// one knows is for the reader to check, against what is pinned: anybody can make
// evidence against an identity of their own making.
type Evidence struct {
	// Version is the format's, 1.
	Version int `json:"version"`
	// Protocol is "keygen" or "sign".
	Protocol string `json:"protocol"`
	// The rest of the run's [Binding].
	SessionID  string       `json:"session_id"`
	Attempt    int          `json:"attempt"`
	KeyID      string       `json:"key_id"`
	Curve      pubkey.Curve `json:"curve"`
	Threshold  int          `json:"threshold"`
	TotalParts int          `json:"total_parts"`
	Parties    []Member     `json:"parties"`
	// Digest and PublicKey are 0x hex, empty in key generation.
	Digest    string `json:"digest,omitempty"`
	PublicKey string `json:"public_key,omitempty"`
	// Round, From and To are the place: the name of the message type and part
	// indexes, To being 0 for a broadcast.
	Round string `json:"round"`
	From  int    `json:"from"`
	To    int    `json:"to"`
	// First and Second are what From signed.
	First  SignedCopy `json:"first"`
	Second SignedCopy `json:"second"`
}

// SignedCopy is one message of an [Evidence].
type SignedCopy struct {
	// Hash is the SHA-256 of the message's Body: what is signed.
	Hash []byte `json:"hash"`
	Sig  []byte `json:"sig"`
	// Body is there if whoever kept the evidence had the message itself, and not
	// only the echo of somebody who had it. The proof does not need it.
	Body []byte `json:"body,omitempty"`
}

func signedCopy(m *Message) SignedCopy {
	hash := sha256.Sum256(m.Body)
	return SignedCopy{Hash: hash[:], Sig: bytes.Clone(m.Sig), Body: bytes.Clone(m.Body)}
}

// proofOf makes evidence of two authentic messages for one place.
func (r *Run) proofOf(a, b *Message) *Evidence {
	return r.evidence(roundByCode(r.envelope.rounds, a.Body[1]), a.From, a.To, signedCopy(a), signedCopy(b))
}

func (r *Run) evidence(rd *round, from, to int, first, second SignedCopy) *Evidence {
	b := &r.binding
	e := &Evidence{
		Version: evidenceVersion, Protocol: string(r.kind),
		SessionID: b.SessionID, Attempt: b.Attempt, KeyID: b.KeyID, Curve: b.Curve,
		Threshold: b.Threshold, TotalParts: b.TotalParts, Parties: append([]Member(nil), b.Parties...),
		Round: rd.name, From: from, To: to, First: first, Second: second,
	}
	if r.kind == kindSign {
		e.Digest, e.PublicKey = pubkey.Encode(r.digest), pubkey.Encode(r.publicKey)
	}
	return e
}

// Marshal returns the evidence as JSON.
func (e *Evidence) Marshal() ([]byte, error) { return json.MarshalIndent(e, "", "  ") }

// UnmarshalEvidence reads what [Evidence.Marshal] wrote. It does not verify it.
func UnmarshalEvidence(data []byte) (*Evidence, error) {
	if len(data) > maxEvidenceBytes {
		return nil, errors.New("read evidence: too large")
	}
	var e Evidence
	if err := strictJSON(data, &e); err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	return &e, nil
}

// Verify checks the evidence by itself and returns whom it convicts. It needs
// nothing but the evidence and asks nobody. An error means that it shows nothing
// about anybody.
func (e *Evidence) Verify() (culprit Member, err error) {
	if err := e.verify(&culprit); err != nil {
		return Member{}, fmt.Errorf("verify evidence: %w", err)
	}
	return culprit, nil
}

func (e *Evidence) verify(culprit *Member) error {
	if e.Version != evidenceVersion {
		return fmt.Errorf("format %d is not known", e.Version)
	}
	context, err := e.context()
	if err != nil {
		return err
	}
	rd := roundByName(roundsAmong(kind(e.Protocol), e.Curve, len(e.Parties)), e.Round)
	if rd == nil {
		return errors.New("such a run has no such message")
	}
	b := Binding{Parties: e.Parties}
	from, to := b.member(e.From), b.member(e.To)
	if from == nil || rd.p2p != (to != nil) || !rd.p2p && e.To != 0 || from == to {
		return errors.New("such a run has no message from and to these parts")
	}
	if bytes.Equal(e.First.Hash, e.Second.Hash) {
		return errors.New("the two messages are the same")
	}
	for _, c := range []SignedCopy{e.First, e.Second} {
		if len(c.Hash) != sha256.Size {
			return errors.New("a hash is not whole")
		}
		hash := [sha256.Size]byte(c.Hash)
		if !ed25519.Verify(from.Identity.sign[:], statement(context, rd.name, e.From, e.To, hash), c.Sig) {
			return fmt.Errorf("a message is not signed by part %d", e.From)
		}
		if len(c.Body) > 0 && sha256.Sum256(c.Body) != hash {
			return errors.New("a message is not the one that was signed")
		}
	}
	*culprit = *from
	return nil
}

// context rebuilds what the run was bound to, from a binding that a run can have.
func (e *Evidence) context() (none [sha256.Size]byte, err error) {
	b := Binding{
		SessionID: e.SessionID, Attempt: e.Attempt, KeyID: e.KeyID, Curve: e.Curve,
		Threshold: e.Threshold, TotalParts: e.TotalParts, Parties: e.Parties,
	}
	k := kind(e.Protocol)
	if k != kindKeygen && k != kindSign {
		return none, errors.New("such a protocol is not known")
	}
	if err := b.checkRun(k); err != nil {
		return none, err
	}
	var digest, publicKey []byte
	if k == kindSign {
		if digest, err = pubkey.Decode(e.Digest); err != nil {
			return none, fmt.Errorf("digest: %w", err)
		}
		if publicKey, err = pubkey.Decode(e.PublicKey); err != nil {
			return none, fmt.Errorf("public key: %w", err)
		}
	} else if e.Digest != "" || e.PublicKey != "" {
		return none, errors.New("a key generation has no digest and no public key")
	}
	return b.context(k, digest, publicKey), nil
}
