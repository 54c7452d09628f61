package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestSameCost: whoever asks, a hash of the same cost is computed before the
// answer. The one slot for hashing is taken here, so no login gets past it.
func TestSameCost(t *testing.T) {
	cost := Cost{MemoryKiB: 64, Time: 1, Threads: 1}
	a, err := NewAccounts(AccountsConfig{Redis: redistest.Mini(t), Cost: cost, Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "barred"} {
		if err := a.Add(t.Context(), user, "correct horse", []wire.Role{wire.RoleParticipant}, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetDisabled(t.Context(), "barred", true); err != nil {
		t.Fatal(err)
	}
	if err := a.SetIdentity(t.Context(), "elsewhere", "id"); err != nil {
		t.Fatal(err)
	}
	if err := a.hasher.turns.acquire(t.Context(), Turn{}); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "nobody", "barred", "elsewhere", "not:valid", "", strings.Repeat("x", 200)} {
		for _, password := range []string{"correct horse", "wrong", "", strings.Repeat("x", MaxPasswordBytes+1)} {
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
			_, err := a.Authenticate(ctx, user, password, Turn{})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%.20q with %.20q is answered without a hash: %v", user, password, err)
			}
		}
	}
	a.hasher.turns.release()

	stored, err := a.rdb.HGet(t.Context(), a.key("alice"), "password_hash").Result()
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHash(stored)
	if err != nil {
		t.Fatal(err)
	}
	if d := a.hasher.decoy; d.cost != h.cost || len(d.salt) != len(h.salt) || len(d.sum) != len(h.sum) {
		t.Errorf("the decoy %v is not like a stored hash %v", d, h)
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=2$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=64,t=1,p=1 $AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err == nil && (h.String() != s || !h.cost.valid()) {
			t.Fatalf("%q was read as %q", s, h)
		}
	})
}
