package service_test

import (
	"fmt"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/session/sessiontest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	theKey     = sessiontest.NewSoloKey(1)
	anotherKey = sessiontest.NewSoloKey(2)
	yes, no    = true, false
	committee  = []string{"alice", "bob", "carol"}
)

// shareOf is the share that a party's client reports: sealed, or plain from a seed
// client.
func shareOf(user string, plain bool) string {
	if plain {
		return fmt.Sprintf(`{"secret":"the very secret <share> of %s"}`, user)
	}
	return fmt.Sprintf(`{"sealed":"-----BEGIN AGE ENCRYPTED FILE-----\n%s\n-----END AGE ENCRYPTED FILE-----\n"}`, user)
}

// cast is every user's client: boss, and parties that accept every invitation and do
// their part at once.
type cast struct {
	*world
	seed bool // only messages and fields of the seed, and plain shares
	// send sends a message to a node; it must not be refused.
	send func(user string, p wire.Payload, requestID string)
	read map[string]int
	acts func(user string, p wire.Payload) bool // whether the user reacts; nil for always
}

func (w *world) cast(v *service.Service, seed bool) *cast {
	c := &cast{world: w, seed: seed, read: map[string]int{}}
	c.send = func(user string, p wire.Payload, requestID string) {
		w.Helper()
		reply, err := w.say(v, user, p, requestID)
		if err != nil {
			w.Fatalf("%s: %s: %v", user, p.Type(), err)
		}
		if _, ack := reply.(*wire.Ack); requestID != "" && !ack {
			w.Fatalf("%s: %s: got reply %T, want an ack", user, p.Type(), reply)
		}
	}
	return c
}

func (c *cast) request(id string) string {
	if c.seed {
		return ""
	}
	return id
}

// act lets every party react to new messages in its mailbox, until there are no more.
// It reports whether there were any.
func (c *cast) act() bool {
	any := false
	for again := true; again; {
		again = false
		for _, user := range append([]string{"boss"}, committee...) {
			for _, m := range c.mail.of(user)[c.read[user]:] {
				c.read[user]++
				any, again = true, true
				c.react(user, m)
			}
		}
	}
	return any
}

func (c *cast) react(user string, m wire.Message) {
	p, err := m.DecodePayload()
	if err != nil {
		c.Fatalf("%s is sent what does not decode: %v", user, err)
	}
	if c.acts != nil && !c.acts(user, p) {
		return
	}
	answer := c.answer(user, p)
	if answer == nil {
		return
	}
	n := c.read[user]
	c.send(user, answer, c.request(fmt.Sprintf("%s-%d", user, n)))
}

// answer returns a willing party's answer to p.
func (c *cast) answer(user string, p wire.Payload) wire.Payload {
	named := func(id string) string {
		if c.seed {
			return ""
		}
		return id
	}
	switch p := p.(type) {
	case *wire.KeygenInvite:
		return &wire.KeygenResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: named(p.SessionID)}
	case *wire.KeygenParams:
		return &wire.KeygenComplete{
			KeyID: p.KeyID, PartIndex: p.PartIndex, AccountAddr: theKey.Address, PublicKey: named(theKey.Public),
			ShareJSON: shareOf(user, c.seed), SessionID: named(p.SessionID), Attestation: named("attested by " + user),
		}
	case *wire.SignInvite:
		return &wire.SignResponse{KeyID: p.KeyID, PartIndex: p.PartIndex, Response: &yes, SessionID: named(p.SessionID)}
	case *wire.SignParams:
		return &wire.SignResult{KeyID: p.KeyID, PartIndex: p.PartIndex, Signature: theKey.Sign(p.Digest), SessionID: named(p.SessionID)}
	}
	return nil
}

func keygenRequest(key string) *wire.KeygenRequest {
	return &wire.KeygenRequest{KeyID: key, Threshold: 2, TotalParts: 3, Participants: committee}
}

func signRequest(key, data string, users ...string) *wire.SignRequest {
	return &wire.SignRequest{KeyID: key, Data: data, Participants: users}
}

// keygen makes an active key.
func (w *world) keygen(v *service.Service, key string, seed bool) {
	w.Helper()
	c := w.cast(v, seed)
	c.skip()
	w.must(v, "boss", keygenRequest(key))
	c.act()
	if k, err := w.store.Key(w.ctx, key); err != nil || k.Status != session.KeyActive {
		w.Fatalf("keygen of %s: %+v, %v", key, k, err)
	}
}

// skip marks all messages so far as read.
func (c *cast) skip() {
	for _, user := range append([]string{"boss"}, committee...) {
		c.read[user] = len(c.mail.of(user))
	}
}

// outcomes returns the outcomes that boss received, in order.
func (w *world) outcomes() (list []wire.Payload) {
	w.Helper()
	for _, m := range w.mail.of("boss") {
		p, err := m.DecodePayload()
		if err != nil {
			w.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// the returns the only session of a kind that boss has.
func (w *world) the(kind session.Kind) session.Session {
	w.Helper()
	places, err := w.store.SessionsOf(w.ctx, "boss", service.Page{})
	if err != nil {
		w.Fatal(err)
	}
	var found []session.Session
	for _, place := range places {
		if s, _, err := w.store.Load(w.ctx, place.ID); err == nil && s.Kind == kind {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		w.Fatalf("%d sessions of kind %s", len(found), kind)
	}
	return found[0]
}

// settled checks that no work is left.
func (w *world) settled() {
	w.Helper()
	if due := w.rdb.ZRange(w.ctx, w.prefix+"sessions:due", 0, -1).Val(); len(due) > 0 {
		w.Errorf("still due: %v", due)
	}
	places, err := w.store.SessionsOf(w.ctx, "boss", service.Page{})
	if err != nil {
		w.Fatal(err)
	}
	for _, place := range places {
		if out, err := w.store.Outbox(w.ctx, place.ID, ""); err != nil || len(out) > 0 {
			w.Errorf("outbox of %s: %d messages, %v", place.ID, len(out), err)
		}
	}
}

// toldOnce checks that every user has each type of message at most once per session,
// the end last, and that everyone in the committee has it.
func (w *world) toldOnce() {
	w.Helper()
	ended := map[string]int{}
	for _, user := range append([]string{"boss"}, committee...) {
		seen := map[string]bool{}
		for _, m := range w.mail.of(user) {
			var p struct {
				SessionID string `json:"session_id"`
				Attempt   int    `json:"attempt"`
			}
			decode(w, m, &p)
			what := fmt.Sprintf("%s %s %d", p.SessionID, m.Type, p.Attempt)
			if seen[what] || seen[p.SessionID+" end"] {
				w.Errorf("%s got twice, or after the end: %s", user, what)
			}
			seen[what] = true
			switch m.Type {
			case wire.TypeSessionEnded, wire.TypeKeygenConfirm, wire.TypeSignComplete:
				seen[p.SessionID+" end"] = true
				ended[p.SessionID]++
			}
		}
	}
	for id, n := range ended {
		if n != 1+len(committee) {
			w.Errorf("the end of %s was told %d times, want %d", id, n, 1+len(committee))
		}
	}
}
