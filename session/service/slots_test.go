package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A bounded number of client operations runs on sessions; the others wait for them, up
// to the timeout. Round messages and the node's own operations do not wait, and an
// operation that waits for the same session takes no slot.
func TestSlots(t *testing.T) {
	asked, running := signingOf(t, "alice", "bob", "carol")
	locks := &heldLocker{proceed: make(chan struct{})}
	v, err := New(Config{Store: oneSession{s: running}, Locker: locks, Sender: noMailboxes{}, Presence: nobody{}, Shares: new(ShareKeeper)})
	if err != nil {
		t.Fatal(err)
	}
	alice, yes := Caller{User: "alice", Roles: []wire.Role{wire.RoleParticipant}}, true
	answer := func(ctx context.Context, session string) error {
		_, err := v.Handle(ctx, alice, wire.Message{}, &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes, SessionID: session})
		return err
	}
	var all sync.WaitGroup
	ask := func(do func() error) {
		all.Go(func() {
			if err := do(); !errors.Is(err, errHeld) {
				t.Errorf("got %v, want that the lock was asked for", err)
			}
		})
	}
	slots := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); locks.inside.Load() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d at work, want %d", locks.inside.Load(), want)
			}
		}
	}
	for range 2 * maxSlots {
		ask(func() error { return answer(t.Context(), "same") })
	}
	slots(1)
	for i := range 2 * maxSlots {
		ask(func() error { return answer(t.Context(), fmt.Sprint("sg-", i)) })
	}
	slots(maxSlots)
	ask(func() error {
		_, err := v.advance(t.Context(), change{target: target{id: "swept"}, ev: session.Tick{}})
		return err
	})
	slots(maxSlots + 1)

	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for name, do := range map[string]func() error{
		"answer":  func() error { return answer(short, "another") },
		"cancel":  func() error { _, err := v.Cancel(short, alice, "third", ""); return err },
		"request": func() error { _, err := v.createSession(short, asked, 0, Loaded{}); return err },
	} {
		if err := do(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: got %v, want that there was no slot in time", name, err)
		}
	}
	round := &wire.TSSMessage{SessionID: running.ID, Attempt: running.Attempt, From: 1, To: 2, Body: "QUFB"}
	relayed, err := v.Relay(t.Context(), alice, wire.Message{}, round)
	if err == nil {
		<-relayed.Done()
		_, err = relayed.Answer()
	}
	if err != nil {
		t.Errorf("a round message: %v", err)
	}
	close(locks.proceed)
	all.Wait()
	if n := locks.most.Load(); n != maxSlots+1 {
		t.Errorf("%d were at work at one time, want %d and the sweeper", n, maxSlots)
	}
	if len(v.slots) != 0 {
		t.Errorf("%d slots were not released", len(v.slots))
	}
}

var errHeld = errors.New("there is no lock")

// heldLocker blocks all calls for a lock until it may proceed.
type heldLocker struct {
	proceed      chan struct{}
	inside, most atomic.Int64
}

func (h *heldLocker) Lock(ctx context.Context, _ string) (Lock, Loaded, error) {
	now := h.inside.Add(1)
	defer h.inside.Add(-1)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	select {
	case <-h.proceed:
	case <-ctx.Done():
	}
	return nil, Loaded{}, errHeld
}
