package party_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/schnorr"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/party"
)

// attacks is every known attack on a run of tss-lib v2.0.2 with one party's messages,
// and one for every rule of the guard beyond the form of a field. If library is set the
// attack is carried out.
var attacks = slices.Concat(ecdsaKeygenAttacks, ecdsaSignAttacks, eddsaKeygenAttacks, eddsaSignAttacks,
	modulusAttacks(), ecdsaReshareAttacks, eddsaReshareAttacks)

var ecdsaKeygenAttacks = []attack{
	{
		protocol: "ecdsa/keygen", name: "even Paillier modulus", round: "1", rule: "paillier_n must be odd and of 2048 bits",
		change:  changes{"1": on(func(x *attacker, m kg1) { m.PaillierN = new(big.Int).Lsh(prime(2047), 1).Bytes() })},
		library: `^crash: big: invalid 2nd argument to Int.Jacobi`,
	},
	{
		protocol: "ecdsa/keygen", name: "even n_tilde", round: "1", rule: "n_tilde must be odd and of 2048 bits",
		change: changes{"1": on(func(x *attacker, m kg1) {
			m.NTilde, m.H1, m.H2 = new(big.Int).Lsh(prime(2047), 1).Bytes(), []byte{3}, []byte{5}
		})},
	},
	{
		protocol: "ecdsa/keygen", name: "Paillier modulus of 2047 bits", round: "1", rule: "paillier_n must be odd and of 2048 bits",
		change: changes{"1": on(func(x *attacker, m kg1) { m.PaillierN = new(big.Int).Mul(prime(1024), prime(1023)).Bytes() })},
	},
	{
		protocol: "ecdsa/keygen", name: "prime Paillier modulus", round: "1", rule: "paillier_n must not be prime",
		change: changes{"1": on(func(x *attacker, m kg1) { m.PaillierN = prime(2048).Bytes() })},
	},
	{
		protocol: "ecdsa/keygen", name: "prime n_tilde", round: "1", rule: "n_tilde must not be prime",
		change: changes{"1": on(func(x *attacker, m kg1) {
			p := prime(2048)
			rings(m, p, big.NewInt(4), new(big.Int).Rsh(new(big.Int).Sub(p, one), 1))
		})},
		accepts: "2 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/keygen", name: "small factor of the Paillier modulus", round: "1", rule: "paillier_n must have no small factor",
		change: changes{"1": on(func(x *attacker, m kg1) { n, _, _ := withSmallFactor(); m.PaillierN = n.Bytes() })},
	},
	{
		protocol: "ecdsa/keygen", name: "small factor of n_tilde", round: "1", rule: "n_tilde must have no small factor",
		change: changes{"1": on(func(x *attacker, m kg1) {
			n, p, q := withSmallFactor()
			rings(m, n, big.NewInt(4), phi(p, q))
		})},
		accepts: "2 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/keygen", name: "one modulus for both", round: "1", rule: "paillier_n and n_tilde must differ",
		change: changes{"1": on(func(x *attacker, m kg1) {
			n, p, q := attackerParams(x)
			rings(m, n, big.NewInt(4), phi(p, q))
		})},
		accepts: "2 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/keygen", name: "h1 is no unit", round: "1", rule: "h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1",
		change: changes{"1": on(func(x *attacker, m kg1) {
			p, q := prime(1024, 1), prime(1024, 2)
			rings(m, new(big.Int).Mul(p, q), p, phi(p, q))
		})},
		accepts: "2 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/keygen", name: "h1 is 1", round: "1", rule: "h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1",
		change: changes{"1": on(func(x *attacker, m kg1) { m.H1 = []byte{1} })},
	},
	{
		protocol: "ecdsa/keygen", name: "h2 is -1", round: "1", rule: "h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1",
		change: changes{"1": on(func(x *attacker, m kg1) { m.H2 = new(big.Int).Sub(num(m.NTilde), one).Bytes() })},
	},
	{
		protocol: "ecdsa/keygen", name: "h1 and h2 are the same", round: "1", rule: "h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1",
		change: changes{"1": on(func(x *attacker, m kg1) { m.H2 = m.H1 })},
	},
	{
		protocol: "ecdsa/keygen", name: "h2 is not reduced", round: "1", rule: "h1 and h2 must be different units modulo n_tilde, and neither 1 nor -1",
		change: changes{"1": on(func(x *attacker, m kg1) { m.H2 = new(big.Int).Add(num(m.NTilde), big.NewInt(4)).Bytes() })},
	},
	{
		protocol: "ecdsa/keygen", name: "negative count in a proof", round: "1",
		rule:    "dlnproof_1 must be 258 numbers, none too long and each in its shortest form",
		change:  changes{"1": on(func(x *attacker, m kg1) { m.Dlnproof_1[0] = bytes.Repeat([]byte{0xff}, 8) })},
		library: `^crash: .*slice bounds out of range`, shadowed: true,
	},
	{
		protocol: "ecdsa/keygen", name: "wrong count in a proof", round: "1", rule: "the counts in dlnproof_1 and dlnproof_2 must be 128",
		change: changes{"1": on(func(x *attacker, m kg1) { m.Dlnproof_2[129] = []byte{127} })},
	},
	{
		protocol: "ecdsa/keygen", name: "another party's n_tilde", round: "1", rule: "no two parties may have a modulus, h1 or h2 in common", needs: "1 1",
		change: changes{"1": on(func(x *attacker, m kg1) {
			o := x.others["1 1"].(kg1)
			m.NTilde, m.H1, m.H2, m.Dlnproof_1, m.Dlnproof_2 = o.NTilde, o.H1, o.H2, o.Dlnproof_1, o.Dlnproof_2
		})},
		library: `^fails: .*this h1j was already used`,
	},
	{
		protocol: "ecdsa/keygen", name: "share 0 modulo the order", round: "2-share", rule: "share must be between 1 and the group order",
		change:  changes{"2-share": on(func(x *attacker, m kg2s) { m.Share = orderK.Bytes() })},
		library: `^crash: scalar mult`,
	},
	{
		protocol: "ecdsa/keygen", name: "share not reduced", round: "2-share", rule: "share must be between 1 and the group order",
		change: changes{"2-share": on(func(x *attacker, m kg2s) { m.Share = bytes.Repeat([]byte{0xff}, 32) })},
	},
	{
		protocol: "ecdsa/keygen", name: "polynomial of too low a degree", round: "2", rule: "de_commitment must be a number and as many points as the threshold",
		change:  ecdsaPolynomial(points(7)),
		library: `^crash: .*index out of range`,
	},
	{
		protocol: "ecdsa/keygen", name: "polynomial of too high a degree", round: "2", rule: "de_commitment must be a number and as many points as the threshold",
		change:  ecdsaHighDegree(),
		accepts: "3 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/keygen", name: "commitment not opened", round: "2", rule: "de_commitment must open the commitment of round 1",
		change: changes{"2": on(func(x *attacker, m kg2) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "ecdsa/keygen", name: "points off the curve", round: "2", rule: "de_commitment must hold points of the curve",
		change: ecdsaPolynomial(offCurve(points(7, 8))),
	},
	{
		protocol: "ecdsa/keygen", name: "W not coprime to N", round: "2", rule: "W of modProof must be a unit modulo paillier_n with Jacobi symbol -1",
		change: changes{"2": on(func(x *attacker, m kg2) {
			n, p, q := attackerParams(x)
			m.ModProof = forgedModProof(party.Session(x.run, 2), n, p, q)
		})},
		library: `^done$`,
	},
	{
		protocol: "ecdsa/keygen", name: "W a square", round: "2", rule: "W of modProof must be a unit modulo paillier_n with Jacobi symbol -1",
		change: changes{"2": on(func(x *attacker, m kg2) { m.ModProof[0] = []byte{4} })},
	},
	{
		protocol: "ecdsa/keygen", name: "root not a unit", round: "3", rule: "paillier_proof must be units modulo paillier_n",
		change: changes{"3": on(func(x *attacker, m kg3) { _, p, _ := attackerParams(x); m.PaillierProof[5] = p.Bytes() })},
	},
}

var ecdsaSignAttacks = []attack{
	{
		protocol: "ecdsa/sign", name: "ciphertext not coprime to N", round: "1-mta", rule: "c must be a unit modulo the square of its sender's paillier_n",
		change:  changes{"1-mta": on(func(x *attacker, m s1m) { m.C = x.mta().n.Bytes() })},
		library: `^crash: .*nil pointer`,
	},
	{
		protocol: "ecdsa/sign", name: "ciphertext not below N squared", round: "1-mta", rule: "c must be a unit modulo the square of its sender's paillier_n",
		change: changes{"1-mta": on(func(x *attacker, m s1m) { m.C = bytes.Repeat([]byte{0xff}, 512) })},
	},
	{
		protocol: "ecdsa/sign", name: "range proof with Z = 1", round: "1-mta", rule: "Z of range_proof_alice must not be 1",
		change: changes{"1-mta": on(func(x *attacker, m s1m) {
			m.C, m.RangeProofAlice = x.mta().rangeProof(new(big.Int), big.NewInt(5), prime(700), big.NewInt(6), prime(701), new(big.Int))
		})},
		accepts: "2-mta 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/sign", name: "range proof with S = 1", round: "1-mta", rule: "S of range_proof_alice must not be 1",
		change: changes{"1-mta": on(func(x *attacker, m s1m) {
			m.C, m.RangeProofAlice = x.mta().rangeProof(new(big.Int), one, prime(700), one, prime(701), big.NewInt(9))
		})},
		accepts: "2-mta 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/sign", name: "range proof with S1 = S2", round: "1-mta", rule: "S1 and S2 of range_proof_alice must differ",
		change: changes{"1-mta": on(func(x *attacker, m s1m) {
			m.C, m.RangeProofAlice = x.mta().rangeProof(big.NewInt(9), big.NewInt(5), prime(700), big.NewInt(6), prime(700), big.NewInt(9))
		})},
		accepts: "2-mta 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/sign", name: "degenerate range proof of the ciphertext 1", round: "1-mta", rule: "Z of range_proof_alice must not be 1", shadowed: true,
		change: changes{"1-mta": on(func(x *attacker, m s1m) {
			m.C, m.RangeProofAlice = x.mta().rangeProof(new(big.Int), one, orderK, one, orderK, new(big.Int))
		})},
		accepts: "2-mta 1", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/sign", name: "S not coprime to N", round: "1-mta", rule: "S of range_proof_alice must be a unit modulo its sender's paillier_n",
		change: changes{"1-mta": on(func(x *attacker, m s1m) { m.RangeProofAlice[3] = x.mta().n.Bytes() })},
	},
	{
		protocol: "ecdsa/sign", name: "padded commitment", round: "1", rule: "commitment must be a number of at most 32 bytes in its shortest form",
		change:  changes{"1": on(func(x *attacker, m s1) { m.Commitment = append(make([]byte, 9000), m.Commitment...) })},
		library: `^done$`,
	},
	{
		protocol: "ecdsa/sign", name: "c1 not coprime to N", round: "2-mta", rule: "c1 must be a unit modulo the square of our paillier_n",
		change: changes{"2-mta": on(func(x *attacker, m s2m) { m.C1 = victimN(x).Bytes() })},
	},
	{
		protocol: "ecdsa/sign", name: "c2 not coprime to N", round: "2-mta", rule: "c2 must be a unit modulo the square of our paillier_n",
		change: changes{"2-mta": on(func(x *attacker, m s2m) { m.C2 = victimN(x).Bytes() })},
	},
	{
		protocol: "ecdsa/sign", name: "S1 a multiple of the order", round: "2-mta", rule: "S1 of proof_bob_wc must not be a multiple of the group order",
		change:  changes{"2-mta": on(func(x *attacker, m s2m) { m.ProofBobWc[6] = orderK.Bytes() })},
		library: `^crash: scalar mult`,
	},
	{
		protocol: "ecdsa/sign", name: "U off the curve", round: "2-mta", rule: "U of proof_bob_wc must be a point of the curve",
		change: changes{"2-mta": on(func(x *attacker, m s2m) { m.ProofBobWc[11] = []byte{5} })},
	},
	{
		protocol: "ecdsa/sign", name: "theta is the order", round: "3", rule: "theta must be between 1 and the group order",
		change: changes{"3": on(func(x *attacker, m s3) { m.Theta = orderK.Bytes() })},
	},
	{
		protocol: "ecdsa/sign", name: "thetas that cancel", round: "3", rule: "the thetas of all must not add up to a multiple of the group order", needs: "3 1",
		change:  changes{"3": on(func(x *attacker, m s3) { m.Theta = new(big.Int).Sub(orderK, num(x.others["3 1"].(s3).Theta)).Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/sign", name: "nonce commitment not opened", round: "4", rule: "de_commitment must open the commitment of round 1",
		change: changes{"4": on(func(x *attacker, m s4) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "nonce off the curve", round: "4", rule: "de_commitment must hold a point of the curve",
		change: pair("1", "4", offCurve(points(7)), func(m s1) *[]byte { return &m.Commitment }, func(m s4) *[][]byte { return &m.DeCommitment }),
	},
	{
		protocol: "ecdsa/sign", name: "alpha off the curve", round: "4", rule: "proof_alpha must be a point of the curve",
		change: changes{"4": on(func(x *attacker, m s4) { m.ProofAlphaY = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "t is the order", round: "4", rule: "proof_t must be between 1 and the group order",
		change:  changes{"4": on(func(x *attacker, m s4) { m.ProofT = orderK.Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/sign", name: "V and A not opened", round: "6", rule: "de_commitment must open the commitment of round 5",
		change: changes{"6": on(func(x *attacker, m s6) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "A off the curve", round: "6", rule: "de_commitment must hold two points of the curve",
		change: pair("5", "6", offCurve(points(7, 8)), func(m s5) *[]byte { return &m.Commitment }, func(m s6) *[][]byte { return &m.DeCommitment }),
	},
	{
		protocol: "ecdsa/sign", name: "A's alpha off the curve", round: "6", rule: "proof_alpha must be a point of the curve",
		change: changes{"6": on(func(x *attacker, m s6) { m.ProofAlphaY = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "A's t is the order", round: "6", rule: "proof_t must be between 1 and the group order",
		change:  changes{"6": on(func(x *attacker, m s6) { m.ProofT = orderK.Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/sign", name: "V's alpha off the curve", round: "6", rule: "v_proof_alpha must be a point of the curve",
		change: changes{"6": on(func(x *attacker, m s6) { m.VProofAlphaY = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "V's t is the order", round: "6", rule: "v_proof_t must be between 1 and the group order",
		change:  changes{"6": on(func(x *attacker, m s6) { m.VProofT = orderK.Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/sign", name: "V's u is the order", round: "6", rule: "v_proof_u must be between 1 and the group order",
		change:  changes{"6": on(func(x *attacker, m s6) { m.VProofU = orderK.Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/sign", name: "U and T not opened", round: "8", rule: "de_commitment must open the commitment of round 7",
		change: changes{"8": on(func(x *attacker, m s8) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "ecdsa/sign", name: "U and T off the curve", round: "8", rule: "de_commitment must hold two points of the curve", parties: 3,
		change: pair("7", "8", []*big.Int{big.NewInt(7), big.NewInt(7), big.NewInt(8), big.NewInt(8)},
			func(m s7) *[]byte { return &m.Commitment }, func(m s8) *[][]byte { return &m.DeCommitment }),
		library: `^fails: .*U doesn't equal T$`,
	},
	{
		protocol: "ecdsa/sign", name: "T off the curve", round: "8", rule: "de_commitment must hold two points of the curve",
		change: pair("7", "8", offCurve(points(7, 8)), func(m s7) *[]byte { return &m.Commitment }, func(m s8) *[][]byte { return &m.DeCommitment }),
	},
	{
		protocol: "ecdsa/sign", name: "s is the order", round: "9", rule: "s must be between 1 and the group order", parties: 3,
		change:  changes{"9": on(func(x *attacker, m s9) { m.S = orderK.Bytes() })},
		library: `^fails: .*signature verification failed$`,
	},
	{
		protocol: "ecdsa/sign", name: "s is the order, of two", round: "9", rule: "s must be between 1 and the group order",
		change: changes{"9": on(func(x *attacker, m s9) { m.S = orderK.Bytes() })},
	},
}

var eddsaKeygenAttacks = []attack{
	{
		protocol: "eddsa/keygen", name: "share is the order", round: "2-share", rule: "share must be between 1 and the group order",
		change:  changes{"2-share": on(func(x *attacker, m ekgs) { m.Share = orderE.Bytes() })},
		library: `^fails: .*vss verify failed \(part 2\)$`,
	},
	{
		protocol: "eddsa/keygen", name: "polynomial of too low a degree", round: "2", rule: "de_commitment must be a number and as many points as the threshold",
		change:  eddsaLine(7, pointsE(7)),
		library: `^crash: .*index out of range`,
	},
	{
		protocol: "eddsa/keygen", name: "no polynomial", round: "2", rule: "de_commitment must be a number and as many points as the threshold",
		change:  eddsaPolynomial(nil),
		library: `^crash: .*index out of range`,
	},
	{
		protocol: "eddsa/keygen", name: "polynomial of too high a degree", round: "2", rule: "de_commitment must be a number and as many points as the threshold",
		change:  eddsaLine(8, pointsE(7, 8, 9)),
		library: `^done$`,
	},
	{
		protocol: "eddsa/keygen", name: "commitment not opened", round: "2", rule: "de_commitment must open the commitment of round 1",
		change: changes{"2": on(func(x *attacker, m ekg2) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "eddsa/keygen", name: "points off the curve", round: "2", rule: "de_commitment must hold points of the group",
		change:  eddsaPolynomial(offCurve(pointsE(7, 8))),
		library: `^fails: .*not on the elliptic curve \(part 2\)$`,
	},
	{
		protocol: "eddsa/keygen", name: "points of small order", round: "2", rule: "de_commitment must hold points of the group",
		change:  eddsaLine(0, append(pointsE(7), smallOrder()...)),
		library: `^done$`,
	},
	{
		protocol: "eddsa/keygen", name: "alpha off the curve", round: "2", rule: "proof_alpha must be a point of the group",
		change: changes{"2": on(func(x *attacker, m ekg2) { m.ProofAlphaX = []byte{7} })},
	},
	{
		protocol: "eddsa/keygen", name: "alpha of small order", round: "2", rule: "proof_alpha must be a point of the group",
		change: changes{"2": on(func(x *attacker, m ekg2) {
			p := smallOrder()
			m.ProofAlphaX, m.ProofAlphaY = p[0].Bytes(), p[1].Bytes()
		})},
	},
	{
		protocol: "eddsa/keygen", name: "t is the order", round: "2", rule: "proof_t must be between 1 and the group order",
		change:  changes{"2": on(func(x *attacker, m ekg2) { m.ProofT = orderE.Bytes() })},
		library: `^fails: .*schnorr proof \(part 2\)$`,
	},
}

var eddsaSignAttacks = []attack{
	{
		protocol: "eddsa/sign", name: "padded commitment", round: "1", rule: "commitment must be a number of at most 32 bytes in its shortest form",
		change:  changes{"1": on(func(x *attacker, m es1) { m.Commitment = append(make([]byte, 9000), m.Commitment...) })},
		library: `^done$`,
	},
	{
		protocol: "eddsa/sign", name: "nonce commitment not opened, of three", round: "2", rule: "de_commitment must open the commitment of round 1", parties: 3,
		change:  changes{"2": on(func(x *attacker, m es2) { m.DeCommitment[0] = []byte{7} })},
		library: `^fails: .*de-commitment verify failed$`,
	},
	{
		protocol: "eddsa/sign", name: "nonce commitment not opened", round: "2", rule: "de_commitment must open the commitment of round 1",
		change: changes{"2": on(func(x *attacker, m es2) { m.DeCommitment[0] = []byte{7} })},
	},
	{
		protocol: "eddsa/sign", name: "nonce off the curve", round: "2", rule: "de_commitment must hold a point of the group",
		change:  eddsaNonce(offCurve(pointsE(7))),
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "eddsa/sign", name: "nonce of small order", round: "2", rule: "de_commitment must hold a point of the group",
		change:  eddsaNonce(smallOrder()),
		library: `^fails: .*failed to prove Rj \(part 2\)$`,
	},
	{
		protocol: "eddsa/sign", name: "alpha off the curve", round: "2", rule: "proof_alpha must be a point of the group",
		change: changes{"2": on(func(x *attacker, m es2) { m.ProofAlphaX = []byte{7} })},
	},
	{
		protocol: "eddsa/sign", name: "t is the order", round: "2", rule: "proof_t must be between 1 and the group order",
		change:  changes{"2": on(func(x *attacker, m es2) { m.ProofT = orderE.Bytes() })},
		library: `^fails: .*failed to prove Rj \(part 2\)$`,
	},
	{
		protocol: "eddsa/sign", name: "s is the order, of three", round: "3", rule: "s must be between 1 and the group order", parties: 3,
		change:  changes{"3": on(func(x *attacker, m es3) { m.S = orderE.Bytes() })},
		library: `^fails: .*signature verification failed$`,
	},
	{
		protocol: "eddsa/sign", name: "s is the order", round: "3", rule: "s must be between 1 and the group order",
		change: changes{"3": on(func(x *attacker, m es3) { m.S = orderE.Bytes() })},
	},
}

// pair commits to given values in one message and opens them in another.
func pair[C, O tss.MessageContent](first, second string, values []*big.Int, c func(C) *[]byte, o func(O) *[][]byte) changes {
	a, b := openWith(func() []*big.Int { return values }, c, o)
	return changes{first: a, second: b}
}

func ecdsaPolynomial(values []*big.Int) changes {
	return pair("1", "2", values, func(m kg1) *[]byte { return &m.Commitment }, func(m kg2) *[][]byte { return &m.DeCommitment })
}

// line is the value of 7 + slope x at the victim's share.
func line(x *attacker, slope int64, order *big.Int) []byte {
	v := new(big.Int).Mul(big.NewInt(slope), party.KeyOf(x.run, 1))
	return v.Mod(v.Add(v, big.NewInt(7)), order).Bytes()
}

// ecdsaHighDegree gives the line 7 + 8x a third point, which no share is checked
// against: with a real one fewer parties than agreed could not sign.
func ecdsaHighDegree() changes {
	c := ecdsaPolynomial(points(7, 8, 9))
	c["2-share"] = on(func(x *attacker, m kg2s) { m.Share = line(x, 8, orderK) })
	return c
}

// eddsaLine commits to some points for the line 7 + slope x, with a valid share and a
// valid proof.
func eddsaLine(slope int64, values []*big.Int) changes {
	c := eddsaPolynomial(values)
	c["2-share"] = on(func(x *attacker, m ekgs) { m.Share = line(x, slope, orderE) })
	open := c["2"]
	c["2"] = on(func(x *attacker, m ekg2) {
		open(x, m)
		proof, err := schnorr.NewZKProof(party.Session(x.run, 2), big.NewInt(7), crypto.ScalarBaseMult(tss.Edwards(), big.NewInt(7)), rand.Reader)
		if err != nil {
			x.t.Fatal(err)
		}
		m.ProofAlphaX, m.ProofAlphaY, m.ProofT = proof.Alpha.X().Bytes(), proof.Alpha.Y().Bytes(), proof.T.Bytes()
	})
	return c
}

func victimN(x *attacker) *big.Int {
	return party.Save(x.share).PaillierPKs[party.Place(x.share, 1)].N
}

func eddsaPolynomial(values []*big.Int) changes {
	return pair("1", "2", values, func(m ekg1) *[]byte { return &m.Commitment }, func(m ekg2) *[][]byte { return &m.DeCommitment })
}

func eddsaNonce(values []*big.Int) changes {
	return pair("1", "2", values, func(m es1) *[]byte { return &m.Commitment }, func(m es2) *[][]byte { return &m.DeCommitment })
}
