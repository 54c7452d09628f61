package auth

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// queued has n logins of a network wait, one after the other, and returns where
// each sends its name when it gets a slot.
func queued(t *testing.T, q *turns, turn Turn, n int, got chan<- string) {
	t.Helper()
	for range n {
		q.mu.Lock()
		before := q.waiting
		q.mu.Unlock()
		go func() {
			if err := q.acquire(t.Context(), turn); err == nil {
				got <- turn.Network
			} else {
				got <- "refused " + turn.Network
			}
		}()
		deadline := time.After(time.Minute)
		for waits := false; !waits; {
			q.mu.Lock()
			waits = q.waiting > before
			q.mu.Unlock()
			select {
			case <-deadline:
				t.Fatal("it does not wait")
			default:
			}
		}
	}
}

// TestTurnsAreFair: a login behind a crowd from one network is next but one, and
// one from a network that the account knows likewise behind a crowd of networks.
func TestTurnsAreFair(t *testing.T) {
	q, got := &turns{slots: 1, most: 100}, make(chan string, 200)
	if err := q.acquire(t.Context(), Turn{}); err != nil {
		t.Fatal(err)
	}
	queued(t, q, Turn{Network: "flooder"}, 50, got)
	queued(t, q, Turn{Network: "owner"}, 1, got)
	among := func(name string, most int) {
		t.Helper()
		for range most {
			q.release()
			if <-got == name {
				return
			}
		}
		t.Errorf("%s is not among the first %d", name, most)
	}
	among("owner", 2)
	for i := range 40 {
		queued(t, q, Turn{Network: fmt.Sprint("one of many ", i)}, 1, got)
	}
	queued(t, q, Turn{Network: "owner", Known: true}, 1, got)
	among("owner", 2)
}

// TestTurnsMakeRoom: when too many wait, one of the largest crowd is refused for a
// login from elsewhere, and the crowd makes no room for itself.
func TestTurnsMakeRoom(t *testing.T) {
	q, got := &turns{slots: 1, most: 10}, make(chan string, 200)
	if err := q.acquire(t.Context(), Turn{}); err != nil {
		t.Fatal(err)
	}
	queued(t, q, Turn{Network: "flooder"}, 10, got)
	if err := q.acquire(t.Context(), Turn{Network: "flooder"}); !errors.Is(err, errTooManyLogins()) {
		t.Errorf("one more of the crowd: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- q.acquire(t.Context(), Turn{Network: "owner"}) }()
	select {
	case name := <-got:
		if name != "refused flooder" {
			t.Errorf("room is made by %s", name)
		}
	case err := <-done:
		t.Fatalf("no room is made for who comes from elsewhere: %v", err)
	}
	q.release()
	q.release()
	if err := <-done; err != nil {
		t.Errorf("the owner: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.acquire(gone, Turn{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the client has gone: %v", err)
	}
	for q.waiting > 0 {
		q.release()
	}
	var e *wire.Error
	if err := error(errTooManyLogins()); !errors.As(err, &e) || !e.Temporary {
		t.Error("too many logins at one moment is not told as temporary")
	}
}
