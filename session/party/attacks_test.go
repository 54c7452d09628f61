package party_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	"github.com/bnb-chain/tss-lib/v2/crypto/dlnproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/modproof"
	"github.com/bnb-chain/tss-lib/v2/crypto/mta"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	ecdsaresharing "github.com/bnb-chain/tss-lib/v2/ecdsa/resharing"
	ecdsasigning "github.com/bnb-chain/tss-lib/v2/ecdsa/signing"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsaresharing "github.com/bnb-chain/tss-lib/v2/eddsa/resharing"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
)

type changes = map[string]func(x *attacker, m tss.MessageContent)

// on makes a change of one message type.
func on[M tss.MessageContent](f func(x *attacker, m M)) func(*attacker, tss.MessageContent) {
	return func(x *attacker, m tss.MessageContent) { f(x, m.(M)) }
}

type (
	kg1  = *ecdsakeygen.KGRound1Message
	kg2s = *ecdsakeygen.KGRound2Message1
	kg2  = *ecdsakeygen.KGRound2Message2
	kg3  = *ecdsakeygen.KGRound3Message
	s1m  = *ecdsasigning.SignRound1Message1
	s1   = *ecdsasigning.SignRound1Message2
	s2m  = *ecdsasigning.SignRound2Message
	s3   = *ecdsasigning.SignRound3Message
	s4   = *ecdsasigning.SignRound4Message
	s5   = *ecdsasigning.SignRound5Message
	s6   = *ecdsasigning.SignRound6Message
	s7   = *ecdsasigning.SignRound7Message
	s8   = *ecdsasigning.SignRound8Message
	s9   = *ecdsasigning.SignRound9Message
	ekg1 = *eddsakeygen.KGRound1Message
	ekg2 = *eddsakeygen.KGRound2Message2
	ekgs = *eddsakeygen.KGRound2Message1
	es1  = *eddsasigning.SignRound1Message
	es2  = *eddsasigning.SignRound2Message
	es3  = *eddsasigning.SignRound3Message

	dg1   = *ecdsaresharing.DGRound1Message
	dg2   = *ecdsaresharing.DGRound2Message1
	dg3s  = *ecdsaresharing.DGRound3Message1
	dg3   = *ecdsaresharing.DGRound3Message2
	dg4   = *ecdsaresharing.DGRound4Message1
	edg1  = *eddsaresharing.DGRound1Message
	edg3s = *eddsaresharing.DGRound3Message1
	edg3  = *eddsaresharing.DGRound3Message2
)

var (
	one    = big.NewInt(1)
	orderK = tss.S256().Params().N
	orderE = tss.Edwards().Params().N
	primeE = tss.Edwards().Params().P
)

func num(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// prime returns a prime of that many bits with the two top bits set, the same at every
// call; which selects among several.
func prime(bits int, which ...int) *big.Int {
	primesMade.Lock()
	defer primesMade.Unlock()
	key := fmt.Sprint(bits, which)
	if primesMade.by[key] == nil {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		if primesMade.by == nil {
			primesMade.by = map[string]*big.Int{}
		}
		primesMade.by[key] = p
	}
	return primesMade.by[key]
}

var primesMade struct {
	sync.Mutex
	by map[string]*big.Int
}

// rings replaces n_tilde, h1 and h2 by the attacker's: h1 is given, h2 is a power of
// it, and the proofs are valid; order is a multiple of h1's.
func rings(m kg1, n, h1, order *big.Int) {
	alpha := big.NewInt(65537)
	beta := new(big.Int).ModInverse(alpha, order)
	h2 := new(big.Int).Exp(h1, alpha, n)
	m.NTilde, m.H1, m.H2 = n.Bytes(), h1.Bytes(), h2.Bytes()
	m.Dlnproof_1, _ = dlnproof.NewDLNProof(h1, h2, alpha, order, one, n, rand.Reader).Serialize()
	m.Dlnproof_2, _ = dlnproof.NewDLNProof(h2, h1, beta, order, one, n, rand.Reader).Serialize()
}

// phi is the order of the units modulo the product of two primes.
func phi(p, q *big.Int) *big.Int {
	return new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
}

// withSmallFactor returns an odd number of 2048 bits, its factor 4093, and the rest.
func withSmallFactor() (n, small, rest *big.Int) {
	small, rest = big.NewInt(4093), prime(2036)
	return new(big.Int).Mul(small, rest), small, rest
}

// commit returns the commitment to some numbers and its opening.
func commit(values ...*big.Int) (commitment []byte, opening [][]byte) {
	c := commitments.NewHashCommitment(rand.Reader, values...)
	for _, v := range c.D {
		opening = append(opening, v.Bytes())
	}
	return c.C.Bytes(), opening
}

// openWith makes a pair of changes: a commitment in one message to other values than
// the sender's, and the opening in another. The values are computed independently, so
// that the first need not know the second.
func openWith[C, O tss.MessageContent](values func() []*big.Int, first func(C) *[]byte, second func(O) *[][]byte) (func(*attacker, tss.MessageContent), func(*attacker, tss.MessageContent)) {
	return on(func(x *attacker, m C) {
			c, o := commit(values()...)
			*first(m), x.kept["opening"] = c, o
		}), on(func(x *attacker, m O) {
			*second(m) = x.kept["opening"].([][]byte)
		})
}

// points returns multiples of secp256k1's base point as coordinates.
func points(scalars ...int64) []*big.Int { return multiples(tss.S256(), scalars) }

// pointsE returns multiples of ed25519's base point.
func pointsE(scalars ...int64) []*big.Int { return multiples(tss.Edwards(), scalars) }

func multiples(curve elliptic.Curve, scalars []int64) []*big.Int {
	var out []*big.Int
	for _, s := range scalars {
		p := crypto.ScalarBaseMult(curve, big.NewInt(s))
		out = append(out, p.X(), p.Y())
	}
	return out
}

// offCurve replaces the last coordinate of a list by an invalid one.
func offCurve(values []*big.Int) []*big.Int {
	last := len(values) - 1
	values[last] = new(big.Int).Add(values[last], one)
	return values
}

// smallOrder returns a point of order 8 on ed25519.
func smallOrder() []*big.Int {
	// sqrt(-1) times the base point's torsion part: found by multiplying points of
	// random y by the group order until one of order 8 remains.
	for y := int64(2); ; y++ {
		var enc [32]byte
		enc[0] = byte(y)
		x, yy := decompress(enc)
		if x == nil {
			continue
		}
		p, err := crypto.NewECPoint(tss.Edwards(), x, yy)
		if err != nil {
			continue
		}
		if p = p.ScalarMult(orderE); p.X().Sign() != 0 {
			return []*big.Int{p.X(), p.Y()}
		}
	}
}

// decompress returns the point with a y coordinate, nil if none exists.
func decompress(enc [32]byte) (x, y *big.Int) {
	y = big.NewInt(int64(enc[0]))
	// x^2 = (y^2 - 1) / (d y^2 + 1)
	d := new(big.Int).Mul(big.NewInt(-121665), new(big.Int).ModInverse(big.NewInt(121666), primeE))
	yy := new(big.Int).Mul(y, y)
	den := new(big.Int).Mul(d, yy)
	den.Add(den, one).Mod(den, primeE).ModInverse(den, primeE)
	xx := yy.Sub(yy, one).Mul(yy, den).Mod(yy, primeE)
	x = new(big.Int).ModSqrt(xx, primeE)
	return x, y
}

// mtaNumbers are the numbers for a range proof towards the victim.
type mtaNumbers struct{ n, nTilde, h1, h2 *big.Int }

func (x *attacker) mta() mtaNumbers {
	save, mine, theirs := party.Save(x.share), party.Place(x.share, 2), party.Place(x.share, 1)
	return mtaNumbers{save.PaillierPKs[mine].N, save.NTildej[theirs], save.H1j[theirs], save.H2j[theirs]}
}

// rangeProof makes a valid proof that the ciphertext of m with randomness r contains a
// small number, with the given random numbers of the prover.
func (n mtaNumbers) rangeProof(m, r, alpha, beta, gamma, rho *big.Int) (c []byte, proof [][]byte) {
	square := new(big.Int).Mul(n.n, n.n)
	encrypt := func(m, r *big.Int) *big.Int {
		c := new(big.Int).Exp(new(big.Int).Add(n.n, one), m, square)
		return c.Mod(c.Mul(c, new(big.Int).Exp(r, n.n, square)), square)
	}
	pedersen := func(a, b *big.Int) *big.Int {
		z := new(big.Int).Exp(n.h1, a, n.nTilde)
		return z.Mod(z.Mul(z, new(big.Int).Exp(n.h2, b, n.nTilde)), n.nTilde)
	}
	cipher, z, u, w := encrypt(m, r), pedersen(m, rho), encrypt(alpha, beta), pedersen(alpha, gamma)
	e := common.RejectionSample(orderK, common.SHA512_256i(n.n, new(big.Int).Add(n.n, one), cipher, z, u, w))
	s := new(big.Int).Exp(r, e, n.n)
	s.Mod(s.Mul(s, beta), n.n)
	pf := mta.RangeProofAlice{
		Z: z, U: u, W: w, S: s,
		S1: new(big.Int).Add(new(big.Int).Mul(e, m), alpha),
		S2: new(big.Int).Add(new(big.Int).Mul(e, rho), gamma),
	}
	parts := pf.Bytes()
	return cipher.Bytes(), parts[:]
}

// forgedModProof is a proof of Blum's form for N = PQ with a W divisible by P.
func forgedModProof(session []byte, n, p, q *big.Int) [][]byte {
	w := new(big.Int).Set(p)
	for big.Jacobi(w, q) != 1 { // so that W Y is a square exactly if Y is
		w.Add(w, p)
	}
	orders := phi(p, q)
	inverse := new(big.Int).ModInverse(n, orders)
	root := func(y, p *big.Int) *big.Int { // the fourth root that is a square
		e := new(big.Int).Add(p, one)
		e.Rsh(e, 2)
		e.Mod(e.Mul(e, e), new(big.Int).Sub(p, one))
		return e.Exp(y, e, p)
	}
	crt := func(a, b *big.Int) *big.Int { // a mod p, b mod q
		t := new(big.Int).Sub(b, a)
		t.Mul(t, new(big.Int).ModInverse(p, q)).Mod(t, q)
		return t.Mul(t, p).Add(t, a)
	}
	pf := modproof.ProofMod{W: w, A: new(big.Int).Lsh(one, modproof.Iterations), B: new(big.Int).Lsh(one, modproof.Iterations)}
	var ys []*big.Int
	for i := range modproof.Iterations {
		y := common.RejectionSample(n, common.SHA512_256i_TAGGED(session, append([]*big.Int{w, n}, ys...)...))
		ys = append(ys, y)
		pf.Z[i] = new(big.Int).Exp(y, inverse, n)
		square := new(big.Int).Set(y)
		if big.Jacobi(y, q) != 1 { // one of y and -y is a square modulo q
			square.Sub(n, y)
			pf.A.SetBit(pf.A, i, 1)
		}
		if big.Jacobi(square, p) == 1 {
			pf.X[i] = crt(root(square, p), root(square, q))
			continue
		}
		pf.B.SetBit(pf.B, i, 1)
		square.Mod(square.Mul(square, w), n)
		pf.X[i] = crt(new(big.Int), root(square, q))
	}
	parts := pf.Bytes()
	return parts[:]
}

// attackerParams are the attacker's own pre-parameters in a key generation or reshare.
func attackerParams(x *attacker) (n, p, q *big.Int) {
	sk := party.Params(partytest.PreParams(x.t, x.pre)).PaillierSK
	return sk.N, sk.P, sk.Q
}

// shapeAttacks gives each field of each message other lengths and forms.
func shapeAttacks(t *testing.T) []attack {
	var out []attack
	for name, rules := range party.Rules() {
		cut := strings.LastIndexByte(name, '/')
		protocol, round := name[:cut], name[cut+1:]
		for _, rule := range rules {
			if !strings.Contains(rule, "shortest form") && !strings.HasSuffix(rule, "points as the threshold") {
				continue
			}
			field := protoreflect.Name(rule[:strings.IndexByte(rule, ' ')])
			add := func(what string, shadowed bool, f func(m protoreflect.Message, d protoreflect.FieldDescriptor)) {
				out = append(out, attack{
					name: string(field) + " " + what, protocol: protocol, round: round, rule: rule, shadowed: shadowed,
					change: changes{round: func(_ *attacker, m tss.MessageContent) {
						r := m.ProtoReflect()
						f(r, r.Descriptor().Fields().ByName(field))
					}},
				})
			}
			last := func(f func(b []byte) []byte) func(protoreflect.Message, protoreflect.FieldDescriptor) {
				return func(m protoreflect.Message, d protoreflect.FieldDescriptor) {
					if !d.IsList() {
						m.Set(d, protoreflect.ValueOfBytes(f(m.Get(d).Bytes())))
						return
					}
					list := m.Mutable(d).List()
					i := list.Len() - 1
					list.Set(i, protoreflect.ValueOfBytes(f(list.Get(i).Bytes())))
				}
			}
			add("with a leading zero", false, last(func(b []byte) []byte { return append([]byte{0}, b...) }))
			add("too long", true, last(func(b []byte) []byte { return append(slices.Repeat([]byte{1}, 700), b...) }))
			add("empty", true, last(func([]byte) []byte { return []byte{} }))
			add("with one more", true, func(m protoreflect.Message, d protoreflect.FieldDescriptor) {
				if !d.IsList() {
					m.Clear(d)
					return
				}
				m.Mutable(d).List().Append(protoreflect.ValueOfBytes([]byte{1}))
			})
			add("with one less", true, func(m protoreflect.Message, d protoreflect.FieldDescriptor) {
				if !d.IsList() {
					m.Set(d, protoreflect.ValueOfBytes(nil))
					return
				}
				m.Mutable(d).List().Truncate(m.Get(d).List().Len() - 1)
			})
		}
	}
	if len(out) == 0 {
		t.Error("there are no rules about fields")
	}
	return out
}
