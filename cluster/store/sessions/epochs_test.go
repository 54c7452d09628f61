package sessions_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

// reshare opens a reshare that reserves nothing worth counting.
func (b bench) reshare(key string, epoch int, id string) (service.OpenedReshare, error) {
	return b.OpenReshare(b.ctx, key, epoch, service.Reservation{User: "boss", SessionID: id, Open: 1, Kept: 1, Overdue: time.Hour})
}

func (b bench) number(key, id string, above, want int) {
	b.Helper()
	n, err := b.Number(b.ctx, key, id, above)
	b.ok(err)
	if n != want {
		b.Fatalf("%s got the number %d, want %d", id, n, want)
	}
}

func (b bench) key(id string) session.Key {
	b.Helper()
	k, err := b.Key(b.ctx, id)
	b.ok(err)
	return k
}

// shared compares the stored shares of an epoch, by part.
func (b bench) shared(epoch int, want ...string) {
	b.Helper()
	parts := make([]int, len(want))
	for i := range want {
		parts[i] = i + 1
	}
	got, err := b.Shares(b.ctx, "vault", epoch, parts...)
	b.ok(err)
	if !slices.Equal(got, want) {
		b.Fatalf("the shares of epoch %d are %q, want %q", epoch, got, want)
	}
}

// sharedKey stores an active key of alice, bob and carol with the shares of epoch 1.
func (b bench) sharedKey() session.Key {
	b.Helper()
	k := b.newKey("vault")
	b.ok(b.PutKey(b.ctx, k))
	for part := range k.Participants {
		b.ok(b.PutShare(b.ctx, "vault", k.Session, part+1, fmt.Sprint("old-", part+1), fmt.Sprint("att-", part+1)))
	}
	k.Version, k.Status = 1, session.KeyActive
	b.ok(b.PutKey(b.ctx, k))
	return b.key("vault")
}

// certification is of epoch n of vault, made from the key as it is, for bob and dave.
func (b bench) certification(id string, n int) service.Certification {
	k := b.key("vault")
	parent := k.Epoch
	k.Epoch, k.Highest, k.Threshold, k.Participants = n, max(n, k.Highest), 2, []string{"bob", "dave"}
	k.Certificate, k.Origin = fmt.Sprint("0x", n), "generated"
	return service.Certification{
		Key: k, Session: id,
		Epochs: []session.Epoch{
			{Number: parent, Threshold: 2, Participants: []string{"alice", "bob", "carol"}, Session: "kg-1", CertifiedAt: k.CreatedAt},
			{Number: n, Parent: parent, Threshold: 2, Participants: k.Participants, Session: id, Certificate: k.Certificate, Bytes: -7, CertifiedAt: b.now()},
		},
		Certificates: []service.Certificate{{Number: parent, Text: "first"}, {Number: n, Text: fmt.Sprint("certificate-", n)}},
	}
}

// One reshare of a key is open at a time, of an active key in the epoch that it names.
func TestOpenReshare(t *testing.T) {
	each(t, func(b bench) {
		_, err := b.reshare("vault", 1, "rs-1")
		b.is(err, service.ErrStale)
		b.ok(b.PutKey(b.ctx, b.newKey("vault")))
		_, err = b.reshare("vault", 1, "rs-1")
		b.is(err, service.ErrStale)
		k := b.newKey("vault")
		k.Version, k.Status = 1, session.KeyActive
		b.ok(b.PutKey(b.ctx, k))
		_, err = b.reshare("vault", 2, "rs-1")
		b.is(err, service.ErrStale)

		won := race(8, func(i int) bool {
			id := fmt.Sprint("rs-", i)
			o, err := b.reshare("vault", 1, id)
			return err == nil && o.SessionID == id
		})
		if len(won) != 1 {
			b.Fatalf("%v opened a reshare, want one", won)
		}
		id := fmt.Sprint("rs-", won[0])
		again, err := b.reshare("vault", 1, id)
		b.ok(err)
		if again.SessionID != id || again.Grant.Fresh || again.Now.Sub(again.Since) > time.Minute || again.Since.After(again.Now) {
			b.Errorf("opened again: %+v", again)
		}
		other, err := b.reshare("vault", 1, "rs-other")
		b.ok(err)
		if other.SessionID != id || other.Grant != (service.Grant{}) {
			b.Errorf("another got %+v, want the open %s without a grant", other, id)
		}
		if k := b.key("vault"); k.Reshare != id || !k.ReshareSince.Equal(other.Since) {
			b.Errorf("the record has %s since %s, want %s since %s", k.Reshare, k.ReshareSince, id, other.Since)
		}
		// Only the one that is open reserves.
		if held, err := b.rdb.HKeys(b.ctx, b.prefix+"quota:{boss}:open").Result(); err != nil || !slices.Equal(held, []string{id}) {
			b.Errorf("reserved for %v, %v, want %s", held, err, id)
		}

		b.ok(b.Settle(b.ctx, "rs-other", service.Settlement{ClosedOn: "vault"}))
		if k := b.key("vault"); k.Reshare != id {
			b.Errorf("the end of another left %q open, want %s", k.Reshare, id)
		}
		b.ok(b.Settle(b.ctx, id, service.Settlement{ClosedOn: "vault"}))
		b.ok(b.Settle(b.ctx, id, service.Settlement{ClosedOn: "vault"}))
		if k := b.key("vault"); k.Reshare != "" || !k.ReshareSince.IsZero() {
			b.Errorf("%q is open since %s, want none", k.Reshare, k.ReshareSince)
		}
		if last := b.rdb.HGet(b.ctx, b.prefix+"key:{vault}", "last_signing").Val(); last != "" {
			b.Errorf("the last signing is %q, which was a reshare", last)
		}
	})
}

// A number is given once, above all before it, to the open reshare.
func TestNumber(t *testing.T) {
	each(t, func(b bench) {
		_, err := b.Number(b.ctx, "vault", "rs-1", 0)
		b.is(err, service.ErrStale)
		b.activeKey("vault")
		_, err = b.Number(b.ctx, "vault", "", 0)
		b.is(err, service.ErrStale)
		_, err = b.reshare("vault", 1, "rs-1")
		b.ok(err)
		_, err = b.Number(b.ctx, "vault", "rs-0", 0)
		b.is(err, service.ErrStale)
		b.number("vault", "rs-1", 0, 2)
		b.number("vault", "rs-1", 1, 3)
		b.number("vault", "rs-1", 41, 42)
		b.number("vault", "rs-1", 7, 43)
		given := make([]int, 16)
		race(len(given), func(i int) bool {
			n, err := b.Number(b.ctx, "vault", "rs-1", 0)
			if err != nil {
				b.Error(err)
			}
			given[i] = n
			return true
		})
		slices.Sort(given)
		if given[0] != 44 || given[15] != 59 || len(slices.Compact(given)) != 16 {
			b.Errorf("the numbers %v were given, want 44 to 59", given)
		}
		b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
		_, err = b.Number(b.ctx, "vault", "rs-1", 0)
		b.is(err, service.ErrStale)
		_, err = b.reshare("vault", 1, "rs-2")
		b.ok(err)
		b.number("vault", "rs-2", 0, 60) // the numbers of the failed one are used up
		if k := b.key("vault"); k.Highest != 60 || k.Epoch != 1 {
			b.Errorf("the record has epoch %d, highest %d, want 1 and 60", k.Epoch, k.Highest)
		}
	})
}

// A record that was written by a release without epochs is numbered from 2 on.
func TestNumberOfOldKey(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		b.ok(b.rdb.HDel(b.ctx, b.prefix+"key:{vault}", "epoch", "highest").Err())
		if k := b.key("vault"); k.Epoch != 1 || k.Highest != 1 {
			b.Fatalf("epoch %d, highest %d, want 1 and 1", k.Epoch, k.Highest)
		}
		_, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		b.number("vault", "rs-1", 0, 2)
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 1, "new-1"))
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 2, "new-2"))
		b.ok(b.Certify(b.ctx, b.certification("rs-1", 2)))
		b.shared(1, "", "", "")
		b.shared(2, "new-1", "new-2")
	})
}

// Shares of an attempt are taken for the open reshare, under a number that was given and
// is above the key's epoch; those that are not certified go when it ends.
func TestEpochShares(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		put := func(id string, epoch, part int) error {
			return b.PutEpochShare(b.ctx, "vault", id, epoch, part, fmt.Sprint("new-", part))
		}
		b.is(put("rs-1", 2, 1), service.ErrStale)
		_, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		b.is(put("rs-1", 2, 1), service.ErrStale) // no number was given
		b.number("vault", "rs-1", 0, 2)
		b.number("vault", "rs-1", 0, 3)
		b.is(put("rs-0", 3, 1), service.ErrStale)
		b.is(put("rs-1", 1, 1), service.ErrStale)
		b.is(put("rs-1", 4, 1), service.ErrStale)
		b.ok(put("rs-1", 2, 1))
		b.ok(put("rs-1", 3, 1))
		b.ok(put("rs-1", 3, 2))
		b.shared(1, "old-1", "old-2", "old-3")
		b.shared(2, "new-1", "")
		b.shared(3, "new-1", "new-2")
		if n, err := b.ShareBytes(b.ctx, "vault", 3, 2); err != nil || n != 10 {
			b.Errorf("%d bytes, %v, want 10", n, err)
		}

		b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
		b.shared(1, "old-1", "old-2", "old-3")
		b.shared(2, "", "")
		b.shared(3, "", "")
		b.is(put("rs-1", 3, 1), service.ErrStale) // late
	})
}

// A certified epoch is the key's own from one moment to the next, with everything that
// belongs to it.
func TestCertify(t *testing.T) {
	each(t, func(b bench) {
		before := b.sharedKey()
		_, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		b.number("vault", "rs-1", 0, 2)
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 1, "burnt"))
		b.number("vault", "rs-1", 0, 3)
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 3, 1, "new-1"))
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 3, 2, "new-2"))

		c := b.certification("rs-1", 3)
		stale := c
		stale.Key.Version--
		b.is(b.Certify(b.ctx, stale), service.ErrStale)
		stale = c
		stale.Session = "rs-0"
		b.is(b.Certify(b.ctx, stale), service.ErrStale)
		if list, err := b.Lineage(b.ctx, "vault", 0, 10); err != nil || len(list) != 0 {
			b.Fatalf("a refused one left %v, %v", list, err)
		}
		b.shared(1, "old-1", "old-2", "old-3")

		won := race(8, func(int) bool { return b.Certify(b.ctx, c) == nil })
		if len(won) != 1 {
			b.Fatalf("certified %d times, want once", len(won))
		}
		want := c.Key
		want.Version++
		if diff := cmp.Diff(want, b.key("vault")); diff != "" {
			b.Errorf("the record (-want +got):\n%s", diff)
		}
		if want.AccountAddr != before.AccountAddr || want.Session != before.Session {
			b.Errorf("%+v, before %+v", want, before)
		}
		epochs, err := b.EpochsOf(b.ctx, "vault")
		b.ok(err)
		if diff := cmp.Diff(c.Epochs, epochs); diff != "" {
			b.Errorf("the epochs (-want +got):\n%s", diff)
		}
		b.shared(1, "", "", "")
		b.shared(2, "", "")
		b.shared(3, "new-1", "new-2")
		if list, err := b.Attestations(b.ctx, "vault", 3); err != nil || !slices.Equal(list, []string{"att-1", "att-2", "att-3"}) {
			b.Errorf("the attestations of epoch 1 are %v, %v: they are its certificate", list, err)
		}
		b.listed("vault", "bob", "dave", "boss", "")
		b.unlisted("vault", "alice", "carol")

		b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
		b.shared(3, "new-1", "new-2")
		_, err = b.reshare("vault", 1, "rs-2")
		b.is(err, service.ErrStale) // the key has moved
		_, err = b.reshare("vault", 3, "rs-2")
		b.ok(err)
	})
}

func (b bench) listed(key string, users ...string) {
	b.Helper()
	for _, user := range users {
		if places, err := b.KeysOf(b.ctx, user, service.Page{}); err != nil || len(places) != 1 || places[0].ID != key {
			b.Errorf("the keys of %q are %v, %v, want %s", user, places, err, key)
		}
	}
}

func (b bench) unlisted(key string, users ...string) {
	b.Helper()
	for _, user := range users {
		if list, err := b.ListedKeys(b.ctx, user, []string{key}); err != nil || len(list) != 0 {
			b.Errorf("the keys of %q are %v, %v, want none", user, list, err)
		}
	}
}

// Sealed shares of the old epoch stay while one of the new is missing.
func TestCertifyKeepsSharesUntilAllAreHere(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		_, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		b.number("vault", "rs-1", 0, 2)
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 2, "new-2"))
		b.ok(b.Certify(b.ctx, b.certification("rs-1", 2)))
		b.shared(1, "old-1", "old-2", "old-3")
		b.shared(2, "", "new-2")
	})
}

// A member brings a certificate that this Redis had lost: it needs no open reshare, and
// leaves the one that is open.
func TestCertifyBroughtByMember(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		_, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		b.number("vault", "rs-1", 0, 2)
		b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 1, "burnt"))
		b.ok(b.Certify(b.ctx, b.certification("", 9)))
		k := b.key("vault")
		if k.Epoch != 9 || k.Highest != 9 || k.Reshare != "rs-1" {
			b.Errorf("epoch %d, highest %d, open %q; want 9, 9 and rs-1", k.Epoch, k.Highest, k.Reshare)
		}
		b.is(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 2, "late"), service.ErrStale)
		b.number("vault", "rs-1", 0, 10)
		b.shared(1, "old-1", "old-2", "old-3")
	})
}

func TestLineagePages(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		numbers := func(after, limit int, want ...int) {
			b.Helper()
			list, err := b.Lineage(b.ctx, "vault", after, limit)
			b.ok(err)
			var got []int
			for _, c := range list {
				if got = append(got, c.Number); c.Text != fmt.Sprint("certificate-", c.Number) && c.Number != 1 {
					b.Errorf("number %d has the text %q", c.Number, c.Text)
				}
			}
			if !slices.Equal(got, want) {
				b.Errorf("after %d, %d at most: %v, want %v", after, limit, got, want)
			}
		}
		numbers(0, 10)
		for _, n := range []int{9, 10, 100} {
			c := b.certification("", n)
			c.Certificates = append([]service.Certificate{{Number: 1, Text: "first"}}, c.Certificates[1:]...)
			b.ok(b.Certify(b.ctx, c))
		}
		numbers(0, 10, 1, 9, 10, 100)
		numbers(0, 2, 1, 9)
		numbers(9, 2, 10, 100)
		numbers(100, 2)
		numbers(0, 0)
	})
}

// What a reshare added to its key is counted for its coordinator, and may be less than
// what was there.
func TestReleaseOfReshare(t *testing.T) {
	each(t, func(b bench) {
		made := func(keys, bytes string) {
			b.Helper()
			if got := b.rdb.HGetAll(b.ctx, b.prefix+"quota:{boss}:keys").Val(); got["keys"] != keys || got["bytes"] != bytes {
				b.Errorf("counted: %v, want %s keys, %s bytes", got, keys, bytes)
			}
		}
		end := func(id string, bytes int64, regrown bool) {
			b.Helper()
			_, err := b.Reserve(b.ctx, service.Reservation{User: "boss", SessionID: id, Open: 1, Kept: 1, Overdue: time.Hour})
			b.ok(err)
			r := service.Release{User: "boss", SessionID: id, Reason: service.ReleaseEnded, Key: bytes, Regrown: regrown}
			b.ok(b.Release(b.ctx, r, r)) // twice counts once
		}
		end("kg-1", 500, false)
		made("1", "500")
		end("rs-1", 100, true)
		made("1", "600")
		end("rs-2", -200, true)
		made("1", "400")
		end("rs-3", -1000, true)
		made("1", "0")
		end("rs-4", 0, true)
		made("1", "0")
	})
}

// On Redis Cluster the coordinator's quota is on another server than the key.
func TestReshareOnCluster(t *testing.T) {
	t.Parallel()
	shards := redistest.StartShards(t, 2, 0)
	rdb, prefix := shards.Client(t), redistest.Prefix()
	b := bench{T: t, Store: sessions.New(sessions.Config{Redis: rdb, Prefix: prefix}), ctx: context.Background(), rdb: rdb, prefix: prefix}
	b.sharedKey()
	for range 2 {
		o, err := b.reshare("vault", 1, "rs-1")
		b.ok(err)
		if o.SessionID != "rs-1" || o.Now.IsZero() {
			b.Fatalf("opened %+v", o)
		}
	}
	o, err := b.reshare("vault", 1, "rs-2")
	b.ok(err)
	held, err := rdb.HKeys(b.ctx, prefix+"quota:{boss}:open").Result()
	b.ok(err)
	if o.SessionID != "rs-1" || o.Grant != (service.Grant{}) || !slices.Equal(held, []string{"rs-1"}) {
		b.Errorf("another got %+v, reserved for %v; want rs-1 alone", o, held)
	}
	_, err = b.reshare("vault", 7, "rs-3")
	b.is(err, service.ErrStale)
	b.number("vault", "rs-1", 0, 2)
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 1, "new-1"))
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 2, "new-2"))
	b.ok(b.Certify(b.ctx, b.certification("rs-1", 2)))
	b.shared(1, "", "", "")
	b.shared(2, "new-1", "new-2")
	b.listed("vault", "bob", "dave", "boss", "")
	b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
	if k := b.key("vault"); k.Epoch != 2 || k.Reshare != "" {
		b.Errorf("epoch %d, open %q", k.Epoch, k.Reshare)
	}
}

// At a full Redis nothing begins, and what has begun ends.
func TestReshareWhenRedisIsFull(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	full := func(set bool) {
		limit := "0"
		if set {
			limit = "1"
		}
		b.ok(rdb.ConfigSet(b.ctx, "maxmemory", limit).Err())
	}
	b.sharedKey()
	full(true)
	_, err := b.reshare("vault", 1, "rs-1")
	b.is(err, service.ErrStorageFull)
	full(false)
	_, err = b.reshare("vault", 1, "rs-1")
	b.ok(err)
	b.number("vault", "rs-1", 0, 2)
	full(true)
	b.number("vault", "rs-1", 0, 3)
	b.is(b.PutEpochShare(b.ctx, "vault", "rs-1", 3, 1, "new-1"), service.ErrStorageFull)
	full(false)
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 3, 1, "new-1"))
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 3, 2, "new-2"))
	full(true)
	b.ok(b.Certify(b.ctx, b.certification("rs-1", 3)))
	b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
	b.shared(1, "", "", "")
	b.shared(3, "new-1", "new-2")
	b.listed("vault", "dave")
	if k := b.key("vault"); k.Epoch != 3 || k.Reshare != "" {
		b.Errorf("epoch %d, open %q", k.Epoch, k.Reshare)
	}
}

// A permission is withdrawn while a reshare begins, is numbered, certified and closed:
// each step is done or not, and done when it is repeated.
func TestWithdrawnRightsOfReshare(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartRedis(t).Client(t)
	b := bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.Store = sessions.New(sessions.Config{Redis: rdb, Prefix: b.prefix, Retention: time.Hour})
	b.sharedKey()
	b.withoutRight("hset", "a reshare", func() error { _, err := b.reshare("vault", 1, "rs-1"); return err })
	_, err := b.reshare("vault", 1, "rs-1")
	b.ok(err)
	for _, command := range []string{"hset", "hdel"} {
		b.withoutRight(command, "a number", func() error { _, err := b.Number(b.ctx, "vault", "rs-1", 0); return err })
	}
	b.number("vault", "rs-1", 0, 2)
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 1, "new-1"))
	b.ok(b.PutEpochShare(b.ctx, "vault", "rs-1", 2, 2, "new-2"))
	c := b.certification("rs-1", 2)
	for _, command := range []string{"hset", "hdel", "zadd"} {
		b.withoutRight(command, "a certificate", func() error { return b.Certify(b.ctx, c) })
		b.shared(1, "old-1", "old-2", "old-3")
		if k := b.key("vault"); k.Epoch != 1 {
			b.Errorf("-%s: the key is in epoch %d", command, k.Epoch)
		}
	}
	b.ok(b.Certify(b.ctx, c))
	b.shared(1, "", "", "")
	for _, command := range []string{"hset", "hdel"} {
		b.withoutRight(command, "the end", func() error { return b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}) })
		if k := b.key("vault"); k.Reshare != "rs-1" {
			b.Errorf("-%s: %q is open", command, k.Reshare)
		}
	}
	b.ok(b.Settle(b.ctx, "rs-1", service.Settlement{ClosedOn: "vault"}))
	if k := b.key("vault"); k.Reshare != "" || k.Epoch != 2 {
		b.Errorf("%q is open in epoch %d", k.Reshare, k.Epoch)
	}
}

// A stored record of an epoch that cannot be read is an error that names it.
func TestUnreadableEpoch(t *testing.T) {
	each(t, func(b bench) {
		b.sharedKey()
		for field, text := range map[string]string{"two": `{}`, "3": `{`} {
			name := b.prefix + "key:{vault}:epochs"
			b.ok(b.rdb.HSet(b.ctx, name, field, text).Err())
			if _, err := b.EpochsOf(b.ctx, "vault"); err == nil {
				b.Errorf("%s: %s was read", field, text)
			}
			b.ok(b.rdb.Del(b.ctx, name).Err())
		}
		b.ok(b.rdb.HSet(b.ctx, b.prefix+"key:{vault}:lineage", "two", "x").Err())
		if _, err := b.Lineage(b.ctx, "vault", 0, 1); err == nil || errors.Is(err, redis.Nil) {
			b.Errorf("a lineage with a number that is none: %v", err)
		}
	})
}
