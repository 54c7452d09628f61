package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// shortTransaction is an unsigned Ethereum transaction of 32 bytes.
const shortTransaction = "0xdf80018252089435353535353535353535353535353535353535350180018080"

// TestUnclearRequests: data that two programs may read differently, or that is
// ambiguous, is refused over both protocols, by the field, before any participant is
// invited.
func TestUnclearRequests(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		c.settled()
		before := c.stable()
		for name, tc := range map[string]struct{ fields, field string }{
			"half of a surrogate pair":    {`"data":"pay \udd25\ud83d bob"`, "data"},
			"half of a pair, in a name":   {`"data":"x","\ud83d":1`, "member"},
			"half of a pair in a list":    {`"data":"x","participants":["bob@example.org","\ud83d"]`, "participants"},
			"bytes that are not UTF-8":    {"\"data\":\"pay \xff\xfe bob\"", "data"},
			"data twice":                  {`"data":"pay bob","data":"pay eve"`, "data"},
			"data in other case":          {`"DATA":"pay eve"`, "DATA"},
			"data in two cases":           {`"data":"pay bob","Data":"pay eve"`, "Data"},
			"hash twice":                  {`"data":"pay bob","hash":"eip191","hash":"sha256"`, "hash"},
			"a transaction or a digest":   {`"data":"` + shortTransaction + `"`, "hash"},
			"hex that begins with 0X":     {`"data":"0X` + strings.Repeat("ab", 32) + `"`, "0X"},
			"a number beyond all numbers": {`"data":"x","expires_in":1e999`, "expires_in"},
			"something behind the value":  {`"data":"x"}{`, "JSON"},
		} {
			s := g.coordinator
			frame := fmt.Sprintf(`{"type":"sign_request","token":%q,"payload":{"key_id":%q,%s}}`, s.token, g.keyID, tc.fields)
			if err := s.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			if e := s.expect("error"); e["code"] != "bad_request" || !strings.Contains(fmt.Sprint(e["error"]), tc.field) {
				t.Errorf("%s: got %v, want bad_request that names %s", name, e, tc.field)
			}
			s.calm()
			for _, query := range []string{"", "?start=true"} {
				status, problem := c.call(c.nodes[0], "POST", "/v1/keys/"+g.keyID+"/signatures"+query, s.token, "{"+tc.fields+"}")
				if status != 400 || problem["code"] != "bad_request" || !strings.Contains(fmt.Sprint(problem["detail"]), tc.field) {
					t.Errorf("%s, over HTTP%s: got %d %v, want bad_request that names %s", name, query, status, problem, tc.field)
				}
			}
		}
		if status, problem := c.call(c.nodes[0], "POST", "/v1/login", "", "{\"username\":\"al\xffice\",\"password\":\"\"}"); status != 400 {
			t.Errorf("login with what is not UTF-8: %d %v", status, problem)
		}
		if diff := cmp.Diff(before, c.stable()); diff != "" {
			t.Errorf("refused requests changed something (-before +after):\n%s", diff)
		}
		for i := 1; i <= 3; i++ {
			if n := g.p[i].count("sign_invite"); n > 0 {
				t.Errorf("%s was asked %d times", g.p[i].user, n)
			}
		}
		// A hash makes it unambiguous.
		for _, hash := range []string{"none", "keccak256"} {
			g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": shortTransaction, "hash": hash})
			invite := g.p[1].expect("sign_invite")
			if invite["hash"] != hash || (invite["digest"] == shortTransaction) != (hash == "none") {
				t.Errorf("with hash %s: %v", hash, invite)
			}
		}
	})
}

// TestNamesComeBack: every valid name can be read again under it, through every path
// of the web API; an invalid one is refused over both protocols; and records with a
// formerly valid name can be read.
func TestNamesComeBack(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, append([]string{"--request-limit", "-1", "--rate-limit", "-1"}, withKEK...), func(t *testing.T, c *testCluster) {
		ctx := context.Background()
		alice := c.client("alice", wire.RoleCoordinator).connect(c.nodes[0])
		admin := c.token("root", wire.RoleAdmin)
		c.client("bob", wire.RoleParticipant).connect(c.nodes[0]) // a user who was never here has a small mailbox
		api := func(token string) *rest.Client {
			a, err := rest.New(rest.Config{URLs: []string{c.nodes[0].base}, Token: client.StaticToken(token)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			return a
		}
		of := map[string]*rest.Client{"alice": api(alice.token), "an admin": api(admin)}
		made := map[string]bool{}
		comesBack := func(id string) {
			if made[id] {
				return
			}
			made[id] = true
			status, task := c.call(c.nodes[0], "POST", "/v1/keys?start=true", alice.token, object{"key_id": id, "threshold": 2, "participants": []string{"bob", id}})
			if status != 201 || task["key_id"] != id {
				t.Fatalf("key %q: %d %v", id, status, task)
			}
			session := fmt.Sprint(task["session_id"])
			for who, a := range of {
				key, err := a.Key(ctx, id)
				if err != nil || key.KeyID != id || key.Participants[1] != id {
					t.Errorf("%s reads the key %q as %+v, %v", who, id, key, err)
				}
				list, err := a.Sessions(ctx, rest.Page{KeyID: id})
				if err != nil || len(list.Items) != 1 || list.Items[0].SessionID != session {
					t.Errorf("%s: the sessions of the key %q are %+v, %v", who, id, list, err)
				}
				if p, err := a.Presence(ctx, id); err != nil || p.Online {
					t.Errorf("%s: the presence of %q is %+v, %v", who, id, p, err)
				}
			}
			status, problem := c.call(c.nodes[0], "POST", "/v1/keys/"+url.PathEscape(id)+"/signatures", alice.token, object{"data": "x"})
			if status != 409 || problem["key_id"] != id {
				t.Errorf("signing with the key %q, which is being made: %d %v", id, status, problem)
			}
			if _, err := of["alice"].CancelSession(ctx, session); err != nil {
				t.Errorf("cancel the keygen of %q: %v", id, err)
			}
		}
		for _, id := range []string{"a..b", "a.", "_", "@", "alice@example.com", "events", "signatures", "用户ID", "サーバー1", "ключ-1", "עדי", "٣", strings.Repeat("键", 42)} {
			comesBack(id)
		}
		names := rapid.StringMatching(`([a-zA-Z0-9_@]|\p{Han})([a-zA-Z0-9_.@-]|\p{Han}){0,20}`).Filter(wire.ValidID)
		for seed := range 20 {
			comesBack(names.Example(seed))
		}
		for _, id := range []string{".", "..", "-rf", "--help", "key\u3164", "\u1160", "k\u0435y", "ｋｅｙ"} {
			alice.send("keygen_request", object{"key_id": id, "threshold": 2, "total_parts": 2, "participants": []string{"bob", "carol"}})
			if e := alice.expect("error"); e["code"] != "bad_request" || !strings.Contains(fmt.Sprint(e["error"]), "key_id must") {
				t.Errorf("key %q: got %v", id, e)
			}
			status, problem := c.call(c.nodes[0], "POST", "/v1/keys?start=true", alice.token, object{"threshold": 2, "participants": []string{"bob", id}})
			if status != 400 || problem["code"] != "bad_request" {
				t.Errorf("participant %q: %d %v", id, status, problem)
			}
			alice.calm()
		}
		readFormer(t, c, of["an admin"])
	})
}

// readFormer gives a key formerly valid names, in Redis, and reads it.
func readFormer(t *testing.T, c *testCluster, admin *rest.Client) {
	ctx := context.Background()
	record, err := c.rdb.HGetAll(ctx, c.prefix+"key:{events}").Result()
	if err != nil || len(record) == 0 {
		t.Fatalf("the record of a key: %v, %v", record, err)
	}
	for _, id := range []string{"-rf", "--help", "key\u3164", "k\u0435y"} {
		if err := c.rdb.HSet(ctx, c.prefix+"key:{"+id+"}", record).Err(); err != nil {
			t.Fatal(err)
		}
		if key, err := admin.Key(ctx, id); err != nil || key.KeyID != id {
			t.Errorf("the key %q, from before: %+v, %v", id, key, err)
		}
	}
	if _, err := admin.Key(ctx, ".."); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a path that is cleaned: %v", err)
	}
}
