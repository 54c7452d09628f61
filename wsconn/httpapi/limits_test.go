package httpapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/limit"
)

// TestRefusedCallsAreSlowed: a call over the rate is answered after a pause, unless
// its client leaves or too many wait already; another user's call never waits.
func TestRefusedCallsAreSlowed(t *testing.T) {
	t.Parallel()
	draining := make(chan struct{})
	h := New(Config{Verifier: trust{}, Users: limit.NewThrottle(1e-6, 1), Draining: draining})
	ask := func(ctx context.Context) (code int, took time.Duration) {
		r := httptest.NewRequestWithContext(ctx, "GET", "/v1/nothing", nil)
		r.Header.Set("Authorization", "Bearer good")
		w, begun := httptest.NewRecorder(), time.Now()
		h.ServeHTTP(w, r)
		return w.Code, time.Since(begun)
	}
	if code, _ := ask(t.Context()); code != http.StatusNotFound {
		t.Fatalf("the first call: %d, want 404", code)
	}
	if code, took := ask(t.Context()); code != http.StatusTooManyRequests || took < mostPause {
		t.Errorf("a call over the rate: %d after %s, want 429 after %s", code, took, mostPause)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, took := ask(left); took >= mostPause {
		t.Errorf("a call whose client has left was kept for %s", took)
	}
	var all sync.WaitGroup
	kept := make(chan time.Duration, 2*maxSlowed)
	for range cap(kept) {
		all.Go(func() {
			_, took := ask(t.Context())
			kept <- took
		})
	}
	all.Wait()
	close(kept)
	slow := 0
	for took := range kept {
		if took >= mostPause {
			slow++
		}
	}
	if slow < maxSlowed || slow == cap(kept) {
		t.Errorf("%d of %d calls at one time were kept, want %d", slow, cap(kept), maxSlowed)
	}
	close(draining)
	if _, took := ask(t.Context()); took >= mostPause {
		t.Errorf("a node that drains has kept a call for %s", took)
	}
}

// TestBodiesAreCounted: a body's maximum is charged before it is read.
func TestBodiesAreCounted(t *testing.T) {
	t.Parallel()
	a := &api{cfg: Config{MaxBytes: 1 << 20}}
	for _, tc := range []struct {
		length int64
		want   int
	}{{0, 0}, {1, 1}, {1024, 1}, {1025, 2}, {1 << 20, 1024}, {1 << 30, 1024}, {-1, 1024}} {
		if got := a.bodyKiB(&http.Request{ContentLength: tc.length}); got != tc.want {
			t.Errorf("a body of %d bytes counts as %d KiB, want %d", tc.length, got, tc.want)
		}
	}
}
