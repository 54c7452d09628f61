package tss

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"

	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
)

const (
	modulusBits = 2048
	// PrimeBits is the size of each of the four primes of pre-parameters.
	PrimeBits = modulusBits / 2
	// MinDistanceBits is tss-lib's bound for the Paillier primes' difference.
	MinDistanceBits = PrimeBits - 3
)

// SafePrime is p = 2q+1 with both prime.
type SafePrime struct{ P, Q *big.Int }

// Derive computes what tss-lib's own generator does (ecdsa/keygen/prepare.go): from two
// safe primes a Paillier key, from the other two a modulus NTilde with h1 a random
// square and h2 = h1^alpha, and beta the inverse of alpha modulo the order of the
// squares.
func Derive(p, q, a, b SafePrime) (*PreParams, error) {
	n := new(big.Int).Mul(p.P, q.P)
	phi, lambda := totients(p.P, q.P)
	tilde := new(big.Int).Mul(a.P, b.P)
	order := new(big.Int).Mul(a.Q, b.Q)
	for {
		f, err := randomUnit(tilde)
		if err != nil {
			return nil, err
		}
		alpha, err := randomUnit(tilde)
		if err != nil {
			return nil, err
		}
		h1 := f.Mod(f.Mul(f, f), tilde)
		h2 := new(big.Int).Exp(h1, alpha, tilde)
		beta := new(big.Int).ModInverse(alpha, order)
		if beta == nil || h1.Cmp(one) == 0 || h2.Cmp(one) == 0 || h1.Cmp(h2) == 0 {
			continue // probability 1 in 2^1000
		}
		return &PreParams{
			PaillierSK: &paillier.PrivateKey{
				PublicKey: paillier.PublicKey{N: n},
				LambdaN:   lambda, PhiN: phi, P: p.P, Q: q.P,
			},
			NTildei: tilde, H1i: h1, H2i: h2, Alpha: alpha, Beta: beta, P: a.Q, Q: b.Q,
		}, nil
	}
}

// randomUnit returns a random number below n and coprime to it.
func randomUnit(n *big.Int) (*big.Int, error) {
	for {
		x, err := rand.Int(rand.Reader, n)
		if err != nil {
			return nil, err
		}
		if x.Sign() > 0 && new(big.Int).GCD(nil, nil, x, n).Cmp(one) == 0 {
			return x, nil
		}
	}
}

// CheckPreParams checks pre-parameters against all of tss-lib's requirements, its own
// and other parties' checks alike, and against their derivation.
func CheckPreParams(l *PreParams) error {
	if err := checkStructure(l); err != nil {
		return err
	}
	for _, p := range PrimesOf(l) {
		if err := p.Check(PrimeBits); err != nil {
			return fmt.Errorf("pre-parameters: %w", err)
		}
	}
	for _, factor := range []*big.Int{SafePrimeOf(l.P).P, SafePrimeOf(l.Q).P} {
		if big.Jacobi(l.H1i, factor) != 1 {
			return errors.New("pre-parameters: h1 is no square")
		}
	}
	if new(big.Int).Exp(l.H1i, l.Alpha, l.NTildei).Cmp(l.H2i) != 0 ||
		new(big.Int).Exp(l.H2i, l.Beta, l.NTildei).Cmp(l.H1i) != 0 {
		return errors.New("pre-parameters: h1 and h2 are not powers of each other")
	}
	return nil
}

// checkStructure is the part of CheckPreParams without exponentiations.
func checkStructure(l *PreParams) error {
	if !l.ValidateWithProof() || l.PaillierSK.N == nil || l.PaillierSK.PhiN == nil || l.PaillierSK.LambdaN == nil {
		return errors.New("pre-parameters are not whole")
	}
	primes := PrimesOf(l)
	for i, p := range primes {
		if err := p.CheckSize(PrimeBits); err != nil {
			return fmt.Errorf("pre-parameters: %w", err)
		}
		for _, other := range primes[:i] {
			if p.P.Cmp(other.P) == 0 {
				return errors.New("pre-parameters: two primes are equal")
			}
		}
	}
	sk := l.PaillierSK
	if new(big.Int).Sub(sk.P, sk.Q).BitLen() < MinDistanceBits {
		return errors.New("pre-parameters: the Paillier primes are too close")
	}
	phi, lambda := totients(sk.P, sk.Q)
	tilde := new(big.Int).Mul(primes[2].P, primes[3].P)
	switch {
	case new(big.Int).Mul(sk.P, sk.Q).Cmp(sk.N) != 0 || phi.Cmp(sk.PhiN) != 0 || lambda.Cmp(sk.LambdaN) != 0:
		return errors.New("pre-parameters: the Paillier key does not hold together")
	case tilde.Cmp(l.NTildei) != 0 || !isModulus(sk.N) || !isModulus(l.NTildei):
		return errors.New("pre-parameters: a modulus does not belong to its primes")
	case !isResidue(l.H1i, l.NTildei) || !isResidue(l.H2i, l.NTildei) || l.H1i.Cmp(l.H2i) == 0,
		!isResidue(l.Alpha, l.NTildei) || !isResidue(l.Beta, new(big.Int).Mul(l.P, l.Q)):
		return errors.New("pre-parameters: a base or exponent is out of range")
	}
	return nil
}

// PrimesOf lists the four primes: those of the Paillier key and those of NTilde, of
// which tss-lib keeps the halves.
func PrimesOf(l *PreParams) []SafePrime {
	return []SafePrime{
		{l.PaillierSK.P, new(big.Int).Rsh(l.PaillierSK.P, 1)},
		{l.PaillierSK.Q, new(big.Int).Rsh(l.PaillierSK.Q, 1)},
		SafePrimeOf(l.P), SafePrimeOf(l.Q),
	}
}

// totients returns phi and the Carmichael function of the product of two primes.
func totients(p, q *big.Int) (phi, lambda *big.Int) {
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	phi = new(big.Int).Mul(p1, q1)
	return phi, new(big.Int).Div(phi, new(big.Int).GCD(nil, nil, p1, q1))
}

// SafePrimeOf returns the pair of q and 2q+1. It tests neither for primality.
func SafePrimeOf(q *big.Int) SafePrime {
	p := new(big.Int).Lsh(q, 1)
	return SafePrime{p.Add(p, one), q}
}

// Fermat reports whether 2^(n-1) = 1 mod n.
func Fermat(n *big.Int) bool {
	e := new(big.Int).Sub(n, one)
	return e.Exp(two, e, n).Cmp(one) == 0
}

// Check is the full test: of size, of q (thirty rounds of Miller-Rabin and
// Baillie-PSW), and of p. With q prime and 2^(p-1) = 1 mod p, p is prime by
// Pocklington's criterion.
func (s SafePrime) Check(size int) error {
	if err := s.CheckSize(size); err != nil {
		return err
	}
	if !s.Q.ProbablyPrime(30) || !Fermat(s.P) || !s.P.ProbablyPrime(0) {
		return errors.New("a number is not a safe prime")
	}
	return nil
}

// CheckSize checks that P has size bits with the top two set and is 2Q+1, without
// testing either for primality.
func (s SafePrime) CheckSize(size int) error {
	if s.P.Sign() <= 0 || s.P.BitLen() != size || s.P.Bit(size-2) != 1 {
		return fmt.Errorf("a prime is not of %d bits with the top two set", size)
	}
	if twice := new(big.Int).Lsh(s.Q, 1); twice.Add(twice, one).Cmp(s.P) != 0 {
		return errors.New("a prime is not twice its half and one")
	}
	return nil
}

var (
	one = big.NewInt(1)
	two = big.NewInt(2)
)
