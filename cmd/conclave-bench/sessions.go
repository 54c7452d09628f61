package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const sessionNodes = 3

// sessions measures the servers' cost of a signing: groups of a coordinator and
// three participants who speak the seed's protocol (no session_id, no ack) and whose
// signatures come from an unshared key, so that no MPC is computed.
func sessions(ctx context.Context, l *lab) error {
	c, err := l.cluster(ctx, sessionNodes)
	if err != nil {
		return err
	}
	defer c.close()
	groups, err := c.groups(ctx, pick(l, 64, 8))
	if err != nil {
		return err
	}
	defer groups.close()
	window := l.measured(5*time.Second, time.Second)
	if _, err := groups.run(ctx, l, window/2, 0); err != nil { // caches, connections
		return err
	}
	var perCPU, cpuMS, redisMS, top sample
	for range pick(l, 5, 1) {
		done, err := groups.run(ctx, l, window, 0)
		if err != nil {
			return err
		}
		perCPU.add(float64(len(done.times)) / done.cpu.sum().Seconds())
		cpuMS.add(milliseconds(done.cpu.sum()) / float64(len(done.times)))
		redisMS.add(milliseconds(done.cpu.redis) / float64(len(done.times)))
		top.add(float64(len(done.times)) / done.took.Seconds())
	}
	half, err := groups.run(ctx, l, l.measured(20*time.Second, time.Second), top.quantile(0.5)/2)
	if err != nil {
		return err
	}
	calls, err := groups.commands(ctx, l)
	if err != nil {
		return err
	}
	l.report.note("signings a CPU-second of nodes and Redis", "/s", perCPU, goal{})
	l.report.note("CPU of nodes and Redis a signing", "ms", cpuMS, goal{})
	l.report.note("of that, Redis", "ms", redisMS, goal{})
	l.report.note("commands to Redis a signing", "", sample{calls}, goal{})
	l.report.note(fmt.Sprintf("signings a second, %d at once", len(groups.list)), "/s", top, goal{})
	l.report.note("time of a signing at half of that, median", "ms", sample{half.times.quantile(0.5)}, goal{})
	l.report.note("the same, 99th percentile", "ms", sample{half.times.quantile(0.99)}, goal{})
	return nil
}

// group is a coordinator with the participants of one key.
type group struct {
	key       string
	users     []string
	private   *secp256k1.PrivateKey
	address   string
	asks      *speaker
	holds     []*speaker
	confirmed chan wire.KeygenConfirm
	signed    chan wire.SignComplete
	next      int
}

// groups are all groups of a cluster.
type groups struct {
	list      []*group
	processes []*process
}

func (g *groups) close() {
	for _, one := range g.list {
		_ = closeAll(append(one.holds, one.asks)) // an earlier failure has shown in the measurement
	}
}

// groups connects n groups and lets each generate its key.
func (c *clusterOf) groups(ctx context.Context, n int) (*groups, error) {
	g := &groups{list: make([]*group, n), processes: c.nodes}
	return g, each(n, func(i int) (err error) {
		g.list[i], err = c.group(ctx, i)
		return err
	})
}

func (c *clusterOf) group(ctx context.Context, i int) (*group, error) {
	g := &group{
		key:       fmt.Sprintf("key-%d", i),
		confirmed: make(chan wire.KeygenConfirm, 1), signed: make(chan wire.SignComplete, 1),
	}
	var err error
	if g.private, err = secp256k1.GeneratePrivateKey(); err != nil {
		return nil, err
	}
	if g.address, err = pubkey.Secp256k1.Address(g.private.PubKey().SerializeCompressed()); err != nil {
		return nil, err
	}
	g.asks, err = c.speak(ctx, i, fmt.Sprintf("asks-%d", i), wire.RoleCoordinator, false, g.told)
	if err != nil {
		return nil, err
	}
	for part := 1; part <= 3; part++ {
		user := fmt.Sprintf("holds-%d-%d", i, part)
		g.users = append(g.users, user)
		ready := make(chan *speaker, 1)
		s, err := c.speak(ctx, i+part, user, wire.RoleParticipant, false, func(h *wire.Message) {
			s := <-ready
			ready <- s
			g.asked(s, part, h)
		})
		if err != nil {
			return nil, err
		}
		ready <- s
		g.holds = append(g.holds, s)
	}
	err = g.asks.send("", &wire.KeygenRequest{KeyID: g.key, Threshold: 2, TotalParts: 3, Participants: g.users})
	if err != nil {
		return nil, err
	}
	return g, await(ctx, g.confirmed, "a scripted key generation did not end")
}

// told handles the coordinator's messages.
func (g *group) told(h *wire.Message) {
	switch h.Type {
	case wire.TypeKeygenConfirm:
		var p wire.KeygenConfirm
		_ = json.Unmarshal(h.Payload, &p)
		g.confirmed <- p
	case wire.TypeSignComplete:
		var p wire.SignComplete
		_ = json.Unmarshal(h.Payload, &p)
		g.signed <- p
	}
}

// asked handles a participant's messages. A failure to send shows as a session that
// does not end.
func (g *group) asked(s *speaker, part int, h *wire.Message) {
	yes := true
	switch h.Type {
	case wire.TypeKeygenInvite:
		_ = s.send("", &wire.KeygenResponse{KeyID: g.key, PartIndex: part, Response: &yes})
	case wire.TypeKeygenParams:
		_ = s.send("", &wire.KeygenComplete{KeyID: g.key, PartIndex: part, AccountAddr: g.address, ShareJSON: `{"share":"none"}`})
	case wire.TypeSignInvite:
		_ = s.send("", &wire.SignResponse{KeyID: g.key, PartIndex: part, Response: &yes})
	case wire.TypeSignParams:
		var p wire.SignParams
		if json.Unmarshal(h.Payload, &p) == nil {
			_ = s.send("", &wire.SignResult{KeyID: g.key, PartIndex: part, Signature: g.signature(p.Data)})
		}
	}
}

// signature signs data with the default hash of this curve.
func (g *group) signature(data string) string {
	digest, _, err := pubkey.Digest(pubkey.Secp256k1, data, "")
	if err != nil {
		return ""
	}
	compact := ecdsa.SignCompact(g.private, digest, false)
	return pubkey.Encode(append(compact[1:], compact[0]))
}

// sign requests one signature and waits for it.
func (g *group) sign(ctx context.Context) (time.Duration, error) {
	g.next++
	begun := time.Now()
	err := g.asks.send("", &wire.SignRequest{
		KeyID: g.key, Data: fmt.Sprintf("payment %d", g.next), AccountAddr: g.address, Participants: g.users,
	})
	if err != nil {
		return 0, err
	}
	timeout := time.NewTimer(answerWithin)
	defer timeout.Stop()
	select {
	case got := <-g.signed:
		if got.Status != wire.StatusSuccess {
			return 0, fmt.Errorf("a scripted signing ended as %s: %s", got.Status, got.Reason)
		}
		return time.Since(begun), nil
	case <-timeout.C:
		return 0, errors.New("a scripted signing did not end")
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// signings are the results of one measurement.
type signings struct {
	times sample // of each, in ms
	took  time.Duration
	cpu   cpu
}

// run lets every group sign for d: one signing after the other, or, with a rate
// above 0, begun at that rate by the groups that are free.
func (g *groups) run(ctx context.Context, l *lab, d time.Duration, perSecond float64) (signings, error) {
	before, err := l.used(ctx, g.processes)
	if err != nil {
		return signings{}, err
	}
	limit := rate.NewLimiter(rate.Inf, 1)
	if perSecond > 0 {
		limit = rate.NewLimiter(rate.Limit(perSecond), 1)
	}
	begun := time.Now()
	during, cancel := context.WithDeadline(ctx, begun.Add(d))
	defer cancel()
	times := make([]sample, len(g.list))
	errs := make([]error, len(g.list))
	var all sync.WaitGroup
	for i, one := range g.list {
		all.Go(func() {
			for limit.Wait(during) == nil && during.Err() == nil {
				took, err := one.sign(ctx)
				if err != nil {
					errs[i] = err
					return
				}
				times[i].addTime(took)
			}
		})
	}
	all.Wait()
	done := signings{took: time.Since(begun)}
	for _, t := range times {
		done.times = append(done.times, t...)
	}
	if err := errors.Join(errs...); err != nil {
		return done, err
	}
	if len(done.times) == 0 {
		return done, errors.New("no signing ended in time")
	}
	after, err := l.used(ctx, g.processes)
	done.cpu = after.since(before)
	return done, err
}
