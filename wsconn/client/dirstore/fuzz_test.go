package dirstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzJournal opens a journal with any content: it is read or refused, and one that
// is read can be written and read again, with nothing lost.
func FuzzJournal(f *testing.F) {
	ended := record("s2", participant.Accepted, 3)
	ended.Ended = true
	whole := ""
	for _, r := range []participant.Record{record("s1", "", 0), record("s2", participant.Accepted, 1), ended} {
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
		if err := errors.Join(j.Write(context.Background(), record("another", participant.Accepted, 1)), j.close()); err != nil {
			t.Fatal(err)
		}
		after, err := j.Open(context.Background())
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		for _, r := range before {
			i := slices.IndexFunc(after, func(o participant.Record) bool { return o.Invitation.SessionID == r.Invitation.SessionID })
			if r.Invitation.SessionID != "another" && (i < 0 || after[i].Attempt != r.Attempt || after[i].Answer != r.Answer) {
				t.Errorf("forgot %+v", r)
			}
		}
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzKnownIdentities: for any file of known identities, a user is trusted under at
// most one identity from then on.
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
		s := &Store{dir: dir}
		if !wire.ValidID(user) {
			return // the server cannot make one
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
