package party

import (
	"crypto/elliptic"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	"github.com/decred/dcrd/dcrec/edwards/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// shareSecret is what tss-lib saves of a key, one of the two by curve. Its JSON
// is only ever written into an age file.
type shareSecret struct {
	ECDSA *ecdsakeygen.LocalPartySaveData `json:"ecdsa,omitempty"`
	EdDSA *eddsakeygen.LocalPartySaveData `json:"eddsa,omitempty"`
}

// onCurve returns the same secret with its points on another curve of ed25519:
// tss-lib's own to be encoded, which names it and is known by that name to all who
// link the library, and ours to compute with.
func (s *shareSecret) onCurve(c elliptic.Curve) *shareSecret {
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

// common is what both have: whatever can be checked alike.
func (s *shareSecret) common() (xi, shareID *big.Int, ks []*big.Int, points []*crypto.ECPoint, pub *crypto.ECPoint) {
	if s.ECDSA != nil {
		return s.ECDSA.Xi, s.ECDSA.ShareID, s.ECDSA.Ks, s.ECDSA.BigXj, s.ECDSA.ECDSAPub
	}
	return s.EdDSA.Xi, s.EdDSA.ShareID, s.EdDSA.Ks, s.EdDSA.BigXj, s.EdDSA.EDDSAPub
}

// publicKey encodes the public key: compressed SEC1, or RFC 8032.
func (s *shareSecret) publicKey(curve pubkey.Curve) ([]byte, error) {
	_, _, _, _, p := s.common()
	if !validPoint(curve, p) {
		return nil, errors.New("the public key is missing or not on its curve")
	}
	if curve == pubkey.Ed25519 {
		return edwards.NewPublicKey(p.X(), p.Y()).Serialize(), nil
	}
	var x, y secp256k1.FieldVal
	x.SetByteSlice(p.X().Bytes())
	y.SetByteSlice(p.Y().Bytes())
	return secp256k1.NewPublicKey(&x, &y).SerializeCompressed(), nil
}

// check finds out whether a share can sign: it is whole; its numbers lie where
// the committee's parties do; the secret number belongs to the own public point;
// and as many public points as the threshold says determine the public key. What
// it refuses would make tss-lib panic, or fail late and blame others.
func (s *shareSecret) check(p *SharePublic, com *committee) error {
	if (s.ECDSA != nil) == (s.EdDSA != nil) || (s.ECDSA != nil) != (p.Curve == pubkey.Secp256k1) {
		return errors.New("the secret part is of another curve")
	}
	xi, shareID, ks, points, _ := s.common()
	n := p.TotalParts
	if len(ks) != n || len(points) != n {
		return errors.New("the secret part is of another committee")
	}
	for i, id := range com.sorted {
		if ks[i] == nil || ks[i].Cmp(id.KeyInt()) != 0 || !validPoint(p.Curve, points[i]) {
			return fmt.Errorf("the secret part does not know part %d", com.partOf[i])
		}
	}
	own := com.byPart[p.PartIndex]
	order := tssCurve(p.Curve).Params().N
	if shareID == nil || shareID.Cmp(own.KeyInt()) != 0 || xi == nil || xi.Sign() <= 0 || xi.Cmp(order) >= 0 {
		return errors.New("the secret number is missing or another party's")
	}
	if !crypto.ScalarBaseMult(tssCurve(p.Curve), xi).Equals(points[own.Index]) {
		return errors.New("the secret number does not belong to its public point")
	}
	pub, err := s.publicKey(p.Curve)
	if err != nil {
		return err
	}
	if pubkey.Encode(pub) != p.PublicKey {
		return errors.New("the secret part is of another key")
	}
	if err := s.checkSum(p); err != nil {
		return err
	}
	if s.ECDSA != nil {
		return checkPaillier(s.ECDSA, own.Index, com)
	}
	return nil
}

// checkSum interpolates the public key from the first Threshold public points.
func (s *shareSecret) checkSum(p *SharePublic) error {
	_, _, _, _, pub := s.common()
	sum, err := s.pointAt(p, new(big.Int))
	if err != nil || !sum.Equals(pub) {
		return errors.New("the public points do not add up to the public key")
	}
	return nil
}

// checkQuorums finds out whether any other quorum's public points add up to the
// public key like the first one's: whether all lie on one polynomial.
func (s *shareSecret) checkQuorums(p *SharePublic, com *committee) error {
	_, _, ks, points, _ := s.common()
	for i := p.Threshold; i < p.TotalParts; i++ {
		point, err := s.pointAt(p, ks[i])
		if err != nil || !point.Equals(points[i]) {
			return fmt.Errorf("the public point of part %d does not fit those of the others", com.partOf[i])
		}
	}
	return nil
}

// pointAt is the public point at x that the first Threshold ones determine.
func (s *shareSecret) pointAt(p *SharePublic, x *big.Int) (*crypto.ECPoint, error) {
	_, _, ks, points, _ := s.common()
	order := tssCurve(p.Curve).Params().N
	var sum *crypto.ECPoint
	for i := range p.Threshold {
		term := points[i].ScalarMult(coefficient(ks[:p.Threshold], i, x, order))
		if sum == nil {
			sum = term
			continue
		}
		var err error
		if sum, err = sum.Add(term); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// coefficient is Lagrange's: what the value at ks[i] counts for in that at x,
// where ks are different and not x.
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

// checkPaillier checks what only ECDSA has: the own keys are whole, and everybody's
// moduli have the size tss-lib's proofs assume.
func checkPaillier(save *ecdsakeygen.LocalPartySaveData, own int, com *committee) error {
	n := len(com.sorted)
	if len(save.NTildej) != n || len(save.H1j) != n || len(save.H2j) != n || len(save.PaillierPKs) != n {
		return errors.New("the secret part is of another committee")
	}
	for i := range n {
		pk := save.PaillierPKs[i]
		if pk == nil || !isModulus(pk.N) || !isModulus(save.NTildej[i]) ||
			!isResidue(save.H1j[i], save.NTildej[i]) || !isResidue(save.H2j[i], save.NTildej[i]) {
			return fmt.Errorf("the secret part has no valid moduli of part %d", com.partOf[i])
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

// validPoint reports whether p is an element of the curve, and of the right one,
// other than the neutral element (0, 1) that exists on ed25519 only.
func validPoint(curve pubkey.Curve, p *crypto.ECPoint) bool {
	return p != nil && p.ValidateBasic() && p.Curve() == tssCurve(curve) &&
		p.X().Sign() >= 0 && p.X().Cmp(tssCurve(curve).Params().P) < 0 &&
		p.Y().Sign() >= 0 && p.Y().Cmp(tssCurve(curve).Params().P) < 0 &&
		!(curve == pubkey.Ed25519 && p.X().Sign() == 0)
}
