package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// trail reads the whole audit through a node, as an admin, and verifies it.
func (c *testCluster) trail(n *process) (entries []audit.Fields, head audit.Head) {
	c.t.Helper()
	v, err := audit.NewVerifier("")
	if err != nil {
		c.t.Fatal(err)
	}
	admin := c.token("root", wire.RoleAdmin)
	for after := ""; ; {
		var page audit.Page
		status, answer := c.call(n, "GET", "/v1/audit?limit=100&after="+after, admin, nil)
		raw, err := json.Marshal(answer)
		if err != nil || status != http.StatusOK || json.Unmarshal(raw, &page) != nil {
			c.t.Fatalf("read the audit: %d %v", status, answer)
		}
		if len(page.Items) == 0 {
			break
		}
		for _, f := range page.Items {
			if err := v.Add(f); err != nil {
				c.t.Fatal(err)
			}
		}
		entries, after = append(entries, page.Items...), page.Next
	}
	if head, err = v.End(); err != nil {
		c.t.Fatal(err)
	}
	return entries, head
}

// phrase is an entry in a line, without its position, time and node.
func phrase(f audit.Fields, names ...string) string {
	var text []string
	for _, name := range append([]string{"who", "what", "outcome"}, names...) {
		if f[name] != "" {
			text = append(text, f[name])
		}
	}
	return strings.Join(text, " ")
}

// endsAudited waits until the audit has the end of every session in Redis, and
// checks that it has each once and is complete.
func (c *testCluster) endsAudited(n *process) {
	c.t.Helper()
	c.settled() // a session is due until its end is in the audit
	ends := map[string][]string{}
	entries, _ := c.trail(n)
	for _, f := range entries {
		if f["what"] == audit.Ended {
			ends[f["session"]] = append(ends[f["session"]], f["outcome"])
		}
	}
	ctx, sessions := context.Background(), 0
	for it := c.rdb.Scan(ctx, 0, c.prefix+"session:*", 500).Iterator(); it.Next(ctx); {
		id, ok := strings.CutSuffix(strings.TrimPrefix(it.Val(), c.prefix+"session:{"), "}")
		if !ok {
			continue // an outbox
		}
		sessions++
		if phase := c.rdb.HGet(ctx, it.Val(), "phase").Val(); !slices.Equal(ends[id], []string{phase}) {
			c.t.Errorf("session %s is %s, the audit has the ends %v", id, phase, ends[id])
		}
	}
	if sessions == 0 || len(ends) != sessions {
		c.t.Errorf("%d sessions, the ends of %d in the audit", sessions, len(ends))
	}
}

// sendAcked sends a message and waits until it has taken effect.
func (s *seedClient) sendAcked(kind string, payload any, id string) {
	s.t.Helper()
	s.sendEnvelope(object{"type": kind, "user_id": s.user, "token": s.token, "payload": payload, "request_id": id})
	s.take("ack", func(m wire.Message) bool { return m.Type == wire.TypeAck && m.RequestID == id })
}

// TestAuditTrail goes through all audited actions, on two nodes, and checks that
// exactly these are in the audit.
func TestAuditTrail(t *testing.T) {
	inTurn(t, "web API", 1, 2)
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		const password = "long enough a password"
		cfg := node.Config{Redis: c.url, RedisPrefix: c.prefix}
		if err := node.AddUser(context.Background(), cfg, "alice", password, []string{"coordinator"}, false); err != nil {
			t.Fatal(err)
		}
		login := func(user, password string) {
			c.call(c.nodes[0], "POST", "/v1/login", "", object{"username": user, "password": password})
		}
		login("alice", password)
		login("alice", "a wrong password!")
		login("hunter2-typed-into-the-wrong-field", "alice")

		g := gatherParts(t, c)
		g.keygen(t)
		g.sign(t, "PAY-DATA-1", 1, 3)

		// The same request again starts nothing.
		again := object{"key_id": g.keyID, "data": "PAY-DATA-2", "account_addr": g.key.address, "participants": partNames[1:3]}
		g.coordinator.sendAcked("sign_request", again, "r1")
		g.coordinator.sendAcked("sign_request", again, "r1")
		g.p[1].expect("sign_invite")
		g.p[2].expect("sign_invite")
		// One declines, and too few are left.
		g.p[1].sendAcked("sign_response", object{"key_id": g.keyID, "part_index": 1, "response": true}, "r2")
		g.p[2].send("sign_response", object{"key_id": g.keyID, "part_index": 2, "response": false})
		g.coordinator.expect("sign_complete")

		// Refusals: a stranger's request, a party that answers for another, a user
		// that is not a party, an invalid signature.
		mallory := c.client("mallory", wire.RoleCoordinator).connect(c.nodes[1])
		mallory.send("sign_request", object{"key_id": g.keyID, "data": "PAY-DATA-3", "account_addr": g.key.address})
		mallory.expectError(wire.CodeNotFound)
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "PAY-DATA-4", "account_addr": g.key.address, "participants": partNames[1:3]})
		for i := 1; i <= 2; i++ {
			g.p[i].expect("sign_invite")
		}
		g.p[1].send("sign_response", object{"key_id": g.keyID, "part_index": 2, "response": true})
		g.p[1].expectError(wire.CodeForbidden)
		for i := 1; i <= 2; i++ {
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 2; i++ {
			g.signParams(t, "PAY-DATA-4", i, "1,2")
		}
		g.p[1].send("sign_result", object{"key_id": g.keyID, "part_index": 1, "signature": newFakeKey(t).sign(t, "PAY-DATA-4")})
		g.p[1].expectError(wire.CodeInvalidSignature)
		g.p[2].send("sign_result", object{"key_id": g.keyID, "part_index": 2, "signature": g.key.sign(t, "PAY-DATA-4")})
		g.signed(t, "PAY-DATA-4")

		// Over HTTP: a key reserved, one refused, a signing begun, a stranger's cancel
		// refused, an admin's done; the audit itself refused to a non-admin.
		task := object{"threshold": 2, "total_parts": 3, "participants": partNames[1:]}
		c.call(c.nodes[1], "POST", "/v1/keys", g.coordinator.token, task)
		c.call(c.nodes[1], "POST", "/v1/keys", g.p[1].token, task)
		_, begun := c.call(c.nodes[0], "POST", "/v1/keys/"+g.keyID+"/signatures?start=true", g.coordinator.token, object{"data": "PAY-DATA-5"})
		g.p[3].expect("sign_invite")
		session := "/v1/sessions/" + begun["session_id"].(string)
		c.call(c.nodes[1], "DELETE", session, g.p[1].token, nil)
		c.call(c.nodes[1], "DELETE", session, c.token("root", wire.RoleAdmin), nil)
		g.coordinator.expect("sign_complete")
		if status, _ := c.call(c.nodes[1], "GET", "/v1/audit", g.coordinator.token, nil); status != http.StatusForbidden {
			t.Errorf("a coordinator reads the audit: %d", status)
		}

		// An invalid token, and no token, which is not a decision.
		c.call(c.nodes[0], "GET", "/v1/keys/"+g.keyID, "no token at all", nil)
		c.call(c.nodes[0], "GET", "/v1/keys/"+g.keyID, "", nil)
		// A register with an invalid token, and one with another user's.
		for token, code := range map[string]int{"no token at all": wire.CloseBadToken, mallory.token: wire.CloseForbidden} {
			eve := c.client("eve", wire.RoleParticipant)
			eve.token = token
			eve.dial(c.nodes[0])
			eve.send("register", object{"user_id": "eve", "role": "participant"})
			eve.expectClosed(code)
		}
		// Operators and admins, and logins that are too frequent.
		for _, err := range []error{
			node.AddUser(context.Background(), cfg, "alice", password, []string{"coordinator", "participant"}, true),
			node.SetUserPassword(context.Background(), cfg, "alice", password+"!"),
			node.SetUserDisabled(context.Background(), cfg, "alice", true),
			node.SetUserDisabled(context.Background(), cfg, "alice", false),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		c.call(c.nodes[1], "POST", "/v1/tokens/revoke", c.token("root", wire.RoleAdmin), object{"user": "bob@example.org", "reason": "laptop lost"})
		c.call(c.nodes[1], "POST", "/v1/tokens/revoke", mallory.token, object{"user": "alice"})
		guesses := 0
		for {
			if status, _, _ := c.tryLogin(c.nodes[1], "nobody", "a guess, and wrong", ""); status == http.StatusTooManyRequests {
				break
			}
			if guesses++; guesses > 100 {
				t.Fatal("nothing limits guesses")
			}
		}
		if err := c.nodes[0].terminate(); err != nil {
			t.Error(err)
		}

		want := []string{
			" user_replace ok alice", " user_password ok alice", " user_disable ok alice", " user_enable ok alice",
			"root token_revoke ok bob@example.org", "mallory token_revoke refused forbidden", " login throttled rate_limited",
			" user_add ok alice", "alice login ok", "alice login refused unauthenticated", " login refused unauthenticated",
			" node_start ok", " node_start ok", " node_stop ok",
			"alice register ok as coordinator", "mallory register ok as coordinator",
			"参与方1 register ok as participant", "bob@example.org register ok as participant", "carol-3 register ok as participant",
			" token_check refused unauthenticated",
			" register refused unauthenticated", "mallory register refused forbidden",
			"alice key_reserve ok", "参与方1 keygen_request refused forbidden", "参与方1 session_cancel refused forbidden",
			"root session_cancel accepted", "alice audit_read refused forbidden",

			"alice keygen_request accepted secp256k1, 2 of 参与方1, bob@example.org, carol-3",
			"参与方1 keygen_response accepted part 1", "bob@example.org keygen_response accepted part 2", "carol-3 keygen_response accepted part 3",
			"参与方1 keygen_complete stored part 1: ADDR", "bob@example.org keygen_complete stored part 2: ADDR", "carol-3 keygen_complete stored part 3: ADDR",
			"alice outcome completed keygen, accepted by 1,2,3, last tried with 1,2,3",

			"alice sign_request accepted secp256k1, 2 of 参与方1, carol-3",
			"参与方1 sign_response accepted part 1", "carol-3 sign_response accepted part 3", "参与方1 sign_result accepted part 1",
			"alice outcome completed sign, accepted by 1,3, last tried with 1,3",

			"alice sign_request accepted secp256k1, 2 of 参与方1, bob@example.org",
			"参与方1 sign_response accepted part 1", "bob@example.org sign_response declined part 2",
			"alice outcome rejected sign, accepted by 1, declined by 2: bob@example.org (part 2) declined",

			"mallory sign_request refused forbidden", "参与方1 sign_response refused forbidden",
			"alice sign_request accepted secp256k1, 2 of 参与方1, bob@example.org",
			"参与方1 sign_response accepted part 1", "bob@example.org sign_response accepted part 2",
			"参与方1 sign_result refused invalid_signature", "bob@example.org sign_result accepted part 2",
			"alice outcome completed 1 sign, accepted by 1,2, last tried with 1,2",

			"alice sign_request accepted secp256k1, 2 of 参与方1, bob@example.org, carol-3",
			"alice outcome cancelled sign: cancelled by root",
		}
		for range guesses {
			want = append(want, " login refused unauthenticated")
		}
		var got []string
		eventually(t, "the last decisions are written", func() bool { // some 50 ms after they are made
			return c.rdb.XLen(context.Background(), c.prefix+"audit").Val() >= int64(len(want))
		})
		entries, _ := c.trail(c.nodes[1])
		for _, f := range entries {
			names := []string{"account", "code"}
			if f["code"] == "" && f["account"] == "" && !strings.HasPrefix(f["what"], "node_") {
				names = []string{"culprits", "detail"}
			}
			line := strings.ReplaceAll(phrase(f, names...), g.key.address, "ADDR")
			if f["who"] == "" {
				line = " " + line
			}
			if f["what"] == string(wire.TypeSignResult) && f["who"] == "carol-3" {
				line = strings.Replace(line, "carol-3 sign_result accepted part 3", "参与方1 sign_result accepted part 1", 1) // the first to answer
			}
			got = append(got, line)
		}
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the audit (-want +got):\n%s", diff)
		}
		for _, f := range entries {
			signing := strings.HasPrefix(f["session"], "sg-")
			if signing && f["outcome"] != audit.Refused && !strings.HasPrefix(f["digest"], "0x") {
				t.Errorf("no digest in %v", f)
			}
			for _, never := range []string{"PAY-DATA", "PLAINSHARE", password, "hunter2", "no token at all"} {
				if strings.Contains(fmt.Sprint(f), never) {
					t.Errorf("%s is in the audit: %v", never, f)
				}
			}
		}
		g.noSecrets(t, c)
	})
}

// TestAuditSurvivesKills kills nodes with SIGKILL while sessions run through them:
// the chain continues, and no session's end is missing.
func TestAuditSurvivesKills(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		for round := range 4 {
			doomed := c.start()
			for _, s := range []*seedClient{g.coordinator, g.p[1], g.p[2], g.p[3]} {
				s.connect(doomed)
			}
			data := fmt.Sprintf("killed %d", round)
			g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": data, "account_addr": g.key.address, "participants": partNames[1:3]})
			for i := 1; i <= 2; i++ {
				g.p[i].expect("sign_invite")
				g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
			}
			for i := 1; i <= 2; i++ {
				g.signParams(t, data, i, "1,2")
				g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, data)})
			}
			// Each time a little later: before the outcome, with it, and after it.
			if round%2 == 1 {
				g.signed(t, data)
			}
			doomed.kill()
			for _, s := range []*seedClient{g.coordinator, g.p[1], g.p[2], g.p[3]} {
				s.expectClosed(0)
				s.connect(c.nodes[0])
			}
			if round%2 == 0 {
				g.p[1].send("sign_result", object{"key_id": g.keyID, "part_index": 1, "signature": g.key.sign(t, data)})
				g.signed(t, data)
			}
		}
		c.endsAudited(c.nodes[0])
		starts, stops := 0, 0
		entries, _ := c.trail(c.nodes[0])
		for _, f := range entries {
			switch f["what"] {
			case audit.NodeStart:
				starts++
			case audit.NodeStop:
				stops++
			}
		}
		if starts != 5 || stops != 0 {
			t.Errorf("%d nodes started and %d stopped, want 5 and none: they were killed", starts, stops)
		}
	})
}

// TestAuditCommand has the real program export and verify, on a server and offline,
// and find changes to either.
func TestAuditCommand(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, withKEK, func(t *testing.T, c *testCluster) {
		const password = "long enough a password"
		users := map[string]*cli{}
		binary := conclaveBinary(t)
		for user, role := range map[string]wire.Role{"root": wire.RoleAdmin, "alice": wire.RoleCoordinator} {
			accountstest.AddUser(t, c.rdb, c.prefix, user, password, role)
			users[user] = &cli{t: t, binary: binary, home: filepath.Join(t.TempDir(), user)}
			users[user].run(password+"\n", "login", c.nodes[0].base, user)
		}
		root := users["root"]
		_, stderr := root.fails("audit", "verify", "--anchor", "nonsense")
		if !strings.Contains(stderr, "64 hex digits") {
			t.Errorf("stderr: %s", stderr)
		}
		if _, stderr := users["alice"].fails("audit", "verify"); !strings.Contains(stderr, "does not have the role admin") {
			t.Errorf("a coordinator verifies: %s", stderr)
		}
		g := gatherParts(t, c)
		g.keygen(t)
		c.endsAudited(c.nodes[0])

		var noted struct {
			Head string `json:"head"`
			N    int    `json:"head_n"`
		}
		decode(t, root.run("", "audit", "verify", "-json"), &noted)
		file := filepath.Join(t.TempDir(), "audit.jsonl")
		exported := root.run("", "audit", "export")
		if lines := strings.Count(exported, "\n"); lines < noted.N || noted.N < 10 {
			t.Fatalf("%d lines of %d entries:\n%s", lines, noted.N, exported)
		}
		write := func(text string) {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write(exported)
		g.sign(t, "after the export", 1, 2)
		for _, args := range [][]string{{"verify", file}, {"verify", "--anchor", noted.Head, file}, {"verify", "--anchor", noted.Head}} {
			if out := root.run("", append([]string{"audit"}, args...)...); !strings.Contains(out, "head ") {
				t.Errorf("%v: %s", args, out)
			}
		}
		lines := strings.SplitAfter(exported, "\n")
		lines = lines[:len(lines)-1]
		for name, tc := range map[string]struct{ text, says string }{
			"a line removed":  {strings.Join(slices.Delete(slices.Clone(lines), 4, 5), ""), "breaks at entry 6 (place 5): entry 5 is missing"},
			"a word changed":  {strings.Replace(exported, `"who":"alice"`, `"who":"mallory"`, 1), "its content does not match its hash"},
			"half a line":     {exported[:len(exported)-20], fmt.Sprintf("(place %d)", len(lines))},
			"the end cut off": {strings.Join(lines[:5], ""), "the anchor is not in this chain"},
			"nothing":         {"", "no entries"},
		} {
			write(tc.text)
			if stdout, stderr := root.fails("audit", "verify", "--anchor", noted.Head, file); stdout != "" || !strings.Contains(stderr, tc.says) {
				t.Errorf("%s: stdout %q, stderr %s, want %q", name, stdout, stderr, tc.says)
			}
		}

		// The same in Redis itself.
		ctx := context.Background()
		third := c.rdb.XRangeN(ctx, c.prefix+"audit", "-", "+", 3).Val()[2].ID
		if n := c.rdb.XDel(ctx, c.prefix+"audit", third).Val(); n != 1 {
			t.Fatalf("%d entries removed", n)
		}
		if _, stderr := root.fails("audit", "verify"); !strings.Contains(stderr, "breaks at entry 4 (place 3): entry 3 is missing") {
			t.Errorf("stderr: %s", stderr)
		}
	})
}
