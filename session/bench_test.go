package session

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// One step of the state machine in the middle of a signing: an acceptance, the
// one that starts the parties, and a signature, which is verified.
func BenchmarkStep(b *testing.B) {
	asked := newSigning(2, 3, "alice", "bob", "carol")
	inviting, now := play(b, asked, at{0, asked.accept(1)})
	running, _ := play(b, asked, at{0, asked.accept(1)}, at{0, asked.accept(2)})
	for _, step := range []struct {
		name string
		from Session
		ev   Event
		to   Phase
	}{
		{"accept", inviting, asked.accept(2), Running},
		{"signature", running, running.signed(1, theKey), Completed},
		{"tick", running, Tick{}, Running},
	} {
		b.Run(step.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, _, err := Step(step.from, step.ev, now)
				if err != nil || s.Phase != step.to {
					b.Fatalf("got phase %s (%v), want %s", s.Phase, err, step.to)
				}
			}
		})
	}
}

// What this package does with a round message that it knows the session of.
func BenchmarkRelay(b *testing.B) {
	asked := newSigning(2, 3, "alice", "bob", "carol")
	running, _ := play(b, asked, at{0, asked.accept(1)}, at{0, asked.accept(2)})
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

// oneSession is a Store of which only Load is called.
type oneSession struct {
	Store
	s Session
}

func (o oneSession) Load(context.Context, string) (Session, time.Time, error) {
	return o.s, began, nil
}

type noMailboxes struct{}

func (noMailboxes) Send(_ context.Context, all ...Delivery) []error { return make([]error, len(all)) }

func (noMailboxes) Begin(_ context.Context, all ...Delivery) Sending {
	return sentAlready(make([]error, len(all)))
}

// sentAlready is a Sending that was done when it was begun.
type sentAlready []error

func (s sentAlready) Done() <-chan struct{} { return isDone }
func (s sentAlready) Errs() []error         { return s }

type noLocker struct{ Locker }

type nobody struct{ Presence }
