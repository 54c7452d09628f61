package tss

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"github.com/decred/dcrd/dcrec/edwards/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Key is what every share holder knows of a key.
type Key struct {
	ID        string
	Epoch     int // of the share: from 1
	Curve     pubkey.Curve
	Threshold int
	Self      int // the own part index
	// Parties are all the key's, ascending by part from 1.
	Parties   []identity.Member
	PublicKey string // 0x hex: compressed SEC1, or 32 bytes
}

// Committee returns the key's committee.
func (k *Key) Committee() (*Committee, error) { return NewCommittee(k.Curve, k.ID, k.Epoch, k.Parties) }

// Secret is the secret part of a share: tss-lib's saved data of a key, one of the two
// by curve. It is immutable. Printing it, or encoding it as JSON, shows nothing:
// package share, which writes it into age files, encodes a type of its own.
type Secret struct {
	ECDSA *ecdsakeygen.LocalPartySaveData `json:"ecdsa,omitempty"`
	EdDSA *eddsakeygen.LocalPartySaveData `json:"eddsa,omitempty"`
}

// String returns the type's name.
func (s Secret) String() string { return "tss.Secret" }

// Format writes what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalJSON writes what String returns.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// ForEncoding returns the same secret in its encoded form.
func (s *Secret) ForEncoding() *Secret { return s.onCurve(tss.Edwards()) }

// Decoded returns the secret from its encoded form.
func (s *Secret) Decoded() *Secret { return s.onCurve(edwards25519Curve) }

// onCurve returns the same secret with its points on another curve of ed25519:
// tss-lib's own for encoding, which names the curve as registered in the library, and
// ours for computing.
func (s *Secret) onCurve(c elliptic.Curve) *Secret {
	if s.EdDSA == nil {
		return s
	}
	move := func(p *crypto.ECPoint) *crypto.ECPoint {
		if p == nil {
			return nil
		}
		copied := *p
		return copied.SetCurve(c)
	}
	save := *s.EdDSA
	save.EDDSAPub, save.BigXj = move(save.EDDSAPub), slices.Clone(save.BigXj)
	for i, p := range save.BigXj {
		save.BigXj[i] = move(p)
	}
	moved := *s
	moved.EdDSA = &save
	return &moved
}

// common returns the fields that both curves' data have, to check them alike.
func (s *Secret) common() (xi, shareID *big.Int, ks []*big.Int, points []*crypto.ECPoint, pub *crypto.ECPoint) {
	if s.ECDSA != nil {
		return s.ECDSA.Xi, s.ECDSA.ShareID, s.ECDSA.Ks, s.ECDSA.BigXj, s.ECDSA.ECDSAPub
	}
	return s.EdDSA.Xi, s.EdDSA.ShareID, s.EdDSA.Ks, s.EdDSA.BigXj, s.EdDSA.EDDSAPub
}

// PublicKey encodes the public key: compressed SEC1, or RFC 8032.
func (s *Secret) PublicKey(curve pubkey.Curve) ([]byte, error) {
	_, _, _, _, p := s.common()
	if !validPoint(curve, p) {
		return nil, errors.New("the public key is missing or not on its curve")
	}
	return encodePoint(curve, p), nil
}

// Points returns the public points of a key's shares by part, encoded like the public
// key, as 0x hex.
func (s *Secret) Points(k *Key) ([]string, error) {
	com, err := k.Committee()
	if err != nil {
		return nil, err
	}
	_, _, ks, points, _ := s.common()
	out := make([]string, len(k.Parties))
	if len(ks) != len(out) || len(points) != len(out) {
		return nil, errors.New("the secret part is of another committee")
	}
	for i, part := range com.PartOf {
		out[part-1] = pubkey.Encode(encodePoint(k.Curve, points[i]))
	}
	return out, nil
}

// encodePoint encodes a valid point: compressed SEC1, or RFC 8032.
func encodePoint(curve pubkey.Curve, p *crypto.ECPoint) []byte {
	if curve == pubkey.Ed25519 {
		return edwards.NewPublicKey(p.X(), p.Y()).Serialize()
	}
	var x, y secp256k1.FieldVal
	x.SetByteSlice(p.X().Bytes())
	y.SetByteSlice(p.Y().Bytes())
	return secp256k1.NewPublicKey(&x, &y).SerializeCompressed()
}

// parsePoint is the inverse of encodePoint. It takes elements of the prime-order group
// only, and no other encoding of them.
func parsePoint(curve pubkey.Curve, b []byte) (*crypto.ECPoint, error) {
	wrong := errors.New("a public point is not one of the group")
	var x, y *big.Int
	if curve == pubkey.Ed25519 {
		key, err := edwards.ParsePubKey(b)
		if err != nil {
			return nil, wrong
		}
		x, y = key.X, key.Y
	} else {
		key, err := secp256k1.ParsePubKey(b)
		if err != nil {
			return nil, wrong
		}
		x, y = key.X(), key.Y()
	}
	p, err := crypto.NewECPoint(Curve(curve), x, y)
	if err != nil || !validPoint(curve, p) || !isPrimeOrder(curve, p) || !bytes.Equal(encodePoint(curve, p), b) {
		return nil, wrong
	}
	return p, nil
}

// isPrimeOrder reports whether a valid point is in the group that the base point
// generates; on secp256k1 there is no other.
func isPrimeOrder(curve pubkey.Curve, p *crypto.ECPoint) bool {
	if curve != pubkey.Ed25519 {
		return true
	}
	neutral := p.ScalarMult(Order(curve))
	return neutral.X().Sign() == 0 && neutral.Y().Cmp(one) == 0
}

// Check returns an error unless a share can sign: it is complete; its numbers match the
// committee's parties; the secret number belongs to the own public point; and the first
// Threshold public points determine the public key. Data that it refuses would make
// tss-lib panic, or fail late and blame others.
func (s *Secret) Check(k *Key) error {
	com, err := k.Committee()
	if err != nil {
		return err
	}
	if (s.ECDSA != nil) == (s.EdDSA != nil) || (s.ECDSA != nil) != (k.Curve == pubkey.Secp256k1) {
		return errors.New("the secret part is of another curve")
	}
	xi, shareID, ks, points, _ := s.common()
	n := len(k.Parties)
	if len(ks) != n || len(points) != n {
		return errors.New("the secret part is of another committee")
	}
	for i, id := range com.Sorted {
		if ks[i] == nil || ks[i].Cmp(id.KeyInt()) != 0 || !validPoint(k.Curve, points[i]) {
			return fmt.Errorf("the secret part does not know part %d", com.PartOf[i])
		}
	}
	own := com.ByPart[k.Self]
	order := Curve(k.Curve).Params().N
	if shareID == nil || shareID.Cmp(own.KeyInt()) != 0 || xi == nil || xi.Sign() <= 0 || xi.Cmp(order) >= 0 {
		return errors.New("the secret number is missing or another party's")
	}
	if !crypto.ScalarBaseMult(Curve(k.Curve), xi).Equals(points[own.Index]) {
		return errors.New("the secret number does not belong to its public point")
	}
	pub, err := s.PublicKey(k.Curve)
	if err != nil {
		return err
	}
	if pubkey.Encode(pub) != k.PublicKey {
		return errors.New("the secret part is of another key")
	}
	if err := s.checkSum(k); err != nil {
		return err
	}
	if s.ECDSA != nil {
		return checkPaillier(s.ECDSA, own.Index, com)
	}
	return nil
}

// checkSum interpolates the public key from the first Threshold public points.
func (s *Secret) checkSum(k *Key) error {
	_, _, _, _, pub := s.common()
	sum, err := s.pointAt(k, new(big.Int))
	if err != nil || !sum.Equals(pub) {
		return errors.New("the public points do not add up to the public key")
	}
	return nil
}

// CheckQuorums returns an error unless every other quorum's public points add up to the
// public key too, that is, unless all lie on one polynomial.
func (s *Secret) CheckQuorums(k *Key) error {
	com, err := k.Committee()
	if err != nil {
		return err
	}
	_, _, ks, points, _ := s.common()
	for i := k.Threshold; i < len(k.Parties); i++ {
		point, err := s.pointAt(k, ks[i])
		if err != nil || !point.Equals(points[i]) {
			return fmt.Errorf("the public point of part %d does not fit those of the others", com.PartOf[i])
		}
	}
	return nil
}

// pointAt returns the public point at x determined by the first Threshold ones.
func (s *Secret) pointAt(k *Key, x *big.Int) (*crypto.ECPoint, error) {
	_, _, ks, points, _ := s.common()
	return interpolate(Order(k.Curve), ks[:k.Threshold], points, x)
}

// coefficient returns the Lagrange coefficient of ks[i] at x, for distinct ks other
// than x.
func coefficient(ks []*big.Int, i int, x, order *big.Int) *big.Int {
	num, den := big.NewInt(1), big.NewInt(1)
	for j := range ks {
		if i != j {
			num.Mod(num.Mul(num, new(big.Int).Sub(ks[j], x)), order)
			den.Mod(den.Mul(den, new(big.Int).Sub(ks[j], ks[i])), order)
		}
	}
	return num.Mod(num.Mul(num, den.ModInverse(den, order)), order)
}

// checkPaillier checks the ECDSA-only parts: the own keys are complete, and all
// parties' moduli have the size tss-lib's proofs assume.
func checkPaillier(save *ecdsakeygen.LocalPartySaveData, own int, com *Committee) error {
	n := len(com.Sorted)
	if len(save.NTildej) != n || len(save.H1j) != n || len(save.H2j) != n || len(save.PaillierPKs) != n {
		return errors.New("the secret part is of another committee")
	}
	for i := range n {
		pk := save.PaillierPKs[i]
		if pk == nil || !isModulus(pk.N) || !isModulus(save.NTildej[i]) ||
			!isResidue(save.H1j[i], save.NTildej[i]) || !isResidue(save.H2j[i], save.NTildej[i]) {
			return fmt.Errorf("the secret part has no valid moduli of part %d", com.PartOf[i])
		}
	}
	if err := checkStructure(&save.LocalPreParams); err != nil {
		return err
	}
	if save.PaillierSK.N.Cmp(save.PaillierPKs[own].N) != 0 || save.NTildei.Cmp(save.NTildej[own]) != 0 ||
		save.H1i.Cmp(save.H1j[own]) != 0 || save.H2i.Cmp(save.H2j[own]) != 0 {
		return errors.New("the own moduli are not those the committee knows")
	}
	return nil
}

func isModulus(n *big.Int) bool {
	return n != nil && n.Sign() > 0 && n.BitLen() == modulusBits && n.Bit(0) == 1
}

func isResidue(x, n *big.Int) bool { return x != nil && x.Cmp(big.NewInt(1)) > 0 && x.Cmp(n) < 0 }

// validPoint reports whether p is an element of the right curve other than the neutral
// element (0, 1), which exists on ed25519 only.
func validPoint(curve pubkey.Curve, p *crypto.ECPoint) bool {
	return p != nil && p.ValidateBasic() && p.Curve() == Curve(curve) &&
		p.X().Sign() >= 0 && p.X().Cmp(Curve(curve).Params().P) < 0 &&
		p.Y().Sign() >= 0 && p.Y().Cmp(Curve(curve).Params().P) < 0 &&
		!(curve == pubkey.Ed25519 && p.X().Sign() == 0)
}

// CheckPreParams checks the pre-parameters in an ECDSA key's secret with
// [CheckPreParams]. A secret of ed25519 has none.
func (s *Secret) CheckPreParams() error {
	if s.ECDSA == nil {
		return nil
	}
	return CheckPreParams(&s.ECDSA.LocalPreParams)
}

// SamePoints reports whether two shares have the same public points.
func (s *Secret) SamePoints(other *Secret) bool {
	_, _, _, points, _ := s.common()
	_, _, _, others, _ := other.common()
	return slices.EqualFunc(points, others, func(a, b *crypto.ECPoint) bool { return a.Equals(b) })
}

// Moduli returns the Paillier moduli of a secp256k1 key's parties by part index.
// tss-lib's lists are in the order of the whole committee's party keys.
func (s *Secret) Moduli(k *Key) map[int]*big.Int {
	moduli := make(map[int]*big.Int, len(k.Parties))
	for _, m := range k.Parties {
		key := PartyKey(k.Curve, k.ID, k.Epoch, m.User, m.Index)
		for i, other := range s.ECDSA.Ks {
			if other.Cmp(key) == 0 {
				moduli[m.Index] = s.ECDSA.PaillierPKs[i].N
			}
		}
	}
	return moduli
}

// Rebuild returns the private key determined by the secrets of threshold parts. Secrets
// of a key must not be combined for any other purpose.
func Rebuild(curve pubkey.Curve, secrets []*Secret) *big.Int {
	ks := make([]*big.Int, len(secrets))
	for i, s := range secrets {
		_, ks[i], _, _, _ = s.common()
	}
	order := Order(curve)
	sum, term := new(big.Int), new(big.Int)
	defer Wipe(term)
	for i, s := range secrets {
		xi, _, _, _, _ := s.common()
		term.Mul(xi, coefficient(ks, i, new(big.Int), order))
		sum.Mod(sum.Add(sum, term), order)
	}
	return sum
}

// Wipe overwrites numbers.
func Wipe(numbers ...*big.Int) {
	for _, n := range numbers {
		words := n.Bits()
		clear(words[:cap(words)])
	}
}
