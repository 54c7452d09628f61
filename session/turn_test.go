package session

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// However many ask, a bounded number is at work on sessions; the others wait
// for them, and no longer than they may. Round messages wait for nobody.
func TestTurns(t *testing.T) {
	asked := newSigning(2, 3, "alice", "bob", "carol")
	running, _ := play(t, asked, at{0, asked.accept(1)}, at{0, asked.accept(2)})
	store := &heldStore{oneSession: oneSession{s: running}, proceed: make(chan struct{})}
	v, err := New(Config{Store: store, Locker: noLocker{}, Sender: noMailboxes{}, Presence: nobody{}, Shares: new(ShareKeeper)})
	if err != nil {
		t.Fatal(err)
	}
	alice, yes := Caller{User: "alice", Roles: []wire.Role{wire.RoleParticipant}}, true
	answer := func(ctx context.Context) error {
		_, err := v.Handle(ctx, alice, wire.Message{}, &wire.SignResponse{KeyID: "vault", PartIndex: 1, Response: &yes})
		return err
	}
	var all sync.WaitGroup
	for range 4 * maxAtWork {
		all.Go(func() {
			if err := answer(t.Context()); !errors.Is(err, ErrNotFound) {
				t.Errorf("who waited for a turn got %v", err)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); store.inside.Load() < maxAtWork; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("%d at work, want %d", store.inside.Load(), maxAtWork)
			break
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for name, do := range map[string]func() error{
		"answer": func() error { return answer(short) },
		"cancel": func() error { _, err := v.Cancel(short, alice, running.ID, ""); return err },
		"keygen": func() error { _, _, err := v.KeygenTask(short, alice, new(wire.KeygenRequest), Task{}); return err },
		"sign":   func() error { _, _, err := v.SignTask(short, alice, new(wire.SignRequest), Task{}); return err },
	} {
		if err := do(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: got %v, want that there was no turn in time", name, err)
		}
	}
	round := &wire.TSSMessage{SessionID: running.ID, Attempt: running.Attempt, From: 1, To: 2, Body: "QUFB"}
	if _, err := v.Handle(t.Context(), alice, wire.Message{}, round); err != nil {
		t.Errorf("a round message: %v", err)
	}
	close(store.proceed)
	all.Wait()
	if n := store.most.Load(); n != maxAtWork {
		t.Errorf("%d were at work at one time, want %d", n, maxAtWork)
	}
}

// heldStore keeps all who look for a session until it may proceed.
type heldStore struct {
	oneSession
	proceed      chan struct{}
	inside, most atomic.Int64
}

func (h *heldStore) Signings(ctx context.Context, _ string) (Key, []Signing, string, error) {
	now := h.inside.Add(1)
	for most := h.most.Load(); now > most && !h.most.CompareAndSwap(most, now); most = h.most.Load() {
	}
	select {
	case <-h.proceed:
	case <-ctx.Done():
	}
	h.inside.Add(-1)
	return Key{}, nil, "", ErrNotFound
}
