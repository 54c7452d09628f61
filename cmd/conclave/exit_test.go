package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestExitStatus checks the statuses that scripts rely on.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	_, refused := http.Get("http://127.0.0.1:1")
	ended := func(s wire.Status) error { return fmt.Errorf("sign: %w", &request.OutcomeError{Status: s}) }
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("x"), 1},
		{ended(wire.StatusFailed), 1},
		{wire.Errorf(wire.CodeInvalidSignature, "bad"), 1},
		{wire.Errorf(wire.CodeNotFound, "no"), 1},
		{&misused{misuse("what"), "keys"}, 2},
		{ended(wire.StatusRejected), 3},
		{ended(wire.StatusCancelled), 3},
		{wire.Errorf(wire.CodeForbidden, "no"), 3},
		{ended(wire.StatusExpired), 4},
		{fmt.Errorf("wait: %w", context.DeadlineExceeded), 4},
		{refused, 5},
		{wire.ErrUnavailable, 5},
		{fmt.Errorf("html: %w", rest.ErrNotConclave), 5},
		{errNotLoggedIn, 6},
		{client.ErrTokenExpired, 6},
		{wire.Errorf(wire.CodeUnauthenticated, "who"), 6},
		{wire.Errorf(wire.CodeTokenExpired, "old"), 6},
	} {
		if got := statusOf(tc.err); got != tc.want {
			t.Errorf("status of %v is %d, want %d", tc.err, got, tc.want)
		}
	}
	if lines := strings.Count(exitCodes(), "\n"); lines != 7 {
		t.Errorf("help tells of %d statuses", lines)
	}
}
