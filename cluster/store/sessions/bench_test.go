package sessions_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/service"
)

// BenchmarkStore measures a commit with its outbox, and a load, on a real Redis.
func BenchmarkStore(b *testing.B) {
	rdb := redistest.Real(b)
	store := sessions.New(sessions.Config{Redis: rdb, Prefix: redistest.Prefix(), Retention: time.Hour})
	ctx := context.Background()
	now, err := store.Now(ctx)
	if err != nil {
		b.Fatal(err)
	}
	s := session.Session{
		ID: "sg-1", Kind: session.Sign, Phase: session.Inviting, KeyID: "vault", Coordinator: "boss", Curve: pubkey.Secp256k1,
		Threshold: 2, Parties: []session.Party{{User: "alice", Invited: true}, {User: "bob", Invited: true}, {User: "carol"}},
		Data: "pay", CreatedAt: now, Deadline: now.Add(time.Hour),
	}
	mark := service.Mark{Due: s.Deadline, By: s.Deadline}
	if _, _, err := store.Create(ctx, s, nil, mark); err != nil {
		b.Fatal(err)
	}
	s.Version = 1
	b.Run("commit", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Data = fmt.Sprint("pay ", s.Version)
			r, err := store.Commit(ctx, s, "", say("alice", "bob"), mark)
			if err != nil {
				b.Fatal(err)
			}
			s.Version++
			if err := store.Settle(ctx, s.ID, service.Settlement{Delivered: r.IDs}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, _, err := store.Load(ctx, s.ID); err != nil || got.Version != s.Version {
				b.Fatalf("version %d (%v), want %d", got.Version, err, s.Version)
			}
		}
	})
}
