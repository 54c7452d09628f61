package tss

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	tsscommon "github.com/bnb-chain/tss-lib/v2/common"
	"github.com/bnb-chain/tss-lib/v2/crypto"
	eddsakeygen "github.com/bnb-chain/tss-lib/v2/eddsa/keygen"
	eddsasigning "github.com/bnb-chain/tss-lib/v2/eddsa/signing"
	"github.com/bnb-chain/tss-lib/v2/tss"
	"github.com/decred/dcrd/dcrec/edwards/v2"
	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// lowOrder has points outside the prime-order group, with orders that divide 8, by
// their coordinates; the last has order 8.
var lowOrder = func() [][2]*big.Int {
	p := tss.Edwards().Params().P
	y8, _ := new(big.Int).SetString("2707385501144840649318225287225658788936804267575313519463743609750303021402", 10)
	// x² = (y²-1)/(dy²+1)
	yy := new(big.Int).Mul(y8, y8)
	num := new(big.Int).Sub(yy, big.NewInt(1))
	d := new(big.Int).ModInverse(big.NewInt(121666), p)
	d.Mul(d, big.NewInt(-121665))
	den := new(big.Int).Mul(d, yy)
	den.Add(den, big.NewInt(1)).Mod(den, p)
	x8 := num.Mul(num, den.ModInverse(den, p))
	x8.ModSqrt(x8.Mod(x8, p), p)
	i := new(big.Int).ModSqrt(new(big.Int).Sub(p, big.NewInt(1)), p)
	return [][2]*big.Int{{new(big.Int), big.NewInt(1)}, {new(big.Int), new(big.Int).Sub(p, big.NewInt(1))}, {i, new(big.Int)}, {x8, y8}}
}()

// anyPoint draws a point of the curve, of any order.
func anyPoint(t *rapid.T, label string) (x, y *big.Int) {
	theirs := edwards.Edwards()
	x, y = theirs.ScalarBaseMult(anyScalar(t, label+" times the base"))
	if torsion := rapid.IntRange(0, len(lowOrder)).Draw(t, label+" torsion"); torsion > 0 {
		low := lowOrder[torsion-1]
		x, y = theirs.Add(x, y, low[0], low[1])
	}
	return x, y
}

// anyScalar draws one below the order, at its edges, or above it.
func anyScalar(t *rapid.T, label string) []byte {
	order := tss.Edwards().Params().N
	n := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, label))
	switch rapid.IntRange(0, 5).Draw(t, label+" kind") {
	case 0:
		n.SetInt64(rapid.Int64Range(0, 16).Draw(t, label+" small"))
	case 1:
		n.Add(order, big.NewInt(rapid.Int64Range(-3, 3).Draw(t, label+" beside the order")))
	case 2: // unchanged
	default:
		n.Mod(n, order)
	}
	return n.Bytes()
}

func sameAffine(t *rapid.T, what string, x, y, wantX, wantY *big.Int) {
	if x.Cmp(wantX) != 0 || y.Cmp(wantY) != 0 {
		t.Fatalf("%s: got (%d, %d), tss-lib's curve has (%d, %d)", what, x, y, wantX, wantY)
	}
}

// TestEdwardsCurve compares the curve with tss-lib's own, on points of any order and
// numbers of any size.
func TestEdwardsCurve(t *testing.T) {
	ours, theirs := edwards25519Curve, edwards.Edwards()
	rapid.Check(t, func(t *rapid.T) {
		x1, y1 := anyPoint(t, "p")
		x2, y2 := anyPoint(t, "q")
		k := anyScalar(t, "k")
		if !ours.IsOnCurve(x1, y1) {
			t.Fatalf("(%d, %d) is on the curve", x1, y1)
		}
		check := func(what string, x, y *big.Int) func(wantX, wantY *big.Int) {
			return func(wantX, wantY *big.Int) { sameAffine(t, what, x, y, wantX, wantY) }
		}
		x, y := ours.Add(x1, y1, x2, y2)
		check("sum", x, y)(theirs.Add(x1, y1, x2, y2))
		x, y = ours.Double(x1, y1)
		check("double", x, y)(theirs.Double(x1, y1))
		x, y = ours.ScalarMult(x1, y1, k)
		check("product", x, y)(theirs.ScalarMult(x1, y1, k))
		x, y = ours.ScalarBaseMult(k)
		check("product with the base", x, y)(theirs.ScalarBaseMult(k))
	})
}

// TestEdwardsCurveRefuses gives the curve invalid points.
func TestEdwardsCurveRefuses(t *testing.T) {
	c := edwards25519Curve
	beyond := func(n *big.Int) *big.Int { return new(big.Int).Add(n, c.P) }
	for name, p := range map[string][2]*big.Int{
		"beside the curve": {c.Gx, new(big.Int).Add(c.Gy, big.NewInt(1))},
		"exchanged":        {c.Gy, c.Gx},
		"nothing":          {new(big.Int), new(big.Int)},
		"x beyond":         {beyond(c.Gx), c.Gy},
		"y beyond":         {c.Gx, beyond(c.Gy)},
		"negative":         {new(big.Int).Neg(c.Gx), c.Gy},
		"huge":             {new(big.Int).Lsh(c.Gx, 300), c.Gy},
	} {
		if c.IsOnCurve(p[0], p[1]) {
			t.Errorf("%s: on the curve", name)
		}
		if x, y := c.ScalarMult(p[0], p[1], []byte{2}); x != nil || y != nil {
			t.Errorf("%s: times 2 is (%d, %d)", name, x, y)
		}
		if x, y := c.Add(c.Gx, c.Gy, p[0], p[1]); x != nil || y != nil {
			t.Errorf("%s: has the sum (%d, %d)", name, x, y)
		}
		if _, err := crypto.NewECPoint(c, p[0], p[1]); err == nil {
			t.Errorf("%s: tss-lib takes it", name)
		}
	}
	if got, want := c.Params(), tss.Edwards().Params(); got.P.Cmp(want.P) != 0 || got.N.Cmp(want.N) != 0 || got.Gx.Cmp(want.Gx) != 0 || got.Gy.Cmp(want.Gy) != 0 {
		t.Error("the parameters, which go into tss-lib's session ids, differ from its own")
	}
}

// TestEdwardsIsEncodedAsTheLibrarys: the encoding names the curve as tss-lib does,
// whose registry stays unchanged, and a copy is moved.
func TestEdwardsIsEncodedAsTheLibrarys(t *testing.T) {
	ours := crypto.ScalarBaseMult(edwards25519Curve, big.NewInt(42))
	secret := &Secret{EdDSA: &eddsakeygen.LocalPartySaveData{EDDSAPub: ours, BigXj: []*crypto.ECPoint{ours, nil}}}
	type encoded Secret // as package share encodes it
	text, err := json.Marshal((*encoded)(secret.ForEncoding()))
	if err != nil || !strings.Contains(string(text), `"Curve":"ed25519"`) {
		t.Fatalf("%s: %v", text, err)
	}
	if ours.Curve() != elliptic.Curve(edwards25519Curve) {
		t.Error("the original was moved")
	}
	var back Secret
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	moved := back.Decoded()
	for _, p := range []*crypto.ECPoint{moved.EdDSA.EDDSAPub, moved.EdDSA.BigXj[0]} {
		if !p.Equals(ours) || !validPoint(pubkey.Ed25519, p) {
			t.Errorf("(%d, %d) on a %T", p.X(), p.Y(), p.Curve())
		}
	}
	if validPoint(pubkey.Ed25519, back.EdDSA.EDDSAPub) {
		t.Error("a point on the library's curve is taken for one of ours")
	}
}

// TestEdwardsWithLibrary makes a key and a signature with two of tss-lib's parties, one
// on its own curve and one on ours: their messages are the same.
func TestEdwardsWithLibrary(t *testing.T) {
	t.Parallel()
	ids := tss.SortPartyIDs(tss.UnSortedPartyIDs{
		tss.NewPartyID("a", "a", big.NewInt(11)), tss.NewPartyID("b", "b", big.NewInt(22)),
	})
	curves := []elliptic.Curve{tss.Edwards(), edwards25519Curve}
	params := func(i int) *tss.Parameters {
		return tss.NewParameters(curves[i], tss.NewPeerContext(ids), ids[i], len(ids), len(ids)-1)
	}
	saves := together(t, ids, func(i int, out chan<- tss.Message, end chan<- *eddsakeygen.LocalPartySaveData) tss.Party {
		return eddsakeygen.NewLocalParty(params(i), out, end)
	})
	digest := new(big.Int).SetBytes([]byte("a message of 32 bytes, as it is!"))
	signatures := together(t, ids, func(i int, out chan<- tss.Message, end chan<- *tsscommon.SignatureData) tss.Party {
		return eddsasigning.NewLocalParty(digest, params(i), *saves[i], out, end)
	})
	pub := saves[0].EDDSAPub
	key := (&Secret{EdDSA: saves[1]})
	encoded, err := key.PublicKey(pubkey.Ed25519)
	if err != nil || !pub.Equals(saves[1].EDDSAPub) {
		t.Fatalf("two public keys, or none: %v", err)
	}
	for i, s := range signatures {
		if !ed25519.Verify(encoded, digest.Bytes(), s.Signature) {
			t.Errorf("party %d has no valid signature", i)
		}
	}
}

// together runs parties that exchange their messages, and returns their results in
// order.
func together[T any](t *testing.T, ids tss.SortedPartyIDs, build func(i int, out chan<- tss.Message, end chan<- T) tss.Party) []T {
	t.Helper()
	out := make(chan tss.Message, 64)
	ends, parties := make([]chan T, len(ids)), make([]tss.Party, len(ids))
	for i := range ids {
		ends[i] = make(chan T, 1)
		parties[i] = build(i, out, ends[i])
	}
	for _, p := range parties {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	var results []T
	for i := 0; i < len(ids); {
		select {
		case m := <-out:
			bytes, _, err := m.WireBytes()
			if err != nil {
				t.Fatal(err)
			}
			for j, p := range parties {
				if j != m.GetFrom().Index && (m.IsBroadcast() || m.GetTo()[0].Index == j) {
					if _, err := p.UpdateFromBytes(bytes, m.GetFrom(), m.IsBroadcast()); err != nil {
						t.Fatal(err)
					}
				}
			}
		case r := <-ends[i]:
			results = append(results, r)
			i++
		}
	}
	return results
}

func BenchmarkEdwardsScalarMult(b *testing.B) {
	k := new(big.Int).Sub(edwards25519Curve.N, big.NewInt(12345)).Bytes()
	gx, gy := edwards25519Curve.Gx, edwards25519Curve.Gy
	for name, times := range map[string]func(x, y *big.Int, k []byte) (*big.Int, *big.Int){
		"ours": edwards25519Curve.ScalarMult, "tss-lib": edwards.Edwards().ScalarMult,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				times(gx, gy, k)
			}
		})
	}
}
