package party

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"sync"

	"github.com/bnb-chain/tss-lib/v2/crypto/paillier"
	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"

	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/internal/testonly"
)

const (
	modulusBits = 2048
	primeBits   = modulusBits / 2
	// minDistanceBits is tss-lib's bound for the Paillier primes' difference.
	minDistanceBits   = primeBits - 3
	preParamsVersion  = 1
	maxPreParamsBytes = 64 << 10 // of the JSON form; some 6 KB are used
)

// PreParams are what an ECDSA party needs before it can generate a key: a
// Paillier key and the moduli of its range proofs, four safe primes of 1024 bits
// in all. They are secret, belong to one party and serve one key: [NewKeygen]
// uses them up. Safe for concurrent use; printing shows nothing of them.
type PreParams struct {
	mu   sync.Mutex
	used bool

	testOnly bool
	params   *ecdsakeygen.LocalPreParams
}

// PreParamsConfig says how to make pre-parameters. The zero value is good.
type PreParamsConfig struct {
	// Concurrency is how many cores to use. Zero means all.
	Concurrency int
	// Progress, if set, is called from one goroutine whenever a safe prime was
	// found, with how many there are of how many needed. In one case of twenty a
	// further one is needed, and then of is one more than before.
	Progress func(found, of int)
	// Yield, if set, is called before each exponentiation, by several goroutines
	// and hundreds of times a second. It may block, to leave the cores to others;
	// it must return when ctx is done.
	Yield func(ctx context.Context)
}

// GeneratePreParams makes pre-parameters: some seconds of one core's time. It
// returns ctx's error soon after ctx is done.
func GeneratePreParams(ctx context.Context, c PreParamsConfig) (*PreParams, error) {
	params, err := generatePreParams(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("make pre-parameters: %w", err)
	}
	return &PreParams{params: params}, nil
}

func generatePreParams(ctx context.Context, c PreParamsConfig) (*ecdsakeygen.LocalPreParams, error) {
	if c.Concurrency <= 0 {
		c.Concurrency = runtime.GOMAXPROCS(0)
	}
	ctx, stop := context.WithCancel(ctx)
	results := make(chan primeResult)
	var searchers sync.WaitGroup
	// The goroutines end when ctx does, within the time of one exponentiation.
	defer searchers.Wait()
	defer stop()
	for range c.Concurrency {
		searchers.Go(func() { searchPrimes(ctx, results, c.Yield) })
	}
	var primes []safePrime
	for of := 4; ; {
		var r primeResult
		select {
		case r = <-results:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if r.err != nil {
			return nil, r.err
		}
		primes = append(primes, r.prime)
		params, err := assemble(primes)
		if len(primes) >= of && params == nil {
			of++
		}
		if c.Progress != nil {
			c.Progress(len(primes), of)
		}
		if params != nil || err != nil {
			return params, err
		}
	}
}

type primeResult struct {
	prime safePrime
	err   error
}

// searchPrimes sends primes until ctx is done or an error was sent. Each comes
// from a random start of its own, so that they have nothing to do with each other.
func searchPrimes(ctx context.Context, results chan<- primeResult, yield func(context.Context)) {
	s := searcher{size: primeBits, groups: sieveGroups(), struck: make([]bool, sieveWindow), yield: yield}
	for {
		prime, err := s.find(ctx)
		select {
		case results <- primeResult{prime, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// assemble makes pre-parameters of the first primes that will do: two far apart
// for the Paillier key and two others. It returns nil if there are none yet.
func assemble(primes []safePrime) (*ecdsakeygen.LocalPreParams, error) {
	if len(primes) < 4 {
		return nil, nil
	}
	for i := range primes {
		for j := range i {
			distance := new(big.Int).Sub(primes[i].p, primes[j].p)
			if distance.BitLen() < minDistanceBits {
				continue
			}
			var rest []safePrime
			for k := range primes {
				if k != i && k != j {
					rest = append(rest, primes[k])
				}
			}
			if rest[0].p.Cmp(rest[1].p) == 0 {
				continue
			}
			params, err := derive(primes[j], primes[i], rest[0], rest[1])
			if err != nil {
				return nil, err
			}
			return params, checkPreParams(params)
		}
	}
	return nil, nil
}

// derive computes what tss-lib's own generator does (ecdsa/keygen/prepare.go): of
// two safe primes a Paillier key, of the other two a modulus NTilde with h1 a
// random square and h2 = h1^alpha, and beta the inverse of alpha modulo the order
// of the squares.
func derive(p, q, a, b safePrime) (*ecdsakeygen.LocalPreParams, error) {
	n := new(big.Int).Mul(p.p, q.p)
	phi, lambda := totients(p.p, q.p)
	tilde := new(big.Int).Mul(a.p, b.p)
	order := new(big.Int).Mul(a.q, b.q)
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
			continue // once in 2^1000
		}
		return &ecdsakeygen.LocalPreParams{
			PaillierSK: &paillier.PrivateKey{
				PublicKey: paillier.PublicKey{N: n},
				LambdaN:   lambda, PhiN: phi, P: p.p, Q: q.p,
			},
			NTildei: tilde, H1i: h1, H2i: h2, Alpha: alpha, Beta: beta, P: a.q, Q: b.q,
		}, nil
	}
}

// randomUnit returns a random number below n that has no divisor in common with it.
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

// checkPreParams holds pre-parameters to everything tss-lib demands of them, its
// own and other parties' checks alike, and to how they were derived.
func checkPreParams(l *ecdsakeygen.LocalPreParams) error {
	if err := checkStructure(l); err != nil {
		return err
	}
	for _, p := range primesOf(l) {
		if err := p.check(primeBits); err != nil {
			return fmt.Errorf("pre-parameters: %w", err)
		}
	}
	for _, factor := range []*big.Int{safePrimeOf(l.P).p, safePrimeOf(l.Q).p} {
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

// checkStructure is the part of checkPreParams that costs no exponentiation.
func checkStructure(l *ecdsakeygen.LocalPreParams) error {
	if !l.ValidateWithProof() || l.PaillierSK.N == nil || l.PaillierSK.PhiN == nil || l.PaillierSK.LambdaN == nil {
		return errors.New("pre-parameters are not whole")
	}
	primes := primesOf(l)
	for i, p := range primes {
		if err := p.checkSize(primeBits); err != nil {
			return fmt.Errorf("pre-parameters: %w", err)
		}
		for _, other := range primes[:i] {
			if p.p.Cmp(other.p) == 0 {
				return errors.New("pre-parameters: two primes are equal")
			}
		}
	}
	sk := l.PaillierSK
	if new(big.Int).Sub(sk.P, sk.Q).BitLen() < minDistanceBits {
		return errors.New("pre-parameters: the Paillier primes are too close")
	}
	phi, lambda := totients(sk.P, sk.Q)
	tilde := new(big.Int).Mul(primes[2].p, primes[3].p)
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

// primesOf lists the four: those of the Paillier key and those of NTilde, of
// which tss-lib keeps the halves.
func primesOf(l *ecdsakeygen.LocalPreParams) []safePrime {
	return []safePrime{
		{l.PaillierSK.P, new(big.Int).Rsh(l.PaillierSK.P, 1)},
		{l.PaillierSK.Q, new(big.Int).Rsh(l.PaillierSK.Q, 1)},
		safePrimeOf(l.P), safePrimeOf(l.Q),
	}
}

// totients returns phi and the Carmichael function of the product of two primes.
func totients(p, q *big.Int) (phi, lambda *big.Int) {
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	phi = new(big.Int).Mul(p1, q1)
	return phi, new(big.Int).Div(phi, new(big.Int).GCD(nil, nil, p1, q1))
}

func safePrimeOf(q *big.Int) safePrime {
	p := new(big.Int).Lsh(q, 1)
	return safePrime{p.Add(p, one), q}
}

// take hands the parameters out, once.
func (p *PreParams) take() (*ecdsakeygen.LocalPreParams, error) {
	if p == nil || p.params == nil {
		return nil, errors.New("pre-parameters are missing")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.testOnly && !testonly.Allowed() {
		return nil, ErrTestOnly
	}
	if p.used {
		return nil, ErrPreParamsUsed
	}
	p.used = true
	return p.params, nil
}

type preParamsJSON struct {
	Version  int                         `json:"version"`
	TestOnly bool                        `json:"test_only,omitempty"`
	Params   *ecdsakeygen.LocalPreParams `json:"params"`
}

// Marshal encodes unused pre-parameters as JSON for [UnmarshalPreParams]. The
// result is secret. Who stores it must see to it that it is read back once only:
// delete it before the run begins.
func (p *PreParams) Marshal() ([]byte, error) {
	if p == nil || p.params == nil {
		return nil, errors.New("party: pre-parameters are missing")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used {
		return nil, ErrPreParamsUsed
	}
	return json.Marshal(preParamsJSON{preParamsVersion, p.testOnly, p.params})
}

// UnmarshalPreParams reads what [PreParams.Marshal] wrote and checks all of it,
// which takes some tenths of a second. Its errors quote nothing of the data.
func UnmarshalPreParams(data []byte) (*PreParams, error) {
	var in preParamsJSON
	if len(data) > maxPreParamsBytes || codec.StrictJSON(data, &in) != nil || in.Params == nil {
		return nil, errors.New("read pre-parameters: not in the form in which they are written")
	}
	if in.Version != preParamsVersion {
		return nil, fmt.Errorf("read pre-parameters: format %d is not known", in.Version)
	}
	if in.TestOnly && !testonly.Allowed() {
		return nil, ErrTestOnly
	}
	if err := checkPreParams(in.Params); err != nil {
		return nil, fmt.Errorf("read %w", err)
	}
	return &PreParams{testOnly: in.TestOnly, params: in.Params}, nil
}

// String names what it is.
func (p *PreParams) String() string { return "party.PreParams" }

// Format writes what String returns, whatever the verb.
func (p *PreParams) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// MarshalJSON writes what String returns; [PreParams.Marshal] is the way out.
func (p *PreParams) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }
