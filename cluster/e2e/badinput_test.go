package e2e_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestBadInput sends every kind of malformed, forged and unauthorised message
// to a real node: each is refused with the right code, and nothing changes.
func TestBadInput(t *testing.T) {
	t.Parallel()
	eachCluster(t, 2, append([]string{"--register-limit", "-1"}, withKEK...), func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		c.settled()
		before := c.stable()

		req := func(change object) object {
			o := object{"key_id": "fresh", "threshold": 2, "total_parts": 3, "participants": partNames[1:]}
			for k, v := range change {
				o[k] = v
			}
			return o
		}
		sign := func(change object) object {
			o := object{"key_id": g.keyID, "data": "x", "account_addr": g.key.address}
			for k, v := range change {
				o[k] = v
			}
			return o
		}
		long := strings.Repeat("k", 200)
		for _, tc := range []struct {
			name    string
			from    *seedClient
			kind    string
			payload any
			code    wire.Code
		}{
			{"unknown type", g.coordinator, "make_coffee", object{}, wire.CodeUnknownType},
			{"a server's type", g.p[1], "sign_complete", object{"key_id": g.keyID}, wire.CodeUnknownType},
			{"payload of the wrong type", g.coordinator, "keygen_request", "text", wire.CodeBadRequest},
			{"no payload", g.coordinator, "keygen_request", nil, wire.CodeBadRequest},
			{"field of the wrong type", g.coordinator, "keygen_request", req(object{"threshold": "two"}), wire.CodeBadRequest},
			{"field missing", g.coordinator, "keygen_request", req(object{"key_id": ""}), wire.CodeBadRequest},
			{"threshold of one", g.coordinator, "keygen_request", req(object{"threshold": 1}), wire.CodeBadRequest},
			{"threshold over the parts", g.coordinator, "keygen_request", req(object{"threshold": 4}), wire.CodeBadRequest},
			{"negative threshold", g.coordinator, "keygen_request", req(object{"threshold": -2}), wire.CodeBadRequest},
			{"parts that do not add up", g.coordinator, "keygen_request", req(object{"total_parts": 4}), wire.CodeBadRequest},
			{"a participant twice", g.coordinator, "keygen_request", req(object{"participants": []string{"bob", "bob", "carol"}}), wire.CodeBadRequest},
			{"unknown curve", g.coordinator, "keygen_request", req(object{"curve": "p256"}), wire.CodeBadRequest},
			{"id with braces", g.coordinator, "keygen_request", req(object{"key_id": "{a}"}), wire.CodeBadRequest},
			{"id with a colon", g.coordinator, "keygen_request", req(object{"key_id": "a:shares"}), wire.CodeBadRequest},
			{"id with a control character", g.coordinator, "keygen_request", req(object{"key_id": "a\r\nDEL x"}), wire.CodeBadRequest},
			{"id of 200 bytes", g.coordinator, "keygen_request", req(object{"key_id": long}), wire.CodeBadRequest},
			{"participant with a colon", g.coordinator, "keygen_request", req(object{"participants": []string{"a:b", "bob", "carol"}}), wire.CodeBadRequest},
			{"an active key again, otherwise", g.coordinator, "keygen_request", req(object{"key_id": g.keyID, "threshold": 3}), wire.CodeConflict},
			{"participant asks for a key", g.p[1], "keygen_request", req(nil), wire.CodeForbidden},
			{"participant asks for a signature", g.p[1], "sign_request", sign(nil), wire.CodeForbidden},
			{"unknown key", g.coordinator, "sign_request", sign(object{"key_id": "nobody"}), wire.CodeNotFound},
			{"another account's address", g.coordinator, "sign_request", sign(object{"account_addr": newFakeKey(t).address}), wire.CodeBadRequest},
			{"a stranger as participant", g.coordinator, "sign_request", sign(object{"participants": []string{"bob@example.org", "mallory"}}), wire.CodeBadRequest},
			{"too few participants", g.coordinator, "sign_request", sign(object{"participants": []string{"bob@example.org"}}), wire.CodeBadRequest},
			{"odd hex", g.coordinator, "sign_request", sign(object{"data": "0x123"}), wire.CodeBadRequest},
			{"unknown hash", g.coordinator, "sign_request", sign(object{"hash": "md5"}), wire.CodeBadRequest},
			{"coordinator answers", g.coordinator, "sign_response", object{"key_id": g.keyID, "part_index": 1, "response": true}, wire.CodeForbidden},
			{"another's part_index", g.p[2], "keygen_response", object{"key_id": g.keyID, "part_index": 1, "response": true}, wire.CodeForbidden},
			{"a part_index of nobody", g.p[2], "keygen_complete", object{"key_id": g.keyID, "part_index": 9, "account_addr": g.key.address, "share_json": "{}"}, wire.CodeForbidden},
			{"response missing", g.p[2], "keygen_response", object{"key_id": g.keyID, "part_index": 2}, wire.CodeBadRequest},
			{"no open signing", g.p[2], "sign_response", object{"key_id": g.keyID, "part_index": 2, "response": true}, wire.CodeNotFound},
			{"unknown session", g.p[2], "sign_result", object{"key_id": g.keyID, "part_index": 2, "signature": "0x00", "session_id": "sg-none"}, wire.CodeNotFound},
			{"cancel what one does not own", g.p[2], "session_cancel", object{"session_id": c.keygenOf(g.keyID)}, wire.CodeForbidden},
			{"register twice", g.p[2], "register", object{"user_id": g.p[2].user, "role": "participant"}, wire.CodeConflict},
		} {
			tc.from.send(tc.kind, tc.payload)
			e := tc.from.expect("error")
			if e["code"] != string(tc.code) {
				t.Errorf("%s: got %v (%v), want %s", tc.name, e["code"], e["error"], tc.code)
			}
			if e["request_type"] != tc.kind {
				t.Errorf("%s: request_type is %v", tc.name, e["request_type"])
			}
			tc.from.calm()
		}
		if diff := cmp.Diff(before, c.stable()); diff != "" {
			t.Errorf("refused messages changed something (-before +after):\n%s", diff)
		}
		for i, s := range []*seedClient{g.coordinator, g.p[1], g.p[2], g.p[3]} {
			if n := s.count("keygen_invite") + s.count("sign_invite"); i > 0 && n != 1 {
				t.Errorf("%s was invited %d times", s.user, n)
			}
		}
	})
}

// calm replaces a connection before it is closed for its many faults.
func (s *seedClient) calm() {
	s.t.Helper()
	s.drop()
	s.expectClosed(0)
	s.connect(s.c.nodes[0])
}

// stable returns the content of sessions and keys: a refused message must not change
// any of it.
func (c *testCluster) stable() map[string]string {
	kept := make(map[string]string)
	for key, content := range c.everything() {
		for _, area := range []string{"session:", "key:", "sessions:due", "index:"} {
			if strings.HasPrefix(strings.TrimPrefix(key, c.prefix), area) {
				kept[key] = content
			}
		}
	}
	return kept
}

func (c *testCluster) keygenOf(keyID string) string {
	c.t.Helper()
	id, err := c.rdb.HGet(context.Background(), c.prefix+"key:{"+keyID+"}", "session").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	return id
}

// TestBadTokens registers, and sends, with invalid tokens.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, nil, func(t *testing.T, c *testCluster) {
		signed := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
			token, err := jwt.NewWithClaims(method, claims).SignedString(key)
			if err != nil {
				t.Fatal(err)
			}
			return token
		}
		in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
		good := jwt.MapClaims{"sub": "frank", "role": "participant", "exp": in(time.Hour)}
		secret := []byte(testSecret)
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." +
			strings.Split(signed(jwt.SigningMethodHS256, secret, good), ".")[1] + "."
		for _, tc := range []struct {
			name, token string
			code        wire.Code
		}{
			{"none at all", "", wire.CodeUnauthenticated},
			{"no JWT", "frank", wire.CodeUnauthenticated},
			{"alg none", none, wire.CodeUnauthenticated},
			{"forged", signed(jwt.SigningMethodHS256, []byte("another secret of 32 bytes, or more"), good), wire.CodeUnauthenticated},
			{"another algorithm", signed(jwt.SigningMethodHS512, secret, good), wire.CodeUnauthenticated},
			{"expired", signed(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "frank", "role": "participant", "exp": in(-time.Hour)}), wire.CodeTokenExpired},
			{"for ever", signed(jwt.SigningMethodHS256, secret, jwt.MapClaims{"sub": "frank", "role": "participant"}), wire.CodeUnauthenticated},
			{"another's", c.token("grace", wire.RoleParticipant), wire.CodeForbidden},
			{"of another role", c.token("frank", wire.RoleCoordinator), wire.CodeForbidden},
		} {
			s := c.client("frank", wire.RoleParticipant)
			s.token = tc.token
			s.dial(c.nodes[0])
			s.send("register", object{"user_id": s.user, "role": s.role})
			if e := s.expect("error"); e["code"] != string(tc.code) {
				t.Errorf("register with a token that is %s: got %v (%v), want %s", tc.name, e["code"], e["error"], tc.code)
			}
			s.drop()

			// The same token in a later message is refused too.
			s = c.client("frank", wire.RoleParticipant).connect(c.nodes[0])
			s.token = tc.token
			s.send("ping", object{})
			e := s.expect("error")
			if tc.name != "of another role" && e["code"] != string(tc.code) {
				t.Errorf("ping with a token that is %s: got %v, want %s", tc.name, e["code"], tc.code)
			}
			s.drop()
		}
	})
}

// TestBadFrames sends invalid frames, before and after register.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	eachCluster(t, 1, []string{"--max-message-bytes", "65536"}, func(t *testing.T, c *testCluster) {
		s := c.client("heidi", wire.RoleParticipant)
		s.dial(c.nodes[0])
		s.send("keygen_response", object{"key_id": "k", "part_index": 1, "response": true})
		s.expectError(wire.CodeNotRegistered)
		s.drop()

		s.connect(c.nodes[0])
		for _, frame := range []string{"", "nonsense", "[]", "null", `{"type":7}`, `{"type":"sign_result"`, `{"payload":{}}`, "\xff\xfe"} {
			if err := s.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			if frame == "\xff\xfe" { // not UTF-8: not a valid text frame
				continue
			}
			s.expectError(wire.CodeBadRequest)
		}
		s.drop()

		s = c.client("heidi", wire.RoleParticipant).connect(c.nodes[0])
		s.sendEnvelope(object{"type": "ping", "token": s.token, "payload": object{"pad": strings.Repeat("x", 70000)}})
		s.expectClosed(0)
		if n := s.count("error"); n != 1 {
			t.Errorf("%d errors for an oversized message, want one that says so", n)
		}

		// A client that keeps on sending them is cut off.
		s = c.client("heidi", wire.RoleParticipant).connect(c.nodes[0])
		for i := range 200 {
			s.sendEnvelope(object{"type": fmt.Sprintf("bad-%d", i), "token": s.token})
		}
		s.expectClosed(wire.CloseAbuse)
	})
}
