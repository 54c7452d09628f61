package policy

import (
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
)

// TestReshareRule: a rule says who may enter a committee and which thresholds it may
// have, and rules for other kinds allow no reshare.
func TestReshareRule(t *testing.T) {
	p, err := Parse([]byte(`{"version": 1, "rules": [
		{"name": "care", "coordinators": ["alice"], "kinds": ["reshare"], "keys": ["k1"], "participants": ["bob", "carol", "dave"], "min_threshold": 2},
		{"name": "strict", "coordinators": ["erin"], "kinds": ["reshare"], "keys": ["*"], "participants": ["*"], "min_threshold": 3},
		{"name": "data", "coordinators": ["frank"], "kinds": ["sign"], "keys": ["*"], "hashes": ["none"], "any_data": true},
		{"name": "keys", "coordinators": ["frank"], "kinds": ["keygen"], "keys": ["*"], "participants": ["*"]},
		{"name": "both", "coordinators": ["gina"], "kinds": ["sign", "reshare"], "keys": ["*"], "hashes": ["none"], "any_data": true, "participants": ["bob", "carol"], "min_threshold": 2}
	]}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	asks := func(who, key string, threshold int, users ...string) statement.Request {
		r := statement.Request{Kind: reshare, Coordinator: who, KeyID: key, Threshold: threshold}
		for i, user := range users {
			r.Members = append(r.Members, identity.Member{Index: i + 1, User: user})
		}
		return r
	}
	for name, tc := range map[string]struct {
		q    statement.Request
		want string // of the refusal
	}{
		"allowed":                 {asks("alice", "k1", 2, "bob", "dave"), ""},
		"a stranger enters":       {asks("alice", "k1", 2, "bob", "mallory"), "mallory is not one of the participants"},
		"another key":             {asks("alice", "k2", 2, "bob", "dave"), "no rule"},
		"a low threshold":         {asks("erin", "k1", 2, "x", "y", "z"), "threshold 2 is below 3"},
		"a higher threshold":      {asks("erin", "k1", 3, "x", "y", "z"), ""},
		"rules for other kinds":   {asks("frank", "k1", 2, "bob", "carol"), "no rule"},
		"a rule for both":         {asks("gina", "k1", 2, "bob", "carol"), ""},
		"a rule for both, others": {asks("gina", "k1", 2, "bob", "dave"), "dave is not"},
	} {
		ok, reason, err := p.Decide("s", tc.q)
		if err != nil || ok != (tc.want == "") || !strings.Contains(reason, tc.want) {
			t.Errorf("%s: got %t, %q, %v, want %q", name, ok, reason, err, tc.want)
		}
	}
	for _, rule := range []string{
		`{"name": "x", "coordinators": ["a"], "kinds": ["reshare"], "keys": ["*"], "participants": ["*"]}`,
		`{"name": "x", "coordinators": ["a"], "kinds": ["reshare"], "keys": ["*"], "participants": ["*"], "min_threshold": 1}`,
		`{"name": "x", "coordinators": ["a"], "kinds": ["reshare"], "keys": ["*"], "min_threshold": 2}`,
		`{"name": "x", "coordinators": ["a"], "kinds": ["keygen"], "keys": ["*"], "participants": ["*"], "min_threshold": 2}`,
		`{"name": "x", "coordinators": ["a"], "kinds": ["reshare"], "keys": ["*"], "participants": ["*"], "min_threshold": 2, "any_data": true}`,
	} {
		if _, err := Parse([]byte(`{"version": 1, "rules": [`+rule+`]}`), nil); err == nil {
			t.Errorf("accepted: %s", rule)
		}
	}
}
