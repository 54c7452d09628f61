package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// asked sends one message on its own socket and returns the raw answer.
func (c *testCluster) asked(n *process, user, token, kind string, payload object) string {
	c.t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(n.base, "http")+"/ws", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	defer ws.Close()
	if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	send := func(kind string, payload object) string {
		if err := ws.WriteJSON(object{"type": kind, "user_id": user, "token": token, "payload": payload, "request_id": "r"}); err != nil {
			c.t.Fatal(err)
		}
		_, frame, err := ws.ReadMessage()
		if err != nil {
			c.t.Fatalf("%s: %v", kind, err)
		}
		return string(frame)
	}
	send("register", object{"user_id": user, "role": "participant"})
	return send(kind, payload)
}

// got makes a web call and returns the raw answer.
func (c *testCluster) got(n *process, method, path, token, body string) string {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, n.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

// TestStrangersCannotTell requests keys and sessions of others, and nonexistent
// ones, in every message and every web call that names one: except for the id the
// two answers are the same bytes, and all are not_found.
func TestStrangersCannotTell(t *testing.T) {
	t.Parallel()
	flags := append([]string{"--register-limit", "-1", "--absence-grace", "1h", "--sign-timeout", "1h"}, withKEK...)
	eachCluster(t, 1, flags, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		n := c.nodes[0]
		roles := []wire.Role{wire.RoleCoordinator, wire.RoleParticipant}
		strangers := map[string]string{"mallory": c.token("mallory", roles...)}
		holders := map[string]string{partNames[3]: c.token(partNames[3], roles...)} // of the key, and not invited to the signings

		begin := func(data string) string {
			_, task := c.call(n, "POST", "/v1/keys/"+g.keyID+"/signatures?start=true", g.coordinator.token,
				object{"data": data, "participants": partNames[1:3]})
			return task["session_id"].(string)
		}
		inviting, cancelled, running := begin("a"), begin("b"), begin("c")
		c.call(n, "DELETE", "/v1/sessions/"+cancelled, g.coordinator.token, nil)
		for i := 1; i <= 2; i++ {
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true, "session_id": running})
		}
		g.p[1].expect("sign_params")
		_, task := c.call(n, "POST", "/v1/keys", g.coordinator.token, object{"threshold": 2, "participants": partNames[1:]})
		reserved := task["key_id"].(string)
		_, task = c.call(n, "POST", "/v1/keys?start=true", g.coordinator.token, object{"threshold": 2, "participants": partNames[1:3]})
		generating := task["key_id"].(string)

		check := func(what, id string, ask func(id string) string) {
			t.Helper()
			none := id[:3] + strings.Repeat("0", len(id)-3)
			exists, missing := ask(id), ask(none)
			if strings.ReplaceAll(exists, id, "ID") != strings.ReplaceAll(missing, none, "ID") {
				t.Errorf("%s tells:\n%s\n%s", what, exists, missing)
			}
			if !strings.Contains(exists, `"code":"not_found"`) {
				t.Errorf("%s: %s", what, exists)
			}
		}
		for user, token := range strangers {
			for _, id := range []string{g.keyID, reserved, generating} {
				for kind, payload := range map[string]object{
					"keygen_response": {"part_index": 1, "response": true},
					"keygen_complete": {"part_index": 1, "account_addr": g.key.address, "share_json": "{}"},
					"sign_request":    {"data": "x"},
					"sign_response":   {"part_index": 1, "response": true},
					"sign_result":     {"part_index": 1, "signature": "0x00"},
				} {
					check(kind+" of "+user+" on a key", id, func(id string) string {
						payload["key_id"] = id
						return c.asked(n, user, token, kind, payload)
					})
				}
				check(user+" reads a key", id, func(id string) string { return c.got(n, "GET", "/v1/keys/"+id, token, "") })
				check(user+" signs over HTTP", id, func(id string) string {
					return c.got(n, "POST", "/v1/keys/"+id+"/signatures?start=true", token, `{"data":"x"}`)
				})
			}
		}
		for user, token := range merge(strangers, holders) {
			ids := []string{inviting, cancelled, running}
			if user == "mallory" {
				ids = append(ids, c.keygenOf(g.keyID))
			}
			for _, id := range ids {
				for kind, payload := range map[string]object{
					"keygen_response": {"key_id": g.keyID, "part_index": 3, "response": true},
					"keygen_complete": {"key_id": g.keyID, "part_index": 3, "account_addr": g.key.address, "share_json": "{}"},
					"sign_response":   {"key_id": g.keyID, "part_index": 3, "response": false},
					"sign_result":     {"key_id": g.keyID, "part_index": 3, "signature": "0x00"},
					"tss_message":     {"attempt": 1, "from": 3, "body": "eA=="},
					"party_failed":    {"part_index": 3},
					"session_cancel":  {},
				} {
					check(kind+" of "+user, id, func(id string) string {
						payload["session_id"] = id
						return c.asked(n, user, token, kind, payload)
					})
				}
				for _, call := range [][2]string{{"GET", ""}, {"GET", "?wait=1s"}, {"GET", "/events"}, {"DELETE", ""}} {
					check(user+": "+call[0]+call[1], id, func(id string) string {
						return c.got(n, call[0], "/v1/sessions/"+id+call[1], token, "")
					})
				}
			}
		}
		// The audit has such refusals, with details the stranger was not told.
		eventually(t, "the audit has the stranger", func() bool {
			entries, _ := c.trail(n)
			for _, f := range entries {
				if f["who"] == "mallory" && f["what"] == "session_cancel" && f["code"] == "forbidden" {
					return true
				}
			}
			return false
		})
	})
}

func merge(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

// TestIdentityByFingerprint: a stranger gets a user's identity if its request has that
// identity's fingerprint, and not otherwise.
func TestIdentityByFingerprint(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, withKEK, func(t *testing.T, c *testCluster) {
		id := partytest.Identity(t).Public()
		bob := c.client("bob", wire.RoleParticipant)
		bob.dial(c.nodes[0])
		bob.send("register", object{"user_id": "bob", "role": wire.RoleParticipant, "identity": id.String()})
		bob.expect("register_confirm")
		asks := func(user, fingerprint string) string {
			return c.got(c.nodes[0], "GET", "/v1/presence/"+user+"?fingerprint="+fingerprint, c.token("eve", wire.RoleCoordinator), "")
		}
		if got := asks("bob", id.Fingerprint()); !strings.Contains(got, id.String()) || strings.Contains(got, `"online":true`) {
			t.Errorf("with the fingerprint: %s", got)
		}
		other := partytest.Identity(t).Public().Fingerprint()
		for user, fingerprint := range map[string]string{"bob": other, "nobody": id.Fingerprint(), "eve": other} {
			if got := asks(user, fingerprint); strings.Contains(got, "identity") {
				t.Errorf("%s with another fingerprint: %s", user, got)
			}
		}
		if bob, nobody := asks("bob", other), asks("nobody", other); strings.ReplaceAll(bob, "bob", "USER") != strings.ReplaceAll(nobody, "nobody", "USER") {
			t.Errorf("a stranger can tell bob from nobody:\n%s\n%s", bob, nobody)
		}
	})
}

// TestPresenceIsForAcquaintances shows presence to users with an active key in
// common, to the user itself and to admins; others get the same answer as for a user
// that does not exist.
func TestPresenceIsForAcquaintances(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		c.client("mallory", wire.RoleCoordinator).connect(c.nodes[0])
		mallory := c.token("mallory", wire.RoleCoordinator)
		bob := partNames[1]
		// Naming him in a keygen that he has not accepted is not enough.
		c.call(c.nodes[0], "POST", "/v1/keys?start=true", mallory, object{"threshold": 2, "participants": []string{bob, "nobody"}})
		for _, tc := range []struct {
			who, token string
			sees       bool
		}{
			{"its coordinator", g.coordinator.token, true},
			{"another participant", g.p[2].token, true},
			{"bob himself", g.p[1].token, true},
			{"an admin", c.token("root", wire.RoleAdmin), true},
			{"who has invited him", mallory, false},
			{"another coordinator", c.token("eve", wire.RoleCoordinator), false},
		} {
			online := c.got(c.nodes[0], "GET", "/v1/presence/"+bob, tc.token, "")
			if seen := strings.Contains(online, `"online":true`); seen != tc.sees {
				t.Errorf("%s is told %s", tc.who, online)
			}
			nobody := c.got(c.nodes[0], "GET", "/v1/presence/nobody", tc.token, "")
			if !tc.sees && strings.ReplaceAll(online, bob, "USER") != strings.ReplaceAll(nobody, "nobody", "USER") {
				t.Errorf("%s can tell bob from nobody:\n%s\n%s", tc.who, online, nobody)
			}
		}
		var p wire.PresenceInfo
		_, body, _ := strings.Cut(c.got(c.nodes[0], "GET", "/v1/presence/"+g.coordinator.user, g.p[3].token, ""), " ")
		if err := json.Unmarshal([]byte(body), &p); err != nil || !p.Online || p.Node != "" {
			t.Errorf("a participant is told of the coordinator: %s, %v", body, err)
		}
	})
}
