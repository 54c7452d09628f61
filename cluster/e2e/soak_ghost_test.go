package e2e_test

import (
	"crypto/sha1"
	"fmt"
	"os"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestLateRegister has a client give up a node that does not answer its register and
// go to another; the first connection reaches Redis only then. It must not take the
// place of the second.
func TestLateRegister(t *testing.T) {
	t.Parallel()
	needRedis(t)
	a := newArena(t, soakSeed(t), 2, 0)
	script := ""
	for _, file := range []string{"generations.lua", "mailbox.lua", "join.lua"} { // as scripts.go puts them together
		source, err := os.ReadFile("../" + file)
		if err != nil {
			t.Fatal(err)
		}
		script += string(source)
	}
	cut, other := a.nodes[0], a.nodes[1]
	first := a.c.client("dora", wire.RoleParticipant).connect(cut.process()) // the script is known to Redis now
	first.drop()
	a.calm("nobody is present", func() bool { return len(a.keys("presence:*")) == 0 })

	cut.link.suffer(linkFault{holdAt: fmt.Sprintf("%x", sha1.Sum([]byte(script)))})
	ghost := a.c.client("dora", wire.RoleParticipant)
	ghost.dial(cut.process())
	ghost.send("register", object{"user_id": ghost.user, "role": ghost.role})
	eventually(t, "the join is held", cut.link.holding)
	ghost.expectError(wire.CodeUnavailable)
	second := a.c.client("dora", wire.RoleParticipant).connect(other.process())
	cut.link.suffer(linkFault{})
	cut.healthy()

	// All held requests have reached Redis before the node was healthy again.
	second.send("ping", object{})
	second.expect("pong")
	if where := a.rdb.HGet(t.Context(), a.c.prefix+"presence:{dora}", "node").Val(); where != other.id {
		t.Errorf("dora is on %q, want %s", where, other.id)
	}
	second.mu.Lock()
	defer second.mu.Unlock()
	if second.closed != nil {
		t.Errorf("the newer socket was closed: %v", second.closed)
	}
}
