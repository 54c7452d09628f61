package participant

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A participant that is killed during a signing reports so after its restart, and
// another takes its place; the attempt is not run again.
func TestRestart(t *testing.T) {
	f, peers, c, key := trioWithKey(t, nil)
	began := make(chan string, 100)
	f.Mu.Lock()
	f.Refuse = func(user string, m wire.Message, p wire.Payload) *wire.Error {
		if tss, ok := p.(*wire.TSSMessage); ok && tss.Attempt == 1 {
			select {
			case began <- user:
			default:
			}
			return wire.Errorf(wire.CodeUnavailable, "held back") // stops all parties
		}
		return nil
	}
	f.Mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Sign(clienttest.Within(t), request.Sign{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "x", SessionID: "s1"})
		result <- err
	}()
	user := <-began
	part := slices.Index(names, user) + 1
	victim := peers[part-1]
	victim.end()
	victim.start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	failed := clienttest.Said[*wire.PartyFailed](f, user)
	if len(failed) != 1 || failed[0].Reason != "restarted" || failed[0].Attempt != 1 {
		t.Errorf("%s reported %+v, want one restart in attempt 1", user, failed)
	}
	// The server plays attempt 1 again.
	f.Mu.Lock()
	s := f.Sessions["s1"]
	params := &wire.SignParams{SessionID: "s1", KeyID: key.KeyID, Data: "x", Hash: "none", Digest: s.Digest, PartIndex: part, Attempt: 1, Participants: s.Quorums[0]}
	parts, _ := wire.ParseParts(s.Quorums[0])
	for _, i := range parts {
		params.Parties = append(params.Parties, wire.Party{PartIndex: i, UserID: names[i-1], Identity: peers[i-1].identity.Public().String()})
	}
	f.Mail(user, "", &wire.SignInvite{SessionID: "s1", KeyID: key.KeyID, Data: "x", Hash: "none", PartIndex: part, Participants: names, AccountAddr: key.AccountAddr})
	f.Mail(user, "", params)
	seq := f.User(user).Seq
	f.Mu.Unlock()
	clienttest.WaitFor(t, user+" takes it all", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return f.User(user).Acked == seq
	})
	runs := 0
	for _, e := range all[Started](victim) {
		if e.SessionID == "s1" && e.Attempt == 1 {
			runs++
		}
	}
	if runs != 1 {
		t.Errorf("attempt 1 was run %d times", runs)
	}
	if n := len(clienttest.Said[*wire.SignResponse](f, user)); n != 1 {
		t.Errorf("%s answered %d times, want once", user, n)
	}
}

// A keygen whose report is lost with the process is reported by the next one.
func TestRestartAfterKeygen(t *testing.T) {
	f, peers, c := trio(t)
	f.Mu.Lock()
	f.Refuse = func(user string, _ wire.Message, p wire.Payload) *wire.Error {
		if _, ok := p.(*wire.KeygenComplete); ok && user == "carol" {
			return wire.Errorf(wire.CodeUnavailable, "not now")
		}
		return nil
	}
	f.Mu.Unlock()
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(clienttest.Within(t), request.Keygen{KeyID: "k", Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		result <- err
	}()
	clienttest.WaitFor(t, "carol reports", func() bool { return len(clienttest.Said[*wire.KeygenComplete](f, "carol")) > 0 })
	peers[2].end()
	f.Mu.Lock()
	f.Refuse = nil
	f.Mu.Unlock()
	peers[2].start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// An undecided invitation is put to the next process.
func TestRestartWhileAsked(t *testing.T) {
	f := clienttest.New(t)
	for _, name := range names[:2] {
		newPeer(t, f, name).start()
	}
	carol := newPeer(t, f, "carol")
	asked := make(chan struct{}, 1)
	carol.approve = func(ctx context.Context, _ Invitation) (bool, string, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return true, "", ctx.Err()
	}
	carol.start()
	c := coordinator(t, f)
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names, Curve: pubkey.Ed25519})
		result <- err
	}()
	<-asked
	clienttest.WaitFor(t, "the invitation is acknowledged", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return f.User("carol").Acked == 1
	})
	carol.end()
	if n := len(clienttest.Said[*wire.KeygenResponse](f, "carol")); n != 0 {
		t.Fatalf("carol answered %d times while stopping", n)
	}
	carol.approve = ApproveAll
	// The token, which names carol, comes after the journal's work.
	carol.dial = func(cfg *client.Config) {
		cfg.Token = func(ctx context.Context) (string, error) {
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
			return clienttest.Token("carol", ""), ctx.Err()
		}
	}
	carol.start()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// The end of a session withdraws the question.
func TestAskedInVain(t *testing.T) {
	f := clienttest.New(t)
	p := newPeer(t, f, "alice")
	asked, ended := make(chan string, 1), make(chan struct{})
	p.approve = func(ctx context.Context, inv Invitation) (bool, string, error) {
		asked <- inv.SessionID
		<-ctx.Done()
		close(ended)
		return false, "", ctx.Err()
	}
	p.start()
	c := coordinator(t, f)
	result := make(chan error, 1)
	go func() {
		_, err := c.Keygen(clienttest.Within(t), request.Keygen{Threshold: 2, Participants: names})
		result <- err
	}()
	if err := c.Cancel(clienttest.Within(t), <-asked); err != nil {
		t.Fatal(err)
	}
	<-ended
	var out *request.OutcomeError
	if err := <-result; !errors.As(err, &out) || out.Status != wire.StatusCancelled {
		t.Errorf("got %v, want cancelled", err)
	}
	if n := len(clienttest.Said[*wire.KeygenResponse](f, "alice")); n != 0 {
		t.Errorf("alice answered %d times", n)
	}
}
