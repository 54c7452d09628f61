package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

const (
	signers    = 2
	holders    = 3
	atOnce     = 8
	coldRounds = 2 // warm-up, not counted
)

// signECDSA compares a 2-of-3 signature through the cluster with one by two raw
// parties, and then the throughput of several concurrent ones.
func signECDSA(ctx context.Context, l *lab) error {
	ours, raw, err := l.prepared(ctx, holders)
	if err != nil {
		return err
	}
	saves, err := rawKeygenECDSA(holders, signers, raw)
	if err != nil {
		return err
	}
	return l.signing(ctx, pubkey.Secp256k1, func(i int) participant.PreParamsSource { return newStock(ours[i]) },
		func(digest *big.Int) error { return rawSignECDSA(saves, signers, digest) },
		signingPlan{rounds: pick(l, 25, 3), batches: pick(l, 5, 1), goal: goal{atMost: 1.10}, batchGoal: goal{atLeast: 0.90}})
}

// signEdDSA is the same on ed25519, where the mathematics take a few milliseconds,
// so that it measures all the rest.
func signEdDSA(ctx context.Context, l *lab) error {
	saves, err := rawKeygenEdDSA(holders, signers)
	if err != nil {
		return err
	}
	return l.signing(ctx, pubkey.Ed25519, nil,
		func(digest *big.Int) error { return rawSignEdDSA(saves, signers, digest) },
		signingPlan{rounds: pick(l, 200, 20), batches: pick(l, 5, 1), goal: goal{atMost: 1.5}})
}

// signingPlan is the amount of measurements, and the expected results.
type signingPlan struct {
	rounds, batches int
	goal, batchGoal goal
}

// signing interleaves signatures through three nodes with raw ones.
func (l *lab) signing(ctx context.Context, curve pubkey.Curve, pre func(int) participant.PreParamsSource, raw func(*big.Int) error, plan signingPlan) error {
	c, err := l.cluster(ctx, 3)
	if err != nil {
		return err
	}
	defer c.close()
	circle, err := c.circle(ctx, holders, pre)
	if err != nil {
		return err
	}
	defer circle.close()
	key, err := circle.keygen(ctx, signers, curve)
	if err != nil {
		return err
	}
	var next atomic.Int64
	both := []func() error{
		func() error { return circle.sign(ctx, key, fmt.Sprintf("payment %d", next.Add(1))) },
		func() error {
			sum := sha256.Sum256(fmt.Appendf(nil, "payment %d", next.Add(1)))
			return raw(new(big.Int).SetBytes(sum[:]))
		},
	}
	if l.brief {
		plan.rounds = 2
	}
	var one, batch [2]sample
	for i := range coldRounds + plan.rounds {
		for k := range both {
			k = (k + i) % 2 // alternate which goes first
			begun := time.Now()
			if err := both[k](); err != nil {
				return err
			}
			if i >= coldRounds {
				one[k].addTime(time.Since(begun))
			}
		}
	}
	l.report.compare("one signature, 3 nodes", "ms", one[0], one[1], plan.goal)
	for i := range plan.batches {
		for k := range both {
			k = (k + i) % 2
			rate, err := perSecond(atOnce, pick(l, 6, 2)*atOnce, both[k])
			if err != nil {
				return err
			}
			batch[k].add(rate)
		}
	}
	l.report.compare(fmt.Sprintf("signatures a second, %d in flight", atOnce), "/s", batch[0], batch[1], plan.batchGoal)
	return nil
}

// perSecond calls do n times, some concurrently, and returns the rate per second.
func perSecond(atOnce, n int, do func() error) (float64, error) {
	var g errgroup.Group
	g.SetLimit(atOnce)
	begun := time.Now()
	for range n {
		g.Go(do)
	}
	err := g.Wait()
	return float64(n) / time.Since(begun).Seconds(), err
}
