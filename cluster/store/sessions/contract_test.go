package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a store on one backend.
type bench struct {
	*testing.T
	*sessions.Store
	ctx    context.Context
	rdb    redis.UniversalClient
	prefix string
}

func each(t *testing.T, test func(b bench)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		store := sessions.New(sessions.Config{Redis: rdb, Prefix: prefix, Retention: time.Hour})
		test(bench{T: t, Store: store, ctx: context.Background(), rdb: rdb, prefix: prefix})
	})
}

func (b bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b bench) is(err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Fatalf("got error %v, want %v", err, want)
	}
}

func (b bench) now() time.Time {
	b.Helper()
	now, err := b.Now(b.ctx)
	b.ok(err)
	return now
}

func (b bench) soon() time.Time { return b.now().Add(time.Minute) }

func (b bench) mark() service.Mark { return service.Mark{Due: b.soon(), By: b.soon()} }

func (b bench) late() service.Mark {
	return service.Mark{Due: b.soon(), By: b.now().Add(-time.Millisecond)}
}

func (b bench) newSession(id string) session.Session {
	return session.Session{
		ID: id, Kind: session.Sign, Phase: session.Inviting, KeyID: "vault", Coordinator: "boss", Curve: pubkey.Secp256k1,
		Threshold: 2, Parties: []session.Party{{User: "alice", Invited: true}, {User: "bob", Invited: true}, {User: "carol"}},
		Data: "pay", CreatedAt: b.now(), Deadline: b.soon(),
	}
}

func say(to ...string) []service.Entry {
	var out []service.Entry
	for i, u := range to {
		out = append(out, service.Entry{To: u, Frame: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	return out
}

func TestCreateLoad(t *testing.T) {
	each(t, func(b bench) {
		_, now, err := b.Load(b.ctx, "s1")
		b.is(err, service.ErrNotFound)
		if d := time.Since(now); d < -time.Minute || d > time.Minute {
			b.Fatalf("the time without a session is %s", now)
		}

		s := b.newSession("s1")
		r, created, err := b.Create(b.ctx, s, say("alice", "bob"), b.mark())
		b.ok(err)
		if !created || len(r.IDs) != 2 || r.Backlog {
			b.Fatalf("got %+v, created %t", r, created)
		}
		s.Version = 1
		got, _, err := b.Load(b.ctx, "s1")
		b.ok(err)
		if diff := cmp.Diff(s, got); diff != "" {
			b.Fatal(diff)
		}
		if ttl := b.rdb.PTTL(b.ctx, b.prefix+"session:{s1}").Val(); ttl > 0 {
			b.Fatalf("an open session expires in %s", ttl)
		}

		other := b.newSession("s1")
		other.Data = "something else"
		_, created, err = b.Create(b.ctx, other, say("alice"), b.mark())
		b.ok(err)
		if created {
			b.Fatal("a session was created twice")
		}
		out, err := b.Outbox(b.ctx, "s1", "")
		b.ok(err)
		if got, _, _ := b.Load(b.ctx, "s1"); got.Data != "pay" || len(out) != 2 {
			b.Fatalf("creating it again changed it: %q, %d in the outbox", got.Data, len(out))
		}

		_, _, err = b.Create(b.ctx, b.newSession("s2"), nil, b.late())
		b.is(err, service.ErrStale)
		_, _, err = b.Load(b.ctx, "s2")
		b.is(err, service.ErrNotFound)
	})
}

func TestCommit(t *testing.T) {
	each(t, func(b bench) {
		s := b.newSession("s1")
		_, _, err := b.Create(b.ctx, s, say("alice"), b.mark())
		b.ok(err)
		s.Version = 1
		s.Parties[0].Response = session.Accepted
		r, err := b.Commit(b.ctx, s, "", say("bob", "alice"), b.mark())
		b.ok(err)
		if !r.Backlog || len(r.IDs) != 2 {
			b.Fatalf("got %+v with an undelivered message before it", r)
		}
		out, err := b.Outbox(b.ctx, "s1", "")
		b.ok(err)
		if len(out) != 3 || out[0].To != "alice" || out[1].To != "bob" || out[2].ID != r.IDs[1] || string(out[2].Frame) != `{"n":1}` {
			b.Fatalf("outbox %+v", out)
		}
		b.ok(b.Settle(b.ctx, "s1", service.Settlement{Delivered: []string{out[0].ID, out[1].ID, out[2].ID}}))
		b.ok(b.Settle(b.ctx, "s1", service.Settlement{}))

		// The version has moved on.
		_, err = b.Commit(b.ctx, s, "", say("carol"), b.mark())
		b.is(err, service.ErrStale)
		// So has time.
		s.Version = 2
		_, err = b.Commit(b.ctx, s, "", say("carol"), b.late())
		b.is(err, service.ErrStale)
		// A missing session.
		none := b.newSession("none")
		_, err = b.Commit(b.ctx, none, "", say("carol"), b.mark())
		b.is(err, service.ErrStale)
		if n := b.rdb.Exists(b.ctx, b.prefix+"session:{none}", b.prefix+"session:{none}:outbox").Val(); n != 0 {
			b.Fatal("a refused commit left something")
		}

		// An emptied field is gone.
		s.Data, s.Deadline = "", time.Time{}
		r, err = b.Commit(b.ctx, s, "", nil, b.mark())
		b.ok(err)
		if r.Backlog {
			b.Fatal("a backlog where all was delivered")
		}
		got, _, err := b.Load(b.ctx, "s1")
		b.ok(err)
		s.Version = 3
		if diff := cmp.Diff(s, got); diff != "" {
			b.Fatal(diff)
		}
	})
}

// A commit is fenced by the lock, and releases its own.
func TestCommitFencedByLock(t *testing.T) {
	each(t, func(b bench) {
		s := b.newSession("s1")
		_, _, err := b.Create(b.ctx, s, nil, b.mark())
		b.ok(err)
		s.Version = 1
		lock := b.prefix + "lock:{s1}"
		held := func(want string) {
			b.Helper()
			if got := b.rdb.Get(b.ctx, lock).Val(); got != want {
				b.Fatalf("the lock is held by %q, want %q", got, want)
			}
		}
		b.ok(b.rdb.Set(b.ctx, lock, "node-2/xyz", 0).Err())
		_, err = b.Commit(b.ctx, s, "node-1/abc", nil, b.mark())
		b.is(err, service.ErrStale)
		held("node-2/xyz")
		_, err = b.Commit(b.ctx, s, "node-2/xyz", nil, b.late())
		b.is(err, service.ErrStale)
		held("node-2/xyz")
		_, err = b.Commit(b.ctx, s, "node-2/xyz", nil, b.mark())
		b.ok(err)
		held("")
		s.Version = 2 // and the lock has expired
		_, err = b.Commit(b.ctx, s, "node-1/abc", nil, b.mark())
		b.ok(err)
	})
}

// A session's mark and its users' lists are written with it, or before it if
// several servers hold them; a write refused by one server has left neither.
func TestWhatIsWrittenWithASession(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) { marked(t, rdb, prefix, true) })
	shards := redistest.StartShards(t, 2, 0)
	t.Run("cluster", func(t *testing.T) { marked(t, shards.Client(t), redistest.Prefix(), false) })
	t.Run("one server of a cluster", func(t *testing.T) {
		marked(t, redistest.StartShards(t, 1, 0).Servers[0].Client(t), redistest.Prefix(), false)
	})
}

func marked(t *testing.T, rdb redis.UniversalClient, prefix string, whole bool) {
	b := bench{
		T: t, Store: sessions.New(sessions.Config{Redis: rdb, Prefix: prefix, Retention: time.Hour}),
		ctx: context.Background(), rdb: rdb, prefix: prefix,
	}
	due := func(id string, want time.Time) {
		b.Helper()
		got, err := rdb.ZScore(b.ctx, prefix+"sessions:due", id).Result()
		if want.IsZero() {
			b.is(err, redis.Nil)
		} else if b.ok(err); got != float64(want.UnixMicro())/1000 {
			b.Errorf("%s is due at %f, want %s", id, got, want)
		}
	}
	s, m := b.newSession("s1"), b.mark()
	_, created, err := b.Create(b.ctx, s, say("alice"), m)
	b.ok(err)
	if !created {
		b.Fatal("not created")
	}
	due("s1", m.Due)
	for _, user := range []string{"alice", "bob", "boss", ""} {
		places, err := b.SessionsOf(b.ctx, user, service.Page{})
		b.ok(err)
		if len(places) != 1 || places[0].ID != "s1" {
			b.Errorf("sessions of %q: %v, want s1", user, places)
		}
	}
	s.Version = 1
	later := service.Mark{Due: m.Due.Add(time.Minute), By: m.By}
	_, err = b.Commit(b.ctx, s, "", say("bob"), later)
	b.ok(err)
	due("s1", later.Due)
	s.Version = 2
	_, err = b.Commit(b.ctx, s, "", nil, service.Mark{}) // has no outbox, and changes no mark
	b.ok(err)
	due("s1", later.Due)

	again := service.Mark{Due: m.Due.Add(time.Hour), By: m.By}
	_, err = b.Commit(b.ctx, s, "", nil, again) // from an outdated version
	b.is(err, service.ErrStale)
	refused := b.late()
	_, _, err = b.Create(b.ctx, b.newSession("s2"), nil, refused)
	b.is(err, service.ErrStale)
	if whole {
		due("s1", later.Due)
		due("s2", time.Time{})
	} else { // which costs the sweeper one check
		due("s1", again.Due)
		due("s2", refused.Due)
	}

	out, err := b.Outbox(b.ctx, "s1", "")
	b.ok(err)
	b.ok(b.PutKey(b.ctx, session.Key{ID: "vault", Status: session.KeyActive, Curve: pubkey.Secp256k1, Threshold: 2, Participants: []string{"alice", "bob"}, Coordinator: "boss"}))
	o, err := b.open("vault", service.Signing{SessionID: "s1", Fingerprint: "f", Coordinator: "boss"}, true)
	b.ok(err)
	if d := b.now().Sub(o.Now); whole != (0 <= d && d < time.Minute) || whole == o.Now.IsZero() {
		b.Errorf("the session's time was %s ago", d)
	}
	from := later.Due
	if !whole {
		from = again.Due
	}
	b.ok(b.Settle(b.ctx, "s1", service.Settlement{Delivered: []string{out[0].ID}, ClosedOn: "vault", From: from, To: m.Due}))
	due("s1", m.Due)
	left, err := b.Outbox(b.ctx, "s1", "")
	b.ok(err)
	_, open, last, err := b.Signings(b.ctx, "vault")
	b.ok(err)
	if len(left) != len(out)-1 || len(open) != 0 || last != "s1" {
		b.Errorf("%d of %d entries are left, %v is open, %q was the last", len(left), len(out), open, last)
	}
}

func TestRetentionBeginsAtTheEnd(t *testing.T) {
	each(t, func(b bench) {
		s := b.newSession("s1")
		_, _, err := b.Create(b.ctx, s, say("alice"), b.mark())
		b.ok(err)
		s.Version, s.Phase, s.EndedAt = 1, session.Failed, b.now()
		_, err = b.Commit(b.ctx, s, "", say("boss"), b.mark())
		b.ok(err)
		for _, key := range []string{"session:{s1}", "session:{s1}:outbox"} {
			if ttl := b.rdb.PTTL(b.ctx, b.prefix+key).Val(); ttl <= 59*time.Minute || ttl > time.Hour {
				b.Errorf("%s expires in %s, want an hour", key, ttl)
			}
		}
	})
}

func TestOneOfManyCommits(t *testing.T) {
	each(t, func(b bench) {
		s := b.newSession("s1")
		_, _, err := b.Create(b.ctx, s, nil, b.mark())
		b.ok(err)
		s.Version = 1
		won := race(16, func(i int) bool {
			mine := s
			mine.Reason = fmt.Sprint(i)
			_, err := b.Commit(b.ctx, mine, "", say("alice"), b.mark())
			return err == nil
		})
		got, _, err := b.Load(b.ctx, "s1")
		b.ok(err)
		out, err := b.Outbox(b.ctx, "s1", "")
		b.ok(err)
		if len(won) != 1 || got.Reason != fmt.Sprint(won[0]) || got.Version != 2 || len(out) != 1 {
			b.Fatalf("winners %v, stored %s at version %d, %d messages", won, got.Reason, got.Version, len(out))
		}
	})
}

// race runs f n times at once and returns which succeeded.
func race(n int, f func(i int) bool) []int {
	var mu sync.Mutex
	var won []int
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if f(i) {
				mu.Lock()
				defer mu.Unlock()
				won = append(won, i)
			}
		})
	}
	wg.Wait()
	slices.Sort(won)
	return won
}

func TestDue(t *testing.T) {
	each(t, func(b bench) {
		now := b.now()
		b.ok(b.Schedule(b.ctx, "later", now.Add(time.Hour)))
		for i := range 10 {
			b.ok(b.Schedule(b.ctx, fmt.Sprintf("due-%d", i), now.Add(-time.Duration(10-i)*time.Second)))
		}
		var mu sync.Mutex
		seen := map[string]int{}
		race(4, func(int) bool {
			for range 5 {
				taken, err := b.TakeDue(b.ctx, 3, time.Minute)
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				for _, t := range taken {
					seen[t.ID]++
				}
				mu.Unlock()
			}
			return true
		})
		for id, n := range seen {
			if n != 1 {
				b.Errorf("%s was taken %d times", id, n)
			}
		}
		if len(seen) != 10 || seen["later"] != 0 {
			b.Fatalf("taken: %v", seen)
		}

		// Unfinished entries return after their hold, oldest first.
		b.ok(b.Schedule(b.ctx, "older", now.Add(-time.Hour)))
		b.ok(b.Schedule(b.ctx, "old", now.Add(-time.Minute)))
		taken, err := b.TakeDue(b.ctx, 1, 0)
		b.ok(err)
		if len(taken) != 1 || taken[0].ID != "older" {
			b.Fatalf("taken: %v", taken)
		}
		b.ok(b.Unschedule(b.ctx, "older"))
		b.ok(b.Unschedule(b.ctx, "older"))
		taken, err = b.TakeDue(b.ctx, 10, time.Minute)
		b.ok(err)
		if len(taken) != 1 || taken[0].ID != "old" {
			b.Fatalf("taken: %v", taken)
		}
	})
}

func TestPostponeGivesWay(t *testing.T) {
	each(t, func(b bench) {
		now := b.now()
		mark, wish, later := now.Add(-2*time.Second), now.Add(-2*time.Second+time.Microsecond), now.Add(time.Hour)
		due := func(limit int) []service.Taken {
			taken, err := b.TakeDue(b.ctx, limit, time.Minute)
			b.ok(err)
			return taken
		}
		b.ok(b.Schedule(b.ctx, "mine", mark))
		b.ok(b.Postpone(b.ctx, "mine", mark, later))
		b.ok(b.Schedule(b.ctx, "another's", mark))
		b.ok(b.Schedule(b.ctx, "another's", wish)) // a microsecond apart
		b.ok(b.Postpone(b.ctx, "another's", mark, later))
		b.ok(b.Postpone(b.ctx, "gone", mark, now))
		taken := due(10)
		if len(taken) != 1 || taken[0].ID != "another's" {
			b.Fatalf("due: %v, want another's alone", taken)
		}
		// The hold is a mark too, and the zero time removes it from the list.
		b.ok(b.Postpone(b.ctx, "another's", taken[0].Until.Add(time.Microsecond), time.Time{}))
		if n := b.rdb.ZCard(b.ctx, b.prefix+"sessions:due").Val(); n != 2 {
			b.Fatalf("%d on the list, want 2", n)
		}
		b.ok(b.Postpone(b.ctx, "another's", taken[0].Until, time.Time{}))
		if n := b.rdb.ZCard(b.ctx, b.prefix+"sessions:due").Val(); n != 1 {
			b.Fatalf("%d on the list, want 1", n)
		}
	})
}
