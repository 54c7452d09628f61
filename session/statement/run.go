package statement

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
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
//
// In a reshare two committees take part, and a user may be in both. So that each of
// their parties has a number of its own, the members of the old committee keep their
// part indexes, and those of the new one follow: part i of the new committee is
// From.TotalParts + i. Index, and every number of a party of such a run, is this place.
type Run struct {
	Kind string // Keygen, Sign or Reshare
	// SessionID and Attempt identify the run and must not be reused together.
	SessionID string
	Attempt   int
	KeyID     string
	// Epoch is the epoch of the key's shares: from 1. In a reshare it is the new one.
	Epoch int
	Curve pubkey.Curve
	// Threshold is how many parties must sign: 2 <= Threshold <= TotalParts. In a
	// reshare both numbers are those of the new committee.
	Threshold  int
	TotalParts int
	// Parties are those of this run, ascending by Index: in a key generation all
	// TotalParts, in a signing at least Threshold of them, in a reshare at least
	// From.Threshold of the old committee and then all of the new one.
	Parties []identity.Member
	// Digest is for a signing, PublicKey for a signing and a reshare. They are empty
	// otherwise.
	Digest, PublicKey []byte
	// From is the old committee of a reshare, nil in other runs.
	From *From

	v1 bool // of the first format, without epochs
}

// From is the committee that a reshare leads away from.
type From struct {
	// Epoch is that of its shares. 0 is for a private key that was in one hand before
	// and is imported: a committee of one, with threshold 1.
	Epoch      int
	Threshold  int
	TotalParts int
	// Certificate is the hash of the epoch's certificate; zero for an import.
	Certificate [32]byte
}

// Side is a committee of a reshare, or a set of both.
type Side byte

// The two committees of a reshare.
const (
	Old Side = 1 << iota
	New
)

// Side returns the committee to which a place of a reshare belongs; 0 in other runs.
func (r *Run) Side(place int) Side {
	switch {
	case r.From == nil:
		return 0
	case place <= r.From.TotalParts:
		return Old
	default:
		return New
	}
}

// Committee returns the parties of one committee of a reshare, with their part indexes
// in it. In other runs it returns all parties.
func (r *Run) Committee(side Side) []identity.Member {
	var members []identity.Member
	for _, m := range r.Parties {
		if r.Side(m.Index) != side && r.From != nil {
			continue
		}
		if r.From != nil && side == New {
			m.Index -= r.From.TotalParts
		}
		members = append(members, m)
	}
	return members
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
	if (r.Kind == Reshare) != (r.From != nil) {
		return errors.New("a reshare, and nothing else, has an old committee")
	}
	if r.From != nil {
		return r.checkReshare()
	}
	if r.Kind == Keygen && len(r.Parties) != r.TotalParts {
		return fmt.Errorf("key generation needs all %d parties, not %d", r.TotalParts, len(r.Parties))
	}
	if len(r.Parties) < r.Threshold {
		return fmt.Errorf("%d parties are fewer than the threshold %d", len(r.Parties), r.Threshold)
	}
	return identity.CheckMembers(r.Parties, r.TotalParts)
}

// checkReshare checks both committees.
func (r *Run) checkReshare() error {
	old := r.From
	switch {
	case old.Epoch == 0:
		if old.Threshold != 1 || old.TotalParts != 1 || old.Certificate != [32]byte{} {
			return errors.New("an import is from a committee of one without a certificate")
		}
	case old.Epoch < 0 || old.Epoch >= r.Epoch:
		return fmt.Errorf("epoch %d cannot follow epoch %d", r.Epoch, old.Epoch)
	default:
		if err := identity.CheckThreshold(old.Threshold, old.TotalParts); err != nil {
			return fmt.Errorf("old committee: %w", err)
		}
	}
	from, to := r.Committee(Old), r.Committee(New)
	if !slices.IsSortedFunc(r.Parties, func(a, b identity.Member) int { return a.Index - b.Index }) {
		return errors.New("the places are out of order")
	}
	if len(from) < old.Threshold {
		return fmt.Errorf("%d parties of the old committee are fewer than its threshold %d", len(from), old.Threshold)
	}
	if len(to) != r.TotalParts {
		return fmt.Errorf("a reshare needs all %d parties of the new committee, not %d", r.TotalParts, len(to))
	}
	if err := identity.CheckMembers(from, old.TotalParts); err != nil {
		return fmt.Errorf("old committee: %w", err)
	}
	if err := identity.CheckMembers(to, r.TotalParts); err != nil {
		return fmt.Errorf("new committee: %w", err)
	}
	// A user may come back with another identity, as after the loss of a device; but an
	// identity is one user's.
	for _, a := range from {
		for _, b := range to {
			if a.Identity == b.Identity && a.User != b.User {
				return fmt.Errorf("part %d of the new committee has the identity of another user", b.Index)
			}
		}
	}
	return nil
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
	switch {
	case r.v1:
		t.Text("conclave/party/run/v1")
	case r.From != nil:
		t.Text("conclave/party/run/v3")
	default:
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
	if r.From != nil {
		t.Number(r.From.Epoch)
		t.Number(r.From.Threshold)
		t.Number(r.From.TotalParts)
		t.Bytes(r.From.Certificate[:])
	}
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
	// Ack is set for a message without content. Its sender cannot send two different
	// ones, so it is not echoed.
	Ack bool
	// From and To are the committees of a reshare that send and that receive it; 0 in
	// other protocols, whose parties all do both.
	From, To Side
}

// SentBy reports whether parties of a committee send the message.
func (r *Round) SentBy(side Side) bool { return r.From == 0 || r.From&side != 0 }

// SentTo reports whether the message is for parties of a committee.
func (r *Round) SentTo(side Side) bool { return r.To == 0 || r.To&side != 0 }

// Echoed reports whether its recipients compare what they got of the message by echoes.
func (r *Round) Echoed() bool { return !r.P2P && !r.Ack && !r.Echo() }

// EchoCode marks the codes of echo messages; the rest is the round's number.
const EchoCode = 0x80

// Echo reports whether the message echoes the broadcasts of the same number that its
// sender received.
func (r *Round) Echo() bool { return r.Code&EchoCode != 0 }

var (
	ecdsaKeygenRounds = []Round{
		{Code: 1, Name: "ecdsa/keygen/1", Number: 1},
		{Code: 2, Name: "ecdsa/keygen/2-share", Number: 2, P2P: true},
		{Code: 3, Name: "ecdsa/keygen/2", Number: 2},
		{Code: 4, Name: "ecdsa/keygen/3", Number: 3},
	}
	ecdsaSignRounds = []Round{
		{Code: 1, Name: "ecdsa/sign/1-mta", Number: 1, P2P: true},
		{Code: 2, Name: "ecdsa/sign/1", Number: 1},
		{Code: 3, Name: "ecdsa/sign/2-mta", Number: 2, P2P: true},
		{Code: 4, Name: "ecdsa/sign/3", Number: 3},
		{Code: 5, Name: "ecdsa/sign/4", Number: 4},
		{Code: 6, Name: "ecdsa/sign/5", Number: 5},
		{Code: 7, Name: "ecdsa/sign/6", Number: 6},
		{Code: 8, Name: "ecdsa/sign/7", Number: 7},
		{Code: 9, Name: "ecdsa/sign/8", Number: 8},
		{Code: 10, Name: "ecdsa/sign/9", Number: 9},
	}
	eddsaKeygenRounds = []Round{
		{Code: 1, Name: "eddsa/keygen/1", Number: 1},
		{Code: 2, Name: "eddsa/keygen/2-share", Number: 2, P2P: true},
		{Code: 3, Name: "eddsa/keygen/2", Number: 2},
	}
	eddsaSignRounds = []Round{
		{Code: 1, Name: "eddsa/sign/1", Number: 1},
		{Code: 2, Name: "eddsa/sign/2", Number: 2},
		{Code: 3, Name: "eddsa/sign/3", Number: 3},
	}
	ecdsaReshareRounds = []Round{
		{Code: 1, Name: "ecdsa/reshare/1", Number: 1, From: Old, To: New},
		{Code: 2, Name: "ecdsa/reshare/2-ack", Number: 2, Ack: true, From: New, To: Old},
		{Code: 3, Name: "ecdsa/reshare/2", Number: 2, From: New, To: New},
		{Code: 4, Name: "ecdsa/reshare/3-share", Number: 3, P2P: true, From: Old, To: New},
		{Code: 5, Name: "ecdsa/reshare/3", Number: 3, From: Old, To: New},
		{Code: 6, Name: "ecdsa/reshare/4-proof", Number: 4, P2P: true, From: New, To: New},
		{Code: 7, Name: "ecdsa/reshare/4-ack", Number: 4, Ack: true, From: New, To: Old | New},
	}
	eddsaReshareRounds = []Round{
		{Code: 1, Name: "eddsa/reshare/1", Number: 1, From: Old, To: New},
		{Code: 2, Name: "eddsa/reshare/2-ack", Number: 2, Ack: true, From: New, To: Old},
		{Code: 3, Name: "eddsa/reshare/3-share", Number: 3, P2P: true, From: Old, To: New},
		{Code: 4, Name: "eddsa/reshare/3", Number: 3, From: Old, To: New},
		{Code: 5, Name: "eddsa/reshare/4-ack", Number: 4, Ack: true, From: New, To: Old | New},
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
	case kind == Reshare && c == pubkey.Secp256k1:
		return ecdsaReshareRounds
	case kind == Reshare:
		return eddsaReshareRounds
	case kind == Keygen:
		return eddsaKeygenRounds
	default:
		return eddsaSignRounds
	}
}

// Rounds returns the message types of the run. With more than two parties, each round
// with a broadcast has an echo too, which its recipients send each other; two parties
// have no third to compare with. A reshare always has more.
func (r *Run) Rounds() []Round {
	base := Rounds(r.Kind, r.Curve)
	if len(r.Parties) <= 2 {
		return base
	}
	protocol := base[0].Name[:strings.LastIndexByte(base[0].Name, '/')]
	var all []Round
	for number := 1; number <= base[len(base)-1].Number; number++ {
		echo := Round{Code: EchoCode | byte(number), Name: fmt.Sprintf("%s/echo-%d", protocol, number), Number: number}
		broadcasts := false
		for _, rd := range base {
			if rd.Number == number {
				all = append(all, rd)
			}
			if rd.Number == number && rd.Echoed() {
				broadcasts, echo.From, echo.To = true, rd.To, rd.To
			}
		}
		if broadcasts {
			all = append(all, echo)
		}
	}
	return all
}
