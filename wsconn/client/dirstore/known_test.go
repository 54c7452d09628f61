package dirstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

func TestPins(t *testing.T) {
	a, b := partytest.Identity(t).Public(), partytest.Identity(t).Public()
	eachStore(t, func(t *testing.T, s anyStore) {
		if _, ok, err := s.Known("alice"); ok || err != nil {
			t.Errorf("an empty store knows alice: %v", err)
		}
		spoken := strings.ToLower(strings.ReplaceAll(a.Fingerprint(), "-", " "))
		for range 2 {
			if err := s.Pin("alice", spoken); err != nil {
				t.Fatal(err)
			}
		}
		if k, ok, err := s.Known("alice"); !ok || err != nil || k != (trust.Known{User: "alice", Fingerprint: a.Fingerprint(), Pinned: true}) {
			t.Errorf("known is %+v, %t, %v", k, ok, err)
		}
		if err := s.Trust("alice", a); err != nil {
			t.Errorf("the pinned identity: %v", err)
		}
		var changed *trust.IdentityError
		if err := s.Trust("alice", b); !errors.As(err, &changed) || *changed != (trust.IdentityError{User: "alice", Known: a.Fingerprint(), Now: b.Fingerprint(), Pinned: true}) {
			t.Errorf("another identity: %v", err)
		}
		if err := s.Pin("alice", b.Fingerprint()); !errors.Is(err, trust.ErrIdentityChanged) {
			t.Errorf("another pin: %v", err)
		}
		// A user trusted on first use can be pinned, by the same identity only.
		if err := s.Trust("bob", b); err != nil {
			t.Fatal(err)
		}
		if k, _, _ := s.Known("bob"); k.Pinned {
			t.Error("first use counts as pinned")
		}
		if err := s.Pin("bob", a.Fingerprint()); !errors.Is(err, trust.ErrIdentityChanged) {
			t.Errorf("a pin against the first use: %v", err)
		}
		if err := s.Pin("bob", b.Fingerprint()); err != nil {
			t.Errorf("a pin of the first use: %v", err)
		}
		if k, _, _ := s.Known("bob"); !k.Pinned {
			t.Error("bob is not pinned")
		}
		for user, fingerprint := range map[string]string{"carol": "AAAAA", "": a.Fingerprint(), "a b": a.Fingerprint(), "x\ny": a.Fingerprint()} {
			if err := s.Pin(user, fingerprint); err == nil {
				t.Errorf("pinned %q as %q", user, fingerprint)
			}
		}
	})
}

// TestKnownIdentitiesRace: stores of one directory, as of several processes, lose
// no entries, and of two first uses only one counts.
func TestKnownIdentitiesRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	const users = 8
	ids := []*identity.Identity{partytest.Identity(t), partytest.Identity(t)}
	var wg sync.WaitGroup
	errs := make([][users]error, 2)
	for i := range 2 {
		s := dirStore(t, dir)
		for u := range users {
			wg.Go(func() { errs[i][u] = s.Trust(fmt.Sprint("user", u), ids[i].Public()) })
		}
		wg.Go(func() {
			if err := s.Pin(fmt.Sprint("pinned", i), ids[i].Public().Fingerprint()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := dirStore(t, dir)
	list, err := s.ListKnown()
	if err != nil || len(list) != users+2 {
		t.Fatalf("%d are known, %v", len(list), err)
	}
	for u := range users {
		if (errs[0][u] == nil) == (errs[1][u] == nil) {
			t.Errorf("user%d: %v and %v, want one of two first uses to be the first", u, errs[0][u], errs[1][u])
		}
	}
	if known, err := s.Forget("user0"); !known || err != nil {
		t.Errorf("Forget: %t, %v", known, err)
	}
	if known, err := s.Forget("user0"); known || err != nil {
		t.Errorf("Forget again: %t, %v", known, err)
	}
	if err := s.Trust("user0", ids[1].Public()); err != nil {
		t.Errorf("first use after Forget: %v", err)
	}
}

func TestDamagedKnownIdentities(t *testing.T) {
	id := partytest.Identity(t).Public()
	for name, text := range map[string]string{
		"no identity":  "alice\n",
		"three fields": "alice " + id.String() + " x\n",
		"half":         "alice " + id.String()[:100] + "\n",
		"two lines":    "alice " + id.String() + "\nalice " + id.Fingerprint() + "\n",
	} {
		s := dirStore(t, filepath.Join(t.TempDir(), "home"))
		if err := os.WriteFile(s.knownFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := s.Known("bob")
		for what, err := range map[string]error{"Known": err, "Trust": s.Trust("alice", id), "Pin": s.Pin("bob", id.Fingerprint())} {
			if err == nil || !strings.Contains(err.Error(), "line of alice") {
				t.Errorf("%s: %s: got %v", name, what, err)
			}
		}
		if after, err := os.ReadFile(s.knownFile()); err != nil || string(after) != text {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
	}
}

func TestClaims(t *testing.T) {
	eachStore(t, func(t *testing.T, s anyStore) {
		until := time.Now().Add(time.Hour)
		for _, tc := range []struct{ request, session, want string }{
			{"r1", "s1", "s1"}, {"r1", "s1", "s1"}, {"r1", "s2", "s1"}, {"r2", "s2", "s2"}, {"r1", "s3", "s1"},
		} {
			if first, err := s.Claim(t.Context(), tc.request, tc.session, until); first != tc.want || err != nil {
				t.Errorf("%s for %s: got %s, %v", tc.request, tc.session, first, err)
			}
		}
		// It is not a record of a session.
		if _, ok, err := s.Read(t.Context(), "s1"); ok || err != nil {
			t.Errorf("a claim made a record: %v", err)
		}
	})
}

// TestClaimsSurvive: a rewrite of the journal keeps the unexpired requests, and no
// others.
func TestClaimsSurvive(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	s := dirStore(t, dir)
	for request, life := range map[string]time.Duration{"kept": time.Hour, "over": -time.Second} {
		if _, err := s.Claim(t.Context(), request, "s1", time.Now().Add(life)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.Write(t.Context(), record("s9", "", 0)), s.rewrite()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = dirStore(t, dir)
	for request, want := range map[string]string{"kept": "s1", "over": "s2"} {
		if first, err := s.Claim(t.Context(), request, "s2", time.Now().Add(time.Hour)); first != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", request, first, err, want)
		}
	}
	if _, ok, err := s.Read(t.Context(), "s9"); !ok || err != nil {
		t.Errorf("the record is lost: %v", err)
	}
}
