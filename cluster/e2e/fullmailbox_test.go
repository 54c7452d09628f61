package e2e_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// TestFullMailboxOfAHolder fills the mailbox of an absent holder: two others sign
// without it, at once, and no culprit is named; a keygen, which needs it, fails and
// says why. Once it is back it signs again.
func TestFullMailboxOfAHolder(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		if redistest.HasReal() && strings.HasSuffix(t.Name(), "miniredis") {
			t.Skip("10,000 messages take miniredis minutes")
		}
		c := newCluster(t, rdb, prefix, withKEK...)
		c.start()
		c.start()
		g := gatherParts(t, c)
		g.keygen(t)
		carol := partNames[3]
		g.p[3].drop()
		filler, err := cluster.New(cluster.Config{Redis: c.rdb, Prefix: c.prefix, NodeID: "filler"})
		if err != nil {
			t.Fatal(err)
		}
		msgs := make([]cluster.Message, 10_100) // cluster.Config.MailboxMax is 10,000
		for i := range msgs {
			msgs[i] = cluster.Message{To: carol, Payload: []byte(`{"type":"pong","payload":{}}`)}
		}
		if err := filler.Send(context.Background(), msgs...); err == nil {
			t.Fatal("the mailbox has room for more than it should")
		}

		all := object{"key_id": g.keyID, "data": "without carol", "account_addr": g.key.address, "participants": partNames[1:]}
		begun := time.Now()
		g.coordinator.send("sign_request", all)
		session, _ := g.p[1].expect("sign_invite")["session_id"].(string)
		g.p[2].expect("sign_invite")
		eventually(t, "the session has heard of it", func() bool { // people take their time
			return c.rdb.HExists(context.Background(), c.prefix+"session:{"+session+"}", "no_room:3").Val()
		})
		for i := 1; i <= 2; i++ {
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 2; i++ {
			g.signParams(t, "without carol", i, "1,2")
			g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, "without carol")})
		}
		got := g.coordinator.expect("sign_complete")
		if got["status"] != "success" || got["culprits"] != nil {
			t.Errorf("sign_complete = %v", got)
		}
		t.Logf("signed after %s", time.Since(begun))

		g.coordinator.send("keygen_request", object{"key_id": "another", "threshold": 2, "total_parts": 3, "participants": partNames[1:]})
		got = g.coordinator.expect("keygen_confirm")
		if got["status"] != "failed" || got["reason"] != "the mailbox of "+carol+" is full" || got["culprits"] != nil {
			t.Errorf("keygen_confirm = %v", got)
		}
		for i := 1; i <= 2; i++ {
			g.p[i].expect("keygen_invite")
		}

		g.p[3].connect(c.nodes[0])
		eventually(t, "carol's mailbox has been read", func() bool {
			return c.rdb.XLen(context.Background(), c.prefix+"mailbox:{"+carol+"}").Val() < 100
		})
		g.sign(t, "with carol again", 1, 3)
	})
}
