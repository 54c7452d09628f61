package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	relayPairs    = 64
	relayInFlight = 4
	relayNodes    = 2
	relaySize     = 1 << 10
	answerWithin  = 30 * time.Second // for one message; after that it counts as lost
)

// relay compares the cost of a message from a user of one node to a user of another
// with that over the floor.
func relay(ctx context.Context, l *lab) error {
	ours, err := newConclaveLanes(ctx, l, relayNodes, relayPairs, relaySize)
	if err != nil {
		return err
	}
	defer ours.close()
	floor, err := newBareLanes(ctx, l, relayPairs, relaySize)
	if err != nil {
		return err
	}
	defer floor.close()

	window := l.measured(3*time.Second, 500*time.Millisecond)
	var perMessage, basePer, redisPer, baseRedis, rate, baseRate sample
	for range pick(l, 7, 1) {
		for _, side := range []struct {
			traffic              *traffic
			per, perRedis, rates *sample
		}{{floor, &basePer, &baseRedis, &baseRate}, {ours, &perMessage, &redisPer, &rate}} {
			load, err := side.traffic.run(ctx, l, relayInFlight, window)
			if err != nil {
				return err
			}
			side.per.add(load.perMessage(load.cpu.sum()))
			side.perRedis.add(load.perMessage(load.cpu.redis))
			side.rates.add(load.rate())
		}
	}
	l.report.compare("CPU of nodes and Redis a message", "µs", perMessage, basePer, goal{atMost: 1.5})
	l.report.compare("of that, Redis", "µs", redisPer, baseRedis, goal{})
	l.report.compare(fmt.Sprintf("messages a second, %d pairs, %d in flight", relayPairs, relayInFlight), "/s", rate, baseRate, goal{})
	return loneMessages(ctx, l, ours, floor)
}

// loneMessages compares the latency of a single message on an otherwise idle system.
func loneMessages(ctx context.Context, l *lab, ours, floor *traffic) error {
	var lone, baseLone sample
	for range pick(l, 10, 2) {
		for _, side := range []struct {
			traffic *traffic
			times   *sample
		}{{floor, &baseLone}, {ours, &lone}} {
			for range pick(l, 100, 20) {
				took, err := side.traffic.lone(ctx)
				if err != nil {
					return err
				}
				side.times.add(float64(took) / float64(time.Microsecond))
			}
		}
	}
	l.report.compare("one message on its own, sent to received", "µs", lone, baseLone, goal{atMost: 1.3})
	l.report.compare("the same, 99th percentile", "µs", sample{lone.quantile(0.99)}, sample{baseLone.quantile(0.99)}, goal{})
	return nil
}

// lane carries messages from one user to another.
type lane struct {
	send     func(id string) error
	room     chan struct{} // one slot for each message that may be unconfirmed
	arrived  chan struct{} // of a lone message
	received atomic.Int64
	next     int
}

func newLane() *lane {
	return &lane{room: make(chan struct{}, 1<<10), arrived: make(chan struct{}, 1)}
}

// confirmed is called when a message is durable.
func (n *lane) confirmed() {
	select {
	case n.room <- struct{}{}:
	default:
	}
}

// came is called when a message has reached its recipient.
func (n *lane) came() {
	n.received.Add(1)
	select {
	case n.arrived <- struct{}{}:
	default:
	}
}

// drain discards events of earlier measurements.
func (n *lane) drain() {
	for len(n.room) > 0 {
		<-n.room
	}
	for len(n.arrived) > 0 {
		<-n.arrived
	}
}

func (n *lane) post() error {
	n.next++
	return n.send(strconv.Itoa(n.next))
}

// traffic is many lanes over one system.
type traffic struct {
	lanes     []*lane
	processes []*process
	close     func()
}

// load is a system's work in one measurement.
type load struct {
	messages int64
	took     time.Duration
	cpu      cpu
}

// perMessage returns a share of d in µs.
func (r load) perMessage(d time.Duration) float64 {
	return float64(d) / float64(time.Microsecond) / float64(max(r.messages, 1))
}

func (r load) rate() float64 { return float64(r.messages) / r.took.Seconds() }

// run keeps all lanes busy for d.
func (t *traffic) run(ctx context.Context, l *lab, inFlight int, d time.Duration) (load, error) {
	before, err := l.used(ctx, t.processes)
	if err != nil {
		return load{}, err
	}
	count := func() (sum int64) {
		for _, n := range t.lanes {
			sum += n.received.Load()
		}
		return sum
	}
	was, begun := count(), time.Now()
	end := begun.Add(d)
	errs := make([]error, len(t.lanes))
	var lanes sync.WaitGroup
	for i, n := range t.lanes {
		lanes.Go(func() { errs[i] = n.keepBusy(ctx, inFlight, end) })
	}
	lanes.Wait()
	if err := errors.Join(errs...); err != nil {
		return load{}, err
	}
	took := time.Since(begun)
	after, err := l.used(ctx, t.processes)
	return load{count() - was, took, after.since(before)}, err
}

func (n *lane) keepBusy(ctx context.Context, inFlight int, end time.Time) error {
	n.drain()
	out := 0
	timeout := time.NewTimer(answerWithin)
	defer timeout.Stop()
	for now := time.Now(); now.Before(end) || out > 0; now = time.Now() {
		if out < inFlight && now.Before(end) {
			if err := n.post(); err != nil {
				return err
			}
			out++
			continue
		}
		timeout.Reset(answerWithin)
		select {
		case <-n.room:
			out--
		case <-timeout.C:
			return errors.New("a message was not confirmed")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// lone sends one message over the first lane and returns how long it took to arrive.
// It waits for the confirmation too, so that nothing else is in flight.
func (t *traffic) lone(ctx context.Context) (time.Duration, error) {
	n := t.lanes[0]
	n.drain()
	begun := time.Now()
	if err := n.post(); err != nil {
		return 0, err
	}
	if err := await(ctx, n.arrived, "a message was lost"); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	return took, await(ctx, n.room, "a message was not confirmed")
}

// await waits for an event, and fails with the meaning of its absence.
func await[T any](ctx context.Context, event <-chan T, absence string) error {
	timeout := time.NewTimer(answerWithin)
	defer timeout.Stop()
	select {
	case <-event:
		return nil
	case <-timeout.C:
		return errors.New(absence)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// newConclaveLanes starts a cluster and pairs of users, each pair on two nodes and
// in a running key generation, and so allowed to send round messages.
func newConclaveLanes(ctx context.Context, l *lab, nodes, pairs, size int) (*traffic, error) {
	c, err := l.cluster(ctx, nodes)
	if err != nil {
		return nil, err
	}
	var all []*speaker
	t := &traffic{processes: c.nodes, close: func() {
		_ = closeAll(all) // an earlier failure has shown in the measurement
		c.close()
	}}
	asks, err := c.speak(ctx, 0, "asks", wire.RoleCoordinator, true, nil)
	if err != nil {
		return nil, err
	}
	all = append(all, asks)
	for i := range pairs {
		n, pair, err := c.pairLane(ctx, asks, i, size)
		all = append(all, pair...)
		if err != nil {
			t.close()
			return nil, err
		}
		t.lanes = append(t.lanes, n)
	}
	return t, nil
}

func (c *clusterOf) pairLane(ctx context.Context, asks *speaker, i, size int) (*lane, []*speaker, error) {
	n := newLane()
	key, users := fmt.Sprintf("relay-%d", i), []string{fmt.Sprintf("from-%d", i), fmt.Sprintf("to-%d", i)}
	invited, running := make(chan string, 2), make(chan wire.KeygenParams, 2)
	var pair []*speaker
	for k, user := range users {
		s, err := c.speak(ctx, i+k, user, wire.RoleParticipant, true, func(h *wire.Message) {
			switch h.Type {
			case wire.TypeKeygenInvite:
				invited <- user
			case wire.TypeKeygenParams:
				var p wire.KeygenParams
				_ = json.Unmarshal(h.Payload, &p)
				running <- p
			case wire.TypeAck:
				n.confirmed()
			case wire.TypeTSSMessage:
				n.came()
			}
		})
		if err != nil {
			return nil, pair, err
		}
		pair = append(pair, s)
	}
	err := asks.send("", &wire.KeygenRequest{KeyID: key, Threshold: 2, TotalParts: 2, Participants: users})
	if err != nil {
		return nil, pair, err
	}
	yes := true
	var params wire.KeygenParams
	for range 2 * len(users) {
		select {
		case user := <-invited:
			k := 0
			if user == users[1] {
				k = 1
			}
			err = pair[k].send("", &wire.KeygenResponse{KeyID: key, PartIndex: k + 1, Response: &yes})
		case params = <-running:
		case <-time.After(answerWithin):
			err = errors.New("a session did not begin")
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return nil, pair, err
		}
	}
	payload, err := json.Marshal(&wire.TSSMessage{
		SessionID: params.SessionID, Attempt: params.Attempt, From: 1, To: 2, Body: strings.Repeat("A", size),
	})
	n.send = func(id string) error { return pair[0].sendRaw(wire.TypeTSSMessage, id, payload) }
	return n, pair, err
}

// newBareLanes starts the floor and pairs of users on its two relays.
func newBareLanes(ctx context.Context, l *lab, pairs, size int) (*traffic, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	l.number++
	prefix := fmt.Sprintf("conclave-bench-floor-%d:", l.number)
	var sockets []*websocket.Conn
	t := &traffic{}
	t.close = func() {
		for _, ws := range sockets {
			_ = ws.Close()
		}
		for _, p := range t.processes {
			p.kill()
		}
	}
	l.ends = append(l.ends, t.close)
	var bases []string
	for i := range 2 {
		name := strconv.Itoa(i)
		p, addr, err := spawnOwn(ctx, l.dir, fmt.Sprintf("%d-bare-%d", l.number, i), "bare-relay", nil,
			"-redis", l.url, "-redis-prefix", prefix, "-node-id", name)
		if err != nil {
			return nil, err
		}
		t.processes, bases = append(t.processes, p), append(bases, "http://"+addr)
	}
	payload := strings.Repeat("A", size)
	for i := range pairs {
		n := newLane()
		to := fmt.Sprintf("to-%d", i)
		from, err := bareSocket(ctx, bases[i%2], fmt.Sprintf("from-%d", i), func(frame []byte) {
			if bytes.HasPrefix(frame, []byte("ok ")) {
				n.confirmed()
			}
		})
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, from)
		receiver, err := bareSocket(ctx, bases[(i+1)%2], to, func([]byte) { n.came() })
		if err != nil {
			return nil, err
		}
		sockets = append(sockets, receiver)
		n.send = func(id string) error {
			return from.WriteMessage(websocket.TextMessage, []byte(strconv.Itoa((i+1)%2)+" "+to+" "+id+" "+payload))
		}
		t.lanes = append(t.lanes, n)
	}
	return t, nil
}
