package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/conclave-mpc/conclave/cluster/store/accounts/accountstest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// call makes a request and returns the status and the decoded answer.
func (c *testCluster) call(n *process, method, path, token string, body any) (int, object) {
	c.t.Helper()
	return c.callWith(n, method, path, token, nil, body)
}

// callOnce is a POST with an Idempotency-Key.
func (c *testCluster) callOnce(n *process, path, token, once string, body any) (int, object) {
	c.t.Helper()
	return c.callWith(n, "POST", path, token, http.Header{"Idempotency-Key": {once}}, body)
}

func (c *testCluster) callWith(n *process, method, path, token string, header http.Header, body any) (int, object) {
	c.t.Helper()
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, n.base+path, reader)
	if err != nil {
		c.t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer object
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		c.t.Fatalf("%s %s: answer is not JSON: %v", method, path, err)
	}
	if want := "application/problem+json"; resp.StatusCode >= 400 && resp.Header.Get("Content-Type") != want {
		c.t.Errorf("%s %s: error has type %q, want %s", method, path, resp.Header.Get("Content-Type"), want)
	}
	return resp.StatusCode, answer
}

// TestWebTasks follows the seed's document: log in over HTTP, reserve tasks over
// HTTP, carry them out over the WebSocket, and read the results.
func TestWebTasks(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, withKEK, func(t *testing.T, c *testCluster) {
		accountstest.AddUser(t, c.rdb, c.prefix, "alice", "long enough a password", wire.RoleCoordinator)
		curl := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}} // as curl -d says, of JSON too
		status, login := c.callWith(c.nodes[0], "POST", "/v1/login", "", curl, object{"username": "alice", "password": "long enough a password"})
		token, _ := login["token"].(string)
		if status != http.StatusOK || token == "" || login["user_id"] != "alice" {
			t.Fatalf("login: %d %v", status, login)
		}
		g := gatherParts(t, c)
		g.coordinator.token = token // issued by one node, good on all

		status, task := c.call(c.nodes[1], "POST", "/v1/keys", token, object{"threshold": 2, "total_parts": 3, "participants": partNames[1:]})
		keyID, ok := task["key_id"].(string)
		if status != http.StatusCreated || !ok {
			t.Fatalf("reserve key: %d %v", status, task)
		}
		// The task is only for its request, and for its coordinator.
		g.coordinator.send("keygen_request", object{"key_id": keyID, "threshold": 3, "total_parts": 3, "participants": partNames[1:]})
		g.coordinator.expectError(wire.CodeConflict)
		mallory := c.client("mallory", wire.RoleCoordinator).connect(c.nodes[0])
		mallory.send("keygen_request", object{"key_id": keyID, "threshold": 2, "total_parts": 3, "participants": partNames[1:]})
		mallory.expectError(wire.CodeConflict)

		g.keyID = keyID
		g.keygen(t)
		if _, key := c.call(c.nodes[0], "GET", "/v1/keys/"+keyID, token, nil); key["status"] != "active" || key["account_addr"] != g.key.address {
			t.Errorf("key: %v", key)
		}

		status, task = c.call(c.nodes[0], "POST", "/v1/keys/"+keyID+"/signatures", token, object{"data": "by task", "participants": partNames[1:3]})
		sessionID, ok := task["session_id"].(string)
		if status != http.StatusCreated || !ok {
			t.Fatalf("reserve signing: %d %v", status, task)
		}
		other := object{"key_id": keyID, "data": "something else", "session_id": sessionID, "participants": partNames[1:3]}
		g.coordinator.send("sign_request", other)
		g.coordinator.expectError(wire.CodeConflict)
		g.coordinator.send("sign_request", object{"key_id": keyID, "data": "by task", "session_id": sessionID, "participants": partNames[1:3]})
		for i := 1; i <= 2; i++ {
			g.p[i].expect("sign_invite")
			g.p[i].send("sign_response", object{"key_id": keyID, "part_index": i, "response": true})
		}
		g.signParams(t, "by task", 1, "1,2")
		g.p[1].send("sign_result", object{"key_id": keyID, "part_index": 1, "signature": g.key.sign(t, "by task")})
		g.signed(t, "by task")
		if _, s := c.call(c.nodes[1], "GET", "/v1/sessions/"+sessionID, token, nil); s["phase"] != "completed" || s["signature"] != g.key.sign(t, "by task") {
			t.Errorf("session: %v", s)
		}

		// Started over HTTP, cancelled over HTTP; the invited are notified.
		_, task = c.call(c.nodes[0], "POST", "/v1/keys/"+keyID+"/signatures?start=true", token, object{"data": "never mind"})
		g.p[3].expect("sign_invite")
		status, s := c.call(c.nodes[1], "DELETE", "/v1/sessions/"+task["session_id"].(string), token, nil)
		if status != http.StatusOK || s["phase"] != "cancelled" {
			t.Errorf("cancel: %d %v", status, s)
		}
		if got := g.coordinator.expect("sign_complete"); got["status"] != "cancelled" {
			t.Errorf("sign_complete = %v", got)
		}

		_, sessions := c.call(c.nodes[0], "GET", "/v1/sessions?limit=2", token, nil)
		if items, _ := sessions["items"].([]any); len(items) != 2 || sessions["next"] == nil {
			t.Errorf("sessions: %v", sessions)
		}
		if _, keys := c.call(c.nodes[0], "GET", "/v1/keys", c.token(partNames[2], wire.RoleParticipant), nil); len(keys["items"].([]any)) != 1 {
			t.Errorf("a holder's keys: %v", keys)
		}
		for _, path := range []string{"/v1/keys/" + keyID, "/v1/sessions/" + sessionID} {
			if status, problem := c.call(c.nodes[0], "GET", path, mallory.token, nil); status != http.StatusNotFound || problem["code"] != "not_found" {
				t.Errorf("a stranger's GET %s: %d %v", path, status, problem)
			}
		}
	})
}

func TestWebRefusals(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, nil, func(t *testing.T, c *testCluster) {
		n := c.nodes[0]
		alice, bob := c.token("alice", wire.RoleCoordinator), c.token("bob", wire.RoleParticipant)
		task := object{"threshold": 2, "total_parts": 3, "participants": []string{"bob", "carol", "dave"}}
		for _, tc := range []struct {
			name, method, path, token string
			body                      any
			status                    int
			code                      wire.Code
		}{
			{"no token", "GET", "/v1/keys", "", nil, 401, wire.CodeUnauthenticated},
			{"a bad token", "GET", "/v1/keys", "x.y.z", nil, 401, wire.CodeUnauthenticated},
			{"an expired token", "GET", "/v1/keys", c.expired("alice"), nil, 401, wire.CodeTokenExpired},
			{"a participant reserves a key", "POST", "/v1/keys", bob, task, 403, wire.CodeForbidden},
			{"malformed JSON", "POST", "/v1/keys", alice, "{", 400, wire.CodeBadRequest},
			{"two values", "POST", "/v1/keys", alice, "{}{}", 400, wire.CodeBadRequest},
			{"a huge body", "POST", "/v1/keys", alice, `{"x":"` + strings.Repeat("x", 2<<20) + `"}`, 413, wire.CodeTooLarge},
			{"a bad threshold", "POST", "/v1/keys", alice, object{"threshold": 1, "participants": []string{"bob", "carol"}}, 400, wire.CodeBadRequest},
			{"an unknown key", "GET", "/v1/keys/none", alice, nil, 404, wire.CodeNotFound},
			{"an id that is none", "GET", "/v1/keys/%7Ba%7D", alice, nil, 404, wire.CodeNotFound},
			{"an unknown session", "DELETE", "/v1/sessions/none", alice, nil, 404, wire.CodeNotFound},
			{"an unknown path", "GET", "/v1/none", alice, nil, 404, wire.CodeNotFound},
			{"a bad limit", "GET", "/v1/keys?limit=0", alice, nil, 400, wire.CodeBadRequest},
			{"a wrong password", "POST", "/v1/login", "", object{"username": "alice", "password": "no"}, 401, wire.CodeUnauthenticated},
		} {
			status, problem := c.call(n, tc.method, tc.path, tc.token, tc.body)
			if status != tc.status || problem["code"] != string(tc.code) {
				t.Errorf("%s: got %d %v, want %d %s", tc.name, status, problem, tc.status, tc.code)
			}
		}
		if n.status("/healthz") != http.StatusOK {
			t.Error("not healthy")
		}
	})
}

func (c *testCluster) expired(user string) string {
	c.t.Helper()
	claims := jwt.MapClaims{"sub": user, "role": "coordinator", "exp": time.Now().Add(-time.Hour).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(testSecret))
	if err != nil {
		c.t.Fatal(err)
	}
	return token
}
