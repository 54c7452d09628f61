package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

// growth measures how cost grows. Each part gives a chart, and its end a figure.
func growth(ctx context.Context, l *lab) error {
	for _, part := range []func(context.Context, *lab) error{
		growParties, growSessions, growScripted, growSize, growConnections, growNodes, growHistory,
	} {
		if err := part(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// growParties signs on ed25519 with all of 2 to 10 parties.
func growParties(ctx context.Context, l *lab) error {
	const chart, x, y = "Signature by number of parties (ed25519, all sign)", "parties", "ms"
	counts := pick(l, []int{2, 3, 4, 6, 8, 10}, []int{2, 4})
	for _, n := range counts {
		saves, err := rawKeygenEdDSA(n, n)
		if err != nil {
			return err
		}
		c, err := l.cluster(ctx, 3)
		if err != nil {
			return err
		}
		circle, err := c.circle(ctx, n, nil)
		if err != nil {
			return err
		}
		key, err := circle.keygen(ctx, n, pubkey.Ed25519)
		if err != nil {
			return err
		}
		var ours, raw sample
		for i := range pick(l, 30, 3) {
			begun := time.Now()
			if err := circle.sign(ctx, key, fmt.Sprintf("payment %d", i)); err != nil {
				return err
			}
			ours.addTime(time.Since(begun))
			begun = time.Now()
			sum := sha256.Sum256(fmt.Append(nil, i))
			if err := rawSignEdDSA(saves, n, new(big.Int).SetBytes(sum[:])); err != nil {
				return err
			}
			raw.addTime(time.Since(begun))
		}
		circle.close()
		c.close()
		l.report.point(chart, "Conclave, 3 nodes", x, y, false, float64(n), ours.quantile(0.5))
		l.report.point(chart, "raw tss-lib", x, y, false, float64(n), raw.quantile(0.5))
		if n == counts[len(counts)-1] {
			l.report.compare(fmt.Sprintf("ed25519 signature by all of %d parties", n), "ms", ours, raw, goal{})
		}
	}
	return nil
}

// growSessions signs on ed25519, 2 of 3, with 1 to 64 signings in flight.
func growSessions(ctx context.Context, l *lab) error {
	const chart, x, y = "Throughput by signings in flight (ed25519, 2 of 3)", "in flight", "signatures a second"
	saves, err := rawKeygenEdDSA(holders, signers)
	if err != nil {
		return err
	}
	c, err := l.cluster(ctx, 3)
	if err != nil {
		return err
	}
	defer c.close()
	circle, err := c.circle(ctx, holders, nil)
	if err != nil {
		return err
	}
	defer circle.close()
	key, err := circle.keygen(ctx, signers, pubkey.Ed25519)
	if err != nil {
		return err
	}
	data := make(chan string, 1)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			select {
			case data <- fmt.Sprintf("payment %d", i):
			case <-ctx.Done():
			}
		}
	}()
	counts := pick(l, []int{1, 2, 4, 8, 16, 32, 60}, []int{1, 8})
	for _, n := range counts {
		total := pick(l, max(60, 4*n), 2*n)
		ours, err := perSecond(n, total, func() error { return circle.sign(ctx, key, <-data) })
		if err != nil {
			return err
		}
		raw, err := perSecond(n, total, func() error {
			sum := sha256.Sum256([]byte(<-data))
			return rawSignEdDSA(saves, signers, new(big.Int).SetBytes(sum[:]))
		})
		if err != nil {
			return err
		}
		l.report.point(chart, "Conclave, 3 nodes", x, y, true, float64(n), ours)
		l.report.point(chart, "raw tss-lib", x, y, true, float64(n), raw)
		if n == counts[len(counts)-1] {
			l.report.compare(fmt.Sprintf("ed25519 signatures a second, %d in flight", n), "/s", sample{ours}, sample{raw}, goal{})
		}
	}
	return nil
}

// growScripted runs scripted signings of the seed protocol, up to 2,000 at once.
func growScripted(ctx context.Context, l *lab) error {
	const chart, x, y = "Cost of a scripted signing by signings in flight", "in flight", "CPU of nodes and Redis, ms"
	for _, n := range pick(l, []int{1, 8, 64, 500, 2000}, []int{1, 8}) {
		done, err := l.scripted(ctx, n, sessionNodes, nil)
		if err != nil {
			return err
		}
		l.report.point(chart, "3 nodes", x, y, true, float64(n), done)
		l.report.note(fmt.Sprintf("CPU of a scripted signing, %d at once", n), "ms", sample{done}, goal{})
	}
	return nil
}

// scripted returns the CPU time of a scripted signing in ms. before is run once the
// groups have their keys.
func (l *lab) scripted(ctx context.Context, groups, nodes int, before func(c *clusterOf, g *groups) error) (float64, error) {
	c, err := l.cluster(ctx, nodes)
	if err != nil {
		return 0, err
	}
	defer c.close()
	g, err := c.groups(ctx, groups)
	if err != nil {
		return 0, err
	}
	defer g.close()
	window := l.measured(5*time.Second, 500*time.Millisecond)
	if _, err := g.run(ctx, l, window/2, 0); err != nil {
		return 0, err
	}
	if before != nil {
		if err := before(c, g); err != nil {
			return 0, err
		}
	}
	done, err := g.run(ctx, l, window, 0)
	return milliseconds(done.cpu.sum()) / float64(max(len(done.times), 1)), err
}

// growSize relays messages of 1 KiB to 512 KiB.
func growSize(ctx context.Context, l *lab) error {
	const chart, x, y = "Cost of a relayed message by its size", "KiB", "CPU of nodes and Redis, µs"
	sizes := pick(l, []int{1, 4, 16, 64, 256, 512}, []int{1, 16})
	for _, kib := range sizes {
		var per [2]float64
		for i, start := range []func(context.Context, *lab, int, int) (*traffic, error){
			func(ctx context.Context, l *lab, pairs, size int) (*traffic, error) {
				return newConclaveLanes(ctx, l, relayNodes, pairs, size)
			}, newBareLanes,
		} {
			traffic, err := start(ctx, l, 8, kib<<10)
			if err != nil {
				return err
			}
			load, err := traffic.run(ctx, l, relayInFlight, l.measured(3*time.Second, 500*time.Millisecond))
			traffic.close()
			if err != nil {
				return err
			}
			per[i] = load.perMessage(load.cpu.sum())
			l.report.point(chart, []string{"Conclave, 2 nodes", "bare relays"}[i], x, y, true, float64(kib), per[i])
		}
		if kib == sizes[len(sizes)-1] {
			l.report.compare(fmt.Sprintf("CPU of a message of %d KiB", kib), "µs", sample{per[0]}, sample{per[1]}, goal{})
		}
	}
	return nil
}

// growConnections holds up to 17,000 idle connections, the most for a node that may
// open 20,000 files.
func growConnections(ctx context.Context, l *lab) error {
	const chart, x, y = "Memory of an idle connection by connections", "connections", "KB each"
	for _, n := range pick(l, []int{1000, 5000, 10_000, 17_000}, []int{200}) {
		held, err := idleMemory(ctx, l, n)
		if err != nil {
			return err
		}
		lean, err := leanMemory(ctx, l, n)
		if err != nil {
			return err
		}
		l.report.point(chart, "Conclave, registered", x, y, false, float64(n), held.perConn/1024)
		l.report.point(chart, "lean gorilla server", x, y, false, float64(n), lean/1024)
	}
	return nil
}

// growNodes relays over 1 to 4 nodes.
func growNodes(ctx context.Context, l *lab) error {
	const chart, x, y = "Cost of a relayed message by nodes", "nodes", "CPU of nodes and Redis, µs"
	for n := 1; n <= pick(l, 4, 2); n++ {
		traffic, err := newConclaveLanes(ctx, l, n, relayPairs, relaySize)
		if err != nil {
			return err
		}
		load, err := traffic.run(ctx, l, relayInFlight, l.measured(3*time.Second, 500*time.Millisecond))
		traffic.close()
		if err != nil {
			return err
		}
		l.report.point(chart, "Conclave", x, y, false, float64(n), load.perMessage(load.cpu.sum()))
		l.report.note(fmt.Sprintf("CPU of a 1 KiB message, %d nodes", n), "µs", sample{load.perMessage(load.cpu.sum())}, goal{})
	}
	return nil
}

// growHistory compares a scripted signing on a Redis with many sessions and keys
// with one on an empty Redis: nothing may grow with history.
func growHistory(ctx context.Context, l *lab) error {
	sessions, keys := pick(l, 100_000, 2000), pick(l, 10_000, 200)
	var with, without sample
	for range pick(l, 3, 1) {
		cost, err := l.scripted(ctx, 16, sessionNodes, nil)
		if err != nil {
			return err
		}
		without.add(cost)
		cost, err = l.scripted(ctx, 16, sessionNodes, func(c *clusterOf, g *groups) error { return c.age(ctx, g, sessions, keys) })
		if err != nil {
			return err
		}
		with.add(cost)
	}
	l.report.compare(fmt.Sprintf("CPU of a signing after %d sessions and %d keys, beside none", sessions, keys), "ms", with, without, goal{atMost: 1.15})
	return nil
}

// age gives the groups a history: copies of their sessions and keys, all listed with
// their users.
func (c *clusterOf) age(ctx context.Context, g *groups, sessions, keys int) error {
	rdb := c.lab.redis
	for k, part := range []struct {
		name  string
		index string
		total int
	}{{"session", "sessions", sessions}, {"key", "keys", keys}} {
		for i, one := range g.list {
			index := func(user string) string { return c.prefix + "index:{" + user + "}:" + part.index }
			ids, err := rdb.ZRange(ctx, index(one.asks.user), 0, 0).Result()
			if err != nil || len(ids) == 0 {
				return errors.Join(err, errors.New("a group has no history to copy"))
			}
			record, err := rdb.HGetAll(ctx, c.prefix+part.name+":{"+ids[0]+"}").Result()
			if err != nil {
				return err
			}
			for done := 0; done < part.total/len(g.list); done += 100 {
				_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
					for n := done; n < done+100; n++ {
						id := fmt.Sprintf("old-%d-%d-%d", k, i, n)
						p.HSet(ctx, c.prefix+part.name+":{"+id+"}", record)
						for _, user := range append([]string{one.asks.user}, one.users...) {
							p.ZAdd(ctx, index(user), redis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli() + int64(n)), Member: id})
						}
					}
					return nil
				})
				if err != nil {
					return fmt.Errorf("write history: %w", err)
				}
			}
		}
	}
	return c.lab.redisRests(ctx)
}
