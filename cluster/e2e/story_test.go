package e2e_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// logLine is a node's log line about a session.
type logLine struct {
	Time    time.Time
	Level   string
	Message string
	Node    string
	Session string
	Kind    string
	State   string
	From    string `json:"from_state"`
	Attempt *int
}

// story reads one session's lines at level info from the logs of all nodes, in
// the order of their times, as its operator would.
func (c *testCluster) story(session string) (lines []logLine) {
	c.t.Helper()
	for text := range strings.Lines(c.logs.String()) {
		if !strings.Contains(text, `"session":"`+session+`"`) {
			continue
		}
		var l logLine
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			c.t.Errorf("%s: %v", text, err)
		}
		if l.Node == "" || l.Session != session || l.Kind == "" || l.State == "" || l.Attempt == nil || l.Time.IsZero() {
			c.t.Errorf("a line does not say which node, kind, state and attempt: %s", text)
			l.Attempt = new(int)
		}
		if l.Level == "info" {
			lines = append(lines, l)
		}
	}
	slices.SortStableFunc(lines, func(a, b logLine) int { return a.Time.Compare(b.Time) })
	return lines
}

// TestSessionStory greps the logs of three nodes for a session and finds its story
// in order: created, invited, running, completed.
func TestSessionStory(t *testing.T) {
	t.Parallel()
	eachCluster(t, 3, withKEK, func(t *testing.T, c *testCluster) {
		g := gatherParts(t, c)
		g.keygen(t)
		g.coordinator.send("sign_request", object{"key_id": g.keyID, "data": "told", "account_addr": g.key.address, "participants": partNames[1:3]})
		var id string
		for i := 1; i <= 2; i++ {
			id, _ = g.p[i].expect("sign_invite")["session_id"].(string)
			g.p[i].send("sign_response", object{"key_id": g.keyID, "part_index": i, "response": true})
		}
		for i := 1; i <= 2; i++ {
			g.signParams(t, "told", i, "1,2")
			g.p[i].send("sign_result", object{"key_id": g.keyID, "part_index": i, "signature": g.key.sign(t, "told")})
		}
		g.signed(t, "told")
		type chapter struct {
			message, from, state string
			attempt              int
		}
		want := []chapter{
			{"session began", "", "inviting", 0}, {"session delivered", "", "inviting", 0},
			{"session advanced", "inviting", "running", 1}, {"session advanced", "running", "completed", 1},
		}
		var got []chapter
		eventually(t, "the end is logged", func() bool { lines := c.story(id); return len(lines) >= len(want) })
		nodes := map[string]bool{}
		for _, l := range c.story(id) {
			got = append(got, chapter{l.Message, l.From, l.State, *l.Attempt})
			nodes[l.Node] = true
			if l.Kind != "sign" {
				t.Errorf("%s is of kind %s", l.Message, l.Kind)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the story is %v, want %v", got, want)
		}
		if len(nodes) < 2 {
			t.Errorf("it is told by %v alone", nodes)
		}
		for user, registered := range c.registered() {
			if registered != 1 {
				t.Errorf("%s registered once, and is told of %d times", user, registered)
			}
		}
		g.noSecrets(t, c)
	})
}

// registered counts the log's lines about registrations, by account.
func (c *testCluster) registered() map[string]int {
	all := map[string]int{}
	for text := range strings.Lines(c.logs.String()) {
		var l struct{ Message, Account string }
		if json.Unmarshal([]byte(text), &l) == nil && l.Message == "registered" {
			all[l.Account]++
		}
	}
	return all
}
