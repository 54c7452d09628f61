package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestBackendSigns has a backend that never opens a WebSocket make a key and sign
// with it, by one HTTP call each, with participants that automatically approve
// requests signed by its pinned identity, and nothing else; another watches.
func TestBackendSigns(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, nil, func(t *testing.T, c *testCluster) {
		id := partytest.Identity(t)
		backend := &real{user: "backend", store: new(participant.MemStore)}
		c.introduce(backend, wire.RoleCoordinator, id.Public().Fingerprint())
		holders := []string{"bob", "carol", "dave"}
		for i, user := range holders {
			c.join(user, wire.RoleParticipant, i, i)
		}
		api := func(user string, cfg rest.Config, roles ...wire.Role) *rest.Client {
			cfg.Token = client.StaticToken(c.token(user, roles...))
			for _, n := range c.nodes {
				cfg.URLs = append(cfg.URLs, n.base)
			}
			a, err := rest.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			return a
		}
		ctx, cancel := context.WithTimeout(context.Background(), mpcWithin)
		defer cancel()
		knowing := rest.Config{Identity: id, Trust: trust.Of(backend.store)}
		backendAPI := api("backend", knowing, wire.RoleCoordinator)
		request := client.KeygenRequest{Threshold: 2, Participants: holders, Curve: pubkey.Ed25519}
		knowing.Trust.PinnedOnly = true
		if key, err := api("backend", knowing, wire.RoleCoordinator).Keygen(ctx, request); !errors.Is(err, trust.ErrNotPinned) {
			t.Errorf("nobody is pinned: %+v, %v", key, err)
		}
		key, err := backendAPI.Keygen(ctx, request)
		if err != nil || len(key.AttestedBy) != 3 {
			t.Fatalf("keygen: %+v, %v", key, err)
		}
		// It then knows the identities it has seen, and checks later reports by them.
		info, err := backendAPI.Key(ctx, key.KeyID)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := trust.CheckKey(info, backend.store.Known, false); err != nil || !(client.Key{AttestedBy: who}).Attested() {
			t.Errorf("the key in the web API: attested by %+v, %v", who, err)
		}
		info.AccountAddr = "4nhBwhgBtFZPZvZ1FaYeJUXgPNas6Vmakewr2T7r3HYE"
		if _, err := trust.CheckKey(info, backend.store.Known, false); !errors.Is(err, trust.ErrNotAttested) {
			t.Errorf("another address: %v", err)
		}
		want := client.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5", RequestID: "order-1"}
		sig, err := backendAPI.Sign(ctx, want)
		if err != nil {
			t.Fatalf("sign: %v", err)
		}
		if again, err := backendAPI.Sign(ctx, want); err != nil || again.Signature != sig.Signature || again.SessionID != sig.SessionID {
			t.Errorf("the same again: %+v, %v", again, err)
		}
		// Not signed, with the same token: it is not approved.
		unsigned := want
		unsigned.RequestID = "order-2"
		if got, err := api("backend", rest.Config{}, wire.RoleCoordinator).Sign(ctx, unsigned); err == nil || !strings.Contains(err.Error(), "rejected") {
			t.Errorf("what is not signed: %+v, %v", got, err)
		}
		// An ended session is reported in one event, to its users.
		for event, err := range api("bob", rest.Config{}, wire.RoleParticipant).Events(ctx, sig.SessionID) {
			if err != nil || !event.Ended || event.Session.Signature != sig.Signature {
				t.Errorf("event %+v, %v", event, err)
			}
		}
		eventually(t, "the outcomes wait in its mailbox, should it come with a socket", func() bool {
			return c.rdb.XLen(ctx, c.prefix+"mailbox:{backend}").Val() == 3
		})
	})
}

// TestEvents follows a session on a node other than those where it happens, over a
// stream that breaks because its node is stopped.
func TestEvents(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c) // on nodes 1, 2, 3, 1
		g.keygen(t)
		watched := c.start()
		_, task := c.call(c.nodes[0], "POST", "/v1/keys/"+g.keyID+"/signatures?start=true", g.coordinator.token, object{"data": "seen"})
		id := fmt.Sprint(task["session_id"])
		urls := []string{watched.base, c.nodes[0].base}
		api, err := rest.New(rest.Config{URLs: urls, Token: client.StaticToken(g.coordinator.token)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
		defer cancel()
		var phases []string
		answered, step := 0, 0
		for event, err := range api.Events(ctx, id) {
			if err != nil {
				t.Fatal(err)
			}
			s := event.Session
			phases = append(phases, s.Phase)
			answered = 0
			for _, p := range s.Responses {
				if p.Response == "accepted" {
					answered++
				}
			}
			switch { // each step only when the one before it was seen
			case step == 0:
				g.p[1].expect("sign_invite")
				g.p[1].send("sign_response", object{"key_id": g.keyID, "part_index": 1, "response": true})
				step++
			case step == 1 && answered == 1:
				if err := watched.terminate(); err != nil {
					t.Errorf("the node with the stream: %v", err)
				}
				g.p[2].expect("sign_invite")
				g.p[2].send("sign_response", object{"key_id": g.keyID, "part_index": 2, "response": true})
				step++
			case step == 2 && s.Phase == "running":
				g.signParams(t, "seen", 1, "1,2")
				g.p[1].send("sign_result", object{"key_id": g.keyID, "part_index": 1, "signature": g.key.sign(t, "seen")})
				step++
			}
			if event.Ended && s.Signature != g.key.sign(t, "seen") {
				t.Errorf("outcome %+v", s)
			}
		}
		if step != 3 || phases[len(phases)-1] != "completed" {
			t.Errorf("seen %v, in %d steps", phases, step)
		}
	})
}

// stream opens a session's raw event stream.
func (c *testCluster) stream(n *process, id, token string) *http.Response {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", n.base+"/v1/sessions/"+id+"/events", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// problemIn reads a stream until its problem.
func (c *testCluster) problemIn(resp *http.Response) string {
	c.t.Helper()
	lines, name := bufio.NewScanner(resp.Body), ""
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = text
		}
		if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok && name == "problem" {
			return text
		}
	}
	c.t.Errorf("the stream ended without a problem: %v", lines.Err())
	return ""
}

// TestStreamsEnd holds streams of an open session open until their token has
// expired, was revoked, or there are too many; a user who may not see the session
// gets none.
func TestStreamsEnd(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, []string{"--invite-timeout", "10m", "--max-connections", "528"} /* 32 streams */, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		alice := c.token("alice", wire.RoleCoordinator)
		_, task := c.call(n, "POST", "/v1/keys?start=true", alice, object{"threshold": 2, "participants": []string{"bob", "carol"}})
		id := fmt.Sprint(task["session_id"])
		if resp := c.stream(n, id, c.token("mallory", wire.RoleCoordinator)); resp.StatusCode != http.StatusNotFound {
			t.Errorf("a stranger's stream: %s", resp.Status)
		}
		short, _, err := c.tokens.Issue("bob", []wire.Role{wire.RoleParticipant}, 3*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if problem := c.problemIn(c.stream(n, id, short)); !strings.Contains(problem, `"code":"token_expired"`) {
			t.Errorf("when the token has expired: %s", problem)
		}
		carol, claims, err := c.tokens.Issue("carol", []wire.Role{wire.RoleParticipant}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		resp := c.stream(n, id, carol)
		if status, answer := c.call(n, "POST", "/v1/tokens/revoke", c.token("root", wire.RoleAdmin), object{"jti": claims.ID}); status != http.StatusOK {
			t.Fatalf("revoke: %d %v", status, answer)
		}
		if problem := c.problemIn(resp); !strings.Contains(problem, `"code":"unauthenticated"`) {
			t.Errorf("when the token was revoked: %s", problem)
		}
		var open []*http.Response
		for range 32 {
			open = append(open, c.stream(n, id, alice))
		}
		for i, resp := range open {
			if resp.StatusCode != http.StatusOK {
				t.Errorf("stream %d: %s", i, resp.Status)
			}
		}
		if resp := c.stream(n, id, alice); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
			t.Errorf("one more: %s", resp.Status)
		}
		if resp := c.stream(n, id, c.token("bob", wire.RoleParticipant)); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("one more of another user's: %s", resp.Status)
		}
		_ = open[0].Body.Close()
		var last *http.Response
		eventually(t, "there is room again", func() bool {
			last = c.stream(n, id, c.token("bob", wire.RoleParticipant))
			return last.StatusCode == http.StatusOK
		})
		// Streams and a request waiting for an end do not keep a node running.
		_, task = c.call(n, "POST", "/v1/keys?start=true", alice, object{"threshold": 2, "participants": []string{"bob", "carol"}})
		other, waiting := fmt.Sprint(task["session_id"]), make(chan string, 1)
		go func() {
			_, s := c.call(n, "GET", "/v1/sessions/"+other+"?wait=30s", alice, nil)
			waiting <- fmt.Sprint(s["phase"])
		}()
		eventually(t, "somebody waits", func() bool { return c.rdb.Exists(t.Context(), c.prefix+"session:{"+other+"}:watch").Val() == 1 })
		if err := n.terminate(); err != nil {
			t.Errorf("the node: %v", err)
		}
		if problem := c.problemIn(last); !strings.Contains(problem, `"code":"unavailable"`) {
			t.Errorf("when the node goes away: %s", problem)
		}
		select {
		case phase := <-waiting:
			if phase != "inviting" {
				t.Errorf("who waited is told that the session is %s", phase)
			}
		case <-time.After(patience):
			t.Error("who waited is not answered")
		}
	})
}

// TestDirectory shows nodes to all, presence to the user itself, and users' nodes to
// admins only.
func TestDirectory(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		c.client("bob", wire.RoleParticipant).connect(c.nodes[1])
		self, admin := c.token("bob", wire.RoleCoordinator), c.token("root", wire.RoleAdmin)
		for who, inside := range map[string]bool{self: false, admin: true} {
			_, list := c.call(c.nodes[0], "GET", "/v1/nodes", who, nil)
			nodes, _ := list["items"].([]any)
			if len(nodes) != 2 {
				t.Fatalf("nodes: %v", list)
			}
			for _, n := range nodes {
				for _, field := range []string{"address", "connections", "seen_at"} {
					if _, shown := n.(map[string]any)[field]; shown != inside {
						t.Errorf("admin %v: %s of a node is shown: %v", inside, field, shown)
					}
				}
			}
			_, bob := c.call(c.nodes[0], "GET", "/v1/presence/bob", who, nil)
			if _, shown := bob["node"]; shown != inside || bob["online"] != true || bob["since"] == nil || inside && bob["node"] != "n2" {
				t.Errorf("admin %v: bob is %v", inside, bob)
			}
			_, nobody := c.call(c.nodes[0], "GET", "/v1/presence/nobody", who, nil)
			if len(nobody) != 2 || nobody["online"] != false || nobody["user_id"] != "nobody" {
				t.Errorf("admin %v: nobody is %v", inside, nobody)
			}
		}
	})
}

// TestCommitsRing has a commit's node notify the node of a waiting client, and no
// node if no client waits.
func TestCommitsRing(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, nil, func(t *testing.T, c *testCluster) {
		sub := c.rdb.Subscribe(t.Context(), c.prefix+"node:n1", c.prefix+"node:n2")
		t.Cleanup(func() { _ = sub.Close() })
		if _, err := sub.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		alice := c.token("alice", wire.RoleCoordinator)
		var last string
		for _, watched := range []bool{false, true} {
			_, task := c.call(c.nodes[0], "POST", "/v1/keys?start=true", alice, object{"threshold": 2, "participants": []string{"bob", "carol"}})
			last = fmt.Sprint(task["session_id"])
			if watched {
				_, _ = bufio.NewReader(c.stream(c.nodes[1], last, alice).Body).ReadString('}') // the stream has begun
			}
			c.call(c.nodes[0], "DELETE", "/v1/sessions/"+last, alice, nil)
		}
		// The first notification is for the watched session.
		for {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			msg, err := sub.ReceiveMessage(ctx)
			cancel()
			if err != nil {
				t.Fatalf("nobody was told: %v", err)
			}
			if msg.Payload == "n 2 "+last && msg.Channel == c.prefix+"node:n2" {
				return
			}
			if !strings.HasPrefix(msg.Payload, "e ") { // a node's messages to itself
				t.Errorf("on %s: %q", msg.Channel, msg.Payload)
			}
		}
	})
}
