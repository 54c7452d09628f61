package statement

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// The kinds of [Request.Kind], [Run.Kind] and [Evidence.Protocol].
const (
	Keygen  = "keygen"
	Sign    = "sign"
	Reshare = "reshare"
)

// Run is everything that the round messages of one run are bound to. Every message is
// signed, and every point-to-point body sealed, together with [Run.Context].
type Run struct {
	Kind string // Keygen or Sign
	// SessionID and Attempt identify the run and must not be reused together.
	SessionID string
	Attempt   int
	KeyID     string
	// Epoch is the epoch of the key's shares: from 1.
	Epoch int
	Curve pubkey.Curve
	// Threshold is how many parties must sign: 2 <= Threshold <= TotalParts.
	Threshold  int
	TotalParts int
	// Parties are those of this run, ascending by Index: in a key generation all
	// TotalParts, in a signing at least Threshold of them.
	Parties []identity.Member
	// Digest and PublicKey are for a signing; both are empty in a key generation.
	Digest, PublicKey []byte

	v1 bool // of the first format, without epochs
}

// Check returns an error if no run can have these values.
func (r *Run) Check() error {
	for _, id := range []string{r.SessionID, r.KeyID} {
		if id == "" || len(id) > identity.MaxNameBytes {
			return fmt.Errorf("session id and key id must be 1 to %d bytes", identity.MaxNameBytes)
		}
	}
	if r.Curve != pubkey.Secp256k1 && r.Curve != pubkey.Ed25519 {
		return pubkey.ErrCurve
	}
	if err := identity.CheckEpoch(r.Epoch); err != nil {
		return err
	}
	if r.Attempt < 0 {
		return errors.New("attempt must not be negative")
	}
	if err := identity.CheckThreshold(r.Threshold, r.TotalParts); err != nil {
		return err
	}
	if r.Kind == Keygen && len(r.Parties) != r.TotalParts {
		return fmt.Errorf("key generation needs all %d parties, not %d", r.TotalParts, len(r.Parties))
	}
	if len(r.Parties) < r.Threshold {
		return fmt.Errorf("%d parties are fewer than the threshold %d", len(r.Parties), r.Threshold)
	}
	return identity.CheckMembers(r.Parties, r.TotalParts)
}

// Member returns the party with a part index, nil if the run has none.
func (r *Run) Member(part int) *identity.Member {
	for i := range r.Parties {
		if r.Parties[i].Index == part {
			return &r.Parties[i]
		}
	}
	return nil
}

// Context is the hash that represents the whole run in signatures and seals.
func (r *Run) Context() [sha256.Size]byte {
	var t codec.Transcript
	if r.v1 {
		t.Text("conclave/party/run/v1")
	} else {
		t.Text("conclave/party/run/v2")
	}
	t.Text(r.Kind)
	t.Text(r.SessionID)
	t.Number(r.Attempt)
	t.Text(r.KeyID)
	t.Text(string(r.Curve))
	if !r.v1 {
		t.Number(r.Epoch)
	}
	t.Number(r.Threshold)
	t.Number(r.TotalParts)
	t.Number(len(r.Parties))
	for _, m := range r.Parties {
		t.Number(m.Index)
		t.Text(m.User)
		t.Bytes(m.Identity.SignKey())
		t.Bytes(m.Identity.SealKey())
	}
	t.Bytes(r.Digest)
	t.Bytes(r.PublicKey)
	return sha256.Sum256(t.Buf)
}

// Place is a round message's position in a run. A sender may sign one message for each
// place.
type Place struct {
	Context [sha256.Size]byte // of the run
	Round   string            // [Round.Name]
	// From and To are part indexes; To is 0 for a broadcast.
	From, To int
}

// Message is what the sender of a round message signs: its place and the SHA-256
// of its body.
func (p Place) Message(body [sha256.Size]byte) []byte {
	t := p.transcript("conclave/party/message/v1")
	t.Bytes(body[:])
	return t.Buf
}

// Sealed is the context of a point-to-point message's seal, HPKE's info.
func (p Place) Sealed() []byte { return p.transcript("conclave/party/sealed/v1").Buf }

func (p Place) transcript(purpose string) *codec.Transcript {
	t := &codec.Transcript{Buf: make([]byte, 0, 192)}
	t.Text(purpose)
	t.Bytes(p.Context[:])
	t.Text(p.Round)
	t.Number(p.From)
	t.Number(p.To)
	return t
}

// Round is one type of round message. The tables below, not the wire, say which are
// broadcast and which go to one party.
type Round struct {
	Code   byte   // on the wire, distinct within a protocol
	Name   string // signed and sealed with the message
	Number int    // of the protocol's round that sends it
	P2P    bool   // sealed to one party each; otherwise a broadcast
}

// EchoCode marks the codes of echo messages; the rest is the round's number.
const EchoCode = 0x80

// Echo reports whether the message echoes the broadcasts of the same number that its
// sender received.
func (r *Round) Echo() bool { return r.Code&EchoCode != 0 }

var (
	ecdsaKeygenRounds = []Round{
		{1, "ecdsa/keygen/1", 1, false},
		{2, "ecdsa/keygen/2-share", 2, true},
		{3, "ecdsa/keygen/2", 2, false},
		{4, "ecdsa/keygen/3", 3, false},
	}
	ecdsaSignRounds = []Round{
		{1, "ecdsa/sign/1-mta", 1, true},
		{2, "ecdsa/sign/1", 1, false},
		{3, "ecdsa/sign/2-mta", 2, true},
		{4, "ecdsa/sign/3", 3, false},
		{5, "ecdsa/sign/4", 4, false},
		{6, "ecdsa/sign/5", 5, false},
		{7, "ecdsa/sign/6", 6, false},
		{8, "ecdsa/sign/7", 7, false},
		{9, "ecdsa/sign/8", 8, false},
		{10, "ecdsa/sign/9", 9, false},
	}
	eddsaKeygenRounds = []Round{
		{1, "eddsa/keygen/1", 1, false},
		{2, "eddsa/keygen/2-share", 2, true},
		{3, "eddsa/keygen/2", 2, false},
	}
	eddsaSignRounds = []Round{
		{1, "eddsa/sign/1", 1, false},
		{2, "eddsa/sign/2", 2, false},
		{3, "eddsa/sign/3", 3, false},
	}
)

// Rounds returns the message types of a protocol, in order of sending, without echoes.
// The caller must not change them.
func Rounds(kind string, c pubkey.Curve) []Round {
	switch {
	case kind == Keygen && c == pubkey.Secp256k1:
		return ecdsaKeygenRounds
	case kind == Sign && c == pubkey.Secp256k1:
		return ecdsaSignRounds
	case kind == Keygen:
		return eddsaKeygenRounds
	default:
		return eddsaSignRounds
	}
}

// Rounds returns the message types of the run. With more than two parties, each round
// with a broadcast has an echo too; two parties have no third to compare with.
func (r *Run) Rounds() []Round {
	base := Rounds(r.Kind, r.Curve)
	if len(r.Parties) <= 2 {
		return base
	}
	protocol := base[0].Name[:strings.LastIndexByte(base[0].Name, '/')]
	var all []Round
	for number := 1; number <= base[len(base)-1].Number; number++ {
		broadcasts := false
		for _, rd := range base {
			if rd.Number == number {
				all = append(all, rd)
				broadcasts = broadcasts || !rd.P2P
			}
		}
		if broadcasts {
			all = append(all, Round{Code: EchoCode | byte(number), Name: fmt.Sprintf("%s/echo-%d", protocol, number), Number: number})
		}
	}
	return all
}
