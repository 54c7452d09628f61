package service_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestTasksOnce sends equal and different requests under one name, through two nodes.
func TestTasksOnce(t *testing.T) {
	each(t, func(w *world) {
		v, other := w.node(nil), w.node(nil)
		w.keygen(v, "vault", false)
		boss, once := caller("boss"), service.Task{Start: true, Once: "order 1"}
		sign := func(v *service.Service, c service.Caller, data string, t service.Task) (string, error) {
			id, _, err := v.SignTask(w.ctx, c, signRequest("vault", data), t)
			return id, err
		}
		first, err := sign(v, boss, "pay bob", once)
		if err != nil {
			w.Fatal(err)
		}
		if again, err := sign(other, boss, "pay bob", once); err != nil || again != first {
			w.Errorf("again: %s, %v; want %s", again, err, first)
		}
		if id, err := sign(other, boss, "pay mallory", once); !errors.Is(err, wire.ErrConflict) {
			w.Errorf("another request under the name: %s, %v", id, err)
		}
		if _, _, err := other.KeygenTask(w.ctx, boss, keygenRequest(""), once); !errors.Is(err, wire.ErrConflict) {
			w.Errorf("a keygen under the name of a signing: %v", err)
		}
		if id, err := sign(other, caller("admin"), "pay bob", once); err != nil || id == first {
			w.Errorf("another user's under that name is %s, %v", id, err)
		}
		if id, err := sign(other, boss, "pay bob", service.Task{Start: true, Once: "order 2"}); err != nil || id == first {
			w.Errorf("under another name it is %s, %v", id, err)
		}

		// Reserved first, and started under the same name.
		key, s, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Once: "key 1"})
		if err != nil || s.ID != "" {
			w.Fatalf("reserved with session %q, %v", s.ID, err)
		}
		begun, s, err := other.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Start: true, Once: "key 1"})
		if err != nil || begun != key {
			w.Fatalf("started %s, %v; want %s", begun, err, key)
		}
		if _, again, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Start: true, Once: "key 1"}); err != nil || again.ID != s.ID {
			w.Errorf("started again: %s, %v; want %s", again.ID, err, s.ID)
		}
	})
}

// TestTasksOfOwnIDs uses the ids that a coordinator has signed, if it starts its
// request.
func TestTasksOfOwnIDs(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", false)
		boss := caller("boss")
		for _, start := range []bool{false, true} {
			p := signRequest("vault", "pay bob")
			mine := wire.SigningID("boss", "vault", "order 1")
			p.SessionID = mine
			p.SignedRequest = "signed"
			task := service.Task{Start: start}
			if start {
				task.Once = "order 1"
			}
			id, s, err := v.SignTask(w.ctx, boss, p, task)
			if err != nil || (id == mine) != start || start && (s.ID != id || s.SignedRequest != "signed") {
				w.Errorf("started %v: %s, %v, %v", start, id, s.SignedRequest, err)
			}
			id, s, err = v.KeygenTask(w.ctx, boss, keygenRequest("my-key"), service.Task{Start: start})
			if err != nil || (id == "my-key") != start || start && s.KeyID != id {
				w.Errorf("started %v: %s, %v, %v", start, id, s.KeyID, err)
			}
		}
		if _, _, err := v.KeygenTask(w.ctx, caller("other-boss"), keygenRequest("my-key"), service.Task{Start: true}); !errors.Is(err, wire.ErrConflict) {
			w.Errorf("another coordinator takes the key_id: %v", err)
		}
	})
}

// TestOutcomeOfTheWeb: the outcome of a request over HTTP waits in the mailbox of a
// coordinator without a socket, as any other, but delivery does not wait for room in a
// full one: a backend that never has a socket makes none, and reads the outcome on the
// web API.
func TestOutcomeOfTheWeb(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		web := caller("boss")
		web.Web = true
		w.away.leave("boss")
		end := func(c service.Caller) int {
			w.Helper()
			_, s, err := v.KeygenTask(w.ctx, c, keygenRequest(""), service.Task{Start: true})
			if err != nil {
				w.Fatal(err)
			}
			before := len(w.mail.of("boss"))
			if _, err := v.Cancel(w.ctx, c, s.ID, ""); err != nil {
				w.Fatal(err)
			}
			if types := w.mail.types("alice"); types[len(types)-1] != wire.TypeSessionEnded {
				w.Errorf("a participant was told %v", types)
			}
			return len(w.mail.of("boss")) - before
		}
		due := func() int64 { return w.rdb.ZCard(w.ctx, w.prefix+"sessions:due").Val() }
		if told := end(web); told != 1 {
			w.Errorf("a coordinator without a socket has %d outcomes in its mailbox, want 1", told)
		}
		w.mail.setFail(func(d service.Delivery) error {
			if d.To == "boss" {
				return service.ErrMailboxFull
			}
			return nil
		})
		if told := end(web); told != 0 || due() != 0 {
			w.Errorf("a full mailbox took %d outcomes, and %d sessions wait for room in it", told, due())
		}
		if end(caller("boss")); due() != 1 {
			w.Errorf("%d sessions wait for room in the mailbox of one who asked over a socket, want 1", due())
		}
		w.mail.setFail(nil)
		w.sweepAll(v)
		w.settled()
	})
}

// TestListsByFilter lists few matches among many entries, in bounded steps.
func TestListsByFilter(t *testing.T) {
	best(t, func(w *world) {
		w.store = sessions.New(sessions.Config{Redis: w.rdb, Prefix: w.prefix, Quota: session.Quota{OpenBytes: -1}})
		v := w.node(nil)
		boss, want := caller("boss"), []string(nil)
		const many = 520 // more than one call reads
		for i := range many {
			_, s, err := v.KeygenTask(w.ctx, boss, keygenRequest(""), service.Task{Start: true})
			if err != nil {
				w.Fatal(err)
			}
			if i%200 == 0 {
				if _, err := v.Cancel(w.ctx, boss, s.ID, ""); err != nil {
					w.Fatal(err)
				}
				want = append([]string{s.ID}, want...)
			}
		}
		for _, c := range []service.Caller{boss, caller("admin"), caller("alice")} {
			var got []string
			p, calls := service.Page{Limit: 2}, 0
			for {
				calls++
				sessions, next, err := v.Sessions(w.ctx, c, service.Filter{States: []session.Phase{session.Cancelled}, Kind: session.Keygen}, p)
				if err != nil {
					w.Fatal(err)
				}
				for _, s := range sessions {
					got = append(got, s.ID)
				}
				if next.ID == "" {
					break
				}
				p.After = next
			}
			if !slices.Equal(got, want) || calls < 2 || calls > 4 {
				w.Errorf("%s: got %v in %d calls, want %v", c.User, got, calls, want)
			}
		}
		if _, next, err := v.Sessions(w.ctx, boss, service.Filter{KeyID: "none"}, service.Page{Limit: 10}); err != nil || next.ID == "" {
			w.Errorf("nothing of %d was found, and the list goes on at %q, %v: one call looked at all", many, next.ID, err)
		}
		for user, n := range map[string]int{"mallory": 0, "other-boss": 0, "admin": 200} {
			keys, _, err := v.Keys(w.ctx, caller(user), service.KeyFilter{States: []session.KeyStatus{session.KeyGenerating, session.KeyFailed}}, service.Page{Limit: 200})
			if err != nil || len(keys) != n {
				w.Errorf("%s has %d keys, %v; want %d", user, len(keys), err, n)
			}
		}
		if sessions, _, err := v.Sessions(w.ctx, caller("mallory"), service.Filter{}, service.Page{Limit: 10}); err != nil || len(sessions) > 0 {
			w.Errorf("a stranger sees %d sessions, %v", len(sessions), err)
		}
		if strings.Contains(want[0], " ") {
			w.Error("an id has a space") // cursors are a time, a space and an id
		}
	})
}
