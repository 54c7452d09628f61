// Package preparams makes and stores pre-parameters, which an ECDSA party needs before
// it can generate a key.
//
// Start here: [Generate] makes a [Set]; [Set.Seal] and [Open] keep it in a file until
// it is needed; package party uses it up. The caller must ensure that each set is used
// once: delete the file, durably, before the key generation begins.
//
// [Generate] starts goroutines and waits for all of them.
package preparams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"sync"

	"github.com/conclave-mpc/conclave/session/internal/codec"
	"github.com/conclave-mpc/conclave/session/internal/testonly"
	"github.com/conclave-mpc/conclave/session/internal/tss"
)

const (
	version  = 1
	maxBytes = 64 << 10 // of the JSON form; some 6 KB are used
)

// Errors of this package. Neither they nor any text wrapped around them holds secrets.
var (
	// ErrUsed is returned on a second use of pre-parameters.
	ErrUsed = errors.New("preparams: pre-parameters were used before; each set serves one key")
	// ErrTestOnly is returned for the fixtures of package partytest in a program that
	// does not import it.
	ErrTestOnly = errors.New("preparams: pre-parameters marked test_only are refused outside tests")
)

// Set holds an ECDSA party's pre-parameters for a key generation: a Paillier key and
// the moduli of its range proofs, four safe primes of 1024 bits in all. They are
// secret, belong to one party and serve one key: package party uses it up. Safe for
// concurrent use; printing shows nothing of them.
type Set struct {
	mu   sync.Mutex
	used bool

	testOnly bool
	params   *tss.PreParams
}

// Config holds the options of [Generate]. The zero value is valid.
type Config struct {
	// Concurrency is how many cores to use. Zero means all.
	Concurrency int
	// Progress, if set, is called from one goroutine whenever a safe prime was found,
	// with the numbers found and needed. In one case of twenty a further one is needed,
	// and then of grows by one.
	Progress func(found, of int)
	// Yield, if set, is called before each exponentiation, by several goroutines and
	// hundreds of times a second. It may block, to leave the cores to others; it must
	// return when ctx is done.
	Yield func(ctx context.Context)
}

// Generate makes pre-parameters: some seconds of one core's time. It
// returns ctx's error soon after ctx is done.
func Generate(ctx context.Context, c Config) (*Set, error) {
	params, err := generate(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("make pre-parameters: %w", err)
	}
	return &Set{params: params}, nil
}

func generate(ctx context.Context, c Config) (*tss.PreParams, error) {
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
	var primes []tss.SafePrime
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
	prime tss.SafePrime
	err   error
}

// searchPrimes sends primes until ctx is done or an error was sent. Each search has its
// own random start, so that the primes are independent.
func searchPrimes(ctx context.Context, results chan<- primeResult, yield func(context.Context)) {
	s := searcher{size: tss.PrimeBits, groups: sieveGroups(), struck: make([]bool, sieveWindow), yield: yield}
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

// assemble makes pre-parameters of the first suitable primes: two far apart for the
// Paillier key and two others. It returns nil if there are too few yet.
func assemble(primes []tss.SafePrime) (*tss.PreParams, error) {
	if len(primes) < 4 {
		return nil, nil
	}
	for i := range primes {
		for j := range i {
			distance := new(big.Int).Sub(primes[i].P, primes[j].P)
			if distance.BitLen() < tss.MinDistanceBits {
				continue
			}
			var rest []tss.SafePrime
			for k := range primes {
				if k != i && k != j {
					rest = append(rest, primes[k])
				}
			}
			if rest[0].P.Cmp(rest[1].P) == 0 {
				continue
			}
			params, err := tss.Derive(primes[j], primes[i], rest[0], rest[1])
			if err != nil {
				return nil, err
			}
			return params, tss.CheckPreParams(params)
		}
	}
	return nil, nil
}

// Take returns the numbers, once, to package party: afterwards the set is used.
// ErrUsed, ErrTestOnly.
func (p *Set) Take() (*tss.PreParams, error) {
	if p == nil || p.params == nil {
		return nil, errors.New("pre-parameters are missing")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.testOnly && !testonly.Allowed() {
		return nil, ErrTestOnly
	}
	if p.used {
		return nil, ErrUsed
	}
	p.used = true
	return p.params, nil
}

type stored struct {
	Version  int            `json:"version"`
	TestOnly bool           `json:"test_only,omitempty"`
	Params   *tss.PreParams `json:"params"`
}

// Marshal encodes unused pre-parameters as JSON for [Parse]. The result is secret. The
// caller must ensure that it is read back only once: delete it before the run begins.
func (p *Set) Marshal() ([]byte, error) {
	if p == nil || p.params == nil {
		return nil, errors.New("preparams: pre-parameters are missing")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used {
		return nil, ErrUsed
	}
	return json.Marshal(stored{version, p.testOnly, p.params})
}

// Parse reads the output of [Set.Marshal] and checks all of it, which takes some tenths
// of a second. Its errors quote nothing of the data.
func Parse(data []byte) (*Set, error) {
	var in stored
	if len(data) > maxBytes || codec.StrictJSON(data, &in) != nil || in.Params == nil {
		return nil, errors.New("read pre-parameters: not in the form in which they are written")
	}
	if in.Version != version {
		return nil, fmt.Errorf("read pre-parameters: format %d is not known", in.Version)
	}
	if in.TestOnly && !testonly.Allowed() {
		return nil, ErrTestOnly
	}
	if err := tss.CheckPreParams(in.Params); err != nil {
		return nil, fmt.Errorf("read %w", err)
	}
	return &Set{testOnly: in.TestOnly, params: in.Params}, nil
}

// String returns the type's name.
func (p *Set) String() string { return "preparams.Set" }

// Format writes what String returns, whatever the verb.
func (p *Set) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// MarshalJSON writes what String returns; use [Set.Marshal] to export the numbers.
func (p *Set) MarshalJSON() ([]byte, error) { return json.Marshal(p.String()) }
