package e2e_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// moving is a party whose node is killed at one step, and which then continues
// through another node. A client does not know whether the dead node had received
// its last message, so it repeats it.
type moving struct {
	t      *testing.T
	c      *testCluster
	client *seedClient
	home   *process
	next   *process
	killAt int
	step   int
	last   func()
}

// say sends a message that is repeated after a move.
func (m *moving) say(kind string, payload object) {
	m.last = func() { m.client.send(kind, payload) }
	m.last()
}

// between is called between each two steps.
func (m *moving) between() {
	m.t.Helper()
	m.step++
	if m.step != m.killAt {
		return
	}
	m.home.kill()
	m.client.expectClosed(0)
	m.client.connect(m.next)
	if m.last != nil {
		m.last()
	}
}

// keygenSteps and signSteps are how often the flows call between.
const keygenSteps, signSteps = 7, 7

func (g *parts) movingKeygen(t *testing.T, m *moving) {
	t.Helper()
	g.request()
	m.between() // 1: the invitation may be on its way
	m.client.expect("keygen_invite")
	m.between() // 2: read, not answered
	m.say("keygen_response", object{"key_id": g.keyID, "part_index": 2, "response": true})
	m.between() // 3: answered, the others have not
	for _, i := range []int{1, 3} {
		g.p[i].expect("keygen_invite")
		g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
	}
	m.between() // 4: the parameters may be on their way
	m.client.expect("keygen_params")
	m.between() // 5: the MPC runs
	m.say("keygen_complete", object{"key_id": g.keyID, "part_index": 2, "account_addr": g.key.address, "share_json": plainShare(2)})
	m.between() // 6: reported, the others have not
	for _, i := range []int{1, 3} {
		g.p[i].expect("keygen_params")
		g.complete(i)
	}
	m.between() // 7: the outcome may be on its way
	g.confirmed(t)
}

func (g *parts) movingSign(t *testing.T, m *moving) {
	t.Helper()
	const data = "moving"
	g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": data, "account_addr": g.key.address, "participants": partNames[2:]})
	m.between()
	m.client.expect("sign_invite")
	m.between()
	m.say("sign_response", object{"key_id": g.keyID, "part_index": 2, "response": true})
	m.between()
	g.p[3].expect("sign_invite")
	g.p[3].send("sign_response", object{"key_id": g.keyID, "part_index": 3, "response": true})
	m.between()
	g.signParams(t, data, 2, "2,3")
	m.between()
	m.say("sign_result", object{"key_id": g.keyID, "part_index": 2, "signature": g.key.sign(t, data)})
	m.between()
	g.signParams(t, data, 3, "2,3")
	g.p[3].send("sign_result", object{"key_id": g.keyID, "part_index": 3, "signature": g.key.sign(t, data)})
	m.between()
	g.signed(t, data)
}

// TestNodeKilledBetweenSteps kills, with SIGKILL, the node that holds a party's
// socket between every two steps of a keygen and of a signing.
func TestNodeKilledBetweenSteps(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		for _, stay := range []*seedClient{g.coordinator, g.p[1], g.p[3]} {
			stay.connect(c.nodes[1]) // supersedes the socket on the node that will die
		}
		flow := func(killAt int) *moving {
			home := c.start()
			g.p[2].connect(home)
			return &moving{t: t, c: c, client: g.p[2], home: home, next: c.nodes[0], killAt: killAt}
		}
		for step := 1; step <= keygenSteps; step++ {
			g.keyID = fmt.Sprintf("key-killed-%d", step)
			g.movingKeygen(t, flow(step))
		}
		for step := 1; step <= signSteps; step++ {
			g.movingSign(t, flow(step))
		}
		c.endsAudited(c.nodes[0])
		if n := g.coordinator.count("keygen_confirm"); n != keygenSteps {
			t.Errorf("%d outcomes of %d keygens", n, keygenSteps)
		}
		if n := g.coordinator.count("sign_complete"); n != signSteps {
			t.Errorf("%d outcomes of %d signings", n, signSteps)
		}
	})
}

// settled waits until no session has pending work.
func (c *testCluster) settled() {
	c.t.Helper()
	eventually(c.t, "the due list is empty", func() bool {
		n, err := c.rdb.ZCard(context.Background(), c.prefix+"sessions:due").Result()
		return err == nil && n == 0
	})
}

func TestOfflineInviteeComesLater(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.p[3].drop()
		g.request()
		for i := 1; i <= 2; i++ {
			g.p[i].expect("keygen_invite")
			g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		g.p[3].connect(c.nodes[0])
		g.p[3].expect("keygen_invite")
		g.p[3].send("keygen_response", object{"key_id": g.keyID, "part_index": 3, "response": true})
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_params")
			g.complete(i)
		}
		g.confirmed(t)
	})
}

func TestCoordinatorComesBackForOutcome(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.request()
		g.p[1].expect("keygen_invite")
		g.coordinator.drop()
		for i := 1; i <= 3; i++ {
			if i > 1 {
				g.p[i].expect("keygen_invite")
			}
			g.p[i].send("keygen_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 3; i++ {
			g.p[i].expect("keygen_params")
			g.complete(i)
		}
		for i := 1; i <= 3; i++ {
			g.p[i].expect("session_ended")
		}
		g.coordinator.connect(c.nodes[1])
		g.confirmed(t)

		// The same request again: the same outcome, and nothing starts.
		g.request()
		g.confirmed(t)
		for i := 1; i <= 3; i++ {
			if n := g.p[i].count("keygen_invite"); n != 1 {
				t.Errorf("party %d was invited %d times", i, n)
			}
		}
	})
}

func TestDecline(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		everyone := object{"key_id": g.keyID, "data": "without one", "account_addr": g.key.address}
		g.coordinator.send("sign_request", everyone)
		for i := 1; i <= 3; i++ {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": i != 1})
		}
		for i := 2; i <= 3; i++ {
			g.signParams(t, "without one", i, "2,3")
		}
		g.p[3].send("sign_result", object{"key_id": g.keyID, "part_index": 3, "signature": g.key.sign(t, "without one")})
		g.signed(t, "without one")

		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "too few", "account_addr": g.key.address})
		for i := 1; i <= 2; i++ {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": false, "reason": "not today"})
		}
		got := g.coordinator.expect("sign_complete")
		if got["status"] != "rejected" || got["signature"] != "" || !strings.Contains(fmt.Sprint(got["reason"]), "not today") {
			t.Errorf("sign_complete = %v", got)
		}

		g.keyID = "declined"
		g.request()
		g.p[2].expect("keygen_invite")
		g.p[2].send("keygen_response", object{"key_id": g.keyID, "part_index": 2, "response": false})
		if got := g.coordinator.expect("keygen_confirm"); got["status"] != "rejected" {
			t.Errorf("keygen_confirm = %v", got)
		}
		// A key_id whose keygen failed may be tried again by its coordinator.
		for i := 1; i <= 3; i += 2 {
			g.p[i].expect("keygen_invite")
		}
		g.keygen(t)
	})
}

// TestSilentSignerIsReplaced has party 1 accept and then send nothing; the signing
// ends with the other two.
func TestSilentSignerIsReplaced(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, append([]string{"--sign-timeout", "1s"}, withKEK...), func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "silence", "account_addr": g.key.address})
		for i := 1; i <= 3; i++ {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 2; i <= 3; i++ {
			g.p[i].take("sign_params without part 1", func(m wire.Message) bool {
				return m.Type == wire.TypeSignParams && strings.Contains(string(m.Payload), `"participants":"2,3"`)
			})
		}
		g.p[2].send("sign_result", object{"key_id": g.keyID, "part_index": 2, "signature": g.key.sign(t, "silence")})
		g.signed(t, "silence")
	})
}

func TestDeadlineWhileAllAreAway(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, append([]string{"--invite-timeout", "1s"}, withKEK...), func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.request()
		g.p[1].expect("keygen_invite")
		g.p[1].send("keygen_response", object{"key_id": g.keyID, "part_index": 1, "response": true})
		for _, s := range []*seedClient{g.coordinator, g.p[1], g.p[2], g.p[3]} {
			s.drop()
		}
		c.settled()
		got := g.coordinator.connect(c.nodes[1]).expect("keygen_confirm")
		if got["status"] != "expired" {
			t.Errorf("keygen_confirm = %v, want expired", got)
		}
		if reason := fmt.Sprint(got["reason"]); !strings.Contains(reason, partNames[2]) || strings.Contains(reason, partNames[1]) {
			t.Errorf("reason %q should name those who did not answer", reason)
		}
	})
}

func TestOneLiveSocketPerUser(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		for _, second := range c.nodes { // on another node, and on the same
			old := c.client("dora", wire.RoleParticipant).connect(c.nodes[0])
			c.client("dora", wire.RoleParticipant).connect(second)
			old.expectClosed(wire.CloseSuperseded)
		}
	})
}

func TestSIGTERM(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		s := c.client("erin", wire.RoleParticipant).connect(c.nodes[0])
		if err := c.nodes[0].terminate(); err != nil {
			t.Errorf("after SIGTERM: %v, want exit 0", err)
		}
		s.expectClosed(websocket.CloseGoingAway)
		s.connect(c.nodes[1])
	})
}

// TestSignerGone has a signer lose its connection for good.
func TestSignerGone(t *testing.T) {
	t.Parallel()
	flags := append([]string{"--absence-grace", "1s", "--sign-timeout", "4m"}, withKEK...)
	eachCluster(t, 2, flags, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		began := time.Now()
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "gone", "account_addr": g.key.address})
		accept := func(i int) {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		accept(1)
		accept(2)
		g.p[1].expect("sign_params") // the first two to accept are the quorum
		g.p[1].drop()
		accept(3)
		for i := 2; i <= 3; i++ {
			g.p[i].take("sign_params without part 1", func(m wire.Message) bool {
				return m.Type == wire.TypeSignParams && strings.Contains(string(m.Payload), `"participants":"2,3"`)
			})
		}
		if took := time.Since(began); took > 2*time.Minute {
			t.Errorf("a signer that left was replaced after %s, by the deadline instead of its absence", took)
		}
		g.p[3].send("sign_result", object{"key_id": g.keyID, "part_index": 3, "signature": g.key.sign(t, "gone")})
		g.signed(t, "gone")
	})
}
