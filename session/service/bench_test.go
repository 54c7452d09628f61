package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// The package's own work for a round message of a cached session.
func BenchmarkRelay(b *testing.B) {
	_, running := signingOf(b, "alice", "bob", "carol")
	v, err := New(Config{Store: oneSession{s: running}, Locker: noLocker{}, Sender: noMailboxes{}, Presence: nobody{}, Shares: new(ShareKeeper)})
	if err != nil {
		b.Fatal(err)
	}
	alice := Caller{User: "alice", Roles: []wire.Role{wire.RoleParticipant}}
	p := &wire.TSSMessage{SessionID: running.ID, Attempt: running.Attempt, From: 1, To: 2, Body: strings.Repeat("A", 1<<10)}
	for _, id := range []string{"", "request-1"} {
		b.Run("request_id="+id, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				on, err := v.Relay(context.Background(), alice, wire.Message{RequestID: id}, p)
				if err == nil {
					_, err = on.Answer()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// oneSession is a Store with only Load.
type oneSession struct {
	Store
	s session.Session
}

func (o oneSession) Load(context.Context, string) (session.Session, time.Time, error) {
	return o.s, o.s.CreatedAt, nil
}

type noMailboxes struct{}

func (noMailboxes) Send(_ context.Context, all ...Delivery) []error { return make([]error, len(all)) }

func (noMailboxes) Begin(_ context.Context, all ...Delivery) Sending {
	return sentAlready(make([]error, len(all)))
}

// sentAlready is a Sending that is done at once.
type sentAlready []error

func (s sentAlready) Done() <-chan struct{} { return isDone }
func (s sentAlready) Errs() []error         { return s }

type noLocker struct{ Locker }

type nobody struct{ Presence }

// signingOf returns a signing that any two of users can make: as requested, and running
// between the first two.
func signingOf(t testing.TB, users ...string) (asked, running session.Session) {
	t.Helper()
	key := sessiontest.NewSoloKey(1)
	digest, hash, err := pubkey.Digest(pubkey.Secp256k1, "pay bob", "")
	if err != nil {
		t.Fatal(err)
	}
	asked = session.Session{
		ID: "sg-1", Kind: session.Sign, Version: 1, KeyID: "vault", Coordinator: "boss", Curve: pubkey.Secp256k1,
		Threshold: 2, Parties: session.Committee(users), Data: "pay bob", Hash: hash, Digest: pubkey.Encode(digest),
		AccountAddr: key.Address, Terms: session.Terms{Invite: 2 * time.Minute, Run: time.Minute, Grace: 20 * time.Second},
	}
	for i := range asked.Parties {
		asked.Parties[i].Invited = true
	}
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	running, _ = session.Begin(asked, now)
	for i, user := range users[:2] {
		running, _, err = session.Step(running, session.Responded{Kind: session.Sign, From: user, Party: i + 1, Accept: true}, now)
		if err != nil {
			t.Fatal(err)
		}
	}
	return asked, running
}
