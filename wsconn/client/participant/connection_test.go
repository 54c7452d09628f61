package participant

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A mailbox that the server has lost counts anew.
func TestMailboxLost(t *testing.T) {
	f, _, c, key := trioWithKey(t, nil)
	f.Mu.Lock()
	for _, u := range f.Users {
		u.Seq, u.Box, u.Acked = 0, nil, 0
		_ = u.WS.Close()
	}
	f.Mu.Unlock()
	clienttest.WaitFor(t, "all come back", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		for _, u := range f.Users {
			if len(u.Resumes) < 2 {
				return false
			}
		}
		return true
	})
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
		t.Fatal(err)
	}
}

func TestNoSecretsInLogs(t *testing.T) {
	_, peers, c := trio(t)
	key := makeKey(t, c, pubkey.Ed25519)
	if _, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x"}); err != nil {
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
	f := clienttest.New(t)
	newPeer(t, f, "alice").start()
	c := coordinator(t, f)
	ctx, leave := context.WithCancel(clienttest.Within(t))
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(ctx, request.Keygen{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	clienttest.WaitFor(t, "alice answers", func() bool { return len(clienttest.Said[*wire.KeygenResponse](f, "alice")) == 1 })
	leave()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	f.Mu.Lock()
	phase := f.Sessions["kg-k"].Phase
	f.Mu.Unlock()
	if phase != session.Inviting || len(clienttest.Said[*wire.SessionCancel](f, "")) != 0 {
		t.Errorf("session is %s: leaving must not end it", phase)
	}
	// The same request joins the session.
	go func() {
		_, err := c.Keygen(clienttest.Within(t), request.Keygen{KeyID: "k", Threshold: 2, Participants: names})
		result <- err
	}()
	clienttest.WaitFor(t, "the request comes again", func() bool { return len(clienttest.Said[*wire.KeygenRequest](f, "coord")) == 2 })
	if err := c.Cancel(clienttest.Within(t), "kg-k"); err != nil {
		t.Fatal(err)
	}
	var out *request.OutcomeError
	if err := <-result; !errors.As(err, &out) || out.Status != wire.StatusCancelled {
		t.Errorf("got %v, want cancelled", err)
	}
}
