package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// arena is a cluster of real processes under load, with everything in reach of the
// faults: each node has its own link to a redis-server of the arena's own, which
// keeps all confirmed writes (appendfsync always), so that any loss is Conclave's.
type arena struct {
	t       *testing.T
	c       *testCluster
	redis   *redistest.RealRedis  // the master
	replica *redistest.RealRedis  // nil without; see newArenaWithReplica
	way     *link                 // of rdb, in an arena with a replica
	rdb     redis.UniversalClient // past the nodes' links
	seed    uint64
	nodes   []*arenaNode
	groups  []*group
	real    *truth // nil without
	figures *figures
	within  time.Duration // from a request to its outcome, at most

	// brief shortens faults to the time that they need to take effect.
	brief bool
	// docile means that members have no whims.
	docile bool
	// waits is as in history.
	waits bool

	redisTurn sync.Mutex // one fault of Redis at a time
	users     []*userHistory
	work      sync.WaitGroup // requests
	lives     sync.WaitGroup // speakers
	stopWork  context.CancelFunc
	life      context.Context // of the speakers
	end       context.CancelFunc
}

// arenaNode is one place in the cluster: an id, an address and a link, and the
// process that currently has them.
type arenaNode struct {
	a    *arena
	id   string
	base string
	link *link
	turn sync.Mutex // one fault at a time

	mu   sync.Mutex
	proc *process
}

// arenaFlags let sessions outlive the longest fault, but not by much.
var arenaFlags = []string{
	"--log-level", "info", "--invite-timeout", "45s", "--keygen-timeout", "45s", "--sign-timeout", "20s", "--absence-grace", "15s",
}

// newArena starts nodes and connects groups of users, each with a key.
func newArena(t *testing.T, seed uint64, nodes, groups int, flags ...string) *arena {
	t.Helper()
	a := &arena{t: t, seed: seed, figures: newFigures(), within: 90 * time.Second}
	a.redis = redistest.StartRedis(t, "--appendfsync", "always")
	a.rdb = a.redis.Client(t)
	a.populate(nodes, groups, flags...)
	return a
}

// populate starts the nodes and connects the groups.
func (a *arena) populate(nodes, groups int, flags ...string) {
	t := a.t
	t.Helper()
	a.c = newCluster(t, a.rdb, redistest.Prefix(), append(slices.Clone(arenaFlags), flags...)...)
	for range nodes {
		l := newLink(t, a.redis.Addr())
		p := a.c.start("--redis", l.url())
		a.nodes = append(a.nodes, &arenaNode{a: a, id: fmt.Sprintf("n%d", len(a.nodes)+1), base: p.base, link: l, proc: p})
	}
	a.life, a.end = context.WithCancel(context.Background())
	t.Cleanup(func() {
		a.end()
		a.lives.Wait()
		for _, n := range a.nodes {
			n.process().kill()
		}
	})
	for i := range groups {
		g := newGroup(a, i+1)
		a.groups = append(a.groups, g)
		for _, s := range g.speakers() {
			a.lives.Go(func() { s.run(a.life) })
		}
	}
	for _, g := range a.groups {
		within, cancel := context.WithTimeout(a.life, patience)
		for !g.keygen(within) && within.Err() == nil {
			continue // a member had a whim
		}
		cancel()
		if len(g.keys) == 0 {
			t.Fatalf("%s has no key to begin with", g.name)
		}
	}
}

func (a *arena) speaker(user string, role wire.Role, acks bool, take func(wire.Message, wire.Payload)) *speaker {
	past := &userHistory{user: user}
	a.users = append(a.users, past)
	return &speaker{user: user, role: role, token: a.c.token(user, role), acks: acks, bases: a.bases, take: take, past: past}
}

func (a *arena) bases() []string {
	var all []string
	for _, n := range a.nodes {
		all = append(all, n.base)
	}
	return all
}

// load begins requests: each group always has some in progress.
func (a *arena) load(workers int, think time.Duration) {
	var ctx context.Context
	ctx, a.stopWork = context.WithCancel(a.life)
	for i, g := range a.groups {
		for w := range workers {
			r := rand.New(rand.NewPCG(a.seed, uint64(i*100+w)))
			a.work.Go(func() { g.work(ctx, a.life, r, think) })
		}
	}
	if a.real != nil {
		a.real.sign(ctx)
	}
}

// think is the pause of a test's worker between two requests: with a shorter one the
// machine has no time for anything else.
func (*arena) think() time.Duration {
	return sample.Or(100*time.Millisecond, 20*time.Millisecond)
}

// more waits for that many more outcomes in each group.
func (a *arena) more(n int) {
	a.t.Helper()
	begin := a.figures.outcomes()
	deadline := time.Now().Add(a.within)
	for a.figures.outcomes() < begin+n*len(a.groups) {
		if time.Now().After(deadline) {
			a.t.Errorf("%d of %d outcomes within %s", a.figures.outcomes()-begin, n*len(a.groups), a.within)
			return
		}
		waitFor(a.life, 5*time.Millisecond)
	}
}

// settle ends the load, waits until all work is done, and checks.
func (a *arena) settle() []breach {
	a.t.Helper()
	a.stopWork()
	over := make(chan struct{})
	go func() {
		a.work.Wait()
		if a.real != nil {
			a.real.over.Wait()
		}
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(a.within + 10*time.Second): // the checker reports the missing outcomes
	}
	a.calm("every message is answered", func() bool {
		for _, g := range a.groups {
			for _, s := range g.speakers() {
				if s.unanswered() > 0 {
					return false
				}
			}
		}
		return true
	})
	a.calm("nothing is due", func() bool {
		n, err := a.rdb.ZCard(context.Background(), a.c.prefix+"sessions:due").Result()
		return err == nil && n == 0
	})
	a.calm("the mailboxes are read", func() bool {
		for _, box := range a.mailboxes() {
			if box.left > 0 {
				return false
			}
		}
		return true
	})
	unread := map[string]int{}
	for user, box := range a.mailboxes() {
		if box.left > 0 {
			unread[user] = box.left
		}
	}
	a.end()
	a.lives.Wait()
	if a.real != nil {
		a.real.crew.stop()
	}
	a.calm("nobody is present", func() bool { return len(a.keys("presence:*")) == 0 })
	// A link that held a command may have let it through when its sender had given up:
	// then the lock lasts as long as it was taken for.
	a.calm("no lock is held", func() bool { return len(a.keys("lock:*")) == 0 })
	stored := a.stored()
	if a.real != nil {
		a.real.close(stored)
	}
	breaches := check(&history{users: a.users, stored: stored, within: a.within, waits: a.waits})
	for user, left := range unread {
		breaches = append(breaches, breach{deaf, "a socket was left deaf", fmt.Sprintf("%s: %d messages wait", user, left)})
	}
	return breaches
}

// calm waits; the checker reports a failure to become calm.
func (a *arena) calm(what string, ok func() bool) {
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			a.t.Logf("not within %s: %s", patience, what)
			return
		}
		waitFor(context.Background(), 10*time.Millisecond)
	}
}

func (n *arenaNode) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// revive starts the node again under its id and address, with retries: without Redis
// a node does not start.
func (n *arenaNode) revive() {
	for n.a.life.Err() == nil {
		p, err := n.a.c.launch(n.id, "--redis", n.link.url(), "--listen", strings.TrimPrefix(n.base, "http://"))
		if err == nil {
			n.mu.Lock()
			n.proc = p
			n.mu.Unlock()
			return
		}
		waitFor(n.a.life, 100*time.Millisecond)
	}
}

// healthy waits until the node would get clients from a load balancer.
func (n *arenaNode) healthy() {
	for n.a.life.Err() == nil && n.process().status("/readyz") != http.StatusOK {
		waitFor(n.a.life, 20*time.Millisecond)
	}
}

func (n *arenaNode) signal(sig syscall.Signal) { _ = n.process().cmd.Process.Signal(sig) }

// away returns those of a group's users whose newest socket is on the node.
func (n *arenaNode) away(g *group) []string {
	var users []string
	for _, s := range g.speakers() {
		if home := s.home.Load(); home != nil && *home == n.base {
			users = append(users, s.user)
		}
	}
	return users
}

// needRedis skips a test if redis-server is not installed.
func needRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil && !redistest.HasReal() {
		t.Skip("redis-server is not on the PATH")
	}
}
