package e2e_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/node"
	"github.com/conclave-mpc/conclave/cluster/redistest/docstest"
)

// documentedKeys is the table of keys in OPERATIONS, as patterns with their types.
func documentedKeys(t *testing.T, prefix string) map[*regexp.Regexp]string {
	t.Helper()
	page := docstest.Section(t, docstest.Operations, "## Redis keys")
	rows := regexp.MustCompile("(?m)^\\| `([a-z]+[^`]*)` \\| (hash|stream|string|set|zset|pub/sub) \\|").FindAllStringSubmatch(page, -1)
	keys := make(map[*regexp.Regexp]string)
	for _, row := range rows {
		pattern := regexp.QuoteMeta(strings.ReplaceAll(row[1], "{conclave:", "{"+prefix))
		pattern = regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllString(pattern, `\{[^{}:]+\}`)
		keys[regexp.MustCompile("^"+regexp.QuoteMeta(prefix)+pattern+"$")] = row[2]
	}
	if len(keys) < 10 {
		t.Fatalf("the table of keys has only %d rows", len(keys))
	}
	return keys
}

// TestKeysDocumented runs both flows and checks every key that Redis has then, or
// had meanwhile, against the table in OPERATIONS.
func TestKeysDocumented(t *testing.T) {
	t.Parallel()
	flags := append([]string{"--login-address-limit", "6"}, withKEK...) // a failed login is remembered for 10 s
	eachCluster(t, 2, flags, func(t *testing.T, c *testCluster) {
		documented := documentedKeys(t, c.prefix)
		g := gatherParts(t, c)
		seen := make(map[string]string)
		note := func() {
			ctx := context.Background()
			for it := c.rdb.Scan(ctx, 0, c.prefix+"*", 500).Iterator(); it.Next(ctx); {
				if kind := c.rdb.Type(ctx, it.Val()).Val(); kind != "none" {
					seen[it.Val()] = kind
				}
			}
		}
		g.coordinator.send("keygen_request", object{"key_id": "watched", "threshold": 2, "total_parts": 3, "participants": partNames[1:]})
		g.p[1].expect("keygen_invite")
		note() // while the session is open
		g.p[1].send("keygen_response", object{"key_id": "watched", "part_index": 1, "response": false})
		g.coordinator.expect("keygen_confirm")
		for i := 2; i <= 3; i++ {
			g.p[i].expect("keygen_invite")
		}
		g.keygen(t)
		g.sign(t, "keys", 1, 2)
		signature := "/v1/keys/" + g.keyID + "/signatures?start=true&wait=1ms"
		if status, answer := c.callOnce(c.nodes[0], signature, g.coordinator.token, "order-1", object{"data": "over HTTP"}); status != 201 {
			t.Errorf("a task: %d %v", status, answer)
		}
		c.addUser("zoe", "participant")
		absent := object{"threshold": 2, "participants": []string{partNames[1], "zoe"}}
		if status, answer := c.callOnce(c.nodes[0], "/v1/keys?start=true", g.coordinator.token, "order-2", absent); status != 201 {
			t.Errorf("a keygen with one who was never here: %d %v", status, answer)
		}
		if err := node.SetUserDisabled(context.Background(), c.config(), "zoe", true); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			c.tryLogin(c.nodes[0], "zoe", "a guess, and wrong", "")
		}
		note()
		c.addUser("yve", "participant")
		c.login(c.nodes[0], "yve")
		renewable := object{"username": "yve", "password": testPassword, "refresh": true}
		if status, answer := c.call(c.nodes[0], "POST", "/v1/login", "", renewable); status != 200 || answer["refresh_token"] == nil {
			t.Errorf("a login that can be renewed: %d %v", status, answer)
		}
		note()
		used := make(map[*regexp.Regexp]bool)
		for key, kind := range seen {
			known := false
			for pattern, want := range documented {
				if pattern.MatchString(key) {
					known, used[pattern] = true, true
					if kind != want {
						t.Errorf("%s is a %s, documented as %s", key, kind, want)
					}
				}
			}
			if !known {
				t.Errorf("%s (%s) is in no row of the table in OPERATIONS", key, kind)
			}
		}
		for pattern, kind := range documented {
			text := pattern.String()
			rare := strings.Contains(text, "lock:") || strings.Contains(text, "account:") || strings.Contains(text, "outbox") || strings.Contains(text, ":old") || strings.Contains(text, "webhooks") || strings.Contains(text, ":epochs") || strings.Contains(text, ":lineage") || strings.Contains(text, "accounts:lock")
			if !used[pattern] && kind != "pub/sub" && !rare {
				t.Errorf("OPERATIONS documents %s, which no key was", text)
			}
		}
	})
}
