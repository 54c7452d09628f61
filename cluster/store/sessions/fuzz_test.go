package sessions

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/session"
)

// FuzzParseEpoch gives the parser of an epoch's record any text: a parsed record
// survives another round trip.
func FuzzParseEpoch(f *testing.F) {
	text, err := encodeEpoch(session.Epoch{Number: 3, Parent: 1, Threshold: 2, Participants: []string{"alice", "bob"}, Session: "rs-1", Certificate: "0x1", Bytes: -5})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("3", text)
	f.Add("1", `{"threshold":2,"participants":["a","b"],"certified_at":"2026-11-30T22:00:00+02:00"}`)
	f.Fuzz(func(t *testing.T, number, text string) {
		e, err := parseEpoch(number, text)
		if err != nil {
			return
		}
		again, err := encodeEpoch(e)
		if err != nil {
			return // a time that JSON cannot hold
		}
		if got, err := parseEpoch(number, again); err != nil || cmp.Diff(e, got) != "" {
			t.Errorf("%v\n%s", err, cmp.Diff(e, got))
		}
	})
}

// FuzzParseRecord gives the parsers of sessions and keys any hash: a parsed record
// survives another round trip.
func FuzzParseRecord(f *testing.F) {
	for _, pairs := range [][]any{
		encodeSession(session.Session{
			Kind: session.Sign, Version: 3, Threshold: 2, Signers: []int{1, 3}, Quorums: []string{"1,2"},
			Parties: []session.Party{{User: "alice", Invited: true}, {User: "bob", Out: true, Strikes: 2}},
		}),
		encodeKey(session.Key{Status: "active", Participants: []string{"alice", "bob"}, Threshold: 2}),
	} {
		text, err := json.Marshal(stored(pairs))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"participants":",,","version":"9223372036854775808","created_at":"now"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var fields map[string]string
		if json.Unmarshal(text, &fields) != nil {
			return
		}
		if s, err := parseSession("id", fields); err == nil {
			again, err := parseSession("id", stored(encodeSession(s)))
			if diff := cmp.Diff(s, again); diff != "" || err != nil {
				t.Errorf("session: %v\n%s", err, diff)
			}
		}
		if k, err := parseKey("id", fields); err == nil {
			again, err := parseKey("id", stored(encodeKey(k)))
			if diff := cmp.Diff(k, again); diff != "" || err != nil {
				t.Errorf("key: %v\n%s", err, diff)
			}
		}
	})
}
