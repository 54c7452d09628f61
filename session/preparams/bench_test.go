package preparams

import (
	"fmt"
	"math"
	"testing"
	"time"

	"crypto/rand"

	"github.com/bnb-chain/tss-lib/v2/common"

	"github.com/conclave-mpc/conclave/session/internal/tss"
)

// hitRate is how many candidates q = 5 mod 6 of 1023 bits there are for one with q and
// 2q+1 prime, by the Hardy-Littlewood conjecture: ln² over 6 times 2·0.66.
var hitRate = math.Pow(1023*math.Ln2, 2) / (6 * 2 * 0.6601618)

// BenchmarkSieveBound reports the expected cost of one safe prime as a function of the
// sieve's bound and window: the cost of sieving and of the exponentiations, times how
// many of each a prime takes. (Searching for real primes would need hundreds of them
// for equal precision.)
func BenchmarkSieveBound(b *testing.B) {
	for _, window := range []int{1 << 16, 1 << 17, 1 << 18} {
		for _, bound := range []uint32{1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23} {
			b.Run(fmt.Sprintf("window=%d/bound=%d", window, bound), func(b *testing.B) {
				s := searcher{size: tss.PrimeBits, groups: groupPrimes(bound), struck: make([]bool, window)}
				start, err := s.start()
				if err != nil {
					b.Fatal(err)
				}
				var sieving, power time.Duration
				for b.Loop() {
					begin := time.Now()
					s.strike(start)
					sieving += time.Since(begin)
					begin = time.Now()
					tss.Fermat(start)
					power += time.Since(begin)
				}
				left := 0
				for _, struck := range s.struck {
					if !struck {
						left++
					}
				}
				n := float64(b.N)
				windows := 1 / -math.Expm1(-float64(window)/hitRate)
				tests := float64(left) / float64(window) * hitRate
				b.ReportMetric(sieving.Seconds()/n*1e3, "sieve-ms")
				b.ReportMetric(tests, "tests/prime")
				b.ReportMetric((windows*sieving.Seconds()+tests*power.Seconds())/n*1e3, "ms/prime")
			})
		}
	}
}

// BenchmarkSafePrime compares the generator with tss-lib's, on one core.
func BenchmarkSafePrime(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		s := searcher{size: tss.PrimeBits, groups: sieveGroups(), struck: make([]bool, sieveWindow)}
		for b.Loop() {
			if _, err := s.find(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tss-lib", func(b *testing.B) {
		if testing.Short() {
			b.Skip("takes about ten seconds a prime")
		}
		for b.Loop() {
			if _, err := common.GetRandomSafePrimesConcurrent(b.Context(), tss.PrimeBits, 1, 1, rand.Reader); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkPreParams makes whole sets on all cores.
func BenchmarkPreParams(b *testing.B) {
	for b.Loop() {
		if _, err := Generate(b.Context(), Config{}); err != nil {
			b.Fatal(err)
		}
	}
}
