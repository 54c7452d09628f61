package participant

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The server's messages are compared with this client's own knowledge: an
// invitation with its share and its own arithmetic, the parameters of a run with
// the approved invitation.

func keygenInvitation(m *wire.KeygenInvite) Invitation {
	inv := Invitation{
		Kind: request.KindKeygen, SessionID: m.SessionID, KeyID: m.KeyID, Coordinator: m.Coordinator, Curve: pubkey.Curve(m.Curve),
		Threshold: m.Threshold, PartIndex: m.PartIndex, Participants: m.Participants, Deadline: m.Deadline, SignedRequest: m.SignedRequest,
	}
	if inv.Curve == "" {
		inv.Curve = pubkey.Secp256k1
	}
	return inv
}

func signInvitation(m *wire.SignInvite) Invitation {
	return Invitation{
		Kind: request.KindSign, SessionID: m.SessionID, KeyID: m.KeyID, Coordinator: m.Coordinator, PartIndex: m.PartIndex,
		Participants: m.Participants, Deadline: m.Deadline, Data: m.Data, Hash: m.Hash, Digest: m.Digest,
		AccountAddr: m.AccountAddr, Epoch: m.Epoch, MinEpoch: m.MinEpoch, SignedRequest: m.SignedRequest,
	}
}

func (p *participant) checkKeygen(inv Invitation) error {
	if _, err := pubkey.ParseCurve(string(inv.Curve)); err != nil {
		return err
	}
	if inv.PartIndex < 1 || inv.PartIndex > len(inv.Participants) || inv.Participants[inv.PartIndex-1] != p.link.User() {
		return errors.New("the invitation gives this party a part that is not its own")
	}
	if inv.Coordinator == "" {
		return errors.New("the invitation does not say who asks") // the key's attestation does name it
	}
	return nil
}

// checkSign also returns the users who hold the key, if its share is here.
func (p *participant) checkSign(ctx context.Context, inv Invitation) (Invitation, []string, error) {
	if !slices.Contains(inv.Participants, p.link.User()) {
		return inv, nil, errors.New("the invitation does not name this party")
	}
	curve, address, err := pubkey.CurveOf(inv.AccountAddr)
	if err != nil {
		return inv, nil, fmt.Errorf("the invitation's %w", err)
	}
	if address != inv.AccountAddr {
		return inv, nil, errors.New("the invitation's account address is not in its canonical form")
	}
	inv.Curve = curve
	if inv, err = digested(inv); err != nil {
		return inv, nil, err
	}
	if inv.MinEpoch > inv.epoch() {
		return inv, nil, fmt.Errorf("the request is valid from epoch %d on, and the server asks under epoch %d", inv.MinEpoch, inv.epoch())
	}
	if err := p.checkEpochOf(ctx, inv); err != nil {
		return inv, nil, err
	}
	sealed, err := p.sealedShare(ctx, inv)
	if errors.Is(err, ErrNoShare) {
		return inv, nil, nil // it may come with the parameters
	}
	if err != nil {
		p.log.Error().Err(err).Str("key", inv.KeyID).Msg("share store cannot be read")
		return inv, nil, errors.New("the share store cannot be read")
	}
	held, err := share.ParsePublic(sealed)
	if err != nil {
		p.log.Error().Err(err).Str("key", inv.KeyID).Msg("share cannot be read")
		return inv, nil, errors.New("the share cannot be read")
	}
	inv.Threshold = held.Threshold
	return inv, usersOf(held.Parties), p.checkShare(inv, held)
}

// digested fills in the hash and the digest to sign, and refuses an invitation with
// other values.
func digested(inv Invitation) (Invitation, error) {
	digest, hash, err := pubkey.Digest(inv.Curve, inv.Data, inv.Hash)
	if err != nil {
		return inv, err
	}
	if len(digest) == 0 {
		return inv, errors.New("there is nothing to sign")
	}
	if own := pubkey.Encode(digest); inv.Digest != "" && inv.Digest != own {
		return inv, errors.New("the invitation's digest is not that of its data")
	}
	inv.Digest, inv.Hash = pubkey.Encode(digest), string(hash)
	return inv, nil
}

// checkShare compares an invitation to sign with this party's share.
func (p *participant) checkShare(inv Invitation, held share.Public) error {
	switch {
	case held.KeyID != inv.KeyID:
		return errors.New("the share is of another key")
	case held.AccountAddr != inv.AccountAddr || held.Curve != inv.Curve:
		return errors.New("the share is of another account address")
	case held.Epoch != inv.epoch():
		return fmt.Errorf("the share is of epoch %d, not %d", held.Epoch, inv.epoch())
	case held.PartIndex != inv.PartIndex || held.User != p.link.User():
		return errors.New("the share is of another part")
	}
	for _, user := range inv.Participants {
		if !slices.ContainsFunc(held.Parties, func(m identity.Member) bool { return m.User == user }) {
			return fmt.Errorf("%s holds no part of the key", user)
		}
	}
	return nil
}

// errDiffer refuses a run whose parameters differ from the invitation.
var errDiffer = errors.New("the parameters differ from the invitation that was approved")

// checkKeygenParams returns the committee of a keygen.
func checkKeygenParams(inv Invitation, m *wire.KeygenParams) ([]identity.Member, error) {
	curve := pubkey.Curve(m.Curve)
	if curve == "" {
		curve = pubkey.Secp256k1
	}
	same := inv.Kind == request.KindKeygen && m.KeyID == inv.KeyID && m.Threshold == inv.Threshold && m.TotalParts == len(inv.Participants) &&
		m.PartIndex == inv.PartIndex && curve == inv.Curve && len(m.Parties) == len(inv.Participants)
	if !same {
		return nil, errDiffer
	}
	members, _, err := membersOf(m.Parties)
	if err != nil {
		return nil, err
	}
	for i, member := range members {
		if member.Index != i+1 || member.User != inv.Participants[i] {
			return nil, errDiffer
		}
	}
	return members, nil
}

// checkSignParams returns the signers of an attempt.
func checkSignParams(inv Invitation, m *wire.SignParams) ([]identity.Member, error) {
	same := inv.Kind == request.KindSign && max(m.Epoch, 1) == inv.epoch() && m.KeyID == inv.KeyID && m.Data == inv.Data && m.Hash == inv.Hash && m.Digest == inv.Digest &&
		m.PartIndex == inv.PartIndex
	if !same {
		return nil, errDiffer
	}
	members, parts, err := membersOf(m.Parties)
	if err != nil {
		return nil, err
	}
	if m.Participants != wire.FormatParts(parts) {
		return nil, errors.New("the parameters list other parties than part indexes")
	}
	for _, member := range members {
		if !slices.Contains(inv.Participants, member.User) {
			return nil, errDiffer
		}
	}
	return members, nil
}

// membersOf reads the parties of a run. A faulty entry is blamed on its party.
func membersOf(list []wire.Party) (members []identity.Member, parts []int, err error) {
	for _, w := range list {
		if w.Identity == "" {
			return nil, nil, blame(w.PartIndex, fmt.Errorf("%s (part %d) has no identity: its client is not one that can take part", w.UserID, w.PartIndex))
		}
		id, err := identity.ParsePublic(w.Identity)
		if err != nil {
			return nil, nil, blame(w.PartIndex, fmt.Errorf("the identity of %s (part %d) cannot be read", w.UserID, w.PartIndex))
		}
		members = append(members, identity.Member{Index: w.PartIndex, User: w.UserID, Identity: id})
		parts = append(parts, w.PartIndex)
	}
	return members, parts, nil
}

// blamed is an error with the parties responsible.
type blamed struct {
	err      error
	culprits []int
}

func (b *blamed) Error() string { return b.err.Error() }
func (b *blamed) Unwrap() error { return b.err }

func blame(part int, err error) error { return &blamed{err, []int{part}} }

// culpritsOf returns the part indexes that an error blames.
func culpritsOf(err error) []int {
	var b *blamed
	var e *party.Error
	switch {
	case errors.As(err, &b):
		return b.culprits
	case errors.As(err, &e):
		return e.Culprits
	}
	return nil
}

func isSecp256k1(c pubkey.Curve) bool { return c == pubkey.Secp256k1 }

// oneLine makes text fit for a reason on the wire: no control characters, and at
// most that many bytes.
func oneLine(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}
