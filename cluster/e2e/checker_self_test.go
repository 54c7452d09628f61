package e2e_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// tale builds a small correct history for the checker: a key and a signing. Each
// case of TestChecker spoils one thing in it.
type tale struct {
	history
	clock time.Time
}

func (h *tale) user(name string) *userHistory {
	for _, u := range h.users {
		if u.user == name {
			return u
		}
	}
	u := &userHistory{user: name}
	h.users = append(h.users, u)
	return u
}

func (h *tale) add(user string, e event) {
	h.clock = h.clock.Add(time.Millisecond)
	e.at = h.clock
	u := h.user(user)
	u.events = append(u.events, e)
}

// mail delivers the next message to a user, and counts it in Redis.
func (h *tale) mail(user string, e event) {
	box := h.stored.mailboxes[user]
	box.newest, box.appended = max(box.newest, 100)+1, box.appended+1
	h.stored.mailboxes[user] = box
	e.what, e.conn, e.seq = mailed, 1, box.newest
	h.add(user, e)
}

func goodTale() *tale {
	h := &tale{clock: time.Unix(1_800_000_000, 0)}
	h.within = time.Minute
	h.stored = storedState{
		sessions: map[string]storedSession{
			"kg": {kind: "keygen", phase: "completed", coordinator: "alice", request: "a1", value: "0xaddr", invited: []string{"bob", "carol"}, answers: map[int]string{1: "accepted", 2: "accepted"}},
			"sg": {kind: "sign", phase: "completed", coordinator: "alice", request: "a2", value: "0xsig", invited: []string{"bob", "carol"}, answers: map[int]string{1: "accepted", 2: "accepted"}},
		},
		keys: map[string]storedKey{
			"k": {status: "active", session: "kg", address: "0xaddr", parts: 2, shares: map[int]string{1: "share1", 2: "share2"}},
		},
		mailboxes: map[string]storedMailbox{},
	}
	for _, user := range []string{"alice", "bob", "carol"} {
		h.add(user, event{what: registered, conn: 1})
	}
	h.add("alice", event{what: asked, request: "a1", kind: wire.TypeKeygenRequest, key: "k", value: "0xaddr"})
	h.add("alice", event{what: answered, request: "a1", kind: wire.TypeAck, key: "k", session: "kg"})
	for part, user := range []string{"", "bob", "carol"} {
		if part > 0 {
			share := []string{"", "share1", "share2"}[part]
			h.mail(user, event{kind: wire.TypeKeygenInvite, key: "k", session: "kg", part: part, digest: 1})
			h.add(user, event{what: asked, request: user + "0", kind: wire.TypeKeygenResponse, key: "k", session: "kg", part: part, value: "accepted"})
			h.add(user, event{what: answered, request: user + "0", kind: wire.TypeAck, key: "k", session: "kg"})
			h.add(user, event{what: asked, request: user + "1", kind: wire.TypeKeygenComplete, key: "k", session: "kg", part: part, value: share})
			h.add(user, event{what: answered, request: user + "1", kind: wire.TypeAck, key: "k", session: "kg"})
			h.mail(user, event{kind: wire.TypeSessionEnded, key: "k", session: "kg", status: wire.StatusSuccess, digest: 2})
		}
	}
	h.mail("alice", event{kind: wire.TypeKeygenConfirm, request: "a1", key: "k", session: "kg", status: wire.StatusSuccess, value: "0xaddr", digest: 3})
	h.add("alice", event{what: asked, request: "a2", kind: wire.TypeSignRequest, key: "k", value: "0xsig"})
	h.add("alice", event{what: answered, request: "a2", kind: wire.TypeAck, key: "k", session: "sg"})
	for part, user := range []string{"", "bob", "carol"} {
		if part > 0 {
			share := []string{"", "share1", "share2"}[part]
			h.mail(user, event{kind: wire.TypeSignParams, key: "k", session: "sg", part: part, attempt: 1, value: share, digest: 4})
			h.add(user, event{what: asked, request: user + "2", kind: wire.TypeSignResult, key: "k", session: "sg", part: part})
			h.add(user, event{what: answered, request: user + "2", kind: wire.TypeAck, key: "k", session: "sg"})
			h.mail(user, event{kind: wire.TypeSessionEnded, key: "k", session: "sg", status: wire.StatusSuccess, digest: 5})
		}
	}
	h.mail("alice", event{kind: wire.TypeSignComplete, request: "a2", key: "k", session: "sg", status: wire.StatusSuccess, value: "0xsig", digest: 6})
	return h
}

// find returns a user's n-th event of that kind and type.
func (h *tale) find(user string, what happening, kind wire.Type, n int) *event {
	u := h.user(user)
	for i := range u.events {
		if u.events[i].what == what && u.events[i].kind == kind {
			if n--; n < 0 {
				return &u.events[i]
			}
		}
	}
	return nil
}

// drop removes an event.
func (h *tale) drop(user string, e *event) {
	u := h.user(user)
	gone := *e
	u.events = slices.DeleteFunc(u.events, func(o event) bool { return o == gone })
}

// discreet hides a user's mail from the history.
func (h *tale) discreet(user string) {
	u := h.user(user)
	u.discreet = true
	for i := range u.events {
		if e := &u.events[i]; e.what == mailed {
			e.what, e.seq = reported, 0
		}
	}
}

// again repeats an event to the user, on that connection.
func (h *tale) again(user string, e event, conn int) {
	e.conn = conn
	h.add(user, e)
}

func TestChecker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(h *tale)
		rules []string // that must be broken; empty for a correct history
	}{
		{"all is well", func(*tale) {}, nil},
		{"a socket repeats", func(h *tale) { h.again("bob", *h.find("bob", mailed, wire.TypeSignParams, 0), 1) }, []string{"a socket repeated or went back"}},
		{"a socket sends what its client said it had", func(h *tale) {
			h.add("bob", event{what: registered, conn: 2, seq: 104})
			h.again("bob", *h.find("bob", mailed, wire.TypeSignParams, 0), 2)
		}, []string{"a socket repeated or went back"}},
		{"a client without acks hears old numbers again", func(h *tale) {
			h.add("bob", event{what: registered, conn: 2})
			h.again("bob", *h.find("bob", mailed, wire.TypeSignParams, 0), 2)
			h.again("bob", *h.find("bob", mailed, wire.TypeSessionEnded, 1), 2)
		}, nil},
		{"but not others under them", func(h *tale) {
			h.add("bob", event{what: registered, conn: 2})
			e := *h.find("bob", mailed, wire.TypeSignParams, 0)
			e.digest++
			h.again("bob", e, 2)
		}, []string{"one seq stood for two messages"}},
		{"another socket had what this one leaves out", func(h *tale) {
			h.add("bob", event{what: registered, conn: 2, seq: 103})
			e := *h.find("bob", mailed, wire.TypeSessionEnded, 1)
			e.seq, e.digest, e.session = 105, 9, ""
			e.kind = wire.TypePing
			h.again("bob", e, 2)
		}, nil},
		{"a gap", func(h *tale) { h.drop("bob", h.find("bob", mailed, wire.TypeSignParams, 0)) },
			[]string{"a socket left messages out", "mail was never delivered"}},
		{"out of order", func(h *tale) {
			a, b := h.find("bob", mailed, wire.TypeSignParams, 0), h.find("bob", mailed, wire.TypeSessionEnded, 1)
			*a, *b = *b, *a
		}, []string{"a socket left messages out", "a socket repeated or went back"}},
		{"one message twice", func(h *tale) {
			h.mail("bob", *h.find("bob", mailed, wire.TypeSignParams, 0))
		}, []string{"one message came under two seqs"}},
		{"the last message is missing", func(h *tale) { h.drop("alice", h.find("alice", mailed, wire.TypeSignComplete, 0)) },
			[]string{"mail was never delivered", "an outcome was not told"}},
		{"the first message is missing", func(h *tale) { h.drop("bob", h.find("bob", mailed, wire.TypeKeygenInvite, 0)) },
			[]string{"mail was never delivered"}},
		{"no answer", func(h *tale) { h.drop("bob", h.find("bob", answered, wire.TypeAck, 1)) }, []string{"a message was never answered"}},
		{"refused", func(h *tale) {
			e := h.find("alice", answered, wire.TypeAck, 1)
			e.kind, e.code = wire.TypeError, wire.CodeInternal
		}, []string{"a sound message was refused"}},
		{"too late is no fault", func(h *tale) {
			e := h.find("bob", answered, wire.TypeAck, 1)
			e.kind, e.code = wire.TypeError, wire.CodeSessionEnded
		}, nil},
		{"two sessions by one request", func(h *tale) {
			e := *h.find("alice", answered, wire.TypeAck, 1)
			e.session = "sg2"
			h.again("alice", e, 1)
		}, []string{"one request began two sessions"}},
		{"a session nobody asked for", func(h *tale) {
			s := h.stored.sessions["sg"]
			s.request, s.invited = "a3", nil
			h.stored.sessions["sg2"] = s
		}, []string{"a session began that nobody asked for"}},
		{"a second session in Redis", func(h *tale) {
			s := h.stored.sessions["sg"]
			s.invited = nil
			h.stored.sessions["sg2"] = s
		}, []string{"one request began two sessions"}},
		{"a session is another's", func(h *tale) {
			s := h.stored.sessions["sg"]
			s.coordinator = "mallory"
			h.stored.sessions["sg"] = s
		}, []string{"a session is another request's", "a session began that nobody asked for"}},
		{"the session is gone", func(h *tale) { delete(h.stored.sessions, "sg") },
			[]string{"an accepted session is gone", "a session is gone whose end was told"}},
		{"late", func(h *tale) {
			e := h.find("alice", mailed, wire.TypeSignComplete, 0)
			e.at = e.at.Add(2 * time.Minute)
		}, []string{"an outcome came late"}},
		{"the outcome is told twice", func(h *tale) {
			e := *h.find("alice", mailed, wire.TypeSignComplete, 0)
			e.digest++
			h.mail("alice", e)
		}, []string{"an end was told twice"}},
		{"the coordinator is told of failure, and it was made", func(h *tale) {
			e := h.find("alice", mailed, wire.TypeSignComplete, 0)
			e.status, e.value = wire.StatusFailed, ""
		}, []string{"a user was told another end"}},
		{"a direct reply says otherwise", func(h *tale) {
			e := *h.find("alice", mailed, wire.TypeSignComplete, 0)
			e.what, e.seq, e.status, e.value = answered, 0, wire.StatusExpired, ""
			h.add("alice", e)
		}, []string{"a user was told another end"}},
		{"a participant is told otherwise", func(h *tale) { h.find("carol", mailed, wire.TypeSessionEnded, 1).status = wire.StatusFailed },
			[]string{"a user was told another end"}},
		{"a participant is not told", func(h *tale) {
			e := h.find("carol", mailed, wire.TypeSessionEnded, 1)
			e.kind, e.session = wire.TypePing, ""
		}, []string{"an end was not told"}},
		{"another signature is told than stored", func(h *tale) {
			s := h.stored.sessions["sg"]
			s.value = "0xother"
			h.stored.sessions["sg"] = s
		}, []string{"a user was told another result"}},
		{"a signature over something else", func(h *tale) {
			h.find("alice", mailed, wire.TypeSignComplete, 0).value = "0xother"
			s := h.stored.sessions["sg"]
			s.value = "0xother"
			h.stored.sessions["sg"] = s
		}, []string{"an outcome is not what was asked for"}},
		{"a session is open", func(h *tale) {
			s := h.stored.sessions["sg"]
			s.phase = "running"
			h.stored.sessions["sg"] = s
		}, []string{"a session did not end", "a user was told another end"}},
		{"an acknowledged answer is gone", func(h *tale) { delete(h.stored.sessions["kg"].answers, 2) },
			[]string{"an acknowledged answer is gone"}},
		{"an acknowledged answer is another", func(h *tale) { h.stored.sessions["kg"].answers[2] = "declined" },
			[]string{"an acknowledged answer is gone"}},
		{"an answer that was not acknowledged may be gone", func(h *tale) {
			delete(h.stored.sessions["kg"].answers, 2)
			e := h.find("carol", answered, wire.TypeAck, 0)
			e.kind, e.code = wire.TypeError, wire.CodeSessionEnded
		}, nil},
		{"an acknowledged share is gone", func(h *tale) { delete(h.stored.keys["k"].shares, 2) },
			[]string{"an acknowledged share is gone", "a key that can sign lacks shares"}},
		{"an acknowledged share is another", func(h *tale) { h.stored.keys["k"].shares[2] = "share1" }, []string{"an acknowledged share is gone"}},
		{"a party gets another's share", func(h *tale) { h.find("carol", mailed, wire.TypeSignParams, 0).value = "share1" },
			[]string{"a party got another share back"}},
		{"a key hangs", func(h *tale) {
			k := h.stored.keys["k"]
			k.status = "generating"
			h.stored.keys["k"] = k
		}, []string{"a key is being generated for ever"}},
		{"a key can sign though its keygen failed", func(h *tale) {
			k := h.stored.keys["k"]
			k.session = "sg3"
			h.stored.keys["k"] = k
		}, []string{"a key can sign whose keygen did not complete"}},
		{"a signing stays open", func(h *tale) {
			k := h.stored.keys["k"]
			k.open = []string{"sg"}
			h.stored.keys["k"] = k
		}, []string{"a key remembers an ended signing as open"}},
		{"a real client reports its outcomes", func(h *tale) { h.discreet("alice") }, nil},
		{"a real client was told of failure, and it was made", func(h *tale) {
			h.discreet("alice")
			e := h.find("alice", reported, wire.TypeSignComplete, 0)
			e.status, e.value = wire.StatusFailed, ""
		}, []string{"a user was told another end"}},
		{"a real client never got an outcome", func(h *tale) {
			h.discreet("alice")
			h.drop("alice", h.find("alice", reported, wire.TypeSignComplete, 0))
		}, []string{"an outcome was not told"}},
		{"a lock is left", func(h *tale) { h.stored.leftovers = []string{"lock:{sg}"} }, []string{"something is left behind"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := goodTale()
			c.spoil(h)
			var rules []string
			for _, b := range check(&h.history) {
				rules = append(rules, b.rule)
			}
			slices.Sort(rules)
			rules = slices.Compact(rules)
			want := slices.Sorted(slices.Values(c.rules))
			if !slices.Equal(rules, want) {
				t.Errorf("broken rules:\n got %s\nwant %s", strings.Join(rules, "; "), strings.Join(want, "; "))
			}
		})
	}
}
