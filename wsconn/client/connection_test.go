package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A mailbox that the server has lost counts anew.
func TestMailboxLost(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	f.mu.Lock()
	for _, u := range f.users {
		u.seq, u.box, u.acked = 0, nil, 0
		_ = u.ws.Close()
	}
	f.mu.Unlock()
	waitFor(t, "all come back", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, u := range f.users {
			if len(u.resumes) < 2 {
				return false
			}
		}
		return true
	})
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
}

// A coordinator leaves in the mailbox what is for its user's participant.
func TestCoordinatorKeepsParticipantsMail(t *testing.T) {
	f := newFake(t)
	f.mu.Lock()
	f.mail("coord", "", &wire.SessionEnded{SessionID: "a", KeyID: "a", Kind: "sign", Status: wire.StatusFailed})
	f.mail("coord", "", &wire.SignComplete{SessionID: "b", KeyID: "b", Status: wire.StatusFailed})
	f.mu.Unlock()
	c := f.coordinator(t)
	_ = c.Cancel(within(t), "unknown") // its refusal comes after the mail
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if u := f.user("coord"); u.acked != 0 || len(u.box) != 2 {
		t.Errorf("acknowledged %d, %d left in the mailbox", u.acked, len(u.box))
	}
}

func TestSuperseded(t *testing.T) {
	f := newFake(t)
	first := f.coordinator(t)
	second := f.coordinator(t)
	waitFor(t, "the first is told", func() bool { return errors.Is(first.WaitConnected(context.Background()), ErrSuperseded) })
	if _, err := first.Keygen(within(t), KeygenRequest{Threshold: 2, Participants: names}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("got %v, want ErrSuperseded", err)
	}
	first.mu.Lock()
	first.err = nil // the cleanup expects a good end
	first.mu.Unlock()
	_ = second
}

func TestTokens(t *testing.T) {
	f := newFake(t)
	old, renewed := token("coord", "old"), token("coord", "new")
	f.tokens[old] = true
	current := old
	asked := 0
	c, err := New(Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		if asked++; asked > 1 {
			current = renewed
		}
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := c.WaitConnected(within(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// Without a newer token there is no use in going on.
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: StaticToken(old)}); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("got %v, want ErrTokenExpired", err)
	}
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken("nonsense")}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated", err)
	}
	f.mu.Lock()
	f.welcome = func(string, string) int { return wire.CloseForbidden }
	f.mu.Unlock()
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken(renewed)}); !errors.Is(err, wire.ErrForbidden) {
		t.Errorf("got %v, want forbidden", err)
	}
	f.mu.Lock()
	f.welcome = func(string, string) int { return wire.CloseRevoked }
	f.mu.Unlock()
	if _, err := Dial(within(t), Config{URLs: []string{f.url}, Token: StaticToken(renewed)}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated: a revoked token does not come back", err)
	}
}

// A token that expires while connected is replaced without losing a message.
func TestTokenExpiresMeanwhile(t *testing.T) {
	f := newFake(t)
	var mu sync.Mutex
	current := token("coord", "1")
	c, err := Dial(within(t), Config{URLs: []string{f.url}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mu.Lock()
	f.mu.Lock()
	f.tokens[current] = true
	f.mu.Unlock()
	current = token("coord", "2")
	mu.Unlock()
	if _, err := c.Sign(within(t), SignRequest{KeyID: "none", Data: "x"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestNextURL(t *testing.T) {
	f := newFake(t)
	c, err := Dial(within(t), Config{URLs: []string{"http://127.0.0.1:1", f.url}, RetryMin: time.Millisecond, Token: StaticToken(token("coord", ""))})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestNoSecretsInLogs(t *testing.T) {
	_, peers, c := trio(t)
	key := makeKey(t, c, pubkey.Ed25519)
	if _, err := c.Sign(within(t), SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
	for _, p := range peers {
		log := p.logs.String()
		share, _ := p.store.Get(context.Background(), key.KeyID, "")
		for _, secret := range []string{"s3cret", "BEGIN AGE", share} {
			if strings.Contains(log, secret) {
				t.Errorf("%s's log holds %.20s", p.user, secret)
			}
		}
	}
}

func TestCallerLeaves(t *testing.T) {
	f := newFake(t)
	f.peer(t, "alice").start()
	c := f.coordinator(t)
	ctx, leave := context.WithCancel(within(t))
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(ctx, KeygenRequest{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	waitFor(t, "alice answers", func() bool { return len(said[*wire.KeygenResponse](f, "alice")) == 1 })
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	f.mu.Lock()
	phase := f.sessions["kg-k"].Phase
	f.mu.Unlock()
	if phase != session.Inviting || len(said[*wire.SessionCancel](f, "")) != 0 {
		t.Errorf("session is %s: leaving must not end it", phase)
	}
	// The same request joins the session.
	go func() {
		_, err := c.Keygen(within(t), KeygenRequest{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	waitFor(t, "the request comes again", func() bool { return len(said[*wire.KeygenRequest](f, "coord")) == 2 })
	if err := c.Cancel(within(t), "kg-k"); err != nil {
		t.Fatal(err)
	}
	var out *OutcomeError
	if err := <-result; !errors.As(err, &out) || out.Status != wire.StatusCancelled {
		t.Errorf("got %v, want cancelled", err)
	}
}
