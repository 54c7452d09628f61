package preparams

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
	"sync"

	"github.com/conclave-mpc/conclave/session/internal/tss"
)

const (
	// sieveBound is the largest small prime in the sieve. Doubling it doubles the
	// sieving time (19 ms here, on a core that takes 0.7 ms for an exponentiation) and
	// saves a tenth of the exponentiations, of which there are about 680 a prime;
	// BenchmarkSieveBound has the sums, which hardly differ from 2^22 on.
	sieveBound = 1 << 22
	// sieveWindow is how many candidates, six apart, are tested from one random start.
	// One in about 63000 is a hit at 1023 bits. After a window without one comes
	// another random start, not the next window, so that primes after long gaps are not
	// preferred even more than a random start does.
	sieveWindow = 1 << 17
)

// sieveGroup is some small primes and their product, which fits a word: one division of
// the big number serves all of them.
type sieveGroup struct {
	product uint64
	primes  []uint32
}

// sieveGroups lists the primes from 5 to the bound. It is computed once.
var sieveGroups = sync.OnceValue(func() []sieveGroup { return groupPrimes(sieveBound) })

func groupPrimes(bound uint32) []sieveGroup {
	var groups []sieveGroup
	composite := make([]bool, bound+1)
	last := sieveGroup{product: 1}
	for n := uint32(5); n <= bound; n++ {
		if n%2 == 0 || n%3 == 0 || composite[n] {
			continue
		}
		for m := uint64(n) * uint64(n); m <= uint64(bound); m += uint64(n) {
			composite[m] = true
		}
		if last.product > (1<<64-1)/uint64(n) {
			groups = append(groups, last)
			last = sieveGroup{product: 1}
		}
		last.product *= uint64(n)
		last.primes = append(last.primes, n)
	}
	return append(groups, last)
}

var one = big.NewInt(1)

// searcher looks for safe primes of one size; it is not safe for concurrent use.
type searcher struct {
	size   int // bits of p
	groups []sieveGroup
	struck []bool
	yield  func(context.Context) // may be nil
}

// find returns a random safe prime whose two top bits are set, so that the product of
// two has exactly twice the bits. It returns ctx's error when ctx is done, checking
// several times a second.
//
// The search runs from a random q = 5 mod 6 in steps of 6: any other q makes q or 2q+1
// a multiple of 2 or 3. A sieve removes every candidate for which a small prime divides
// q or 2q+1; the rest are tested with one exponentiation each, which hardly any
// composite passes; a candidate that passes is proved (p) or shown with overwhelming
// probability (q) to be prime. After "Safe Prime Generation with a Combined Sieve",
// eprint 2003/186.
func (s *searcher) find(ctx context.Context) (tss.SafePrime, error) {
	for {
		start, err := s.start()
		if err != nil {
			return tss.SafePrime{}, err
		}
		s.strike(start)
		q, p := new(big.Int), new(big.Int)
		step := new(big.Int)
		for i, out := range s.struck {
			if out {
				continue
			}
			if s.yield != nil {
				s.yield(ctx)
			}
			if err := ctx.Err(); err != nil {
				return tss.SafePrime{}, err
			}
			q.Add(start, step.SetUint64(6*uint64(i)))
			p.Add(p.Lsh(q, 1), one)
			if q.BitLen() != s.size-1 || !tss.Fermat(q) || !tss.Fermat(p) {
				continue
			}
			found := tss.SafePrime{P: p, Q: q}
			if found.Check(s.size) == nil {
				return found, nil
			}
		}
	}
}

// start returns a random q = 5 mod 6 of one bit less than p with the two top bits set.
func (s *searcher) start() (*big.Int, error) {
	n := s.size - 1
	q, err := rand.Int(rand.Reader, new(big.Int).Lsh(one, uint(n-2)))
	if err != nil {
		return nil, fmt.Errorf("search safe prime: %w", err)
	}
	q.SetBit(q.SetBit(q, n-1, 1), n-2, 1)
	rest := new(big.Int).Mod(q, big.NewInt(6)).Int64()
	return q.Add(q, big.NewInt((5-rest+6)%6)), nil
}

// strike marks every i for which a small prime r divides q+6i or 2(q+6i)+1: i is
// congruent to -q/6 or to -(2q+1)/12 modulo r.
func (s *searcher) strike(q *big.Int) {
	clear(s.struck)
	words := make([]byte, (q.BitLen()+63)/64*8)
	q.FillBytes(words)
	for _, g := range s.groups {
		rest := remainder(words, g.product)
		for _, r32 := range g.primes {
			r := uint64(r32)
			qr := rest % r
			sixth := inverse6(r)
			half := (r + 1) / 2
			a := (r - qr) * sixth % r
			b := (2*r - (2*qr+1)%r) % r * sixth % r * half % r
			for i := a; i < uint64(len(s.struck)); i += r {
				s.struck[i] = true
			}
			for i := b; i < uint64(len(s.struck)); i += r {
				s.struck[i] = true
			}
		}
	}
}

// inverse6 returns 1/6 modulo r for a prime r > 3: r is 1 or 5 modulo 6, so
// either 5r+1 or r+1 is a multiple of 6.
func inverse6(r uint64) uint64 {
	if r%6 == 1 {
		return (5*r + 1) / 6
	}
	return (r + 1) / 6
}

// remainder returns a big-endian number of whole words modulo m.
func remainder(words []byte, m uint64) uint64 {
	var rest uint64
	for ; len(words) > 0; words = words[8:] {
		_, rest = bits.Div64(rest, binary.BigEndian.Uint64(words), m)
	}
	return rest
}
