package e2e_test

import (
	"context"
	"crypto/sha1"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// fault is a failure or disturbance of an arena.
type fault struct {
	name string
	// hurt causes it, and returns when it is over; false means that another fault
	// was in the way and nothing was done.
	hurt func(a *arena, r *rand.Rand) bool
	// promptly is how long a signature may take at most when this fault is the
	// only one; zero where it must wait for the fault to end.
	promptly time.Duration
	// act means that TestMatrix has it as an act too.
	act bool
}

// soon is more than anything takes that waits for no lease and no deadline, unless
// the machine is overloaded: see TestFaults.
const soon = 10 * time.Second

// faults are those of the long soak, and each has a short test of its own.
var faults = []fault{
	{"kill -9 of a node", killNode, soon, false},
	{"SIGTERM of each node in turn", rollingRestart, soon, false},
	{"node stopped for longer than its leases", stopNode(7*time.Second, 9*time.Second), 0, false},
	{"node stopped for longer than a lock", stopNode(1200*time.Millisecond, 3*time.Second), soon, false},
	{"clients dropped", dropClients, soon, false},
	{"two sockets of one user", raceSockets, soon, false},
	{"client that does not read", deafClient, soon, false},
	{"old requests replayed", replayRequests, soon, false},
	{"Redis killed", killRedis, 0, false},
	{"Redis frozen", freezeRedis, 0, false},
	{"link cut", ailLink(linkFault{cut: true}, time.Second, 8*time.Second), 0, false},
	{"link slow", ailLink(linkFault{delay: 60 * time.Millisecond}, 3*time.Second, 6*time.Second), soon, false},
	{"link losing", ailLink(linkFault{lose: 0.03, delay: time.Millisecond}, 3*time.Second, 6*time.Second), 0, false},
	{"link held, then released", ailLink(linkFault{hold: true}, 1200*time.Millisecond, 8*time.Second), 0, false},
	{"link held in the middle of a commit", staleCommit, 0, false},
	{"commits lost", loseCommits, 0, false},
	{"pub/sub dropped", dropPubSub, soon, false},
	{"switchover behind one address", switchMaster, 0, true},
	{"presence lost", forgetPresence, 0, true},
	{"subscription deafened", ailLink(linkFault{deaf: true}, time.Second, 8*time.Second), 0, true},
	{"connections refused", turnAway, 0, true},
	{"rights withdrawn", withdrawRights, 0, true},
	{"maxmemory reached", fillRedis, 0, true},
	{"scripts flushed", forgetScripts, 0, true},
	{"clock of a node 300 s behind", ailLink(linkFault{clock: 300 * time.Second}, 3*time.Second, 8*time.Second), 0, true},
	{"clock of a node 300 s ahead", ailLink(linkFault{clock: -300 * time.Second}, 3*time.Second, 8*time.Second), 0, true},
}

// between returns a time from the shorter to the longer, in a brief arena near the
// shorter.
func (a *arena) between(r *rand.Rand, least, most time.Duration) time.Duration {
	if a.brief {
		most = least + (most-least)/5
	}
	return least + time.Duration(r.Int64N(int64(most-least)+1))
}

// someNode takes a node without a fault, nil if none can be spared: one is always
// left alone.
func (a *arena) someNode(r *rand.Rand) *arenaNode {
	var mine *arenaNode
	spare := 0
	for _, i := range r.Perm(len(a.nodes)) {
		n := a.nodes[i]
		if !n.turn.TryLock() {
			continue
		}
		spare++
		if mine == nil {
			mine = n
		} else {
			n.turn.Unlock()
		}
	}
	if mine != nil && spare == 1 && len(a.nodes) > 1 {
		mine.turn.Unlock()
		return nil
	}
	return mine
}

// killNode kills a node, has users of it and of others sign at once, and starts it
// again after a while.
func killNode(a *arena, r *rand.Rand) bool {
	n := a.someNode(r)
	if n == nil {
		return false
	}
	defer n.turn.Unlock()
	undisturbed := a.redisTurn.TryLock() // otherwise it would measure another fault
	away := map[*group][]string{}
	for _, g := range a.groups {
		away[g] = n.away(g)
	}
	n.process().kill()
	a.signAgain(r, away, undisturbed)
	if undisturbed {
		a.redisTurn.Unlock()
	}
	waitFor(a.life, a.between(r, 0, 2*time.Second))
	n.revive()
	n.healthy()
	return true
}

// rollingRestart is a deployment: each node in turn drains and comes back.
func rollingRestart(a *arena, _ *rand.Rand) bool {
	for i, n := range a.nodes {
		if !n.turn.TryLock() {
			return i > 0
		}
		if err := n.process().terminate(); err != nil {
			a.t.Errorf("%s after SIGTERM: %v, want exit 0", n.id, err)
		}
		n.revive()
		n.healthy()
		n.turn.Unlock()
	}
	return true
}

// stopNode suspends a node and then resumes it.
func stopNode(least, most time.Duration) func(*arena, *rand.Rand) bool {
	return func(a *arena, r *rand.Rand) bool {
		n := a.someNode(r)
		if n == nil {
			return false
		}
		defer n.turn.Unlock()
		n.signal(syscall.SIGSTOP)
		waitFor(a.life, a.between(r, least, most))
		n.signal(syscall.SIGCONT)
		n.healthy()
		return true
	}
}

func (a *arena) someSpeaker(r *rand.Rand) *speaker {
	all := a.groups[r.IntN(len(a.groups))].speakers()
	return all[r.IntN(len(all))]
}

// dropClients cuts sockets without a close frame; their users reconnect to any node.
func dropClients(a *arena, r *rand.Rand) bool {
	for range 1 + r.IntN(2*len(a.groups)) {
		a.someSpeaker(r).drop()
		waitFor(a.life, a.between(r, 0, 100*time.Millisecond))
	}
	return true
}

// raceSockets has one user connect several times at once. One socket is left.
func raceSockets(a *arena, r *rand.Rand) bool {
	s := a.someSpeaker(r)
	for range 2 + r.IntN(4) {
		s.rival(a.life)
		waitFor(a.life, a.between(r, 0, 30*time.Millisecond))
	}
	deadline := time.Now().Add(patience) // Redis may be frozen
	for s.sockets() > 1 && a.life.Err() == nil {
		if time.Now().After(deadline) {
			a.t.Errorf("%s has %d sockets", s.user, s.sockets())
			break
		}
		waitFor(a.life, 10*time.Millisecond)
	}
	return true
}

// replayRequests has coordinators repeat requests that already have an outcome.
func replayRequests(a *arena, r *rand.Rand) bool {
	g := a.groups[r.IntN(len(a.groups))]
	g.mu.Lock()
	ids := slices.Sorted(maps.Keys(g.asked))
	again := map[string]wire.Payload{}
	for range min(5, len(ids)) {
		id := ids[r.IntN(len(ids))]
		again[id] = g.asked[id]
	}
	g.mu.Unlock()
	for id, p := range again {
		g.asks.replay(id, p)
	}
	return true
}

// deafClient has one user stop reading.
func deafClient(a *arena, r *rand.Rand) bool {
	s := a.someSpeaker(r)
	again := make(chan struct{})
	if !s.deaf.CompareAndSwap(nil, &again) {
		return false
	}
	waitFor(a.life, a.between(r, time.Second, 4*time.Second))
	s.deaf.Store(nil)
	close(again)
	return true
}

// killRedis kills the server, which comes back with its append-only file.
func killRedis(a *arena, r *rand.Rand) bool {
	if !a.redisTurn.TryLock() {
		return false
	}
	defer a.redisTurn.Unlock()
	a.redis.Kill()
	waitFor(a.life, a.between(r, 0, 2*time.Second))
	a.redis.Restart(a.t)
	return true
}

// freezeRedis suspends the server for ten seconds, in a brief arena for a little
// longer than a node's lease.
func freezeRedis(a *arena, _ *rand.Rand) bool {
	if !a.redisTurn.TryLock() {
		return false
	}
	defer a.redisTurn.Unlock()
	_ = syscall.Kill(a.redis.Pid(), syscall.SIGSTOP)
	long := 10 * time.Second
	if a.brief {
		long = 7 * time.Second
	}
	waitFor(context.WithoutCancel(a.life), long)
	_ = syscall.Kill(a.redis.Pid(), syscall.SIGCONT)
	return true
}

// ailLink gives a node's link a fault for a while.
func ailLink(f linkFault, least, most time.Duration) func(*arena, *rand.Rand) bool {
	return func(a *arena, r *rand.Rand) bool {
		n := a.someNode(r)
		if n == nil {
			return false
		}
		defer n.turn.Unlock()
		n.link.suffer(f)
		waitFor(a.life, a.between(r, least, most))
		n.link.suffer(linkFault{})
		return true
	}
}

// staleCommit holds a node's link from the moment when a commit is in flight, until
// long after its lock has ended and others have taken the session over; then the
// commit arrives.
func staleCommit(a *arena, r *rand.Rand) bool {
	n := a.someNode(r)
	if n == nil {
		return false
	}
	defer n.turn.Unlock()
	n.link.suffer(linkFault{holdAt: commitScript(a.t)})
	deadline := time.Now().Add(5 * time.Second)
	for !n.link.holding() && time.Now().Before(deadline) {
		waitFor(a.life, time.Millisecond)
	}
	waitFor(a.life, a.between(r, 1500*time.Millisecond, 6*time.Second))
	n.link.suffer(linkFault{})
	return true
}

// loseCommits lets a node do everything except change a session: messages to it have
// not taken effect, and it must not say that they have.
func loseCommits(a *arena, r *rand.Rand) bool {
	return ailLink(linkFault{loseAt: commitScript(a.t)}, 2*time.Second, 4*time.Second)(a, r)
}

// commitScript is the call by which store/sessions replaces a session.
func commitScript(t *testing.T) string {
	source, err := os.ReadFile("../../cluster/store/sessions/commit.lua")
	if err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", sha1.Sum(source))
}

// dropPubSub ends every subscription, and nothing else, again and again.
func dropPubSub(a *arena, r *rand.Rand) bool {
	if !a.redisTurn.TryLock() {
		return false
	}
	defer a.redisTurn.Unlock()
	for range 20 {
		if err := a.rdb.ClientKillByFilter(a.life, "TYPE", "pubsub").Err(); err != nil && a.life.Err() == nil {
			a.t.Errorf("drop subscriptions: %v", err)
		}
		waitFor(a.life, a.between(r, 0, 60*time.Millisecond))
	}
	return true
}
