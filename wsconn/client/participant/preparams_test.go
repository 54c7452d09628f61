package participant

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/preparams"
)

// The maker fills the directory, returns sets from it, and makes nothing ahead
// while the participant computes.
func TestPreParamsMakerKeeps(t *testing.T) {
	t.Parallel()
	dir, id := filepath.Join(t.TempDir(), "home", "preparams"), partytest.Identity(t)
	d := openPreDir(t, dir, id)
	made := make(chan preparams.Config, 10)
	m := &PreParamsMaker{Ahead: 2, Dir: d}
	next, yielding := 0, make(chan struct{}, 1)
	m.testingOnlyGenerate = func(ctx context.Context, c preparams.Config) (*preparams.Set, error) {
		if c.Yield != nil {
			select {
			case yielding <- struct{}{}:
			default:
			}
			c.Yield(ctx)
			m.mu.Lock()
			busy := m.busy
			m.mu.Unlock()
			if busy > 0 && ctx.Err() == nil {
				t.Error("a set that nobody waits for is made while the participant computes")
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		made <- c
		next++
		return partytest.PreParams(t, next-1), nil
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	m.Busy(1)
	m.Want() // a wanted set is not postponed
	go func() {
		defer close(done)
		m.Run(ctx, nil)
	}()
	defer func() { stop(); <-done }()
	p, err := m.Take(ctx)
	if err != nil || p == nil {
		t.Fatalf("got %v, %v", p, err)
	}
	if c := <-made; c.Concurrency != 0 || c.Yield != nil {
		t.Errorf("a set that is waited for is made with %+v", c)
	}
	m.mu.Lock()
	m.taken = time.Time{} // as if that had been long ago
	m.broadcast()
	m.mu.Unlock()
	<-yielding
	m.Busy(-1)
	deadline := time.After(time.Minute)
	for n := 0; n < 2; {
		select {
		case c := <-made:
			if c.Concurrency != 1 || c.Yield == nil {
				t.Errorf("a set is made ahead with %+v", c)
			}
			n++
		case <-deadline:
			t.Fatal("no sets are made ahead")
		}
	}
	stop()
	<-done
	if n, err := d.Len(); n != 2 || err != nil {
		t.Fatalf("%d sets kept (%v), want 2", n, err)
	}
	// The next process has them at once.
	again := &PreParamsMaker{Ahead: 0, Dir: openPreDir(t, dir, id)}
	again.testingOnlyGenerate = func(context.Context, preparams.Config) (*preparams.Set, error) {
		t.Error("a set is made although one is kept")
		return partytest.PreParams(t, 5), nil
	}
	ctx2, stop2 := context.WithCancel(t.Context())
	done2 := make(chan struct{})
	go func() {
		defer close(done2)
		again.Run(ctx2, nil)
	}()
	again.Want()
	if p, err := again.Take(ctx2); err != nil || p == nil {
		t.Errorf("got %v, %v", p, err)
	}
	stop2()
	<-done2
	if n, err := d.Len(); n != 1 || err != nil {
		t.Errorf("%d sets are left (%v), want 1", n, err)
	}
}

func openPreDir(t *testing.T, dir string, id *identity.Identity) PreParamsStore {
	t.Helper()
	d, err := TestingOpenPreParams(dir, id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
