package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzJournal opens a journal that holds anything: it is read or refused, and
// one that is read can be written and read again, with nothing forgotten.
func FuzzJournal(f *testing.F) {
	ended := record("s2", Accepted, 3)
	ended.Ended = true
	whole := ""
	for _, r := range []Record{record("s1", "", 0), record("s2", Accepted, 1), ended} {
		text, err := encodeLine(r, true)
		if err != nil {
			f.Fatal(err)
		}
		whole += string(text)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(strings.Replace(whole, `"attempt":1`, `"attempt":-1`, 1))
	f.Add("{}\n")
	f.Add("null\n")
	f.Fuzz(func(t *testing.T, content string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal.log"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		j := &fileJournal{dir: dir}
		before, err := j.Open(context.Background())
		if err != nil {
			if after, err := os.ReadFile(filepath.Join(dir, "journal.log")); err != nil || string(after) != content {
				t.Errorf("refusing it changed the file: %v", err)
			}
			return
		}
		if err := errors.Join(j.Write(context.Background(), record("another", Accepted, 1)), j.close()); err != nil {
			t.Fatal(err)
		}
		after, err := j.Open(context.Background())
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for _, r := range before {
			i := slices.IndexFunc(after, func(o Record) bool { return o.Invitation.SessionID == r.Invitation.SessionID })
			if r.Invitation.SessionID != "another" && (i < 0 || after[i].Attempt != r.Attempt || after[i].Answer != r.Answer) {
				t.Errorf("forgot %+v", r)
			}
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzKnownIdentities: whatever the file of known identities holds, a user is
// trusted under at most one identity from then on.
func FuzzKnownIdentities(f *testing.F) {
	id, other := partytest.Identity(f).Public(), partytest.Identity(f).Public()
	f.Add("alice "+id.String()+"\n", "alice")
	f.Add("# text\n\nbob "+other.String()+"\r\nalice "+id.String(), "alice")
	f.Add("alice\n", "alice")
	f.Add("alice "+id.String()+" more\n", "alice")
	f.Add("bob "+id.String(), "alice") // nothing ends the line
	f.Add("0", "1")
	f.Fuzz(func(t *testing.T, content, user string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "known_identities"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := &DirStore{dir: dir}
		if !wire.ValidID(user) {
			return // no server's word makes one
		}
		first, second := s.Trust(user, id), s.Trust(user, other)
		if first == nil && second == nil {
			t.Errorf("%q is trusted as two", user)
		}
		if first == nil && s.Trust(user, id) != nil {
			t.Errorf("%q is forgotten", user)
		}
	})
}

// FuzzParams gives a participant what a captured server may send as parameters
// of a run: none is run unless it is what was agreed to.
func FuzzParams(f *testing.F) {
	c := partytest.NewCommittee(f, 3)
	var parties []wire.Party
	for _, m := range c.Members {
		parties = append(parties, wire.Party{PartIndex: m.Index, UserID: m.User, Identity: m.Identity.String()})
	}
	users := []string{"user-1", "user-2", "user-3"}
	keygen := Invitation{Kind: KindKeygen, KeyID: "k", Threshold: 2, Participants: users, PartIndex: 1, Curve: pubkey.Ed25519}
	sign, err := digested(Invitation{Kind: KindSign, KeyID: "k", Participants: users, PartIndex: 1, Curve: pubkey.Ed25519, Data: "pay bob"})
	if err != nil {
		f.Fatal(err)
	}
	add := func(v any) {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add(wire.KeygenParams{KeyID: "k", Threshold: 2, TotalParts: 3, PartIndex: 1, Curve: "ed25519", Parties: parties})
	add(wire.KeygenParams{KeyID: "k", Threshold: 2, TotalParts: 3, PartIndex: 1, Curve: "ed25519", Parties: []wire.Party{parties[1], parties[0], parties[2]}})
	add(wire.SignParams{KeyID: "k", Data: "pay bob", PartIndex: 1, Participants: "1,3", Hash: sign.Hash, Digest: sign.Digest, Parties: []wire.Party{parties[0], parties[2]}})
	add(wire.SignParams{KeyID: "k", Data: "pay eve", PartIndex: 1, Participants: "1,3", Hash: sign.Hash, Digest: sign.Digest, Parties: parties})
	f.Fuzz(func(t *testing.T, data []byte) {
		var k wire.KeygenParams
		if json.Unmarshal(data, &k) == nil {
			if members, err := checkKeygenParams(keygen, &k); err == nil && (len(members) != 3 || members[2].User != "user-3" || k.Threshold != 2) {
				t.Errorf("took %+v", k)
			}
		}
		var s wire.SignParams
		if json.Unmarshal(data, &s) == nil {
			members, err := checkSignParams(sign, &s)
			if err != nil {
				return
			}
			for _, m := range members {
				if !slices.Contains(users, m.User) {
					t.Errorf("took %+v", s)
				}
			}
			if s.Data != sign.Data || s.Digest != sign.Digest {
				t.Errorf("took %+v", s)
			}
		}
	})
}

// FuzzProblem gives the web API's client any answer: it becomes an error.
func FuzzProblem(f *testing.F) {
	f.Add(404, []byte(`{"status":404,"code":"not_found","detail":"no such key"}`))
	f.Add(502, []byte("<html>"))
	f.Add(401, []byte(`{"code":7}`))
	request, err := http.NewRequest(http.MethodGet, "http://user:pass@host/", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		err := problem(&http.Response{StatusCode: status, Status: "status", Request: request}, body)
		if err == nil || strings.Contains(err.Error(), "user:pass") {
			t.Errorf("got %v", err)
		}
	})
}
