package tss

import (
	"crypto/elliptic"
	"math/big"
	"slices"

	"filippo.io/edwards25519"
	"filippo.io/edwards25519/field"
	"github.com/bnb-chain/tss-lib/v2/tss"
)

// edwardsCurve is ed25519 for tss-lib: the same group, parameters and numbers as the
// library's own curve, so that messages are identical, with the arithmetic of
// filippo.io/edwards25519. The library's own multiplies a secret by doubling and
// adding, in a time that depends on the secret's bits, and encodes and decodes a point
// at each of them, which takes nearly all of the time of a signing.
//
// Points are affine, (0, 1) the neutral one. Like the library's, methods take any
// integers; unlike it, a coordinate outside its field is not on the curve.
type edwardsCurve struct {
	*elliptic.CurveParams
	d *field.Element // of -x²+y² = 1+dx²y²
}

var edwards25519Curve = newEdwardsCurve()

func newEdwardsCurve() *edwardsCurve {
	c := &edwardsCurve{CurveParams: tss.Edwards().Params()}
	d := new(big.Int).ModInverse(big.NewInt(121666), c.P)
	d.Mod(d.Mul(d, big.NewInt(-121665)), c.P)
	c.d, _ = c.element(d)
	return c
}

// Params returns the library's own parameters.
func (c *edwardsCurve) Params() *elliptic.CurveParams { return c.CurveParams }

// IsOnCurve reports whether both coordinates are in the field, and the point on the
// curve, of any order.
func (c *edwardsCurve) IsOnCurve(x, y *big.Int) bool {
	fx, okX := c.element(x)
	fy, okY := c.element(y)
	if !okX || !okY {
		return false
	}
	one := new(field.Element).One()
	xx, yy := new(field.Element).Square(fx), new(field.Element).Square(fy)
	left := new(field.Element).Subtract(yy, xx)
	right := new(field.Element).Multiply(xx, yy)
	right.Add(right.Multiply(right, c.d), one)
	return left.Equal(right) == 1
}

// Add returns the sum of two points, nil for invalid ones.
func (c *edwardsCurve) Add(x1, y1, x2, y2 *big.Int) (x, y *big.Int) {
	p, q := c.point(x1, y1), c.point(x2, y2)
	if p == nil || q == nil {
		return nil, nil
	}
	return affine(p.Add(p, q))
}

// Double returns the point added to itself, nil for an invalid one.
func (c *edwardsCurve) Double(x1, y1 *big.Int) (x, y *big.Int) { return c.Add(x1, y1, x1, y1) }

// ScalarMult returns the point times k, a big-endian integer, in a time independent of
// k's bits if k is below the group's order. It returns nil for an invalid point.
func (c *edwardsCurve) ScalarMult(x1, y1 *big.Int, k []byte) (x, y *big.Int) {
	p := c.point(x1, y1)
	if p == nil {
		return nil, nil
	}
	if s, ok := c.scalar(k); ok {
		return affine(p.ScalarMult(s, p))
	}
	// So large a number is never a secret. Reducing it would be wrong for points
	// outside the prime-order group.
	sum, n := edwards25519.NewIdentityPoint(), new(big.Int).SetBytes(k)
	for i := n.BitLen() - 1; i >= 0; i-- {
		sum.Add(sum, sum)
		if n.Bit(i) == 1 {
			sum.Add(sum, p)
		}
	}
	return affine(sum)
}

// ScalarBaseMult returns the base point times k, a big-endian integer, in a time
// independent of k's bits if k is below the group's order.
func (c *edwardsCurve) ScalarBaseMult(k []byte) (x, y *big.Int) {
	s, ok := c.scalar(k)
	if !ok { // the base point has the order N
		n := new(big.Int).SetBytes(k)
		s, _ = c.scalar(n.Mod(n, c.N).Bytes())
	}
	return affine(new(edwards25519.Point).ScalarBaseMult(s))
}

// element returns n as an element of the field; false if it is out of range.
func (c *edwardsCurve) element(n *big.Int) (*field.Element, bool) {
	if n.Sign() < 0 || n.Cmp(c.P) >= 0 {
		return nil, false
	}
	e, err := new(field.Element).SetBytes(littleEndian(n))
	return e, err == nil
}

// scalar returns the integer as a number modulo the order; false if it is not below the
// order.
func (c *edwardsCurve) scalar(k []byte) (*edwards25519.Scalar, bool) {
	var b [32]byte
	if len(k) > len(b) {
		return nil, false
	}
	copy(b[len(b)-len(k):], k)
	slices.Reverse(b[:])
	s, err := new(edwards25519.Scalar).SetCanonicalBytes(b[:])
	clear(b[:])
	return s, err == nil
}

// point returns the point with those coordinates, nil if they are invalid.
func (c *edwardsCurve) point(x, y *big.Int) *edwards25519.Point {
	fx, okX := c.element(x)
	fy, okY := c.element(y)
	if !okX || !okY {
		return nil
	}
	p, err := new(edwards25519.Point).SetExtendedCoordinates(fx, fy, new(field.Element).One(), new(field.Element).Multiply(fx, fy))
	if err != nil {
		return nil
	}
	return p
}

func affine(p *edwards25519.Point) (x, y *big.Int) {
	px, py, pz, _ := p.ExtendedCoordinates()
	z := new(field.Element).Invert(pz)
	return integer(px.Multiply(px, z)), integer(py.Multiply(py, z))
}

func integer(e *field.Element) *big.Int {
	b := e.Bytes()
	slices.Reverse(b)
	return new(big.Int).SetBytes(b)
}

func littleEndian(n *big.Int) []byte {
	b := n.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}
