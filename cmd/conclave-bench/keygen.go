package main

import (
	"context"
	"fmt"
	"time"

	ecdsakeygen "github.com/bnb-chain/tss-lib/v2/ecdsa/keygen"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// keygen compares 2-of-3 keys on secp256k1: from a warm pool with raw tss-lib that
// is given the same pre-parameters, and without a pool with raw tss-lib that
// generates its own, which takes minutes. A short run leaves that out.
func keygen(ctx context.Context, l *lab) error {
	c, err := l.cluster(ctx, 3)
	if err != nil {
		return err
	}
	defer c.close()
	rounds := pick(l, 5, 1)
	var warm, rawWarm sample
	for range rounds {
		ours, raw, err := l.prepared(ctx, holders)
		if err != nil {
			return err
		}
		begun := time.Now()
		if _, err := rawKeygenECDSA(holders, signers, raw); err != nil {
			return err
		}
		rawWarm.addTime(time.Since(begun))
		took, err := c.keygenTime(ctx, func(i int) participant.PreParamsSource { return newStock(ours[i]) })
		if err != nil {
			return err
		}
		warm.addTime(took)
	}
	l.report.compare("a key, pre-parameters at hand", "ms", warm, rawWarm, goal{atMost: 1.10})
	if l.short {
		l.say("keygen: with nothing prepared: left out of a short run")
		return nil
	}
	var cold, rawCold sample
	for i := range rounds {
		took, err := c.keygenTime(ctx, nil)
		if err != nil {
			return err
		}
		cold.addTime(took)
		if i >= 3 { // it takes minutes, and the differences are far larger than the noise of few samples
			continue
		}
		begun := time.Now()
		raw, err := rawPreParams(ctx, holders)
		if err != nil {
			return err
		}
		if _, err := rawKeygenECDSA(holders, signers, raw); err != nil {
			return err
		}
		rawCold.addTime(time.Since(begun))
		l.say("keygen: with nothing prepared: %s, raw tss-lib %s", took.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
	l.report.compare("a key, nothing prepared", "ms", cold, rawCold, goal{atMost: 0.35})
	return nil
}

// keygenTime lets three new participants generate a key.
func (c *clusterOf) keygenTime(ctx context.Context, pre func(int) participant.PreParamsSource) (time.Duration, error) {
	circle, err := c.circle(ctx, holders, pre)
	if err != nil {
		return 0, err
	}
	defer circle.close()
	begun := time.Now()
	_, err = circle.keygen(ctx, signers, pubkey.Secp256k1)
	return time.Since(begun), err
}

// rawPreParams lets tss-lib generate n sets concurrently, as n parties would.
func rawPreParams(ctx context.Context, n int) ([]*ecdsakeygen.LocalPreParams, error) {
	sets := make([]*ecdsakeygen.LocalPreParams, n)
	var g errgroup.Group
	for i := range sets {
		g.Go(func() (err error) {
			sets[i], err = ecdsakeygen.GeneratePreParamsWithContext(ctx)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("raw tss-lib: %w", err)
	}
	return sets, nil
}
