package sessions_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/service"
)

func (b bench) newKey(id string) session.Key {
	return session.Key{
		ID: id, Status: session.KeyGenerating, Curve: pubkey.Ed25519, Epoch: 1, Highest: 1, Threshold: 2, Participants: []string{"alice", "bob", "carol"},
		Coordinator: "boss", Session: "kg-1", CreatedAt: b.now(),
	}
}

// activeKey stores a key that can sign.
func (b bench) activeKey(id string) session.Key {
	k := b.newKey(id)
	b.ok(b.PutKey(b.ctx, k))
	k.Version, k.Status, k.AccountAddr, k.PublicKey = 1, session.KeyActive, "addr", "0x01"
	b.ok(b.PutKey(b.ctx, k))
	k.Version = 2
	return k
}

func TestPutKey(t *testing.T) {
	each(t, func(b bench) {
		_, err := b.Key(b.ctx, "vault")
		b.is(err, service.ErrNotFound)
		k := b.activeKey("vault")
		got, err := b.Key(b.ctx, "vault")
		b.ok(err)
		if diff := cmp.Diff(k, got); diff != "" {
			b.Fatal(diff)
		}
		for _, version := range []int64{0, 1, 3} {
			old := k
			old.Version = version
			b.is(b.PutKey(b.ctx, old), service.ErrStale)
		}
		won := race(16, func(i int) bool {
			mine := k
			mine.AccountAddr = fmt.Sprint(i)
			return b.PutKey(b.ctx, mine) == nil
		})
		got, err = b.Key(b.ctx, "vault")
		b.ok(err)
		if len(won) != 1 || got.AccountAddr != fmt.Sprint(won[0]) || got.Version != 3 {
			b.Fatalf("winners %v, stored %s at version %d", won, got.AccountAddr, got.Version)
		}
	})
}

func TestReservedKeyIsForgotten(t *testing.T) {
	each(t, func(b bench) {
		k := b.newKey("vault")
		k.Status, k.Session = session.KeyReserved, ""
		b.ok(b.PutKey(b.ctx, k))
		name := b.prefix + "key:{vault}"
		if ttl := b.rdb.PTTL(b.ctx, name).Val(); ttl <= 0 || ttl > 7*24*time.Hour {
			b.Fatalf("a reserved key expires in %s", ttl)
		}
		k.Version, k.Status, k.Session = 1, session.KeyGenerating, "kg-1"
		b.ok(b.PutKey(b.ctx, k))
		if ttl := b.rdb.PTTL(b.ctx, name).Val(); ttl > 0 {
			b.Fatalf("a key in use expires in %s", ttl)
		}
	})
}

func TestSharesAreFenced(t *testing.T) {
	each(t, func(b bench) {
		b.is(b.PutShare(b.ctx, "vault", "kg-1", 1, "s", ""), service.ErrStale)
		k := b.newKey("vault")
		b.ok(b.PutKey(b.ctx, k))
		b.is(b.PutShare(b.ctx, "vault", "kg-0", 1, "s", ""), service.ErrStale)
		b.ok(b.PutShare(b.ctx, "vault", "kg-1", 1, "first", ""))
		b.ok(b.PutShare(b.ctx, "vault", "kg-1", 1, "second", "att-1"))
		b.ok(b.PutShare(b.ctx, "vault", "kg-1", 3, "third", "att-3"))
		share := func(want string) {
			b.Helper()
			got, err := b.Shares(b.ctx, "vault", 1, 1, 2)
			b.ok(err)
			if !slices.Equal(got, []string{want, ""}) {
				b.Fatalf("got shares %q, want %q and none", got, want)
			}
		}
		attested := func(want ...string) {
			b.Helper()
			got, err := b.Attestations(b.ctx, "vault", 3)
			b.ok(err)
			if !slices.Equal(got, want) {
				b.Fatalf("got attestations %q, want %q", got, want)
			}
		}
		share("second")
		attested("att-1", "", "att-3")

		// Another keygen of the same key begins without the old shares.
		k.Version, k.Status = 1, session.KeyFailed
		b.ok(b.PutKey(b.ctx, k))
		b.is(b.PutShare(b.ctx, "vault", "kg-1", 1, "s", ""), service.ErrStale)
		k.Version, k.Status, k.Session = 2, session.KeyGenerating, "kg-2"
		b.ok(b.PutKey(b.ctx, k))
		share("")
		attested("", "", "")
		b.is(b.PutShare(b.ctx, "vault", "kg-1", 1, "late", "att-late"), service.ErrStale)
		b.ok(b.PutShare(b.ctx, "vault", "kg-2", 1, "new", ""))

		// Once it is active no share can be replaced.
		k.Version, k.Status = 3, session.KeyActive
		b.ok(b.PutKey(b.ctx, k))
		b.is(b.PutShare(b.ctx, "vault", "kg-2", 1, "s", "att-later"), service.ErrStale)
		share("new")
		attested("", "", "")
	})
}

// open opens a signing that reserves nothing.
func (b bench) open(key string, s service.Signing, match bool) (service.Opened, error) {
	return b.OpenSigning(b.ctx, key, s, service.Reservation{User: s.Coordinator, SessionID: s.SessionID}, match)
}

func TestOpenSigning(t *testing.T) {
	each(t, func(b bench) {
		sig := func(id, print string) service.Signing {
			return service.Signing{SessionID: id, Fingerprint: print, Coordinator: "boss"}
		}
		opened := func(s service.Signing, match bool, want string) {
			b.Helper()
			o, err := b.open("vault", s, match)
			b.ok(err)
			if o.SessionID != want {
				b.Fatalf("opened %s, want %s", o.SessionID, want)
			}
		}
		_, err := b.open("vault", sig("s1", "f1"), false)
		b.is(err, service.ErrStale)
		b.ok(b.PutKey(b.ctx, b.newKey("vault")))
		_, err = b.open("vault", sig("s1", "f1"), false)
		b.is(err, service.ErrStale)
		k := b.newKey("vault")
		k.Version, k.Status = 1, session.KeyActive
		b.ok(b.PutKey(b.ctx, k))

		opened(sig("s1", "f1"), false, "s1")
		opened(sig("s1", "f1"), false, "s1")
		opened(sig("s2", "f1"), true, "s1")
		opened(sig("s2", "f"), true, "s2") // a prefix is not a match
		opened(sig("s3", "f1"), false, "s3")
		other := sig("s4", "f1")
		other.Coordinator = "bos"
		opened(other, true, "s4")

		_, open, last, err := b.Signings(b.ctx, "vault")
		b.ok(err)
		slices.SortFunc(open, func(a, b service.Signing) int { return int(a.SessionID[1]) - int(b.SessionID[1]) })
		want := []service.Signing{sig("s1", "f1"), sig("s2", "f"), sig("s3", "f1"), other}
		if diff := cmp.Diff(want, open); diff != "" || last != "" {
			b.Fatalf("last %q, open: %s", last, diff)
		}
		b.ok(b.Settle(b.ctx, "s1", service.Settlement{ClosedOn: "vault"}))
		b.ok(b.Settle(b.ctx, "s3", service.Settlement{ClosedOn: "vault"}))
		b.ok(b.Settle(b.ctx, "s1", service.Settlement{ClosedOn: "vault"})) // repeated, no effect
		_, open, last, err = b.Signings(b.ctx, "vault")
		b.ok(err)
		if len(open) != 2 || last != "s3" {
			b.Fatalf("last %q, open: %v", last, open)
		}
		// The notes are not in the record and survive its writing.
		got, err := b.Key(b.ctx, "vault")
		b.ok(err)
		b.ok(b.PutKey(b.ctx, got))
		if _, open, _, _ := b.Signings(b.ctx, "vault"); len(open) != 2 {
			b.Fatalf("open after the record was written: %v", open)
		}
	})
}

func TestOpenSigningsAreBounded(t *testing.T) {
	each(t, func(b bench) {
		b.activeKey("vault")
		for i := range 256 {
			_, err := b.open("vault", service.Signing{SessionID: fmt.Sprint(i), Fingerprint: "f", Coordinator: "boss"}, false)
			b.ok(err)
		}
		one := service.Signing{SessionID: "one", Fingerprint: "g", Coordinator: "boss"}
		_, err := b.open("vault", one, true)
		b.is(err, service.ErrTooMany)
		// Notes of nodes that died before creating the session expire.
		name := b.prefix + "key:{vault}"
		b.ok(b.rdb.HSet(b.ctx, name, "open:7", "f boss 1600000000000", "open:8", "f boss garbled").Err())
		o, err := b.open("vault", one, true)
		b.ok(err)
		if n := b.rdb.HExists(b.ctx, name, "open:7").Val(); n || o.SessionID != "one" {
			b.Fatalf("opened %s; the void note is there: %t", o.SessionID, n)
		}
	})
}

func TestPages(t *testing.T) {
	each(t, func(b bench) {
		var want []string
		at := b.now()
		for i := range 7 {
			s := b.newSession(fmt.Sprintf("s%d", i))
			s.CreatedAt = at.Add(time.Duration(i/2) * time.Microsecond) // two always have the same age
			_, _, err := b.Create(b.ctx, s, nil, b.mark())
			b.ok(err)
			want = append([]string{s.ID}, want...)
			k := b.newKey(fmt.Sprintf("k%d", i))
			k.CreatedAt = s.CreatedAt
			b.ok(b.PutKey(b.ctx, k))
		}
		for _, user := range []string{"boss", "alice", "bob", ""} {
			var got []string
			p := service.Page{Limit: 3}
			for range 4 {
				places, err := b.SessionsOf(b.ctx, user, p)
				b.ok(err)
				if len(places) == 0 {
					break
				}
				got = append(got, idsOf(places)...)
				p.After = places[len(places)-1]
				if last, _, err := b.Load(b.ctx, p.After.ID); err != nil || !last.CreatedAt.Equal(p.After.At) {
					b.Errorf("%s stands at %s, and was made at %s, %v", last.ID, p.After.At, last.CreatedAt, err)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				b.Errorf("sessions of %q: %s", user, diff)
			}
		}
		if places, err := b.SessionsOf(b.ctx, "boss", service.Page{After: service.Place{At: at.Add(time.Microsecond)}}); err != nil || len(places) != 2 {
			b.Errorf("before a time there are %v, %v; want those that are older", places, err)
		}
		if ids, err := b.SessionsOf(b.ctx, "carol", service.Page{}); err != nil || len(ids) != 0 {
			b.Errorf("carol was not invited and has %v, %v", ids, err)
		}
		places, err := b.KeysOf(b.ctx, "carol", service.Page{Limit: 2})
		b.ok(err)
		if diff := cmp.Diff([]string{"k6", "k5"}, idsOf(places)); diff != "" {
			b.Error(diff)
		}
		for _, index := range []string{"index:{alice}:sessions", "index:sessions"} {
			if ttl := b.rdb.PTTL(b.ctx, b.prefix+index).Val(); ttl <= 0 {
				b.Errorf("%s is kept for ever", index)
			}
		}
		sessions, err := b.LoadAll(b.ctx, []string{"s3", "none", "s1"})
		b.ok(err)
		keys, err := b.KeyRecords(b.ctx, []string{"none", "k2"})
		b.ok(err)
		if len(sessions) != 2 || sessions[0].ID != "s3" || sessions[1].ID != "s1" || len(keys) != 1 || keys[0].ID != "k2" {
			b.Errorf("read together: %v, %v", sessions, keys)
		}
	})
}

func idsOf(places []service.Place) []string {
	ids := make([]string, len(places))
	for i, p := range places {
		ids[i] = p.ID
	}
	return ids
}

// TestWatch has a commit return the nodes to notify.
func TestWatch(t *testing.T) {
	each(t, func(b bench) {
		_, err := b.Watch(b.ctx, "s1", "n1", time.Minute)
		b.is(err, service.ErrNotFound)
		s := b.newSession("s1")
		_, _, err = b.Create(b.ctx, s, nil, b.mark())
		b.ok(err)
		s.Version = 1
		for _, node := range []string{"n1", "n2", "n1"} {
			version, err := b.Watch(b.ctx, "s1", node, time.Minute)
			b.ok(err)
			if version != 1 {
				b.Errorf("version %d, want 1", version)
			}
		}
		r, err := b.Commit(b.ctx, s, "", []service.Entry{{To: "alice", Frame: []byte("{}")}}, b.mark())
		b.ok(err)
		slices.Sort(r.Watchers)
		if len(r.IDs) != 1 || !slices.Equal(r.Watchers, []string{"n1", "n2"}) {
			b.Errorf("the commit says %+v", r)
		}
		if ttl := b.rdb.PTTL(b.ctx, b.prefix+"session:{s1}:watch").Val(); ttl <= 0 || ttl > time.Minute {
			b.Errorf("they want it for %s", ttl)
		}
	})
}

// TestRemember keeps the first of two requests, from any caller.
func TestRemember(t *testing.T) {
	each(t, func(b bench) {
		for _, request := range []string{"first", "first", "second"} {
			kept, err := b.Remember(b.ctx, "name", request, false)
			b.ok(err)
			if kept != "first" {
				b.Errorf("kept %q", kept)
			}
		}
		if ttl := b.rdb.PTTL(b.ctx, b.prefix+"request:{name}").Val(); ttl <= 0 {
			b.Error("it is kept for ever")
		}
	})
}

func TestPageIsBounded(t *testing.T) {
	each(t, func(b bench) {
		k := b.newKey("k")
		for i := range 60 {
			k.ID = fmt.Sprint("k", i)
			b.ok(b.PutKey(b.ctx, k))
		}
		for limit, want := range map[int]int{0: 50, -1: 50, 55: 55, 1 << 40: 60} {
			ids, err := b.KeysOf(b.ctx, "boss", service.Page{Limit: limit})
			b.ok(err)
			if len(ids) != want {
				b.Errorf("limit %d: got %d keys, want %d", limit, len(ids), want)
			}
		}
	})
}

// TestErrorsAreUnavailable checks the error when Redis is unreachable.
func TestErrorsAreUnavailable(t *testing.T) {
	each(t, func(b bench) {
		s := b.newSession("s1")
		k := b.newKey("vault")
		at := b.soon()
		b.ok(b.rdb.Close())
		_, _, err := b.Load(b.ctx, "s1")
		b.is(err, service.ErrUnavailable)
		_, _, err = b.Create(b.ctx, s, nil, service.Mark{Due: at, By: at})
		b.is(err, service.ErrUnavailable)
		_, err = b.Commit(b.ctx, s, "", nil, service.Mark{Due: at, By: at})
		b.is(err, service.ErrUnavailable)
		b.is(b.PutKey(b.ctx, k), service.ErrUnavailable)
		b.is(b.PutShare(b.ctx, "vault", "kg-1", 1, "s", ""), service.ErrUnavailable)
		b.is(b.Postpone(b.ctx, "s1", at, at), service.ErrUnavailable)
		_, err = b.TakeDue(b.ctx, 1, 0)
		b.is(err, service.ErrUnavailable)
	})
}
