package accounts

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// busy is a hasher without free slots for comparing.
type busy struct{ hasher }

func (busy) Check(ctx context.Context, _, _ string, _ auth.Turn) (bool, error) {
	<-ctx.Done()
	return false, ctx.Err()
}

// TestSameCost: for every user, a hash is computed before the answer. That it costs
// the same is tested in package auth.
func TestSameCost(t *testing.T) {
	a, err := New(Config{Redis: redistest.Mini(t), Cost: auth.Cost{MemoryKiB: 64, Time: 1, Threads: 1}})
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
	a.hasher = busy{a.hasher}
	for _, user := range []string{"alice", "nobody", "barred", "elsewhere", "not:valid", "", strings.Repeat("x", 200)} {
		for _, password := range []string{"correct horse", "wrong", "", strings.Repeat("x", auth.MaxPasswordBytes+1)} {
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
			_, err := a.Authenticate(ctx, user, password, auth.Turn{})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%.20q with %.20q is answered without a hash: %v", user, password, err)
			}
		}
	}
}
