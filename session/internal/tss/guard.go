package tss

import (
	"fmt"
	"math/big"
	"reflect"
	"slices"

	"github.com/bnb-chain/tss-lib/v2/crypto"
	"github.com/bnb-chain/tss-lib/v2/crypto/commitments"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// Guard checks messages before tss-lib v2.0.2, for what it does not check itself: three
// fixes to tss-lib that were never released; inputs at which its goroutines panic,
// which ends the process; inputs for which it blames no party, or the wrong one; and
// the size and form of every field. The rules are in guardRules, one list for each
// message type. A guard belongs to the engine's goroutine.
type Guard struct {
	curve     pubkey.Curve
	order     *big.Int
	threshold int // signers, or points in a polynomial's commitment
	self      int
	parts     []int            // all of the run, ascending
	moduli    map[int]*big.Int // Paillier moduli by part, in ECDSA signing
	giving    *Giving          // for the new committee of a reshare; nil otherwise
	seen      map[said]tss.MessageContent

	// TestingOnlySkip switches rules off; nil outside tests.
	TestingOnlySkip func(rule string) bool
}

// said is the key under which a message is stored.
type said struct {
	part int
	kind reflect.Type
}

// NewGuard returns the guard of a run of some parts (ascending) of a key, seen from
// part self. Moduli are the Paillier moduli by part, in ECDSA signing; nil in other
// protocols.
func NewGuard(curve pubkey.Curve, threshold, self int, parts []int, moduli map[int]*big.Int) *Guard {
	return &Guard{
		curve: curve, order: Order(curve), threshold: threshold,
		self: self, parts: parts, moduli: moduli, seen: map[said]tss.MessageContent{},
	}
}

// NewReceiverGuard returns the guard of a party of a reshare's new committee. Parts are
// all places of the run, and the threshold is the new one.
func NewReceiverGuard(curve pubkey.Curve, threshold, self int, parts []int, giving *Giving) *Guard {
	g := NewGuard(curve, threshold, self, parts, nil)
	g.giving = giving
	return g
}

// Anew returns an empty guard of the same run.
func (g *Guard) Anew() *Guard {
	fresh := NewGuard(g.curve, g.threshold, g.self, g.parts, g.moduli)
	fresh.giving = g.giving
	return fresh
}

// Rules lists the guard's rules, by the name of the message type.
func Rules() map[string][]string {
	out := map[string][]string{}
	for name, rules := range guardRules {
		for _, r := range rules {
			out[name] = append(out[name], r.text)
		}
	}
	return out
}

// rule is one condition on a message.
type rule struct {
	text  string // states the condition, and names the rule
	check func(g *Guard, from int, m tss.MessageContent) verdict
}

// verdict is nil if a rule holds. If not it lists the parties of which at least one is
// at fault: the sender alone, or several if this cannot be decided.
type verdict []int

// Refusal is a rule that does not hold.
type Refusal struct {
	Rule string // states the condition
	// Between are the parties of which one is at fault; nil if it is the sender.
	Between []int
}

// must makes a rule for which only the sender can be at fault.
func must[M tss.MessageContent](text string, holds func(g *Guard, from int, m M) bool) rule {
	return rule{text, func(g *Guard, from int, m tss.MessageContent) verdict {
		if holds(g, from, m.(M)) {
			return nil
		}
		return verdict{from}
	}}
}

// Check applies the rules for a message of a round, by its name, and stores it. It
// returns nil if all hold. All messages of earlier rounds must have been stored before.
func (g *Guard) Check(round string, from int, m tss.MessageContent) *Refusal {
	for _, rule := range guardRules[round] {
		if g.TestingOnlySkip != nil && g.TestingOnlySkip(rule.text) {
			continue
		}
		if v := rule.check(g, from, m); len(v) == 1 && v[0] == from {
			return &Refusal{Rule: rule.text}
		} else if v != nil {
			return &Refusal{Rule: rule.text, Between: v}
		}
	}
	g.Own(from, m)
	return nil
}

// Own stores one of the own party's messages without checking it.
func (g *Guard) Own(part int, m tss.MessageContent) {
	g.seen[said{part, reflect.TypeOf(m)}] = m
}

// earlier returns a message stored before, nil if there is none.
func earlier[M tss.MessageContent](g *Guard, part int) M {
	m, _ := g.seen[said{part, reflect.TypeFor[M]()}].(M)
	return m
}

// numbers requires a field to hold as many numbers as there are sizes, each of at most
// that many bytes and in its shortest form. tss-lib accepts any length, at its cost,
// and compares some numbers as bytes.
func numbers(field string, sizes ...int) rule {
	text := fmt.Sprintf("%s must be a number of at most %d bytes in its shortest form", field, sizes[0])
	if len(sizes) > 1 {
		text = fmt.Sprintf("%s must be %d numbers, none too long and each in its shortest form", field, len(sizes))
	}
	return rule{text, func(_ *Guard, from int, m tss.MessageContent) verdict {
		return shaped(from, m, field, sizes)
	}}
}

// polynomial requires a field to open a commitment to a polynomial: a random number and
// one point for each of its coefficients, threshold in number. tss-lib ignores extra
// values and panics on missing ones.
func polynomial(field string) rule {
	text := field + " must be a number and as many points as the threshold"
	return rule{text, func(g *Guard, from int, m tss.MessageContent) verdict {
		return shaped(from, m, field, same(1+2*g.threshold, sizeScalar))
	}}
}

func shaped(from int, m tss.MessageContent, field string, sizes []int) verdict {
	r := m.ProtoReflect()
	d := r.Descriptor().Fields().ByName(protoreflect.Name(field))
	value := r.Get(d)
	if !d.IsList() {
		if len(sizes) != 1 || !shortest(value.Bytes(), sizes[0]) {
			return verdict{from}
		}
		return nil
	}
	list := value.List()
	if list.Len() != len(sizes) {
		return verdict{from}
	}
	for i, size := range sizes {
		if !shortest(list.Get(i).Bytes(), size) {
			return verdict{from}
		}
	}
	return nil
}

func shortest(b []byte, size int) bool { return len(b) > 0 && len(b) <= size && b[0] != 0 }

func same(n, size int) []int { return slices.Repeat([]int{size}, n) }

func number(b []byte) *big.Int { return new(big.Int).SetBytes(b) }

// isScalar reports whether b is between 1 and the group order less 1. tss-lib
// panics when it multiplies the base point by a multiple of the order.
func (g *Guard) isScalar(b []byte) bool {
	x := number(b)
	return x.Sign() > 0 && x.Cmp(g.order) < 0
}

// IsPoint reports whether x and y are an element of the group: on the curve, in reduced
// coordinates, and not neutral; on ed25519 also not neutral after multiplication by the
// cofactor, which tss-lib applies to its inputs.
func (g *Guard) IsPoint(x, y []byte) bool {
	p := crypto.NewECPointNoCurveCheck(Curve(g.curve), number(x), number(y))
	return validPoint(g.curve, p) && !(g.curve == pubkey.Ed25519 && isSmallOrder(p))
}

// order8 is the y coordinate of two of the four points of order 8 on ed25519, a
// root of d y^4 + 2 y^2 - 1; that of the others is its negative.
var order8, _ = new(big.Int).SetString("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826", 16)

// isSmallOrder reports whether a point of ed25519 is one of the eight whose order
// divides the cofactor. Those of order 1 and 2 have x = 0, those of order 4 y = 0.
func isSmallOrder(p *crypto.ECPoint) bool {
	x, y := p.X(), p.Y()
	return x.Sign() == 0 || y.Sign() == 0 || y.Cmp(order8) == 0 ||
		y.Cmp(new(big.Int).Sub(p.Curve().Params().P, order8)) == 0
}

// arePoints is IsPoint for a list of coordinate pairs.
func (g *Guard) arePoints(flat [][]byte) bool {
	if len(flat)%2 != 0 {
		return false
	}
	for i := 0; i < len(flat); i += 2 {
		if !g.IsPoint(flat[i], flat[i+1]) {
			return false
		}
	}
	return true
}

// opens reports whether values open a commitment.
func opens(commitment []byte, values [][]byte) bool {
	c := commitments.HashCommitDecommit{C: number(commitment), D: commitments.NewHashDeCommitmentFromBytes(values)}
	return len(values) > 0 && c.Verify()
}

// isUnit reports whether x is between 1 and bound less 1 and coprime to n, of which
// bound is a power.
func isUnit(x, bound, n *big.Int) bool {
	if n == nil || x.Sign() <= 0 || x.Cmp(bound) >= 0 {
		return false
	}
	return new(big.Int).GCD(nil, nil, new(big.Int).Mod(x, n), n).Cmp(one) == 0
}

// isCiphertext reports whether b is a unit modulo the square of a part's Paillier
// modulus.
func (g *Guard) isCiphertext(b []byte, part int) bool {
	n := g.moduli[part]
	return n != nil && isUnit(number(b), new(big.Int).Mul(n, n), n)
}

// Sizes of numbers in bytes.
const (
	sizeHash    = 32
	sizeScalar  = 32 // or a coordinate
	sizeResidue = modulusBits / 8
	sizeSquare  = 2 * sizeResidue
)
