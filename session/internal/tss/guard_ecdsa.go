package tss

import (
	"math/big"
	"reflect"
	"slices"
	"sync"

	"github.com/bnb-chain/tss-lib/v2/crypto/dlnproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
)

// The greatest sizes of an honest party's numbers, in bytes, with q the group order (32
// bytes) and N a modulus (256): from the sums and products in tss-lib's provers, and
// one byte for the carry of a sum.
var (
	rangeProofSizes = []int{
		sizeResidue, sizeSquare, sizeResidue, sizeResidue, // z, u, w, s
		3*32 + 1,               // s1 = e m + alpha, alpha < q^3
		3*32 + sizeResidue + 1, // s2 = e rho + gamma, gamma < q^3 N
	}
	proofBobSizes = []int{
		sizeResidue, sizeResidue, sizeResidue, sizeSquare, sizeResidue, sizeResidue, // z, z', t, v, w, s
		3*32 + 1,               // s1 = e x + alpha, alpha < q^3
		3*32 + sizeResidue + 1, // s2 = e rho + rho', rho' < q^3 N
		7*32 + 1,               // t1 = e y + gamma, gamma < q^7
		3*32 + sizeResidue + 1, // t2 = e sigma + tau, tau < q^3 N
	}
	proofBobWCSizes = append(slices.Clone(proofBobSizes), sizeScalar, sizeScalar) // and u
	facProofSizes   = []int{
		sizeResidue, sizeResidue, sizeResidue, sizeResidue, sizeResidue, // P, Q, A, B, T
		32 + 2*sizeResidue,       // sigma < q N^2
		3*32 + sizeResidue/2 + 1, // z1 = e p + alpha, alpha < q^3 sqrt(N)
		3*32 + sizeResidue/2 + 1, // z2
		3*32 + sizeResidue + 1,   // w1 = e mu + x, x < q^3 N
		3*32 + sizeResidue + 1,   // w2
		3*32 + 2*sizeResidue + 1, // v = e (sigma - nu p) + r, r < q^3 N^2
	}
	// The mod proof is W, X_i, two lists of bits with a leading one, Z_i.
	modProofSizes = slices.Concat(same(1+modproof.Iterations, sizeResidue),
		same(2, modproof.Iterations/8+1), same(modproof.Iterations, sizeResidue))
	// The discrete-log proof is two lists, each after its length.
	dlnProofSizes = slices.Repeat(slices.Concat([]int{1}, same(dlnproof.Iterations, sizeResidue)), 2)
)

// guardRules lists the conditions by message type. The order matters: a rule may rely
// on those before it; a field's form comes first.
var guardRules = map[string][]rule{
	"ecdsa/keygen/1":       ecdsaKeygen1Rules,
	"ecdsa/keygen/2-share": ecdsaKeygen2ShareRules,
	"ecdsa/keygen/2":       ecdsaKeygen2Rules,
	"ecdsa/keygen/3":       ecdsaKeygen3Rules,
	"ecdsa/sign/1-mta":     ecdsaSign1MtaRules,
	"ecdsa/sign/1":         {numbers("commitment", sizeHash)},
	"ecdsa/sign/2-mta":     ecdsaSign2MtaRules,
	"ecdsa/sign/3":         ecdsaSign3Rules,
	"ecdsa/sign/4":         ecdsaSign4Rules,
	"ecdsa/sign/5":         {numbers("commitment", sizeHash)},
	"ecdsa/sign/6":         ecdsaSign6Rules,
	"ecdsa/sign/7":         {numbers("commitment", sizeHash)},
	"ecdsa/sign/8":         ecdsaSign8Rules,
	"ecdsa/sign/9":         ecdsaSign9Rules,
	"eddsa/keygen/1":       {numbers("commitment", sizeHash)},
	"eddsa/keygen/2-share": eddsaKeygen2ShareRules,
	"eddsa/keygen/2":       eddsaKeygen2Rules,
	"eddsa/sign/1":         {numbers("commitment", sizeHash)},
	"eddsa/sign/2":         eddsaSign2Rules,
	"eddsa/sign/3":         eddsaSign3Rules,

	"ecdsa/reshare/1":       ecdsaReshare1Rules,
	"ecdsa/reshare/2-ack":   nil, // no content
	"ecdsa/reshare/2":       ecdsaReshare2Rules,
	"ecdsa/reshare/3-share": reshareShareRules[ecdsaDG3S](),
	"ecdsa/reshare/3":       resharePolynomialRules[ecdsaDG1, ecdsaDG3](),
	"ecdsa/reshare/4-proof": {numbers("facProof", facProofSizes...)},
	"ecdsa/reshare/4-ack":   nil,
	"eddsa/reshare/1":       eddsaReshare1Rules,
	"eddsa/reshare/2-ack":   nil,
	"eddsa/reshare/3-share": reshareShareRules[eddsaDG3S](),
	"eddsa/reshare/3":       resharePolynomialRules[eddsaDG1, eddsaDG3](),
	"eddsa/reshare/4-ack":   nil,
}

type (
	ecdsaKG1  = *ecdsakeygen.KGRound1Message
	ecdsaKG2S = *ecdsakeygen.KGRound2Message1
	ecdsaKG2  = *ecdsakeygen.KGRound2Message2
	ecdsaKG3  = *ecdsakeygen.KGRound3Message
	ecdsaS1M  = *ecdsasigning.SignRound1Message1
	ecdsaS1   = *ecdsasigning.SignRound1Message2
	ecdsaS2M  = *ecdsasigning.SignRound2Message
	ecdsaS3   = *ecdsasigning.SignRound3Message
	ecdsaS4   = *ecdsasigning.SignRound4Message
	ecdsaS5   = *ecdsasigning.SignRound5Message
	ecdsaS6   = *ecdsasigning.SignRound6Message
	ecdsaS7   = *ecdsasigning.SignRound7Message
	ecdsaS8   = *ecdsasigning.SignRound8Message
	ecdsaS9   = *ecdsasigning.SignRound9Message
)

// Round 1 sends the moduli of a party's Paillier key and of the proofs that others make
// for it. An even one makes math/big panic in a goroutine of round 3; no proof in
// tss-lib covers the factors of n_tilde.
var ecdsaKeygen1Rules = append([]rule{numbers("commitment", sizeHash)}, modulusRules[ecdsaKG1]()...)

// moduli are the messages with a party's moduli: of a key generation or a reshare.
type moduli interface {
	tss.MessageContent
	GetPaillierN() []byte
	GetNTilde() []byte
	GetH1() []byte
	GetH2() []byte
	GetDlnproof_1() [][]byte
	GetDlnproof_2() [][]byte
}

func modulusRules[M moduli]() []rule {
	return []rule{
		numbers("paillier_n", sizeResidue),
		numbers("n_tilde", sizeResidue),
		numbers("h1", sizeResidue),
		numbers("h2", sizeResidue),
		numbers("dlnproof_1", dlnProofSizes...),
		numbers("dlnproof_2", dlnProofSizes...),
		must("paillier_n must be odd and of 2048 bits", func(_ *Guard, _ int, m M) bool { return isModulus(number(m.GetPaillierN())) }),
		must("n_tilde must be odd and of 2048 bits", func(_ *Guard, _ int, m M) bool { return isModulus(number(m.GetNTilde())) }),
		must("paillier_n must not be prime", func(_ *Guard, _ int, m M) bool { return !number(m.GetPaillierN()).ProbablyPrime(0) }),
		must("n_tilde must not be prime", func(_ *Guard, _ int, m M) bool { return !number(m.GetNTilde()).ProbablyPrime(0) }),
		must("paillier_n must have no small factor", func(_ *Guard, _ int, m M) bool { return !hasSmallFactor(number(m.GetPaillierN())) }),
		must("n_tilde must have no small factor", func(_ *Guard, _ int, m M) bool { return !hasSmallFactor(number(m.GetNTilde())) }),
		must("paillier_n and n_tilde must differ", func(_ *Guard, _ int, m M) bool {
			return number(m.GetPaillierN()).Cmp(number(m.GetNTilde())) != 0
		}),
		must("h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1", func(_ *Guard, _ int, m M) bool {
			h1, h2, n := number(m.GetH1()), number(m.GetH2()), number(m.GetNTilde())
			minus := new(big.Int).Sub(n, one)
			return isUnit(h1, n, n) && isUnit(h2, n, n) && h1.Cmp(h2) != 0 &&
				h1.Cmp(one) != 0 && h2.Cmp(one) != 0 && h1.Cmp(minus) != 0 && h2.Cmp(minus) != 0
		}),
		// tss-lib slices by these counts, in a goroutine, and a large one is negative.
		must("the counts in dlnproof_1 and dlnproof_2 must be 128", func(_ *Guard, _ int, m M) bool {
			for _, proof := range [][][]byte{m.GetDlnproof_1(), m.GetDlnproof_2()} {
				for i := 0; i < len(proof); i += 1 + dlnproof.Iterations {
					if number(proof[i]).Cmp(big.NewInt(dlnproof.Iterations)) != 0 {
						return false
					}
				}
			}
			return true
		}),
		{"no two parties may have a modulus, h1 or h2 in common", sharedNumbers[M]},
	}
}

// sharedNumbers finds copied numbers. A copy of the own numbers is the sender's fault;
// between two others it cannot be decided who was first.
func sharedNumbers[M moduli](g *Guard, from int, content tss.MessageContent) verdict {
	m := content.(M)
	for _, part := range g.parts {
		stored, there := g.seen[said{part, reflect.TypeFor[M]()}]
		if part == from || !there {
			continue
		}
		other := stored.(M)
		for _, mine := range [][]byte{m.GetPaillierN(), m.GetNTilde(), m.GetH1(), m.GetH2()} {
			for _, theirs := range [][]byte{other.GetPaillierN(), other.GetNTilde(), other.GetH1(), other.GetH2()} {
				if number(mine).Cmp(number(theirs)) != 0 {
					continue
				}
				if part == g.self {
					return verdict{from}
				}
				return verdict{min(part, from), max(part, from)}
			}
		}
	}
	return nil
}

// smallPrimes is the product of the odd primes below 2^14.
var smallPrimes = sync.OnceValue(func() *big.Int {
	const bound = 1 << 14
	var composite [bound]bool
	product := big.NewInt(1)
	for n := 3; n < bound; n += 2 {
		if composite[n] {
			continue
		}
		product.Mul(product, big.NewInt(int64(n)))
		for m := n * n; m < bound; m += n {
			composite[m] = true
		}
	}
	return product
})

func hasSmallFactor(n *big.Int) bool {
	return n.Sign() <= 0 || new(big.Int).GCD(nil, nil, new(big.Int).Mod(smallPrimes(), n), n).Cmp(one) != 0
}

var ecdsaKeygen2ShareRules = []rule{
	numbers("share", sizeScalar),
	must("share must be between 1 and the group order", func(g *Guard, _ int, m ecdsaKG2S) bool { return g.isScalar(m.Share) }),
	numbers("facProof", facProofSizes...),
}

var ecdsaKeygen2Rules = []rule{
	polynomial("de_commitment"),
	must("de_commitment must open the commitment of round 1", func(g *Guard, from int, m ecdsaKG2) bool {
		return opens(earlier[ecdsaKG1](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold points of the curve", func(g *Guard, _ int, m ecdsaKG2) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
	numbers("modProof", modProofSizes...),
	must("W of modProof must be a unit modulo paillier_n with Jacobi symbol -1", func(g *Guard, from int, m ecdsaKG2) bool {
		return isBlumW(m.ModProof, earlier[ecdsaKG1](g, from).GetPaillierN())
	}),
}

// isBlumW reports whether the W of a mod proof can be an honest one. If W has a factor
// in common with N, an N that is not a product of two primes can pass.
func isBlumW(proof [][]byte, modulus []byte) bool {
	n := number(modulus)
	if len(proof) == 0 || n.Bit(0) == 0 {
		return false
	}
	w := number(proof[0])
	return isUnit(w, n, n) && big.Jacobi(w, n) == -1
}

var ecdsaKeygen3Rules = []rule{
	numbers("paillier_proof", same(paillier.ProofIters, sizeResidue)...),
	must("paillier_proof must be units modulo paillier_n", func(g *Guard, from int, m ecdsaKG3) bool {
		n := number(earlier[ecdsaKG1](g, from).GetPaillierN())
		for _, y := range m.PaillierProof {
			if !isUnit(number(y), n, n) {
				return false
			}
		}
		return true
	}),
}

// Round 1 sends the encrypted nonce, with a range proof that tss-lib accepts in
// degenerate forms.
var ecdsaSign1MtaRules = []rule{
	numbers("c", sizeSquare),
	must("c must be a unit modulo the square of its sender's paillier_n", func(g *Guard, from int, m ecdsaS1M) bool {
		return g.isCiphertext(m.C, from)
	}),
	numbers("range_proof_alice", rangeProofSizes...),
	must("Z of range_proof_alice must not be 1", func(_ *Guard, _ int, m ecdsaS1M) bool { return !isOne(m.RangeProofAlice, 0) }),
	must("S of range_proof_alice must not be 1", func(_ *Guard, _ int, m ecdsaS1M) bool { return !isOne(m.RangeProofAlice, 3) }),
	must("S of range_proof_alice must be a unit modulo its sender's paillier_n", func(g *Guard, from int, m ecdsaS1M) bool {
		n := g.moduli[from]
		return n != nil && len(m.RangeProofAlice) > 3 && isUnit(number(m.RangeProofAlice[3]), n, n)
	}),
	must("S1 and S2 of range_proof_alice must differ", func(_ *Guard, _ int, m ecdsaS1M) bool {
		return len(m.RangeProofAlice) > 5 && number(m.RangeProofAlice[4]).Cmp(number(m.RangeProofAlice[5])) != 0
	}),
}

func isOne(list [][]byte, i int) bool { return i >= len(list) || number(list[i]).Cmp(one) == 0 }

var ecdsaSign2MtaRules = []rule{
	numbers("c1", sizeSquare),
	numbers("c2", sizeSquare),
	must("c1 must be a unit modulo the square of our paillier_n", func(g *Guard, _ int, m ecdsaS2M) bool {
		return g.isCiphertext(m.C1, g.self)
	}),
	must("c2 must be a unit modulo the square of our paillier_n", func(g *Guard, _ int, m ecdsaS2M) bool {
		return g.isCiphertext(m.C2, g.self)
	}),
	numbers("proof_bob", proofBobSizes...),
	numbers("proof_bob_wc", proofBobWCSizes...),
	// tss-lib multiplies the base point by it, in a goroutine.
	must("S1 of proof_bob_wc must not be a multiple of the group order", func(g *Guard, _ int, m ecdsaS2M) bool {
		return len(m.ProofBobWc) > 6 && new(big.Int).Mod(number(m.ProofBobWc[6]), g.order).Sign() != 0
	}),
	must("U of proof_bob_wc must be a point of the curve", func(g *Guard, _ int, m ecdsaS2M) bool {
		return len(m.ProofBobWc) == len(proofBobWCSizes) && g.IsPoint(m.ProofBobWc[10], m.ProofBobWc[11])
	}),
}

var ecdsaSign3Rules = []rule{
	numbers("theta", sizeScalar),
	must("theta must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS3) bool { return g.isScalar(m.Theta) }),
	{"the thetas of all must not add up to a multiple of the group order", thetaSum},
}

// thetaSum checks the number that tss-lib inverts once it has all. The last sender can
// make it zero; with several others it cannot be decided who did.
func thetaSum(g *Guard, from int, content tss.MessageContent) verdict {
	sum := number(content.(ecdsaS3).Theta)
	for _, part := range g.parts {
		if part == from {
			continue
		}
		other := earlier[ecdsaS3](g, part)
		if other == nil {
			return nil
		}
		sum.Add(sum, number(other.Theta))
	}
	if sum.Mod(sum, g.order).Sign() != 0 {
		return nil
	}
	return slices.DeleteFunc(verdict(slices.Clone(g.parts)), func(part int) bool { return part == g.self })
}

var ecdsaSign4Rules = []rule{
	numbers("de_commitment", same(3, sizeScalar)...),
	must("de_commitment must open the commitment of round 1", func(g *Guard, from int, m ecdsaS4) bool {
		return opens(earlier[ecdsaS1](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold a point of the curve", func(g *Guard, _ int, m ecdsaS4) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
	numbers("proof_alpha_x", sizeScalar),
	numbers("proof_alpha_y", sizeScalar),
	must("proof_alpha must be a point of the curve", func(g *Guard, _ int, m ecdsaS4) bool { return g.IsPoint(m.ProofAlphaX, m.ProofAlphaY) }),
	numbers("proof_t", sizeScalar),
	must("proof_t must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS4) bool { return g.isScalar(m.ProofT) }),
}

var ecdsaSign6Rules = []rule{
	numbers("de_commitment", same(5, sizeScalar)...),
	must("de_commitment must open the commitment of round 5", func(g *Guard, from int, m ecdsaS6) bool {
		return opens(earlier[ecdsaS5](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold two points of the curve", func(g *Guard, _ int, m ecdsaS6) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
	numbers("proof_alpha_x", sizeScalar),
	numbers("proof_alpha_y", sizeScalar),
	must("proof_alpha must be a point of the curve", func(g *Guard, _ int, m ecdsaS6) bool { return g.IsPoint(m.ProofAlphaX, m.ProofAlphaY) }),
	numbers("proof_t", sizeScalar),
	must("proof_t must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS6) bool { return g.isScalar(m.ProofT) }),
	numbers("v_proof_alpha_x", sizeScalar),
	numbers("v_proof_alpha_y", sizeScalar),
	must("v_proof_alpha must be a point of the curve", func(g *Guard, _ int, m ecdsaS6) bool { return g.IsPoint(m.VProofAlphaX, m.VProofAlphaY) }),
	numbers("v_proof_t", sizeScalar),
	must("v_proof_t must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS6) bool { return g.isScalar(m.VProofT) }),
	numbers("v_proof_u", sizeScalar),
	must("v_proof_u must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS6) bool { return g.isScalar(m.VProofU) }),
}

var ecdsaSign8Rules = []rule{
	numbers("de_commitment", same(5, sizeScalar)...),
	must("de_commitment must open the commitment of round 7", func(g *Guard, from int, m ecdsaS8) bool {
		return opens(earlier[ecdsaS7](g, from).GetCommitment(), m.DeCommitment)
	}),
	must("de_commitment must hold two points of the curve", func(g *Guard, _ int, m ecdsaS8) bool {
		return len(m.DeCommitment) > 0 && g.arePoints(m.DeCommitment[1:])
	}),
}

var ecdsaSign9Rules = []rule{
	numbers("s", sizeScalar),
	must("s must be between 1 and the group order", func(g *Guard, _ int, m ecdsaS9) bool { return g.isScalar(m.S) }),
}
