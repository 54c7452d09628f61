package party

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// A coordinator takes no part in the MPC, and learns from the servers which key
// has come of it. So each party signs what it has computed, and the coordinator
// checks that all of them have signed the key that it is told.
//
// As with a signed request the signature does not carry what was signed: the
// reader builds it again from what it asked for and was told.

const (
	attestationPrefix = "conclave-att1."
	// attestationSize is that of all that an attestation carries: the identity and
	// the signature.
	attestationSize     = ed25519.PublicKeySize + sealKeySize + ed25519.SignatureSize + ed25519.SignatureSize
	attestationTextSize = len(attestationPrefix) + (attestationSize*8+5)/6
)

// Attested is what the parties of a key attest, in the form in which a reader
// knows it.
type Attested struct {
	SessionID string // of the key generation
	KeyID     string
	// Coordinator is the user id of who asked for the key.
	Coordinator string
	Curve       pubkey.Curve
	Threshold   int
	// Participants are user ids; the first has part 1.
	Participants []string
	AccountAddr  string // EIP-55, or base58
	PublicKey    string // 0x hex: compressed SEC1, or 32 bytes
}

// Attestation is a party's signature over an [Attested] with the identities of
// all the parties, as this one knows them. It is immutable.
type Attestation struct {
	// Identity has signed. Whether it is the party's is for the reader to know.
	Identity PublicIdentity

	sig [ed25519.SignatureSize]byte
}

// Attest signs which key a session of key generation has made. Only who has a
// share of the key can: all that is signed, but for the session's name and its
// coordinator, is what the share says, which is what the MPC has computed.
func (s *Share) Attest(id *Identity, sessionID, coordinator string) (Attestation, error) {
	if id == nil || id.private == nil {
		return Attestation{}, errors.New("attest key: the identity is missing")
	}
	p := s.Public()
	if p.Parties[p.PartIndex-1].Identity != id.public {
		return Attestation{}, errors.New("attest key: the share was made with another identity")
	}
	k := Attested{
		SessionID: sessionID, KeyID: p.KeyID, Coordinator: coordinator, Curve: p.Curve, Threshold: p.Threshold,
		AccountAddr: p.AccountAddr, PublicKey: p.PublicKey,
	}
	for _, m := range p.Parties {
		k.Participants = append(k.Participants, m.User)
	}
	statement, err := k.statement(p.Parties)
	if err != nil {
		return Attestation{}, fmt.Errorf("attest key: %w", err)
	}
	a := Attestation{Identity: id.public}
	copy(a.sig[:], ed25519.Sign(id.keys().sign, statement))
	return a, nil
}

// Verify checks that k, and nothing else, is what each of its parties has
// attested, and that each names the others by the identities with which they
// have. The list is in the order of the parts. Whose the identities are it does not
// say.
func (k Attested) Verify(list []Attestation) error {
	if len(list) != len(k.Participants) {
		return fmt.Errorf("verify attestations: there are %d, of %d parties", len(list), len(k.Participants))
	}
	members := make([]Member, len(list))
	for i, a := range list {
		members[i] = Member{Index: i + 1, User: k.Participants[i], Identity: a.Identity}
	}
	statement, err := k.statement(members)
	if err != nil {
		return fmt.Errorf("verify attestations: %w", err)
	}
	var others []string
	for i, a := range list {
		if !ed25519.Verify(a.Identity.sign[:], statement, a.sig[:]) {
			others = append(others, k.Participants[i])
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("verify attestations: something else than this has been signed by %s", strings.Join(others, ", "))
	}
	return nil
}

// statement is what is signed. It is an error if no key can be so.
func (k Attested) statement(members []Member) ([]byte, error) {
	for _, id := range []string{k.SessionID, k.KeyID, k.Coordinator} {
		if id == "" || len(id) > maxNameBytes {
			return nil, fmt.Errorf("session id, key id and coordinator must be 1 to %d bytes", maxNameBytes)
		}
	}
	if k.Curve != pubkey.Secp256k1 && k.Curve != pubkey.Ed25519 {
		return nil, pubkey.ErrCurve
	}
	if err := checkThreshold(k.Threshold, len(members)); err != nil {
		return nil, err
	}
	if err := checkMembers(members, len(members)); err != nil {
		return nil, err
	}
	pub, err := k.Curve.ParseKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	if address, err := k.Curve.Address(pub); err != nil || address != k.AccountAddr {
		return nil, errors.New("its address is not that of its public key")
	}
	var t transcript
	t.text("conclave/party/attestation/v1")
	t.text(k.SessionID)
	t.text(k.KeyID)
	t.text(k.Coordinator)
	t.text(string(k.Curve))
	t.number(k.Threshold)
	t.number(len(members))
	for _, m := range members {
		t.number(m.Index)
		t.text(m.User)
		t.bytes(m.Identity.sign[:])
		t.bytes(m.Identity.seal[:])
	}
	t.text(k.AccountAddr)
	t.bytes(pub)
	return t.buf, nil
}

// String returns the text form that travels as attestation: one line of always
// the same length, a versioned prefix and unpadded URL-safe base64.
func (a Attestation) String() string {
	raw := make([]byte, 0, attestationSize)
	raw = append(raw, a.Identity.sign[:]...)
	raw = append(raw, a.Identity.seal[:]...)
	raw = append(raw, a.Identity.proof[:]...)
	raw = append(raw, a.sig[:]...)
	return attestationPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseAttestation reads the text form of [Attestation.String], and only that.
// It does not verify the signature, which takes what was signed.
func ParseAttestation(text string) (Attestation, error) {
	var a Attestation
	body, ok := strings.CutPrefix(text, attestationPrefix)
	if !ok || len(text) != attestationTextSize {
		return a, errors.New("parse attestation: must begin with " + attestationPrefix + " and be whole")
	}
	// The decoder skips line breaks; but then too little is left.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != attestationSize {
		return a, errors.New("parse attestation: not of the right length and alphabet")
	}
	for _, field := range [][]byte{a.Identity.sign[:], a.Identity.seal[:], a.Identity.proof[:], a.sig[:]} {
		raw = raw[copy(field, raw):]
	}
	if err := a.Identity.check(); err != nil {
		return Attestation{}, fmt.Errorf("parse attestation: %w", err)
	}
	return a, nil
}
