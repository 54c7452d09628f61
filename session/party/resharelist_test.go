package party_test

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"strings"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"github.com/bnb-chain/tss-lib/v2/tss"

	"github.com/conclave-mpc/conclave/session/party"
)

// modulusAttacks are the attacks of a key generation's round 1 in a reshare, whose round
// 2 has the same numbers and proofs.
func modulusAttacks() []attack {
	var out []attack
	for _, a := range ecdsaKeygenAttacks {
		if a.round != "1" {
			continue
		}
		change := a.change["1"]
		a.protocol, a.round = "ecdsa/reshare", "2"
		a.change = changes{"2": on(func(x *attacker, m dg2) {
			y := *x
			y.others = map[string]tss.MessageContent{}
			if o, there := x.others["2 4"].(dg2); there {
				y.others["1 1"] = asKeygen(o)
			}
			k := asKeygen(m)
			change(&y, k)
			m.PaillierN, m.NTilde, m.H1, m.H2, m.Dlnproof_1, m.Dlnproof_2 = k.PaillierN, k.NTilde, k.H1, k.H2, k.Dlnproof_1, k.Dlnproof_2
		})}
		// The mod proof is in the same message, and of another modulus.
		a.shadowed = a.shadowed || strings.Contains(a.name, "Paillier modulus")
		if a.needs != "" {
			a.needs = "2 4"
		}
		if a.accepts != "" {
			a.accepts = "4-ack 4"
		}
		out = append(out, a)
	}
	return out
}

func asKeygen(m dg2) kg1 {
	return &ecdsakeygen.KGRound1Message{
		PaillierN: m.PaillierN, NTilde: m.NTilde, H1: m.H1, H2: m.H2, Dlnproof_1: m.Dlnproof_1, Dlnproof_2: m.Dlnproof_2,
	}
}

const (
	ownContribution = "the first point of v_decommitment must be the sender's old share times its coefficient"
	wholeSum        = "the points of all v_decommitments must add up to the public key, and to other points of the new members"
)

var ecdsaReshareAttacks = []attack{
	{
		protocol: "ecdsa/reshare", name: "another public key", round: "1", rule: "ecdsa_pub must be the public key",
		change: changes{"1": on(func(x *attacker, m dg1) {
			p := points(7)
			m.EcdsaPubX, m.EcdsaPubY = p[0].Bytes(), p[1].Bytes()
		})},
		library: `^done$|^fails: .*V_0 != y$`, // if it is the first in tss-lib's order
	},
	{
		protocol: "ecdsa/reshare", name: "another session", round: "1", rule: "ssid must be the old committee's", nobody: true,
		change: changes{"1": on(func(x *attacker, m dg1) { m.Ssid = []byte{7} })},
		// The innocent is blamed if the attacker is the first in tss-lib's order, and
		// nothing is seen if the second has the index that the victim has in the new
		// committee.
		accepts: "2 4", library: `^accepts$|^fails: .*ssid mismatch \(part [12]\)$`,
	},
	{
		protocol: "ecdsa/reshare", name: "another session, to an old member", round: "1", rule: "ssid must be the old committee's", informed: true,
		change: changes{"1": on(func(x *attacker, m dg1) { m.Ssid = []byte{7} })},
	},
	{
		protocol: "ecdsa/reshare", name: "Paillier modulus of 1024 bits", round: "2", rule: "paillier_n must be odd and of 2048 bits",
		change: changes{"2": on(func(x *attacker, m dg2) {
			p, q := blum(512, 1), blum(512, 2)
			n := new(big.Int).Mul(p, q)
			proof, err := modproof.NewProof(reshareSession(x), n, p, q, rand.Reader)
			if err != nil {
				x.t.Fatal(err)
			}
			parts := proof.Bytes()
			m.PaillierN, m.ModProof = n.Bytes(), parts[:]
		})},
		accepts: "4-ack 4", library: `^accepts$`,
	},
	{
		protocol: "ecdsa/reshare", name: "W not coprime to N", round: "2", rule: "W of modProof must be a unit modulo paillier_n with Jacobi symbol -1",
		change: changes{"2": on(func(x *attacker, m dg2) {
			n, p, q := attackerParams(x)
			m.ModProof = forgedModProof(reshareSession(x), n, p, q)
		})},
		library: `^done$`,
	},
	{
		protocol: "ecdsa/reshare", name: "W a square", round: "2", rule: "W of modProof must be a unit modulo paillier_n with Jacobi symbol -1",
		change: changes{"2": on(func(x *attacker, m dg2) { m.ModProof[0] = []byte{4} })},
	},
	{
		protocol: "ecdsa/reshare", name: "share 0 modulo the order", round: "3-share", rule: "share must be between 1 and the group order",
		change:  changes{"3-share": on(func(x *attacker, m dg3s) { m.Share = orderK.Bytes() })},
		library: `^fails: .*library panicked`,
	},
	{
		protocol: "ecdsa/reshare", name: "share not reduced", round: "3-share", rule: "share must be between 1 and the group order",
		change: changes{"3-share": on(func(x *attacker, m dg3s) { m.Share = bytes.Repeat([]byte{0xff}, 32) })},
	},
	{
		protocol: "ecdsa/reshare", name: "polynomial of too low a degree", round: "3", rule: "v_decommitment must be a number and as many points as the threshold",
		change: ecdsaGiven(points(7), nil), shadowed: true,
	},
	{
		protocol: "ecdsa/reshare", name: "polynomial of too high a degree", round: "3", rule: "v_decommitment must be a number and as many points as the threshold",
		change: ecdsaGiven(points(7, 8, 9), nil), shadowed: true,
		library: `^fails: .*de-commitment of v_j0..v_jt failed \(part 2\)$`,
	},
	{
		protocol: "ecdsa/reshare", name: "commitment not opened", round: "3", rule: "v_decommitment must open the commitment of round 1",
		change: changes{"3": on(func(x *attacker, m dg3) { m.VDecommitment[0] = []byte{7} })},
	},
	{
		protocol: "ecdsa/reshare", name: "points off the curve", round: "3", rule: "v_decommitment must hold points of the group",
		change: ecdsaGiven(offCurve(points(7, 8)), nil), shadowed: true,
	},
	{
		protocol: "ecdsa/reshare", name: "another contribution", round: "3", rule: ownContribution,
		change: ecdsaGiven(points(7, 8), big.NewInt(8)), shadowed: true,
		library: `^fails: .*V_0 != y$`,
	},
	{
		protocol: "ecdsa/reshare", name: "another contribution, to a stranger", round: "3", rule: wholeSum, ignorant: true, nobody: true,
		change: ecdsaGiven(points(7, 8), big.NewInt(8)),
	},
}

var eddsaReshareAttacks = []attack{
	{
		protocol: "eddsa/reshare", name: "another public key", round: "1", rule: "eddsa_pub must be the public key",
		change: changes{"1": on(func(x *attacker, m edg1) {
			p := pointsE(7)
			m.EddsaPubX, m.EddsaPubY = p[0].Bytes(), p[1].Bytes()
		})},
		library: `^done$|^fails: .*V_0 != y$`,
	},
	{
		protocol: "eddsa/reshare", name: "share is the order", round: "3-share", rule: "share must be between 1 and the group order",
		change:  changes{"3-share": on(func(x *attacker, m edg3s) { m.Share = orderE.Bytes() })},
		library: `^fails: .*did not pass Verify\(\) \(part 2\)$`,
	},
	{
		protocol: "eddsa/reshare", name: "polynomial of too low a degree", round: "3", rule: "v_decommitment must be a number and as many points as the threshold",
		change: eddsaGiven(pointsE(7), nil), shadowed: true,
		library: `^fails: .*de-commitment of v_j0..v_jt failed \(part 2\)$`,
	},
	{
		protocol: "eddsa/reshare", name: "polynomial of too high a degree", round: "3", rule: "v_decommitment must be a number and as many points as the threshold",
		change: eddsaGiven(pointsE(7, 8, 9), nil), shadowed: true,
		library: `^fails: .*de-commitment of v_j0..v_jt failed \(part 2\)$`,
	},
	{
		protocol: "eddsa/reshare", name: "commitment not opened", round: "3", rule: "v_decommitment must open the commitment of round 1",
		change:  changes{"3": on(func(x *attacker, m edg3) { m.VDecommitment[0] = []byte{7} })},
		library: `^fails: .*de-commitment of v_j0..v_jt failed \(part 2\)$`,
	},
	{
		protocol: "eddsa/reshare", name: "points off the curve", round: "3", rule: "v_decommitment must hold points of the group",
		change: eddsaGiven(offCurve(pointsE(7, 8)), nil), shadowed: true,
		library: `^fails: .*not on the elliptic curve \(part 2\)$`,
	},
	{
		protocol: "eddsa/reshare", name: "point of small order", round: "3", rule: "v_decommitment must hold points of the group",
		change:  eddsaTwisted(0),
		accepts: "4-ack 4", library: `^accepts$|^done$`,
	},
	{
		protocol: "eddsa/reshare", name: "point outside the prime-order group", round: "3", rule: "v_decommitment must hold points of the group",
		change:  eddsaTwisted(8),
		accepts: "4-ack 4", library: `^accepts$`,
	},
	{
		protocol: "eddsa/reshare", name: "another contribution", round: "3", rule: ownContribution,
		change: eddsaGiven(pointsE(7, 8), big.NewInt(8)), shadowed: true,
		library: `^fails: .*V_0 != y$`,
	},
	{
		protocol: "eddsa/reshare", name: "another contribution, to a stranger", round: "3", rule: wholeSum, ignorant: true, nobody: true,
		change:  eddsaGiven(pointsE(7, 8), big.NewInt(8)),
		library: `^fails: .*V_0 != y$`,
	},
}

// reshareSession is the session value that tss-lib binds the attacker's mod proof to.
func reshareSession(x *attacker) []byte {
	ssid := x.others["1 1"].(dg1).Ssid
	return common.AppendBigIntToBytesSlice(ssid, big.NewInt(int64(party.IndexOf(x.run, 5))))
}

// blum returns a prime that is 3 modulo 4.
func blum(bits, which int) *big.Int {
	for i := 1; ; i++ {
		if p := prime(bits, which, i); p.Bit(1) == 1 {
			return p
		}
	}
}

// valueAt is the value of start + slope x at the victim's share.
func valueAt(x *attacker, start, slope, order *big.Int) []byte {
	v := new(big.Int).Mul(slope, party.KeyOf(x.run, 4))
	return v.Mod(v.Add(v, start), order).Bytes()
}

// ecdsaGiven commits to a polynomial of some points, and opens it; with a slope the share
// is that of the line 7 + slope x.
func ecdsaGiven(values []*big.Int, slope *big.Int) changes {
	c := pair("1", "3", values, func(m dg1) *[]byte { return &m.VCommitment }, func(m dg3) *[][]byte { return &m.VDecommitment })
	if slope != nil {
		c["3-share"] = on(func(x *attacker, m dg3s) { m.Share = valueAt(x, big.NewInt(7), slope, orderK) })
	}
	return c
}

func eddsaGiven(values []*big.Int, slope *big.Int) changes {
	c := pair("1", "3", values, func(m edg1) *[]byte { return &m.VCommitment }, func(m edg3) *[][]byte { return &m.VDecommitment })
	if slope != nil {
		c["3-share"] = on(func(x *attacker, m edg3s) { m.Share = valueAt(x, big.NewInt(7), slope, orderE) })
	}
	return c
}

// eddsaTwisted gives what the attacker has to give, with a valid share of a line of some
// slope, but adds a point of small order to that of the slope.
func eddsaTwisted(slope int64) changes {
	own := func(x *attacker) *big.Int { return party.Contribution(x.run, x.share, 2, 1) }
	return changes{
		"1": on(func(x *attacker, m edg1) {
			first := crypto.ScalarBaseMult(tss.Edwards(), own(x))
			twisted := smallOrder()
			if slope != 0 {
				line := crypto.ScalarBaseMult(tss.Edwards(), big.NewInt(slope))
				sum, err := line.Add(crypto.NewECPointNoCurveCheck(tss.Edwards(), twisted[0], twisted[1]))
				if err != nil {
					panic(err) // both are on the curve
				}
				twisted = []*big.Int{sum.X(), sum.Y()}
			}
			c, o := commit(first.X(), first.Y(), twisted[0], twisted[1])
			m.VCommitment, x.kept["opening"] = c, o
		}),
		"3": on(func(x *attacker, m edg3) { m.VDecommitment = x.kept["opening"].([][]byte) }),
		"3-share": on(func(x *attacker, m edg3s) {
			m.Share = valueAt(x, own(x), big.NewInt(slope), orderE)
		}),
	}
}
