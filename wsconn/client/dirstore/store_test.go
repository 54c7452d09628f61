package dirstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

func dirStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// anyStore is all stores that a participant needs.
type anyStore interface {
	participant.ShareStore
	participant.Journal
	trust.Store
	Pin(user, fingerprint string) error
}

// eachStore runs a test with every store.
func eachStore(t *testing.T, test func(*testing.T, anyStore)) {
	t.Run("mem", func(t *testing.T) { test(t, &participant.MemStore{}) })
	t.Run("dir", func(t *testing.T) { test(t, dirStore(t, filepath.Join(t.TempDir(), "home"))) })
}

// newShare makes a key and returns the share of its first party.
func newShare(t *testing.T) (shareJSON string, public share.Public) {
	t.Helper()
	c := partytest.NewCommittee(t, 2)
	s := c.Keygen(t, pubkey.Ed25519, 2)[0]
	text, err := s.Seal(c.Identities[0].Recipient())
	if err != nil {
		t.Fatal(err)
	}
	return text, s.Public()
}

func TestShareStores(t *testing.T) {
	text, public := newShare(t)
	eachStore(t, func(t *testing.T, s anyStore) {
		ctx := context.Background()
		if _, err := s.Get(ctx, public.KeyID, ""); !errors.Is(err, participant.ErrNoShare) {
			t.Errorf("empty store: got %v, want ErrNoShare", err)
		}
		if err := s.Put(ctx, "{}"); err == nil {
			t.Error("stored what is no share")
		}
		for range 2 {
			if err := s.Put(ctx, text); err != nil {
				t.Fatal(err)
			}
		}
		for _, address := range []string{"", public.AccountAddr} {
			got, err := s.Get(ctx, public.KeyID, address)
			if err != nil || got != text {
				t.Errorf("Get(%q): %v, equal %t", address, err, got == text)
			}
		}
		if _, err := s.Get(ctx, public.KeyID, "other"); !errors.Is(err, participant.ErrNoShare) {
			t.Errorf("other address: got %v, want ErrNoShare", err)
		}
		list, err := s.List(ctx)
		if err != nil || len(list) == 0 || list[0].KeyID != public.KeyID {
			t.Errorf("List: %v, %v", list, err)
		}
	})
}

func TestTrustOnFirstUse(t *testing.T) {
	a, b := partytest.Identity(t).Public(), partytest.Identity(t).Public()
	eachStore(t, func(t *testing.T, s anyStore) {
		for range 2 {
			if err := errors.Join(s.Trust("alice", a), s.Trust("bob", b)); err != nil {
				t.Fatal(err)
			}
		}
		err := s.Trust("alice", b)
		if !errors.Is(err, trust.ErrIdentityChanged) || !strings.Contains(err.Error(), a.Fingerprint()) {
			t.Errorf("got %v, want ErrIdentityChanged with both fingerprints", err)
		}
		if err := s.Trust("alice", a); err != nil {
			t.Errorf("after an impostor: %v", err)
		}
	})
}

func record(id string, answer participant.Answer, attempt int) participant.Record {
	return participant.Record{
		Invitation: participant.Invitation{Kind: request.KindSign, SessionID: id, KeyID: "k", Data: "d", Participants: []string{"a", "b"}},
		At:         time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Answer: answer, Attempt: attempt,
	}
}

func TestJournals(t *testing.T) {
	eachStore(t, func(t *testing.T, s anyStore) {
		ctx := context.Background()
		write := func(r participant.Record) {
			t.Helper()
			if err := s.Write(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		write(record("s2", "", 0))
		write(record("s1", "", 0))
		write(record("s1", participant.Accepted, 0))
		write(record("s1", participant.Accepted, 3))
		if d, ok := s.(*Store); ok { // as a new process would see it
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
		}
		open, err := s.Open(ctx)
		if diff := cmp.Diff([]participant.Record{record("s1", participant.Accepted, 3), record("s2", "", 0)}, open); diff != "" || err != nil {
			t.Errorf("open records: %v\n%s", err, diff)
		}
		ended := record("s1", participant.Accepted, 3)
		ended.Ended = true
		write(ended)
		write(record("s1", participant.Accepted, 1)) // too late
		r, ok, err := s.Read(ctx, "s1")
		if err != nil || !ok || !r.Ended || r.Attempt != 3 {
			t.Errorf("ended: %+v, %t, %v", r, ok, err)
		}
		if _, ok, _ := s.Read(ctx, "none"); ok {
			t.Error("knows a session that never was")
		}
	})
}

func TestJournalAfterCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	ctx := context.Background()
	if err := s.Write(ctx, record("s1", participant.Accepted, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "journal.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Half of the next line was written.
	if err := os.WriteFile(path, append(whole, `{"session_id":"s1","att`...), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, ok, err := s.Read(ctx, "s1"); err != nil || !ok || r.Attempt != 1 {
		t.Errorf("got %+v, %t, %v", r, ok, err)
	}
	if err := errors.Join(s.Write(ctx, record("s1", participant.Accepted, 2)), s.Close()); err != nil {
		t.Fatal(err)
	}
	if r, _, err := s.Read(ctx, "s1"); err != nil || r.Attempt != 2 {
		t.Errorf("got %+v, %v", r, err)
	}
	// Damage elsewhere could hide a run that must not be repeated.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append([]byte("garbage\n"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(ctx); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v, want an error that names the line", err)
	}
}

func TestJournalIsRewritten(t *testing.T) {
	t.Parallel()
	s := dirStore(t, filepath.Join(t.TempDir(), "home"))
	ctx := context.Background()
	rewritten := false
	for i := range 200 {
		r := record(fmt.Sprint("s", i), "", 0)
		r.Invitation.Data = strings.Repeat("d", 50_000)
		before := s.size
		for _, step := range []func(){func() {}, func() { r.Answer = participant.Accepted }, func() { r.Attempt = 1 }, func() { r.Ended = i%50 != 7 }} {
			step()
			if err := s.Write(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		if s.size > journalFactor*s.inForce()+journalSlack {
			t.Fatalf("journal has %d bytes, %d are in force", s.size, s.inForce())
		}
		if info, err := os.Stat(s.path()); err != nil || info.Size() != s.size {
			t.Fatalf("file has %d bytes, want %d, %v", info.Size(), s.size, err)
		}
		rewritten = rewritten || s.size < before
	}
	if err := s.Close(); err != nil || !rewritten {
		t.Fatalf("rewritten: %t, %v", rewritten, err)
	}
	open, err := s.Open(ctx)
	if err != nil || len(open) != 4 || len(open[0].Invitation.Data) != 50_000 {
		t.Errorf("%d open records, %v", len(open), err)
	}
	if r, ok, err := s.Read(ctx, "s0"); err != nil || !ok || !r.Ended || r.Attempt != 1 {
		t.Errorf("forgot s0: %+v %t %v", r, ok, err)
	}
}

func TestDirStoreIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	text, _ := newShare(t)
	ctx := context.Background()
	if err := errors.Join(s.Put(ctx, text), s.Write(ctx, record("s", "", 0)), s.Trust("a", partytest.Identity(t).Public())); err != nil {
		t.Fatal(err)
	}
	a := newAging(t, 1)
	_, err := s.Numbers(ctx, a.keyID, a.address, func(n *participant.Numbers) error { return n.See(1) })
	if err := errors.Join(err, s.PutCertificate(ctx, a.certificates[1])); err != nil {
		t.Fatal(err)
	}
	err = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "0755") {
		t.Errorf("got %v, want a refusal of mode 0755", err)
	}
}

func TestDirStoreIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	first, second := dirStore(t, dir), dirStore(t, dir)
	ctx := context.Background()
	if _, err := first.Open(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open(ctx); !errors.Is(err, secret.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if _, err := second.List(ctx); err != nil {
		t.Errorf("shares cannot be read beside it: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open(ctx); err != nil {
		t.Errorf("after the first has gone: %v", err)
	}
}

func TestFileNames(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{
		"key-1", ".", "..", ".hidden", "a/b", "a\\b", "a~b", "a%b", "a%2Fb", "ключ", "鍵", "con", "a.b@c_d-e", "a\x00b", "...", "-rf", "--help", "key\u3164", "key\u1160", "用户ID", "サー",
		strings.Repeat("鍵", 42), strings.Repeat("鍵", 41) + "x", strings.Repeat("k", 128), strings.Repeat("k", 127) + "l",
	} {
		name := fileName(id)
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both %q", id, other, name)
		}
		seen[name] = id
		if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") || len(name) > 100 {
			t.Errorf("%q becomes %q", id, name)
		}
		for _, ch := range name {
			if ch > 0x7e {
				t.Errorf("%q becomes %q", id, name)
				break
			}
		}
	}
}
