package auth_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestFault makes a verifier refuse for each reason in Faults.
func TestFault(t *testing.T) {
	t.Parallel()
	now := &clock{t: epoch}
	verifier := newHS256(t, now, "us", "here")
	issue := func(h *auth.HS256) string {
		t.Helper()
		token, _, err := h.Issue("alice", []wire.Role{wire.RoleAdmin}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	stranger, err := auth.NewHS256([]byte("another secret of thirty-two bytes!"), "us", "here", auth.WithClock(now.now))
	if err != nil {
		t.Fatal(err)
	}
	good := issue(verifier)
	for token, want := range map[string]string{
		"": "missing", "a.b": "malformed", issue(stranger): "signature",
		issue(newHS256(t, now, "them", "here")): "issuer", issue(newHS256(t, now, "us", "there")): "audience",
	} {
		_, err := verifier.Verify(context.Background(), token)
		if got := auth.Fault(err); got != want || !slices.Contains(auth.Faults, got) {
			t.Errorf("%v is the fault %q, want %q", err, got, want)
		}
	}
	now.set(epoch.Add(2 * time.Hour))
	_, err = verifier.Verify(context.Background(), good)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{err, "expired"}, {auth.ErrRevoked, "revoked"}, {wire.ErrUnavailable, "unavailable"},
		{fmt.Errorf("wrapped: %w", auth.ErrRevoked), "revoked"},
		{wire.Errorf(wire.CodeUnauthenticated, "anything"), "other"}, {context.Canceled, "other"},
	} {
		if got := auth.Fault(tt.err); got != tt.want {
			t.Errorf("%v is the fault %q, want %q", tt.err, got, tt.want)
		}
	}
}
