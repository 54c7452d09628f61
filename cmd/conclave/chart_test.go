package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// story is the states of a signing in which carol's attempt fails and dave takes her
// place.
func story() []rest.SessionInfo {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := rest.SessionInfo{
		SessionID: "sg-1", Kind: "sign", Phase: "inviting", KeyID: "treasury", Coordinator: "alice", Curve: "ed25519", Threshold: 2,
		Participants: []string{"bob", "carol", "dave"}, Data: "pay bob", CreatedAt: at,
		Responses: []rest.PartInfo{{PartIndex: 1, UserID: "bob", Invited: true}, {PartIndex: 2, UserID: "carol", Invited: true}, {PartIndex: 3, UserID: "dave", Invited: true}},
	}
	states := []rest.SessionInfo{s}
	next := func(change func(*rest.SessionInfo)) {
		s := states[len(states)-1]
		s.Responses = append([]rest.PartInfo{}, s.Responses...)
		change(&s)
		states = append(states, s)
	}
	next(func(s *rest.SessionInfo) { s.Responses[1].Response = "accepted" })
	next(func(s *rest.SessionInfo) {
		s.Responses[0].Response, s.Phase, s.Attempt, s.Signers = "accepted", "running", 1, []int{1, 2}
	})
	next(func(s *rest.SessionInfo) { s.Culprits, s.Signers = []int{2}, nil })
	next(func(s *rest.SessionInfo) {
		s.Responses[2].Response, s.Attempt, s.Signers = "accepted", 2, []int{1, 3}
	})
	next(func(s *rest.SessionInfo) {
		s.Responses[0].Result, s.Phase, s.EndedAt = "verified", "completed", at.Add(1500*time.Millisecond)
	})
	return states
}

// drawn is the output of watching states on a screen of that width.
func drawn(states []rest.SessionInfo, width int) string {
	plain := &console{}
	c := newChart(states[0], width, plain)
	lines := c.head()
	var before rest.SessionInfo
	for _, now := range states {
		for _, s := range steps(before, now) {
			lines = append(lines, c.line(s))
		}
		lines = append(lines, "# "+clean(pending(now)))
		before = now
	}
	return strings.Join(lines, "\n") + "\n"
}

// TestChart: the transcripts document the output of watching. CONCLAVE_UPDATE=1
// rewrites them.
func TestChart(t *testing.T) {
	t.Parallel()
	wide, many, foreign := story(), story(), story()
	for i := range many {
		for j := range 8 {
			many[i].Participants = append(many[i].Participants, fmt.Sprintf("user-%d", j))
		}
	}
	for i := range foreign {
		foreign[i].Coordinator = "协调方"
		foreign[i].Participants = []string{"参与方一", "a-very-long-name-of-a-user@example.com", "dave\x1b[2J"}
	}
	last := wide[len(wide)-1:]
	for name, got := range map[string]string{
		"wide": drawn(wide, 160), "80": drawn(wide, 80), "narrow": drawn(wide, 40), "many": drawn(many, 120), "foreign": drawn(foreign, 120),
		"over": drawn(last, 160),
	} {
		path := filepath.Join("testdata", "chart", name+".golden")
		if os.Getenv("CONCLAVE_UPDATE") == "1" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if strings.Contains(got, "\x1b") {
			t.Errorf("%s has an escape sequence", name)
		}
		width := map[string]int{"80": 80, "many": 120, "foreign": 120}[name]
		for line := range strings.Lines(got) {
			if width > 0 && !strings.HasPrefix(line, "#") && columns(strings.TrimSuffix(line, "\n")) > width {
				t.Errorf("%s: a line has more than %d columns: %s", name, width, line)
			}
		}
	}
}

// TestStepsFillUp: a session watched from the beginning or only at the end gives the
// same chart, except for details that later states omit.
func TestStepsFillUp(t *testing.T) {
	t.Parallel()
	states := story()
	var before rest.SessionInfo
	seen := map[step]int{}
	for _, now := range states {
		for _, s := range steps(before, now) {
			seen[s]++
		}
		if again := steps(now, now); len(again) > 0 {
			t.Errorf("nothing has changed, and yet: %v", again)
		}
		before = now
	}
	for s, n := range seen {
		if n > 1 {
			t.Errorf("%v was drawn %d times", s, n)
		}
	}
	for _, s := range steps(rest.SessionInfo{}, states[len(states)-1]) {
		if seen[s] == 0 {
			t.Errorf("only the last state tells of %v", s)
		}
	}
}
