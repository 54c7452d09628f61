package service_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// limited gives the world a store with that quota for each account.
func (w *world) limited(q session.Quota) {
	w.store = sessions.New(sessions.Config{Redis: w.rdb, Prefix: w.prefix, Quota: q})
}

// snapshot returns all of Redis except the counts of quotas and the audit.
func (w *world) snapshot() map[string]string {
	w.Helper()
	all := map[string]string{}
	keys, err := w.rdb.Keys(w.ctx, w.prefix+"*").Result()
	if err != nil {
		w.Fatal(err)
	}
	for _, key := range keys {
		if strings.HasPrefix(key, w.prefix+"quota:") {
			continue
		}
		kind := w.rdb.Type(w.ctx, key).Val()
		all[key] = kind
		switch kind {
		case "hash":
			all[key] += fmt.Sprint(w.rdb.HGetAll(w.ctx, key).Val())
		case "zset":
			all[key] += fmt.Sprint(w.rdb.ZRangeWithScores(w.ctx, key, 0, -1).Val())
		case "stream":
			all[key] += fmt.Sprint(w.rdb.XLen(w.ctx, key).Val())
		case "string":
			all[key] += w.rdb.Get(w.ctx, key).Val()
		}
	}
	return all
}

// unchanged runs a call that must be refused with that code and change nothing.
func (w *world) unchanged(what string, code wire.Code, do func() error) *wire.Error {
	w.Helper()
	before := w.snapshot()
	err := do()
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		w.Fatalf("%s: got error %v, want %s", what, err, code)
	}
	after := w.snapshot()
	for key, v := range after {
		if before[key] != v {
			w.Errorf("%s: refused, and %s is %q, was %q", what, key, v, before[key])
		}
	}
	if len(before) != len(after) {
		w.Errorf("%s: refused, and there are %d keys for %d", what, len(after), len(before))
	}
	return e
}

// openReserved returns how many sessions hold a reservation of user's quota, and how
// many bytes.
func (w *world) openReserved(user string) (sessions int64, bytes string) {
	key := w.prefix + "quota:{" + user + "}"
	return w.rdb.HLen(w.ctx, key+":open").Val(), w.rdb.HGet(w.ctx, key, "open").Val()
}

func (w *world) nothingReserved(user string) {
	w.Helper()
	if n, bytes := w.openReserved(user); n != 0 || bytes != "" && bytes != "0" {
		w.Errorf("%d sessions of %s, and %s bytes, are still reserved", n, user, bytes)
	}
}

// TestOpenSessionsAreBounded: one coordinator's open sessions are bounded, over all
// nodes and all kinds of request; another's are not affected; each end makes room.
func TestOpenSessionsAreBounded(t *testing.T) {
	each(t, func(w *world) {
		w.keygen(w.node(nil), "vault", false)
		w.limited(session.Quota{OpenSessions: 3})
		watch := &watched{}
		nodes := []*service.Service{w.node(func(c *service.Config) { c.Observer = watch }), w.node(nil)}
		boss := caller("boss")
		for i := range 3 {
			w.must(nodes[i%2], "boss", signRequest("vault", fmt.Sprint("pay ", i)))
		}
		refused := map[string]func() error{
			"a signing":       func() error { _, err := w.say(nodes[0], "boss", signRequest("vault", "more"), ""); return err },
			"a named signing": func() error { _, err := w.say(nodes[1], "boss", signRequest("vault", "more"), "r1"); return err },
			"a keygen":        func() error { _, err := w.say(nodes[1], "boss", keygenRequest("second"), ""); return err },
			"a keygen task": func() error {
				_, _, err := nodes[0].KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Start: true, Once: "order 1"})
				return err
			},
			"a sign task": func() error {
				_, _, err := nodes[0].SignTask(w.ctx, boss, signRequest("vault", "task"), service.Task{Start: true, Once: "order 2"})
				return err
			},
		}
		for what, do := range refused {
			w.unchanged(what, wire.CodeQuotaExceeded, do)
		}
		if list := watch.told; !slices.Contains(list, "refused open_sessions") {
			w.Errorf("the observer was told %q", list)
		}
		w.must(nodes[0], "other-boss", keygenRequest("third"))
		// A repeated request is not another session.
		w.must(nodes[1], "boss", signRequest("vault", "pay 1"))

		sessions, _, err := nodes[0].Sessions(w.ctx, boss, service.Filter{Kind: session.Sign}, service.Page{Limit: 10})
		if err != nil || len(sessions) != 3 {
			w.Fatal(sessions, err)
		}
		if _, err := nodes[1].Cancel(w.ctx, boss, sessions[0].ID, ""); err != nil {
			w.Fatal(err)
		}
		w.must(nodes[0], "boss", keygenRequest("second"))
		w.unchanged("beyond it again", wire.CodeQuotaExceeded, refused["a signing"])
	})
}

// TestEachEndReleases ends sessions in every way; none keeps its reservation.
func TestEachEndReleases(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(func(c *service.Config) { c.InviteTimeout = 50 * time.Millisecond })
		slow := w.node(nil)
		w.keygen(slow, "vault", false) // completed
		w.nothingReserved("boss")
		if w.rdb.HGet(w.ctx, w.prefix+"quota:{boss}:keys", "keys").Val() != "1" {
			w.Error("the key is not counted")
		}
		c := w.cast(slow, false)
		w.must(slow, "boss", signRequest("vault", "completed"))
		c.act()
		w.nothingReserved("boss")
		w.must(slow, "boss", keygenRequest("declined"))
		w.must(slow, "alice", &wire.KeygenResponse{KeyID: "declined", PartIndex: 1, Response: &no})
		w.nothingReserved("boss")
		w.must(slow, "boss", keygenRequest("failed"))
		for i, user := range committee {
			w.must(slow, user, &wire.KeygenResponse{KeyID: "failed", PartIndex: i + 1, Response: &yes})
		}
		for _, s := range w.sessionsOf(slow, "boss") {
			if s.KeyID == "failed" {
				w.must(slow, "bob", &wire.PartyFailed{SessionID: s.ID, PartIndex: 2, Reason: "disk full"})
			}
		}
		w.nothingReserved("boss")
		w.must(v, "boss", signRequest("vault", "expired"))
		w.must(v, "boss", keygenRequest("expired"))
		w.run(v)
		w.eventually("what has expired is released", func() bool { n, _ := w.openReserved("boss"); return n == 0 })
		w.nothingReserved("boss")
	})
}

func (w *world) sessionsOf(v *service.Service, user string) []session.Session {
	w.Helper()
	list, _, err := v.Sessions(w.ctx, caller(user), service.Filter{}, service.Page{Limit: 200})
	if err != nil {
		w.Fatal(err)
	}
	return list
}

// TestDeadNodesReservation has nodes die between reserving and creating: the
// reservation is released when the session should have ended.
func TestDeadNodesReservation(t *testing.T) {
	each(t, func(w *world) {
		w.keygen(w.node(nil), "vault", false)
		w.limited(session.Quota{OpenSessions: 2})
		dies := w.node(func(c *service.Config) { c.Store = noCreate{c.Store} })
		if _, err := w.say(dies, "boss", signRequest("vault", "lost"), ""); err == nil {
			w.Fatal("a node without a store has created a session")
		}
		if _, err := w.say(dies, "boss", keygenRequest("lost"), ""); err == nil {
			w.Fatal("a node without a store has created a session")
		}
		v := w.node(nil)
		w.refused(v, "boss", signRequest("vault", "refused"), wire.CodeQuotaExceeded)
		if n, _ := w.openReserved("boss"); n != 2 {
			w.Fatalf("%d are reserved", n)
		}
		w.overdue("boss")
		w.must(v, "boss", signRequest("vault", "there is room"))
		w.must(v, "boss", signRequest("vault", "for two"))
		w.refused(v, "boss", signRequest("vault", "and no more"), wire.CodeQuotaExceeded)
		w.overdue("boss") // open sessions keep their reservations, however long
		w.refused(v, "boss", signRequest("vault", "and no more"), wire.CodeQuotaExceeded)
	})
}

// overdue advances the time past the end of user's sessions.
func (w *world) overdue(user string) {
	w.Helper()
	key := w.prefix + "quota:{" + user + "}"
	for id, note := range w.rdb.HGetAll(w.ctx, key+":open").Val() {
		words := strings.Fields(note)
		words[3] = "1"
		w.rdb.HSet(w.ctx, key+":open", id, strings.Join(words, " "))
	}
	w.rdb.HDel(w.ctx, key, "looked")
}

// noCreate is the store of a node that dies before it creates a session.
type noCreate struct{ service.Store }

func (noCreate) Create(context.Context, session.Session, []service.Entry, service.Mark) (service.Receipt, bool, error) {
	return service.Receipt{}, false, errDead
}

// TestEndedSessionsAreBounded: ended sessions are kept for the retention up to the
// allowance, then for an hour, and then nothing new begins; briefly kept ones are
// listed all the same, and the room is freed again.
func TestEndedSessionsAreBounded(t *testing.T) {
	each(t, func(w *world) {
		w.limited(session.Quota{EndedBytes: 24 << 10})
		v, boss := w.node(nil), caller("boss")
		var last *wire.Error
		kept := map[bool]int{}
		for i := range 200 {
			id := fmt.Sprint("key-", i)
			if _, err := w.say(v, "boss", keygenRequest(id), ""); err != nil {
				if !errors.As(err, &last) || last.Code != wire.CodeQuotaExceeded {
					w.Fatal(err)
				}
				break
			}
			var s session.Session
			for _, s = range w.sessionsOf(v, "boss") {
				if s.KeyID == id {
					break
				}
			}
			if _, err := v.Cancel(w.ctx, boss, s.ID, ""); err != nil {
				w.Fatal(err)
			}
			brief := false
			for _, name := range []string{"session:{" + s.ID + "}", "key:{" + id + "}"} {
				ttl := w.rdb.PTTL(w.ctx, w.prefix+name).Val()
				brief = ttl <= session.BriefRetention
				if ttl <= 0 || ttl > session.ReservedFor || brief != s.Brief {
					w.Errorf("%s is kept for %s, brief %t", name, ttl, s.Brief)
				}
			}
			kept[brief]++
		}
		if last == nil || kept[false] < 2 || kept[true] < 3*kept[false] {
			w.Fatalf("kept %v, then %v", kept, last)
		}
		if last.RetryAfter <= 0 || last.RetryAfter > session.BriefRetention+session.BriefRetention/10 {
			w.Errorf("there is room after %s", last.RetryAfter)
		}
		if n := len(w.sessionsOf(v, "boss")); n != kept[true]+kept[false] {
			w.Errorf("%d of %v are listed", n, kept)
		}
		for _, user := range append([]string{"boss"}, committee...) {
			if n := w.rdb.ZCard(w.ctx, w.prefix+"index:{"+user+"}:keys").Val(); n != 0 {
				w.Errorf("%d failed keys are in the list of %s for ever", n, user)
			}
		}
		for full := false; !full; { // smaller ones, too
			_, _, err := w.store.Charge(w.ctx, "boss", 128, time.Hour)
			full = err != nil
		}
		for what, do := range map[string]func(once string) error{
			"POST keys": func(once string) error {
				_, _, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Once: once})
				return err
			},
			"POST keys, started": func(once string) error {
				_, _, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Once: once, Start: true})
				return err
			},
		} {
			for _, once := range []string{"", "order " + what} {
				w.unchanged(what+once, wire.CodeQuotaExceeded, func() error { return do(once) })
			}
		}
		w.must(v, "other-boss", keygenRequest("anothers"))
		w.hourPasses("boss")
		w.must(v, "boss", keygenRequest("again"))
	})
}

// hourPasses lets user's sessions that are kept for an hour be forgotten.
func (w *world) hourPasses(user string) {
	key := w.prefix + "quota:{" + user + "}"
	for field, bytes := range w.rdb.HGetAll(w.ctx, key).Val() {
		if strings.HasPrefix(field, "brief:") {
			w.rdb.HDel(w.ctx, key, field)
			w.rdb.HIncrBy(w.ctx, key, "brief:1", atoi(bytes))
		}
	}
	w.rdb.HSet(w.ctx, key, "next", "1")
}

func atoi(text string) (n int64) {
	_, _ = fmt.Sscan(text, &n)
	return n
}

// TestLoopsStayWithinTheQuota repeats, until refused, every call that stores something:
// each loop ends, and everything stored is within the budget.
func TestLoopsStayWithinTheQuota(t *testing.T) {
	each(t, func(w *world) {
		w.keygen(w.node(nil), "vault", false)
		q := session.Quota{EndedBytes: 16 << 10, OpenBytes: 1 << 20}
		w.limited(q)
		v := w.node(nil)
		reserve := func(i int, c service.Caller) error {
			_, _, err := v.KeygenTask(w.ctx, c, keygenRequest(""), service.Task{})
			return err
		}
		for what, do := range map[string]func(i int, c service.Caller) error{
			"POST keys": reserve,
			"POST keys with Idempotency-Key": func(i int, c service.Caller) error {
				_, _, err := v.KeygenTask(w.ctx, c, keygenRequest(""), service.Task{Once: fmt.Sprint("o", i)})
				return err
			},
			"POST signatures with Idempotency-Key": func(i int, c service.Caller) error {
				_, _, err := v.SignTask(w.ctx, c, signRequest("vault", "pay"), service.Task{Once: fmt.Sprint("o", i)})
				return err
			},
			"sign and cancel": func(i int, c service.Caller) error {
				id, _, err := v.SignTask(w.ctx, c, signRequest("vault", "pay"), service.Task{Start: true})
				if err == nil {
					_, err = v.Cancel(w.ctx, c, id, "")
				}
				return err
			},
		} {
			c := service.Caller{User: "boss-" + strings.ReplaceAll(what, " ", "-"), Roles: []wire.Role{wire.RoleAdmin}}
			stopped := false
			for i := range 1000 {
				if err := do(i, c); err != nil {
					if !errors.Is(err, &wire.Error{Code: wire.CodeQuotaExceeded}) {
						w.Fatalf("%s: %v", what, err)
					}
					stopped = true
					break
				}
			}
			sums := w.rdb.HGetAll(w.ctx, w.prefix+"quota:{"+c.User+"}").Val()
			if long, brief := atoi(sums["long"]), atoi(sums["brief"]); !stopped || long > q.EndedBytes || brief > session.BriefFactor*q.EndedBytes || brief == 0 {
				w.Errorf("%s: stopped %t, with %d bytes for long and %d briefly", what, stopped, long, brief)
			}
		}
	})
}

// roster is a Users of a fixed list, for askers that are on it.
type roster []string

func (r roster) Unknown(_ context.Context, asker string, users []string) (string, error) {
	for _, u := range users {
		if slices.Contains(r, asker) && !slices.Contains(r, u) {
			return u, nil
		}
	}
	return "", nil
}

// TestUnknownUsers: an unknown user is named before anything is stored.
func TestUnknownUsers(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(func(c *service.Config) { c.Users = roster{"boss", "alice", "bob"} })
		boss := caller("boss")
		for what, do := range map[string]func() error{
			"keygen": func() error { _, err := w.say(v, "boss", keygenRequest("vault"), ""); return err },
			"task": func() error {
				_, _, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Once: "o1"})
				return err
			},
			"started": func() error {
				_, _, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Once: "o2", Start: true})
				return err
			},
		} {
			if e := w.unchanged(what, wire.CodeUnknownUser, do); !strings.Contains(e.Message, `"carol"`) {
				w.Errorf("%s: %s", what, e.Message)
			}
		}
		w.must(v, "other-boss", keygenRequest("vault")) // its accounts are elsewhere
	})
}

// TestShareLimit: a share's maximum size depends on the number of parties.
func TestShareLimit(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.must(v, "boss", keygenRequest("vault"))
		for i, user := range committee {
			w.must(v, user, &wire.KeygenResponse{KeyID: "vault", PartIndex: i + 1, Response: &yes})
		}
		report := &wire.KeygenComplete{KeyID: "vault", PartIndex: 1, AccountAddr: theKey.Address, ShareJSON: shareOf(strings.Repeat("x", wire.ShareLimit(3)), false)}
		w.unchanged("a share that is too long", wire.CodeTooLarge, func() error { _, err := w.say(v, "alice", report, ""); return err })
		report.ShareJSON = shareOf(strings.Repeat("x", wire.ShareLimit(3)-200), false)
		w.must(v, "alice", report)
	})
}

// TestQuotaIsTrue measures in a real Redis the size of the largest sessions while they
// are open, with their messages undelivered, and after their end, and compares it with
// their reservations.
func TestQuotaIsTrue(t *testing.T) {
	each(t, func(w *world) {
		if w.rdb.Info(w.ctx, "memory").Err() != nil || w.rdb.MemoryUsage(w.ctx, w.prefix+"none").Err() != nil && !errors.Is(w.rdb.MemoryUsage(w.ctx, w.prefix+"none").Err(), redis.Nil) {
			w.Skip("it does not measure")
		}
		v := w.node(nil)
		w.keygen(v, "vault", false)
		data := strings.Repeat(`"`, wire.MaxDataBytes-8)
		small := signRequest("vault", "pay bob")
		large := signRequest("vault", data)
		large.SignedRequest = strings.Repeat("s", wire.MaxSignedRequestBytes)
		for what, p := range map[string]wire.Payload{"small": small, "large": large, "keygen": keygenRequest("second")} {
			before, counted := w.memory(), atoi(w.rdb.HGet(w.ctx, w.prefix+"quota:{boss}", "long").Val())
			w.mail.setFail(func(service.Delivery) error { return errNotSent })
			w.must(v, "boss", p)
			open := w.memory() - before
			_, reserved := w.openReserved("boss")
			if open > atoi(reserved) || open < atoi(reserved)/50 {
				w.Errorf("%s: it takes %d bytes while it is open, and %s are reserved", what, open, reserved)
			}
			w.mail.setFail(nil)
			for _, s := range w.sessionsOf(v, "boss") {
				if !s.Phase.Final() {
					if _, err := v.Cancel(w.ctx, caller("boss"), s.ID, ""); err != nil {
						w.Fatal(err)
					}
				}
			}
			sums := w.rdb.HGetAll(w.ctx, w.prefix+"quota:{boss}").Val()
			left, kept := w.memory()-before, atoi(sums["long"])-counted
			w.Logf("%s: open %d of %s bytes, left %d of %d", what, open, reserved, left, kept)
			if left > kept {
				w.Errorf("%s: it leaves %d bytes, and %d are counted", what, left, kept)
			}
		}
	})
}

// memory returns the size in Redis of all of the world except the counts.
func (w *world) memory() (sum int64) {
	w.Helper()
	for _, key := range w.rdb.Keys(w.ctx, w.prefix+"*").Val() {
		if strings.Contains(key, "quota:") || strings.Contains(key, "lock:") || strings.Contains(key, "sessions:due") {
			continue
		}
		n, err := w.rdb.MemoryUsage(w.ctx, key, 0).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			w.Skip(err)
		}
		sum += n
	}
	return sum
}
