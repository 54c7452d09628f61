package preparams

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/internal/testonly"
	"github.com/conclave-mpc/conclave/session/internal/tss"
)

func init() { testonly.Allow() }

var writeFixtures = flag.Bool("write-fixtures", false, "write new pre-parameters to ../party/partytest/testdata")

// TestWriteFixtures makes the pre-parameters of package partytest.
func TestWriteFixtures(t *testing.T) {
	if !*writeFixtures {
		t.Skip("only with -write-fixtures")
	}
	for i := range 6 { // partytest.Sets
		p, err := Generate(context.Background(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		p.testOnly = true
		data, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join("..", "party", "partytest", "testdata", fmt.Sprintf("preparams-test-only-%d.json", i))
		if err := os.WriteFile(name, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func fixture(t testing.TB, i int) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "party", "partytest", "testdata", fmt.Sprintf("preparams-test-only-%d.json", i)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func unmarshal(t testing.TB, data []byte) *Set {
	t.Helper()
	p, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestGenerate makes one set and checks more than checkPreParams does, with plain big
// integers.
func TestGenerate(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	t.Parallel()
	var seen []int
	p, err := Generate(t.Context(), Config{Concurrency: 1, Progress: func(found, of int) {
		seen = append(seen, found)
		if found > of || of < 4 {
			t.Errorf("progress %d of %d", found, of)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	for i, found := range seen {
		if found != i+1 {
			t.Errorf("progress went %v", seen)
		}
	}
	l := p.params
	if !l.ValidateWithProof() {
		t.Error("tss-lib does not accept them")
	}
	primes := []*big.Int{l.PaillierSK.P, l.PaillierSK.Q,
		new(big.Int).Add(new(big.Int).Lsh(l.P, 1), one), new(big.Int).Add(new(big.Int).Lsh(l.Q, 1), one)}
	for i, prime := range primes {
		half := new(big.Int).Rsh(prime, 1)
		if prime.BitLen() != 1024 || prime.Bit(1022) != 1 || !prime.ProbablyPrime(30) || !half.ProbablyPrime(30) {
			t.Errorf("prime %d is not a safe prime of 1024 bits with the top two set", i)
		}
		for _, other := range primes[:i] {
			if prime.Cmp(other) == 0 {
				t.Errorf("prime %d occurs twice", i)
			}
		}
	}
	if l.PaillierSK.N.BitLen() != 2048 || l.NTildei.BitLen() != 2048 {
		t.Errorf("moduli of %d and %d bits", l.PaillierSK.N.BitLen(), l.NTildei.BitLen())
	}
	if d := new(big.Int).Sub(l.PaillierSK.P, l.PaillierSK.Q).BitLen(); d < 1021 {
		t.Errorf("the Paillier primes differ in %d bits only", d)
	}
	if err := tss.CheckPreParams(l); err != nil {
		t.Error(err)
	}
}

func TestGenerateCancel(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Generate(ctx, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	// Also in the middle, right after the first prime.
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	_, err := Generate(ctx, Config{Concurrency: 2, Progress: func(int, int) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestSetIsUsedOnce(t *testing.T) {
	t.Parallel()
	p := unmarshal(t, fixture(t, 0))
	if _, err := p.Take(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Take(); !errors.Is(err, ErrUsed) {
		t.Errorf("second use: got %v, want %v", err, ErrUsed)
	}
	if _, err := p.Marshal(); !errors.Is(err, ErrUsed) {
		t.Errorf("encoding after use: got %v, want %v", err, ErrUsed)
	}
	var none *Set
	if _, err := none.Take(); err == nil {
		t.Error("missing pre-parameters were used")
	}
	if _, err := (&Set{}).Marshal(); err == nil {
		t.Error("empty pre-parameters were encoded")
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	data := strings.TrimSpace(string(fixture(t, 1)))
	again, err := unmarshal(t, []byte(data)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if string(again) != data {
		t.Error("reading and writing changed the pre-parameters")
	}
	for _, bad := range []string{"", "{}", "null", data + data, data[:len(data)-1],
		strings.Replace(data, `"version":1`, `"version":2`, 1), strings.Replace(data, `"version":1`, `"version":1,"x":1`, 1)} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("accepted %.40q of %d bytes", bad, len(bad))
		}
	}
}

// TestCheckPreParams breaks one number at a time.
func TestCheckPreParams(t *testing.T) {
	t.Parallel()
	other := unmarshal(t, fixture(t, 3)).params
	for name, spoil := range map[string]func(l *tss.PreParams){
		"no Paillier key":          func(l *tss.PreParams) { l.PaillierSK = nil },
		"no N":                     func(l *tss.PreParams) { l.PaillierSK.N = nil },
		"no phi":                   func(l *tss.PreParams) { l.PaillierSK.PhiN = nil },
		"no alpha":                 func(l *tss.PreParams) { l.Alpha = nil },
		"another N":                func(l *tss.PreParams) { l.PaillierSK.N = other.PaillierSK.N },
		"another phi":              func(l *tss.PreParams) { l.PaillierSK.PhiN.Add(l.PaillierSK.PhiN, big.NewInt(2)) },
		"another lambda":           func(l *tss.PreParams) { l.PaillierSK.LambdaN = l.PaillierSK.PhiN },
		"another prime":            func(l *tss.PreParams) { l.PaillierSK.P = other.PaillierSK.P },
		"one prime twice":          func(l *tss.PreParams) { l.PaillierSK.Q = l.PaillierSK.P },
		"NTilde from Paillier's":   func(l *tss.PreParams) { l.P = new(big.Int).Rsh(l.PaillierSK.P, 1) },
		"another NTilde":           func(l *tss.PreParams) { l.NTildei = other.NTildei },
		"h1 is one":                func(l *tss.PreParams) { l.H1i = big.NewInt(1) },
		"h1 is h2":                 func(l *tss.PreParams) { l.H1i = l.H2i },
		"h2 is no power of h1":     func(l *tss.PreParams) { l.H2i = new(big.Int).Add(l.H2i, one) },
		"h1 is no square":          func(l *tss.PreParams) { l.H1i.Sub(l.NTildei, l.H1i) },
		"alpha is zero":            func(l *tss.PreParams) { l.Alpha.SetInt64(0) },
		"beta is another":          func(l *tss.PreParams) { l.Beta.Sub(l.Beta, one) },
		"beta out of range":        func(l *tss.PreParams) { l.Beta.Add(l.Beta, new(big.Int).Mul(l.P, l.Q)) },
		"a prime that is negative": func(l *tss.PreParams) { l.PaillierSK.P.Neg(l.PaillierSK.P) },
	} {
		var read stored
		if err := json.Unmarshal(fixture(t, 2), &read); err != nil {
			t.Fatal(err)
		}
		l := read.Params
		spoil(l)
		if tss.CheckPreParams(l) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// Consistent composite halves: only the primality tests detect them.
	q := new(big.Int).Lsh(one, tss.PrimeBits-2)
	q.SetBit(q, tss.PrimeBits-3, 1)
	composite := tss.SafePrimeOf(q.Add(q, big.NewInt(1<<20-1)))
	if err := composite.CheckSize(tss.PrimeBits); err != nil {
		t.Fatal(err)
	}
	if composite.Check(tss.PrimeBits) == nil {
		t.Error("a composite passes for a safe prime")
	}
}

func TestSieve(t *testing.T) {
	t.Parallel()
	// The groups hold every prime from 5 to the bound once, and their products fit.
	var got []uint32
	for _, g := range groupPrimes(2000) {
		product := new(big.Int).SetUint64(1)
		for _, r := range g.primes {
			product.Mul(product, big.NewInt(int64(r)))
			got = append(got, r)
		}
		if !product.IsUint64() || product.Uint64() != g.product {
			t.Errorf("product of %v: got %d", g.primes, g.product)
		}
	}
	var want []uint32
	for n := uint32(5); n <= 2000; n++ {
		if big.NewInt(int64(n)).ProbablyPrime(0) {
			want = append(want, n)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got primes %v, want %v", got, want)
	}

	// The sieve removes exactly the candidates with a small divisor in q or 2q+1.
	s := searcher{size: 256, groups: groupPrimes(500), struck: make([]bool, 3000)}
	start, err := s.start()
	if err != nil {
		t.Fatal(err)
	}
	if start.BitLen() != 255 || start.Bit(253) != 1 || new(big.Int).Mod(start, big.NewInt(6)).Int64() != 5 {
		t.Fatalf("bad start %x", start)
	}
	s.strike(start)
	for i, struck := range s.struck {
		q := new(big.Int).Add(start, big.NewInt(6*int64(i)))
		p := tss.SafePrimeOf(q).P
		divisible := false
		for _, g := range s.groups {
			for _, r := range g.primes {
				m := big.NewInt(int64(r))
				divisible = divisible || new(big.Int).Mod(q, m).Sign() == 0 || new(big.Int).Mod(p, m).Sign() == 0
			}
		}
		if struck != divisible {
			t.Fatalf("candidate %d: got struck %v, want %v", i, struck, divisible)
		}
	}
}

func TestFindSafePrime(t *testing.T) {
	t.Parallel()
	s := searcher{size: 256, groups: groupPrimes(1000), struck: make([]bool, 4096)}
	seen := map[string]bool{}
	for range 5 {
		got, err := s.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := got.Check(256); err != nil {
			t.Error(err)
		}
		if seen[got.P.String()] {
			t.Error("the same prime twice")
		}
		seen[got.P.String()] = true
	}
}

func TestAssembleNeedsDistance(t *testing.T) {
	t.Parallel()
	l := unmarshal(t, fixture(t, 4)).params
	primes := tss.PrimesOf(l)
	if got, err := assemble(primes[:3]); got != nil || err != nil {
		t.Errorf("three primes: got %v, %v", got, err)
	}
	if got, err := assemble([]tss.SafePrime{primes[0], primes[0], primes[0], primes[0]}); got != nil || err != nil {
		t.Errorf("equal primes: got %v, %v", got, err)
	}
	if got, err := assemble(primes); got == nil || err != nil {
		t.Errorf("good primes: got %v", err)
	}
}

// TestFixturesAreRefused builds a program that is not a test and gives it fixtures.
func TestFixturesAreRefused(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	t.Parallel()
	name := filepath.Join("..", "party", "partytest", "testdata", "preparams-test-only-0.json")
	out, err := exec.CommandContext(t.Context(), "go", "run", "./testdata/refuse", name).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != ErrTestOnly.Error() {
		t.Errorf("got %q, %v, want %q", out, err, ErrTestOnly)
	}
}

func TestSetIsRedacted(t *testing.T) {
	t.Parallel()
	p := unmarshal(t, fixture(t, 5))
	text := formats(p) + fmt.Sprintf("%+v %#v", struct{ p *Set }{p}, []any{p})
	for _, n := range []*big.Int{p.params.PaillierSK.P, p.params.Alpha, p.params.P} {
		if strings.Contains(text, n.String()[:12]) || strings.Contains(text, n.Text(16)[:12]) {
			t.Error("a secret number is shown")
		}
	}
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"}

// formats returns the forms in which a value may get into a log.
func formats(v any) string {
	data, err := json.Marshal(map[string]any{"v": v, "list": []any{v}})
	out := fmt.Sprintf("%s %v", data, err)
	for _, verb := range verbs {
		out += fmt.Sprintf(" "+verb, v) + fmt.Sprintf(" "+verb, []any{v}) + fmt.Sprintf(" "+verb, struct{ V any }{v})
	}
	return out
}
