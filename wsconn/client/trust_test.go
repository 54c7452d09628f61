package client

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
	"github.com/conclave-mpc/conclave/session/pubkey"
)

func TestPins(t *testing.T) {
	a, b := partytest.Identity(t).Public(), partytest.Identity(t).Public()
	eachStore(t, func(t *testing.T, s Store) {
		if _, ok, err := s.Known("alice"); ok || err != nil {
			t.Errorf("an empty store knows alice: %v", err)
		}
		spoken := strings.ToLower(strings.ReplaceAll(a.Fingerprint(), "-", " "))
		for range 2 {
			if err := s.Pin("alice", spoken); err != nil {
				t.Fatal(err)
			}
		}
		if k, ok, err := s.Known("alice"); !ok || err != nil || k != (Known{"alice", a.Fingerprint(), true}) {
			t.Errorf("known is %+v, %t, %v", k, ok, err)
		}
		if err := s.Trust("alice", a); err != nil {
			t.Errorf("the pinned identity: %v", err)
		}
		var changed *IdentityError
		if err := s.Trust("alice", b); !errors.As(err, &changed) || *changed != (IdentityError{"alice", a.Fingerprint(), b.Fingerprint(), true}) {
			t.Errorf("another identity: %v", err)
		}
		if err := s.Pin("alice", b.Fingerprint()); !errors.Is(err, ErrIdentityChanged) {
			t.Errorf("another pin: %v", err)
		}
		// Who was trusted on first use can be pinned, by the same identity only.
		if err := s.Trust("bob", b); err != nil {
			t.Fatal(err)
		}
		if k, _, _ := s.Known("bob"); k.Pinned {
			t.Error("first use counts as pinned")
		}
		if err := s.Pin("bob", a.Fingerprint()); !errors.Is(err, ErrIdentityChanged) {
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

// TestKnownIdentitiesRace: stores of one directory, as of several processes,
// lose nothing to each other, and of two first uses one is the first.
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
	eachStore(t, func(t *testing.T, s Store) {
		until := time.Now().Add(time.Hour)
		for _, tc := range []struct{ request, session, want string }{
			{"r1", "s1", "s1"}, {"r1", "s1", "s1"}, {"r1", "s2", "s1"}, {"r2", "s2", "s2"}, {"r1", "s3", "s1"},
		} {
			if first, err := s.Claim(t.Context(), tc.request, tc.session, until); first != tc.want || err != nil {
				t.Errorf("%s for %s: got %s, %v", tc.request, tc.session, first, err)
			}
		}
		// It is no record of a session.
		if _, ok, err := s.Read(t.Context(), "s1"); ok || err != nil {
			t.Errorf("a claim made a record: %v", err)
		}
	})
}

// TestClaimsSurvive: a rewrite of the journal keeps the requests that have not
// expired, and no others.
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

// TestPinnedOnly: with it a keygen stops at parties that nobody has pinned, and
// says who.
func TestPinnedOnly(t *testing.T) {
	f := newFake(t)
	var peers []*peer
	for _, name := range names {
		p := f.peer(t, name)
		if name == "bob" {
			p.change = func(cfg *Config) { cfg.PinnedOnly = true }
		}
		peers = append(peers, p.start())
	}
	c := f.coordinator(t)
	ask := func() error {
		_, err := c.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		return err
	}
	if err := ask(); err == nil || !strings.Contains(err.Error(), "alice (part 1) is not trusted") || !strings.Contains(err.Error(), peers[0].identity.Public().Fingerprint()) {
		t.Errorf("got %v, want that alice is not pinned, with its fingerprint", err)
	}
	for _, p := range []*peer{peers[0], peers[2]} {
		if err := peers[1].store.Pin(p.user, p.identity.Public().Fingerprint()); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(); err != nil {
		t.Errorf("all are pinned: %v", err)
	}
}
