package statement

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// A coordinator takes no part in the MPC, and learns the new key from the servers. So
// each party signs the key that it has computed, and the coordinator checks that all of
// them have signed the key that it was told.
//
// As with a signed request, the signature does not include the signed content: the
// reader rebuilds it from its request and the result.

const (
	attestationPrefix   = "conclave-att2."
	attestationPrefixV1 = "conclave-att1."
	// attestationSize is the size of an attestation: the identity and the signature.
	attestationSize     = identity.PublicSize + ed25519.SignatureSize
	attestationTextSize = len(attestationPrefix) + (attestationSize*8+5)/6
)

// Attested is the content of the attestations of a key's parties, from fields that a
// reader knows.
type Attested struct {
	SessionID string // of the key generation
	KeyID     string
	// Epoch is the epoch of the key's shares. 0 means 1.
	Epoch int
	// Coordinator is the user id of the key's coordinator.
	Coordinator string
	Curve       pubkey.Curve
	Threshold   int
	// Participants are user ids; the first has part 1.
	Participants []string
	AccountAddr  string // EIP-55, or base58
	PublicKey    string // 0x hex: compressed SEC1, or 32 bytes
}

// Attestation is a party's signature over an [Attested] and the identities of all the
// parties, as the signer knows them. It is immutable.
type Attestation struct {
	// Identity is the signer. The reader must know whether it is the party's.
	Identity identity.Public

	v1  bool // of the first format, without epochs
	sig [ed25519.SignatureSize]byte
}

// Attest signs the result of a key generation, for the parties as the signer knows
// them: members is in the order of the parts, and the identity must be that of one of
// them. Only parties that computed the key can know the content.
func (k Attested) Attest(id *identity.Identity, members []identity.Member) (Attestation, error) {
	if id.IsZero() {
		return Attestation{}, errors.New("attest key: the identity is missing")
	}
	if !slices.ContainsFunc(members, func(m identity.Member) bool { return m.Identity == id.Public() }) {
		return Attestation{}, errors.New("attest key: the identity is not that of a party")
	}
	statement, err := k.statement(members, false)
	if err != nil {
		return Attestation{}, fmt.Errorf("attest key: %w", err)
	}
	a := Attestation{Identity: id.Public()}
	copy(a.sig[:], id.Sign(statement))
	return a, nil
}

// Verify checks that k is exactly what each of its parties has attested, and that each
// lists the others under the identities that signed. The list is in the order of the
// parts. It does not say whose the identities are.
func (k Attested) Verify(list []Attestation) error {
	if len(list) != len(k.Participants) {
		return fmt.Errorf("verify attestations: there are %d, of %d parties", len(list), len(k.Participants))
	}
	members := make([]identity.Member, len(list))
	for i, a := range list {
		members[i] = identity.Member{Index: i + 1, User: k.Participants[i], Identity: a.Identity}
	}
	// Each format's statement is built once: that checks all identities.
	present, err := k.statement(members, false)
	if err != nil {
		return fmt.Errorf("verify attestations: %w", err)
	}
	statements := map[bool][]byte{false: present}
	if slices.ContainsFunc(list, func(a Attestation) bool { return a.v1 }) {
		if statements[true], err = k.statement(members, true); err != nil {
			return fmt.Errorf("verify attestations: %w", err)
		}
	}
	var others []string
	for i, a := range list {
		if !a.Identity.Verify(statements[a.v1], a.sig[:]) {
			others = append(others, k.Participants[i])
		}
	}
	if len(others) > 0 {
		return fmt.Errorf("verify attestations: something else than this has been signed by %s", strings.Join(others, ", "))
	}
	return nil
}

// statement returns the signed content, in the first format or the present one. It
// returns an error if no key can have these values.
func (k Attested) statement(members []identity.Member, v1 bool) ([]byte, error) {
	if k.Epoch == 0 {
		k.Epoch = 1
	}
	if err := identity.CheckEpoch(k.Epoch); err != nil {
		return nil, err
	}
	if v1 && k.Epoch != 1 {
		return nil, errors.New("an attestation's format knows no epochs")
	}
	for _, id := range []string{k.SessionID, k.KeyID, k.Coordinator} {
		if id == "" || len(id) > identity.MaxNameBytes {
			return nil, fmt.Errorf("session id, key id and coordinator must be 1 to %d bytes", identity.MaxNameBytes)
		}
	}
	if k.Curve != pubkey.Secp256k1 && k.Curve != pubkey.Ed25519 {
		return nil, pubkey.ErrCurve
	}
	if err := identity.CheckThreshold(k.Threshold, len(members)); err != nil {
		return nil, err
	}
	if err := identity.CheckMembers(members, len(members)); err != nil {
		return nil, err
	}
	pub, err := k.Curve.ParseKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("its public key: %w", err)
	}
	if address, err := k.Curve.Address(pub); err != nil || address != k.AccountAddr {
		return nil, errors.New("its address is not that of its public key")
	}
	var t codec.Transcript
	if v1 {
		t.Text("conclave/party/attestation/v1")
	} else {
		t.Text("conclave/party/attestation/v2")
	}
	t.Text(k.SessionID)
	t.Text(k.KeyID)
	t.Text(k.Coordinator)
	t.Text(string(k.Curve))
	if !v1 {
		t.Number(k.Epoch)
	}
	t.Number(k.Threshold)
	t.Number(len(members))
	for _, m := range members {
		t.Number(m.Index)
		t.Text(m.User)
		t.Bytes(m.Identity.SignKey())
		t.Bytes(m.Identity.SealKey())
	}
	t.Text(k.AccountAddr)
	t.Bytes(pub)
	return t.Buf, nil
}

// String returns the text form that travels as attestation: one line of fixed length, a
// versioned prefix and unpadded URL-safe base64.
func (a Attestation) String() string {
	raw := make([]byte, 0, attestationSize)
	raw = a.Identity.AppendTo(raw)
	raw = append(raw, a.sig[:]...)
	prefix := attestationPrefix
	if a.v1 {
		prefix = attestationPrefixV1
	}
	return prefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseAttestation reads exactly the text form of [Attestation.String], or the one of
// the first format, without epochs. It does not verify the signature, which takes the
// signed content.
func ParseAttestation(text string) (Attestation, error) {
	var a Attestation
	body, ok := strings.CutPrefix(text, attestationPrefix)
	if !ok {
		body, a.v1 = strings.CutPrefix(text, attestationPrefixV1)
		ok = a.v1
	}
	if !ok || len(text) != attestationTextSize {
		return Attestation{}, errors.New("parse attestation: must begin with " + attestationPrefix + " and be whole")
	}
	// The decoder skips line breaks; but then the result is too short.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != attestationSize {
		return Attestation{}, errors.New("parse attestation: not of the right length and alphabet")
	}
	if a.Identity, err = identity.PublicFromBytes(raw[:identity.PublicSize]); err != nil {
		return Attestation{}, fmt.Errorf("parse attestation: %w", err)
	}
	copy(a.sig[:], raw[identity.PublicSize:])
	return a, nil
}
