package cluster

import (
	"context"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

const (
	// checkBeats is the number of rounds in which every socket is checked: 10 s. A
	// round lasts Config.HeartbeatEvery.
	checkBeats = 5
	// checkLeast is the minimum number checked per round, if there are as many.
	checkLeast = 200
	// checkBatch is the number checked per pipeline.
	checkBatch = 256
)

// checks is the progress of the socket checks. Owned by watchSockets.
type checks struct {
	queue []*Membership // in order of their turn
	again []*Membership // to be checked in the next round
}

// watchSockets checks sockets until ctx ends. It has its own goroutine because the
// heartbeat must not be late.
func (n *Node) watchSockets(ctx context.Context) {
	tick := time.NewTicker(n.cfg.HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Without a lease other nodes may already act in this node's place.
		if n.registered.Load() && n.since(&n.lastBeat) <= n.cfg.LeaseTTL {
			n.checkSockets(ctx)
		}
	}
}

// checkSockets checks whether Redis still has the presences of this node's sockets,
// and whether they have messages of which they were not notified: a few per round,
// so that each is checked within checkBeats rounds, or all of them while publishing
// fails. The pump repairs any deviation: it records the presence again, finds that
// a newer socket has taken its place, or delivers. An idle socket costs one script
// of three reads, so 10,000 sockets cost 1,000 such scripts a second.
func (n *Node) checkSockets(ctx context.Context) {
	n.mu.Lock()
	if len(n.checks.queue) == 0 {
		n.checks.queue = n.membersLocked()
	}
	turn := max(checkLeast, (len(n.conns)+checkBeats-1)/checkBeats) + len(n.checks.again)
	n.mu.Unlock()
	n.checks.queue = append(n.checks.again, n.checks.queue...)
	n.checks.again = nil
	if n.mute.Load() {
		turn = len(n.checks.queue)
	}
	begun := time.Now()
	for turn > 0 && len(n.checks.queue) > 0 && time.Since(begun) < n.cfg.HeartbeatEvery/2 {
		some := n.checks.queue[:min(turn, checkBatch, len(n.checks.queue))]
		n.checks.queue = n.checks.queue[len(some):]
		if err := n.checkSome(ctx, some); err != nil {
			n.log.Warn().Err(err).Msg("sockets not checked")
			n.checks.queue = append(n.checks.queue, some...) // to the end: one server of several may hang
			return
		}
		turn -= len(some)
	}
}

// checkSome checks members in one pipeline. It returns Redis's error for one of
// them; on Redis Cluster the others may have been checked.
func (n *Node) checkSome(ctx context.Context, members []*Membership) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HeartbeatEvery/2)
	defer cancel()
	var started []*Membership
	var calls []*redisx.Call
	for _, m := range members {
		if m.isStarted() {
			started = append(started, m)
			calls = append(calls, checkScript.Call([]string{n.keys.presence(m.member), n.keys.mailbox(m.member)}, m.conn, m.at))
		}
	}
	redisx.RunCalls(ctx, n.rdb, false, calls) // each call has its own error
	var failed error
	for i, m := range started {
		reply, err := calls[i].Slice()
		if err != nil || len(reply) != 2 {
			failed = err
			continue
		}
		owner, _ := reply[0].(int64)
		newest, err := parseSeq(reply[1])
		wake, again := m.unread(newest, n.mute.Load())
		if err != nil || owner != ownedByThis || wake {
			m.wake()
		} else if again {
			n.checks.again = append(n.checks.again, m)
		}
	}
	return failed
}

// isStarted reports whether Start was called and the membership has not ended:
// Redis need not know a connection that is still joining.
func (m *Membership) isStarted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase == level || m.phase == taking || m.phase == behind
}

// look is the result of a check of a mailbox and its socket.
type look struct {
	newest, offered uint64
	woken           bool
}

// unread reports whether to wake the socket of a mailbox whose newest seq is this,
// 0 for an empty one, or to check it again soon: a recent message may still be on
// its way. For one difference it wakes the socket once.
func (m *Membership) unread(newest uint64, unheard bool) (wake, again bool) {
	offered, was := m.offered.Load(), m.looked
	if newest == 0 || newest == offered {
		m.looked = look{}
		return false, false
	}
	m.looked = look{newest, offered, true}
	if unheard || was.newest != 0 && was.offered == offered {
		return !was.woken || was.newest != newest, false
	}
	m.looked.woken = false
	return false, true
}

// setMute records that messages are not published, and why. Until the node receives
// its own echo again (see tellSelf), all sockets are checked in each round.
func (n *Node) setMute(why string) {
	if n.mute.CompareAndSwap(false, true) {
		n.log.Error().Str("reason", why).Msg("redis takes messages and fails then: they are found a little later")
	}
}
