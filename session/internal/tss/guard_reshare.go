package tss

import (
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	ecdsaresharing "github.com/bnb-chain/tss-lib/v2/ecdsa/resharing"
	eddsaresharing "github.com/bnb-chain/tss-lib/v2/eddsa/resharing"
	"github.com/bnb-chain/tss-lib/v2/tss"
)

type (
	ecdsaDG1  = *ecdsaresharing.DGRound1Message
	ecdsaDG2  = *ecdsaresharing.DGRound2Message1
	ecdsaDG3S = *ecdsaresharing.DGRound3Message1
	ecdsaDG3  = *ecdsaresharing.DGRound3Message2
	eddsaDG1  = *eddsaresharing.DGRound1Message
	eddsaDG3S = *eddsaresharing.DGRound3Message1
	eddsaDG3  = *eddsaresharing.DGRound3Message2
)

// Round 1 goes from the old committee to the new one. tss-lib believes what the first
// of the old members says of key and session.
var ecdsaReshare1Rules = []rule{
	numbers("ecdsa_pub_x", sizeScalar),
	numbers("ecdsa_pub_y", sizeScalar),
	numbers("v_commitment", sizeHash),
	numbers("ssid", sizeHash),
	must("ecdsa_pub must be the public key", func(g *Guard, _ int, m ecdsaDG1) bool { return g.isPublicKey(m.EcdsaPubX, m.EcdsaPubY) }),
	{"ssid must be the old committee's", wrongSSID},
}

var eddsaReshare1Rules = []rule{
	numbers("eddsa_pub_x", sizeScalar),
	numbers("eddsa_pub_y", sizeScalar),
	numbers("v_commitment", sizeHash),
	must("eddsa_pub must be the public key", func(g *Guard, _ int, m eddsaDG1) bool { return g.isPublicKey(m.EddsaPubX, m.EddsaPubY) }),
}

func (g *Guard) isPublicKey(x, y []byte) bool {
	return g.giving != nil && number(x).Cmp(g.giving.public.X()) == 0 && number(y).Cmp(g.giving.public.Y()) == 0
}

// wrongSSID compares a session id with the own computation. A party without an old
// share can only compare it with that of another old member, and does not know which is
// right.
func wrongSSID(g *Guard, from int, content tss.MessageContent) verdict {
	ssid := number(content.(ecdsaDG1).Ssid)
	if g.giving == nil {
		return verdict{from}
	}
	if g.giving.ssid != nil {
		if ssid.Cmp(number(g.giving.ssid)) != 0 {
			return verdict{from}
		}
		return nil
	}
	for _, part := range g.parts {
		if other := earlier[ecdsaDG1](g, part); part != from && other != nil && ssid.Cmp(number(other.Ssid)) != 0 {
			return verdict{min(part, from), max(part, from)}
		}
	}
	return nil
}

// Round 2 is round 1 of a key generation, among the new members. tss-lib accepts moduli
// of any size here, and an even one makes a goroutine of round 4 panic.
var ecdsaReshare2Rules = append(modulusRules[ecdsaDG2](),
	numbers("modProof", modProofSizes...),
	must("W of modProof must be a unit modulo paillier_n with Jacobi symbol -1", func(_ *Guard, _ int, m ecdsaDG2) bool {
		return isBlumW(m.ModProof, m.PaillierN)
	}),
)

func reshareShareRules[M interface {
	tss.MessageContent
	GetShare() []byte
}]() []rule {
	return []rule{
		numbers("share", sizeScalar),
		must("share must be between 1 and the group order", func(g *Guard, _ int, m M) bool { return g.isScalar(m.GetShare()) }),
	}
}

// committed is a message of round 1, opened one of round 3.
type (
	committed interface {
		tss.MessageContent
		GetVCommitment() []byte
	}
	opened interface {
		tss.MessageContent
		GetVDecommitment() [][]byte
	}
)

// In round 3 the old members open their polynomials. The value of each at zero must be
// the old share times its Lagrange coefficient: otherwise the sum is another key, which
// tss-lib finds and blames its own party for.
func resharePolynomialRules[C committed, O opened]() []rule {
	return []rule{
		polynomial("v_decommitment"),
		must("v_decommitment must open the commitment of round 1", func(g *Guard, from int, m O) bool {
			return opens(earlier[C](g, from).GetVCommitment(), m.GetVDecommitment())
		}),
		must("v_decommitment must hold points of the group", func(g *Guard, _ int, m O) bool {
			list := m.GetVDecommitment()
			if len(list) == 0 || !g.arePoints(list[1:]) {
				return false
			}
			for _, p := range g.coefficients(list) {
				if !isPrimeOrder(g.curve, p) {
					return false
				}
			}
			return true
		}),
		must("the first point of v_decommitment must be the sender's old share times its coefficient", func(g *Guard, from int, m O) bool {
			if g.giving == nil || g.giving.contributions == nil {
				return true
			}
			want, list := g.giving.contributions[from], m.GetVDecommitment()
			return want != nil && len(list) > 2 && want.Equals(g.coefficients(list)[0])
		}),
		{"the points of all v_decommitments must add up to the public key, and to other points of the new members", wrongSum[O]},
	}
}

// coefficients returns the points of a polynomial's opening.
func (g *Guard) coefficients(opening [][]byte) []*crypto.ECPoint {
	var points []*crypto.ECPoint
	for i := 1; i+1 < len(opening); i += 2 {
		points = append(points, crypto.NewECPointNoCurveCheck(Curve(g.curve), number(opening[i]), number(opening[i+1])))
	}
	return points
}

// wrongSum checks, when the last of the old members has opened its polynomial, that
// they add up to one for the key. It cannot be decided who is at fault.
func wrongSum[O opened](g *Guard, from int, content tss.MessageContent) verdict {
	if g.giving == nil {
		return nil
	}
	between := verdict(slices.Clone(g.giving.quorum.PartOf))
	slices.Sort(between)
	sums := g.coefficients(content.(O).GetVDecommitment())
	for _, part := range between {
		if part == from {
			continue
		}
		other := earlier[O](g, part)
		if any(other) == any(*new(O)) {
			return nil
		}
		for c, p := range g.coefficients(other.GetVDecommitment()) {
			if c >= len(sums) || !add(&sums[c], p) {
				return between
			}
		}
	}
	if len(sums) == 0 || !sums[0].Equals(g.giving.public) {
		return between
	}
	for _, x := range g.giving.receivers {
		// Horner's scheme, from the highest coefficient.
		sum := sums[len(sums)-1]
		for c := len(sums) - 2; c >= 0; c-- {
			sum = sum.ScalarMult(new(big.Int).Mod(x, g.order))
			if !add(&sum, sums[c]) {
				return between
			}
		}
		if !validPoint(g.curve, sum) {
			return between
		}
	}
	return nil
}

// add adds p to sum. It reports whether the result is a point, which on secp256k1 the
// neutral element is not.
func add(sum **crypto.ECPoint, p *crypto.ECPoint) bool {
	total, err := (*sum).Add(p)
	*sum = total
	return err == nil
}
