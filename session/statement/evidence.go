package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

const (
	evidenceVersion  = 2
	maxEvidenceBytes = 8 << 20
)

// Evidence proves to anyone, without the run's participants, that one party of a run
// has signed two different messages where it may sign one. It holds everything the
// signatures are bound to and nothing secret; the digest, on ed25519 the message
// itself, is part of it.
//
// Its identities are those the run was bound to. The reader must compare them with
// pinned ones: anyone can make evidence against an identity of their own making.
type Evidence struct {
	// Version is the format's: 2, or 1, which has no epochs.
	Version int `json:"version"`
	// Protocol is "keygen", "sign" or "reshare".
	Protocol string `json:"protocol"`
	// The rest of the [Run].
	SessionID  string            `json:"session_id"`
	Attempt    int               `json:"attempt"`
	KeyID      string            `json:"key_id"`
	Epoch      int               `json:"epoch,omitempty"` // left out in version 1
	Curve      pubkey.Curve      `json:"curve"`
	Threshold  int               `json:"threshold"`
	TotalParts int               `json:"total_parts"`
	Parties    []identity.Member `json:"parties"`
	// Digest and PublicKey are 0x hex, both empty in key generation, Digest in a reshare.
	Digest    string `json:"digest,omitempty"`
	PublicKey string `json:"public_key,omitempty"`
	// Old is the old committee of a reshare, nil otherwise.
	Old *EvidenceFrom `json:"old,omitempty"`
	// Round, From and To are the place: the name of the message type and part indexes,
	// with To 0 for a broadcast.
	Round string `json:"round"`
	From  int    `json:"from"`
	To    int    `json:"to"`
	// First and Second are the two messages that From signed.
	First  SignedCopy `json:"first"`
	Second SignedCopy `json:"second"`
}

// EvidenceFrom is a [From] in an [Evidence].
type EvidenceFrom struct {
	Epoch       int    `json:"epoch"`
	Threshold   int    `json:"threshold"`
	TotalParts  int    `json:"total_parts"`
	Certificate string `json:"certificate"` // 0x hex of 32 bytes
}

// SignedCopy is one message of an [Evidence].
type SignedCopy struct {
	// Hash is the SHA-256 of the message's Body: the signed content.
	Hash []byte `json:"hash"`
	Sig  []byte `json:"sig"`
	// Body is set if the evidence's maker had the message itself, and not only another
	// party's echo of it. The proof does not need it.
	Body []byte `json:"body,omitempty"`
}

// NewEvidence returns evidence that the sender at a place of a run has signed two
// different messages for it. It does not verify them.
func NewEvidence(r *Run, place Place, first, second SignedCopy) *Evidence {
	e := &Evidence{
		Version: evidenceVersion, Protocol: r.Kind,
		SessionID: r.SessionID, Attempt: r.Attempt, KeyID: r.KeyID, Epoch: r.Epoch, Curve: r.Curve,
		Threshold: r.Threshold, TotalParts: r.TotalParts, Parties: append([]identity.Member(nil), r.Parties...),
		Round: place.Round, From: place.From, To: place.To, First: first, Second: second,
	}
	if r.Kind == Sign {
		e.Digest = pubkey.Encode(r.Digest)
	}
	if r.Kind != Keygen {
		e.PublicKey = pubkey.Encode(r.PublicKey)
	}
	if r.From != nil {
		e.Old = &EvidenceFrom{r.From.Epoch, r.From.Threshold, r.From.TotalParts, pubkey.Encode(r.From.Certificate[:])}
	}
	return e
}

// Marshal returns the evidence as JSON.
func (e *Evidence) Marshal() ([]byte, error) { return json.MarshalIndent(e, "", "  ") }

// ParseEvidence reads what [Evidence.Marshal] wrote. It does not verify it.
func ParseEvidence(data []byte) (*Evidence, error) {
	if len(data) > maxEvidenceBytes {
		return nil, errors.New("read evidence: too large")
	}
	var e Evidence
	if err := codec.StrictJSON(data, &e); err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	return &e, nil
}

// Verify checks the evidence and returns the party that it convicts. It needs only the
// evidence. After an error the evidence proves nothing about any party.
func (e *Evidence) Verify() (culprit identity.Member, err error) {
	if err := e.verify(&culprit); err != nil {
		return identity.Member{}, fmt.Errorf("verify evidence: %w", err)
	}
	return culprit, nil
}

func (e *Evidence) verify(culprit *identity.Member) error {
	if e.Version != evidenceVersion && e.Version != 1 {
		return fmt.Errorf("format %d is not known", e.Version)
	}
	run, err := e.run()
	if err != nil {
		return err
	}
	rounds := run.Rounds()
	i := slices.IndexFunc(rounds, func(rd Round) bool { return rd.Name == e.Round })
	if i < 0 {
		return errors.New("such a run has no such message")
	}
	rd := &rounds[i]
	from, to := run.Member(e.From), run.Member(e.To)
	if from == nil || rd.P2P != (to != nil) || !rd.P2P && e.To != 0 || from == to ||
		!rd.SentBy(run.Side(e.From)) || to != nil && !rd.SentTo(run.Side(e.To)) {
		return errors.New("such a run has no message from and to these parts")
	}
	if bytes.Equal(e.First.Hash, e.Second.Hash) {
		return errors.New("the two messages are the same")
	}
	place := Place{Context: run.Context(), Round: rd.Name, From: e.From, To: e.To}
	for _, c := range []SignedCopy{e.First, e.Second} {
		if len(c.Hash) != sha256.Size {
			return errors.New("a hash is not whole")
		}
		hash := [sha256.Size]byte(c.Hash)
		if !from.Identity.Verify(place.Message(hash), c.Sig) {
			return fmt.Errorf("a message is not signed by part %d", e.From)
		}
		if len(c.Body) > 0 && sha256.Sum256(c.Body) != hash {
			return errors.New("a message is not the one that was signed")
		}
	}
	*culprit = *from
	return nil
}

// run rebuilds the run that the signatures are bound to. It returns an error if no run
// can have these values.
func (e *Evidence) run() (*Run, error) {
	r := &Run{
		Kind: e.Protocol, SessionID: e.SessionID, Attempt: e.Attempt, KeyID: e.KeyID, Epoch: e.Epoch, Curve: e.Curve,
		Threshold: e.Threshold, TotalParts: e.TotalParts, Parties: e.Parties,
	}
	if e.Version == 1 {
		if e.Epoch != 0 || r.Kind == Reshare {
			return nil, errors.New("format 1 has no epochs")
		}
		r.Epoch, r.v1 = 1, true
	}
	if r.Kind != Keygen && r.Kind != Sign && r.Kind != Reshare {
		return nil, errors.New("such a protocol is not known")
	}
	if e.Old != nil {
		certificate, err := pubkey.Decode(e.Old.Certificate)
		if err != nil || len(certificate) != sha256.Size {
			return nil, errors.New("the hash of the old certificate is not whole")
		}
		r.From = &From{e.Old.Epoch, e.Old.Threshold, e.Old.TotalParts, [32]byte(certificate)}
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.Kind == Keygen {
		if e.Digest != "" || e.PublicKey != "" {
			return nil, errors.New("a key generation has no digest and no public key")
		}
		return r, nil
	}
	var err error
	if r.Kind == Reshare && e.Digest != "" {
		return nil, errors.New("a reshare has no digest")
	}
	if r.Kind == Sign {
		if r.Digest, err = pubkey.Decode(e.Digest); err != nil {
			return nil, fmt.Errorf("digest: %w", err)
		}
	}
	if r.PublicKey, err = pubkey.Decode(e.PublicKey); err != nil {
		return nil, fmt.Errorf("public key: %w", err)
	}
	return r, nil
}
