package client

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A coordinator leaves messages for its user's participant in the mailbox.
func TestCoordinatorKeepsParticipantsMail(t *testing.T) {
	f := clienttest.New(t)
	f.Mu.Lock()
	f.Mail("coord", "", &wire.SessionEnded{SessionID: "a", KeyID: "a", Kind: "sign", Status: wire.StatusFailed})
	f.Mail("coord", "", &wire.SignComplete{SessionID: "b", KeyID: "b", Status: wire.StatusFailed})
	f.Mu.Unlock()
	c := coordinator(t, f)
	_ = c.Cancel(clienttest.Within(t), "unknown") // its refusal comes after the mail
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	f.Mu.Lock()
	defer f.Mu.Unlock()
	if u := f.User("coord"); u.Acked != 0 || len(u.Box) != 2 {
		t.Errorf("acknowledged %d, %d left in the mailbox", u.Acked, len(u.Box))
	}
}

func TestSuperseded(t *testing.T) {
	f := clienttest.New(t)
	first := coordinator(t, f)
	second := coordinator(t, f)
	clienttest.WaitFor(t, "the first is told", func() bool { return errors.Is(first.WaitConnected(context.Background()), ErrSuperseded) })
	if _, err := first.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names}); !errors.Is(err, ErrSuperseded) {
		t.Errorf("got %v, want ErrSuperseded", err)
	}
	first.mu.Lock()
	first.err = nil // the cleanup expects a clean end
	first.mu.Unlock()
	_ = second
}

func TestTokens(t *testing.T) {
	f := clienttest.New(t)
	old, renewed := clienttest.Token("coord", "old"), clienttest.Token("coord", "new")
	f.Expired[old] = true
	current := old
	asked := 0
	c, err := New(Config{URLs: []string{f.URL}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		if asked++; asked > 1 {
			current = renewed
		}
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(clienttest.Within(t))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	if err := c.WaitConnected(clienttest.Within(t)); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}

	// Without a newer token a retry cannot help.
	if _, err := Dial(clienttest.Within(t), Config{URLs: []string{f.URL}, RetryMin: time.Millisecond, Token: rest.StaticToken(old)}); !errors.Is(err, ErrTokenExpired) {
		t.Errorf("got %v, want ErrTokenExpired", err)
	}
	if _, err := Dial(clienttest.Within(t), Config{URLs: []string{f.URL}, Token: rest.StaticToken("nonsense")}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated", err)
	}
	f.Mu.Lock()
	f.Welcome = func(string, string) int { return wire.CloseForbidden }
	f.Mu.Unlock()
	if _, err := Dial(clienttest.Within(t), Config{URLs: []string{f.URL}, Token: rest.StaticToken(renewed)}); !errors.Is(err, wire.ErrForbidden) {
		t.Errorf("got %v, want forbidden", err)
	}
	f.Mu.Lock()
	f.Welcome = func(string, string) int { return wire.CloseRevoked }
	f.Mu.Unlock()
	if _, err := Dial(clienttest.Within(t), Config{URLs: []string{f.URL}, Token: rest.StaticToken(renewed)}); !errors.Is(err, wire.Errorf(wire.CodeUnauthenticated, "")) {
		t.Errorf("got %v, want unauthenticated: a revoked token does not come back", err)
	}
}

// A token that expires while connected is replaced without losing a message.
func TestTokenExpiresMeanwhile(t *testing.T) {
	f := clienttest.New(t)
	var mu sync.Mutex
	current := clienttest.Token("coord", "1")
	c, err := Dial(clienttest.Within(t), Config{URLs: []string{f.URL}, RetryMin: time.Millisecond, Token: func(context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return current, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mu.Lock()
	f.Mu.Lock()
	f.Expired[current] = true
	f.Mu.Unlock()
	current = clienttest.Token("coord", "2")
	mu.Unlock()
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: "none", Data: "x"}); !errors.Is(err, wire.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

func TestNextURL(t *testing.T) {
	f := clienttest.New(t)
	c, err := Dial(clienttest.Within(t), Config{URLs: []string{"http://127.0.0.1:1", f.URL}, RetryMin: time.Millisecond, Token: rest.StaticToken(clienttest.Token("coord", ""))})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
