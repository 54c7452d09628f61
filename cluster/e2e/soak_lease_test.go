package e2e_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestNodeWithoutRedisLetsGo cuts one node off from Redis, and not from its users,
// for longer than its lease: it closes their sockets, and they sign through the
// others while it is still cut off.
func TestNodeWithoutRedisLetsGo(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("faults against real processes are left out with -short")
	}
	a := newArena(t, soakSeed(t), 3, 2)
	a.load(1, 50*time.Millisecond)
	a.more(3)
	g, r := a.groups[0], rand.New(rand.NewPCG(a.seed, 7))
	var n *arenaNode
	eventually(t, "a node has a participant", func() bool {
		i := slices.IndexFunc(a.nodes, func(n *arenaNode) bool { return *g.members[0].home.Load() == n.base })
		if i >= 0 {
			n = a.nodes[i]
		}
		return n != nil
	})
	n.link.suffer(linkFault{cut: true})
	cut := time.Now()
	// The same node may send reconnecting clients away a few times.
	eventually(t, "the users of the cut node are elsewhere", func() bool {
		return len(n.away(a.groups[0])) == 0 && len(n.away(a.groups[1])) == 0
	})
	t.Logf("its users were elsewhere after %s", time.Since(cut).Round(time.Millisecond))
	signed := false
	for range 3 { // one may have a whim
		signed = signed || g.sign(a.life, r, g.users[:2]...)
	}
	if !signed {
		t.Error("no signature while a node is cut off")
	}
	if took := time.Since(cut); took > 15*time.Second {
		t.Errorf("a signature after %s, want the lease of 6s and little more", took)
	}
	n.link.suffer(linkFault{})
	n.healthy()
	a.more(3)
	report(t, a, a.settle())
}
