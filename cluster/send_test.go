package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

func TestSendManyInOrder(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		const each = 3*callMessages + 7
		var msgs []Message
		for i := range each {
			for _, to := range []string{"alice", "bob", "carol"} {
				m := Message{To: to, Payload: fmt.Appendf(nil, "msg-%d", i+1)}
				if to == "bob" || (to == "carol" && i%2 == 0) {
					m.ID = fmt.Sprint("id-", i)
				}
				msgs = append(msgs, m)
			}
		}
		if err := a.Send(context.Background(), msgs...); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"alice", "bob", "carol"} {
			_, s := w.join(a, to, 0, each)
			s.want(texts(1, each)...)
			w.wantNothing(a, to, s)
		}
		if err := a.Send(context.Background()); err != nil {
			t.Errorf("send nothing: %v", err)
		}
	})
}

func TestMailboxFull(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.MailboxMax = 5 })
		ctx := context.Background()
		w.send(a, "alice", texts(1, 4)...)
		err := a.Send(ctx,
			Message{To: "alice", Payload: []byte("msg-5"), ID: "five"},
			Message{To: "alice", Payload: []byte("too many"), ID: "six"},
			Message{To: "bob", Payload: []byte("hello")})
		if !errors.Is(err, ErrMailboxFull) {
			t.Fatalf("got %v, want ErrMailboxFull", err)
		}
		var failed *SendError
		if !errors.As(err, &failed) || failed.Index != 1 || failed.To != "alice" {
			t.Errorf("got %+v, want the second message named", failed)
		}
		// A message already appended is no overflow.
		if err := a.Send(ctx, Message{To: "alice", Payload: []byte("msg-5"), ID: "five"}); err != nil {
			t.Errorf("a message that is there: got %v, want nil", err)
		}
		m, s := w.join(a, "alice", 0, 100)
		seq := s.want(texts(1, 5)...)
		if err := m.Ack(ctx, seq); err != nil {
			t.Fatal(err)
		}
		// The refused one was not recorded.
		if err := a.Send(ctx, Message{To: "alice", Payload: []byte("msg-6"), ID: "six"}); err != nil {
			t.Errorf("after the ack: %v", err)
		}
		s.want("msg-6")
		_, other := w.join(a, "bob", 0, 1)
		other.want("hello")
	})
}

// TestMailboxFullOfBytes: large messages fill a mailbox long before their number
// does; reading makes room again.
func TestMailboxFullOfBytes(t *testing.T) {
	t.Parallel()
	rdb := redistest.Real(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a := w.node("a", func(c *Config) { c.MailboxMaxBytes = 4 << 20 })
	ctx := context.Background()
	large := Message{To: "alice", Payload: bytes.Repeat([]byte("x"), 100<<10)}
	sent := 0
	var err error
	for sent < 200 && err == nil {
		if err = a.Send(ctx, large); err == nil {
			sent++
		}
	}
	if !errors.Is(err, ErrMailboxFull) || sent < 35 || sent > 50 {
		t.Fatalf("after %d messages of 100 KiB: got %v, want ErrMailboxFull at 4 MiB", sent, err)
	}
	m, s := w.join(a, "alice", 0, 100)
	seq := s.want(slices.Repeat([]string{string(large.Payload)}, sent)...)
	if err := m.Ack(ctx, seq); err != nil {
		t.Fatal(err)
	}
	if err := a.Send(ctx, large); err != nil {
		t.Errorf("after the ack: %v", err)
	}
}

// After a failure nothing more goes to the same member, however long the Send.
func TestNothingAfterAFailure(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.MailboxMax = callMessages - 1 })
		var msgs []Message
		for _, p := range texts(1, callMessages+1) {
			msgs = append(msgs, Message{To: "alice", Payload: []byte(p)})
		}
		msgs = append(msgs, Message{To: "bob", Payload: []byte("hello")}, Message{To: "b{b", Payload: []byte("x")})
		err := a.Send(context.Background(), msgs...)
		all, ok := err.(interface{ Unwrap() []error })
		if !ok || len(all.Unwrap()) != 3 {
			t.Fatalf("got %v, want three messages failed", err)
		}
		for i, want := range []error{ErrMailboxFull, ErrNotSent, ErrBadID} {
			if got := all.Unwrap()[i]; !errors.Is(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		_, s := w.join(a, "bob", 0, 1)
		s.want("hello")
	})
}

func TestSameIDOnce(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		nodes := []*running{w.node("a"), w.node("b")}
		ctx := context.Background()
		_, s := w.join(nodes[0], "alice", 0, 1000)
		const rounds = 50
		for i := range rounds {
			var wg sync.WaitGroup
			for k := range 6 {
				wg.Go(func() {
					msg := Message{To: "alice", Payload: fmt.Appendf(nil, "msg-%d", i+1), ID: fmt.Sprint("id-", i)}
					if err := nodes[k%2].Send(ctx, msg, msg); err != nil {
						t.Errorf("send: %v", err)
					}
				})
			}
			wg.Wait()
		}
		s.want(texts(1, rounds)...)
		w.wantNothing(nodes[1], "alice", s)
		// Another member's mailbox has its own ids.
		if err := nodes[0].Send(ctx, Message{To: "bob", Payload: []byte("msg"), ID: "id-0"}); err != nil {
			t.Fatal(err)
		}
		_, other := w.join(nodes[0], "bob", 0, 1)
		other.want("msg")
		if err := nodes[0].Send(ctx, Message{To: "bob", Payload: []byte("x"), ID: strings.Repeat("x", maxMessageID+1)}); !errors.Is(err, ErrBadID) {
			t.Errorf("a long id: got %v, want ErrBadID", err)
		}
	})
}

func TestSeenIsBounded(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		const total = 2*seenKeep + 1000
		m, s := w.join(a, "alice", 0, 600)
		for i := 0; i < total; i += 500 {
			var msgs []Message
			for k := i; k < min(i+500, total); k++ {
				msgs = append(msgs, Message{To: "alice", Payload: []byte("x"), ID: fmt.Sprintf("%06d", k)})
			}
			if err := a.Send(ctx, msgs...); err != nil {
				t.Fatal(err)
			}
			var last uint64
			for range msgs {
				last = s.want("x")
			}
			if err := m.Ack(ctx, last); err != nil {
				t.Fatal(err)
			}
		}
		young, old := rdb.SCard(ctx, w.keys().seen("alice")).Val(), rdb.SCard(ctx, w.keys().seenBefore("alice")).Val()
		if n := young + old; n < seenKeep || n > 2*seenKeep+2*(callMessages+64) {
			t.Errorf("seen keeps %d and %d ids, want from %d to twice that", young, old, seenKeep)
		}
		before := rdb.XLen(ctx, w.keys().mailbox("alice")).Val()
		for _, age := range []int{1, seenKeep / 2, seenKeep} { // from either set
			if err := a.Send(ctx, Message{To: "alice", Payload: []byte("x"), ID: fmt.Sprintf("%06d", total-age)}); err != nil {
				t.Fatal(err)
			}
		}
		if after := rdb.XLen(ctx, w.keys().mailbox("alice")).Val(); after != before {
			t.Error("one of the newest ids was forgotten")
		}
	})
}

// A mailbox lives for its TTL after the last message, or a sixteenth less; so do
// its seen ids.
func TestMailboxLifeIsRenewed(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		hour := func(c *Config) { c.MailboxTTL = time.Hour }
		a := w.node("a", hour)
		ctx := context.Background()
		k := w.keys()
		number := 0
		send := func(n *running, id string) error {
			number++
			if id == "ids" {
				id = fmt.Sprint(number)
			}
			return n.Send(ctx, Message{To: "alice", Payload: []byte("x"), ID: id})
		}
		mustLive := func(when string, least time.Duration, keys ...string) {
			t.Helper()
			for _, key := range keys {
				if life := rdb.PTTL(ctx, key).Val(); life < least || life > time.Hour {
					t.Errorf("%s: %s lives %s more, want at least %s and at most an hour", when, key, life, least)
				}
				rdb.PExpire(ctx, key, 50*time.Minute) // simulates the passage of time
			}
		}
		check := func(when string, err error, least time.Duration, keys ...string) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			mustLive(when, least, keys...)
		}
		const renewed, left = 59 * time.Minute, 49 * time.Minute
		check("the first", send(a, ""), renewed, k.mailbox("alice"))
		check("the first with an id", send(a, "ids"), renewed, k.mailbox("alice"), k.seen("alice"))
		check("soon after", send(a, "ids"), left, k.mailbox("alice"), k.seen("alice"))
		check("by another node", send(w.node("b", hour), "ids"), renewed, k.mailbox("alice"), k.seen("alice"))
		for key, at := range a.renewed.last {
			a.renewed.last[key] = at.Add(-4 * time.Minute)
		}
		check("a sixteenth later", send(a, "ids"), renewed, k.mailbox("alice"), k.seen("alice"))

		// Keys lost by Redis are recreated, with their time to live.
		rdb.Del(ctx, k.mailbox("alice"), k.seen("alice"))
		check("after a loss", send(a, "ids"), renewed, k.mailbox("alice"), k.seen("alice"))

		// A failed renewal is repeated.
		a.renewed.forget("alice")
		rdb.Del(ctx, k.mailbox("alice"))
		rdb.Set(ctx, k.mailbox("alice"), "no stream", 0)
		if err := send(a, "ids"); err == nil {
			t.Fatal("a string took a message")
		}
		if !a.renewed.due("alice", true, time.Now()) {
			t.Error("a renewal that failed counts as done")
		}
	})
}

// TestRenewalsAreBounded: they are an optimization, not a record.
func TestRenewalsAreBounded(t *testing.T) {
	t.Parallel()
	r := renewals{life: 16 * time.Minute}
	now := time.Now()
	for i := range 2*mostRenewals + 10 {
		if !r.due(fmt.Sprint(i), i%2 == 0, now) {
			t.Fatalf("the first of member %d is not due", i)
		}
		if r.due(fmt.Sprint(i), i%2 == 0, now.Add(59*time.Second)) {
			t.Fatalf("member %d is due again at once", i)
		}
		if len(r.last) > mostRenewals {
			t.Fatalf("%d are remembered", len(r.last))
		}
	}
	if last := fmt.Sprint(2*mostRenewals + 9); !r.due(last, false, now.Add(time.Minute)) {
		t.Error("a sixteenth of its life later a mailbox is not due")
	}
}

// Scripts vanish when Redis restarts: messages without an id are not sent twice and
// keep their order.
func TestSendLoadsScripts(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"miniredis", "redis"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			var rdb redis.UniversalClient
			if backend == "redis" {
				rdb = redistest.StartRedis(t).Client(t) // others need their scripts
			} else {
				rdb = redistest.Mini(t)
			}
			w := newWorld(t, rdb, redistest.Prefix())
			a := w.node("a")
			_, s := w.join(a, "alice", 0, 1000)
			for i := 0; i < 200; i += 20 {
				if err := rdb.ScriptFlush(context.Background()).Err(); err != nil {
					t.Fatal(err)
				}
				w.send(a, "alice", texts(i+1, i+20)...)
			}
			s.want(texts(1, 200)...)
			w.wantNothing(a, "alice", s)
		})
	}
}

// A message without an id whose reply is lost must not be appended again by
// the client library; one with an id may.
func TestLostReplyIsNotRepeated(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		proxy := newCutter(t, rdb.(*redis.Client).Options().Addr)
		through := redis.NewClient(&redis.Options{Addr: proxy.addr(), DB: rdb.(*redis.Client).Options().DB})
		t.Cleanup(func() { _ = through.Close() })
		w := newWorld(t, rdb, prefix)
		n, err := New(Config{Redis: through, Prefix: prefix, NodeID: "cut"})
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if err := n.Send(ctx, Message{To: "alice", Payload: []byte("warm"), ID: "warm"}); err != nil {
			t.Fatal(err)
		}
		length := func() int64 { return rdb.XLen(ctx, w.keys().mailbox("alice")).Val() }

		proxy.cutNextReply()
		if err := n.Send(ctx, Message{To: "alice", Payload: []byte("anonymous")}); err == nil {
			t.Error("the reply was lost, but Send says nothing")
		}
		w.eventually("appended", func() bool { return length() == 2 })

		proxy.cutNextReply()
		if err := n.Send(ctx, Message{To: "alice", Payload: []byte("named"), ID: "named"}); err != nil {
			t.Errorf("with an id: %v", err)
		}
		if got := length(); got != 3 {
			t.Errorf("mailbox holds %d messages, want 3", got)
		}
	})
}
