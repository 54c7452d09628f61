package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"github.com/bnb-chain/tss-lib/v2/common"

	"github.com/conclave-mpc/conclave/session/preparams"
)

const (
	primeBits    = 1024
	primesPerSet = 4
)

// primes compares the CPU time of a safe prime with that of tss-lib's generator.
// Ours are parts of sets of pre-parameters, whose checks count with them.
func primes(ctx context.Context, l *lab) error {
	var ours, raw sample
	for range pick(l, 5, 1) {
		took, err := cpuTime(func() error {
			_, err := preparams.Generate(ctx, preparams.Config{Concurrency: 1})
			return err
		})
		if err != nil {
			return err
		}
		ours.addTime(took / primesPerSet)
		n := pick(l, primesPerSet, 1)
		took, err = cpuTime(func() error {
			for range n {
				if _, err := common.GetRandomSafePrimesConcurrent(ctx, primeBits, 1, 1, rand.Reader); err != nil {
					return fmt.Errorf("raw tss-lib: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		raw.addTime(took / time.Duration(n))
		l.say("primes: %s of CPU time a prime, tss-lib %s", time.Duration(ours[len(ours)-1]*1e6).Round(time.Millisecond), (took / time.Duration(n)).Round(time.Millisecond))
	}
	// Single searches differ by factors, so the mean is compared.
	l.report.compare("a safe prime of 1024 bits, CPU time, mean", "ms", sample{ours.mean()}, sample{raw.mean()}, goal{atMost: 0.05})
	return nil
}

// cpuTime returns the CPU time that this process spends in do.
func cpuTime(do func() error) (time.Duration, error) {
	before, err := cpuOf(os.Getpid())
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	after, err := cpuOf(os.Getpid())
	return after - before, err
}
