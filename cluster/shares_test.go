package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// fill sends messages of a payer until one is refused, and returns how many were
// not, and the reason.
func (w *world) fill(n *running, to, payer string, size int) (sent int, err error) {
	w.t.Helper()
	for sent < 20_000 {
		m := Message{To: to, Payload: bytes.Repeat([]byte("x"), size), Payer: payer, Group: fmt.Sprint(payer, "-", sent/5)}
		if err = n.Send(context.Background(), m); err != nil {
			return sent, err
		}
		sent++
	}
	w.t.Fatalf("%d messages of %s fit", sent, payer)
	return 0, nil
}

// TestStrangerFillsItsShareOnly: one payer gets a quarter of a mailbox, three that
// have done so leave a quarter for payers that hold little, and the member itself
// may have more.
func TestStrangerFillsItsShareOnly(t *testing.T) {
	t.Parallel()
	for what, size := range map[string]int{"bytes": 100 << 10, "entries": 100} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
				w := newWorld(t, rdb, prefix)
				a := w.node("a", func(c *Config) { c.MailboxMax, c.MailboxMaxBytes = 400, 16<<20 })
				quarter := min(400/4, 4<<20/(size+256))
				for _, payer := range []string{"mallory", "moriarty", "medea"} {
					if sent, err := w.fill(a, "alice", payer, size); !errors.Is(err, ErrShareUsed) || sent != quarter {
						t.Fatalf("%s: %d messages and %v, want ErrShareUsed after %d", payer, sent, err, quarter)
					}
				}
				if err := a.Send(context.Background(), Message{To: "alice", Payload: []byte("x"), Payer: "morgan"}); err != nil {
					t.Errorf("a fourth, who holds nothing: %v", err)
				}
				if sent, err := w.fill(a, "alice", "bob", size); !errors.Is(err, ErrMailboxFull) || sent < 1 || sent > quarter/4 {
					t.Errorf("in the last quarter: %d messages and %v, want ErrMailboxFull after a few", sent, err)
				}
				if err := a.Send(context.Background(), Message{To: "alice", Payload: []byte("hello"), Payer: "carol"}); err != nil {
					t.Errorf("another: %v", err)
				}
				if sent, err := w.fill(a, "dave", "dave", size); !errors.Is(err, ErrShareUsed) || sent != min(300, 12<<20/(size+256)) {
					t.Errorf("the member itself: %d messages and %v, want ErrShareUsed at three quarters", sent, err)
				}
			})
		})
	}
}

// TestPartOfAGroup bounds a payer's part of one group, beside others of the same
// Send and pipeline.
func TestPartOfAGroup(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.GroupMax, c.GroupMaxBytes = 10, 8<<10 })
		ctx := context.Background()
		of := func(payer, group, id string, size int) Message {
			return Message{To: "alice", Payload: bytes.Repeat([]byte("x"), size), Payer: payer, Group: group, ID: id}
		}
		var msgs []Message
		for i := range 12 {
			msgs = append(msgs, of("mallory", "g", fmt.Sprint(i), 1))
		}
		if err := a.Send(ctx, msgs...); !errors.Is(err, ErrGroupFull) {
			t.Errorf("12 messages of 10: %v", err)
		}
		if err := a.Send(ctx, of("mallory", "h", "h", 9<<10)); !errors.Is(err, ErrGroupFull) {
			t.Errorf("9 KiB of 8: %v", err)
		}
		if err := a.Send(ctx, of("mallory", "h", "h", 1), of("bob", "g", "b", 1)); err != nil {
			t.Errorf("another group, another payer: %v", err)
		}
		m, s := w.join(a, "alice", 0, 100)
		var last uint64
		for range 12 {
			it, ok := s.next(patience)
			if !ok {
				t.Fatal("nothing came")
			}
			last = it.seq
		}
		if err := m.Ack(ctx, last); err != nil {
			t.Fatal(err)
		}
		if err := a.Send(ctx, msgs[10]); err != nil {
			t.Errorf("what was refused, after the others were read: %v", err)
		}
	})
}

// TestEndRemovesItsGroup: of a group that ended while its member was away only the
// end is left; the rest of the mailbox, and its order, stays and is delivered.
// Messages after an end are dropped.
func TestEndRemovesItsGroup(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		bulk := string(bytes.Repeat([]byte("x"), 100<<10))
		send := func(group string, ends bool, payload string) {
			t.Helper()
			if err := a.Send(ctx, Message{To: "alice", Payload: []byte(payload), Payer: "boss", Group: group, Ends: ends}); err != nil {
				t.Fatal(err)
			}
		}
		m, s := w.join(a, "alice", 0, 100)
		for i := range 3 { // not yet counted: a socket is connected
			send("early", false, fmt.Sprint("early-", i))
		}
		seq := s.want("early-0")
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		var want []string
		for i := range 200 {
			group := fmt.Sprint("g", i)
			send(group, false, bulk)
			if i%40 == 0 {
				send("open", false, fmt.Sprint("open-", i))
				want = append(want, fmt.Sprint("open-", i))
			}
			send(group, false, "parameters of "+group)
			send(group, true, "end of "+group)
			want = append(want, "end of "+group)
			send(group, false, "too late")
		}
		if n := w.charged("alice"); n > 200*1000 {
			t.Errorf("200 ended groups of 100 KiB are charged with %d bytes", n)
		}
		send("early", true, "end of early")
		want = append(want, "end of early")
		_, s = w.join(a, "alice", seq, 1000)
		s.want(want...)
		w.wantNothing(a, "alice", s)
	})
}

// TestEndUnderASocket removes entries that a slow socket has not read, in the
// middle of its reading.
func TestEndUnderASocket(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx := context.Background()
		_, s := w.join(b, "alice", 0, 2)
		for i := range 300 {
			for _, m := range []Message{
				{To: "alice", Payload: fmt.Append(nil, "kept-", i), Payer: "boss"},
				{To: "alice", Payload: bytes.Repeat([]byte("x"), 8<<10), Payer: "boss", Group: fmt.Sprint(i % 7)},
			} {
				if err := a.Send(ctx, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range 7 {
			if err := a.Send(ctx, Message{To: "alice", Payload: fmt.Append(nil, "end-", i), Payer: "boss", Group: fmt.Sprint(i), Ends: true}); err != nil {
				t.Fatal(err)
			}
		}
		kept, ends, large := 0, 0, 0
		for ends < 7 {
			it, ok := s.next(patience)
			if !ok {
				t.Fatalf("nothing came after %d and %d", kept, ends)
			}
			switch it.payload {
			case fmt.Sprint("kept-", kept):
				kept++
			case fmt.Sprint("end-", ends):
				ends++
			default:
				if it.payload[0] != 'x' {
					t.Fatalf("got %q after %d kept and %d ends", it.payload, kept, ends)
				}
				large++
			}
		}
		if kept != 300 {
			t.Errorf("%d messages of no group came, want 300", kept)
		}
		if large > 100 { // in transit to the socket
			t.Errorf("%d of 300 messages came of groups that had ended", large)
		}
		w.wantNothing(a, "alice", s)
	})
}

// TestEndOfFewLargeMessages: a socket's unread messages are removed by the end of
// their group if large, even if few, and the socket leaves without a week's
// backlog.
func TestEndOfFewLargeMessages(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a, b := w.node("a"), w.node("b")
		ctx := context.Background()
		m, s := w.join(b, "alice", 0, 1000)
		for i, payload := range [][]byte{[]byte("invite"), bytes.Repeat([]byte("x"), 700<<10), bytes.Repeat([]byte("y"), 700<<10)} {
			if err := a.Send(ctx, Message{To: "alice", Payload: payload, Payer: "boss", Group: "g"}); err != nil {
				t.Fatal(i, err)
			}
		}
		if err := a.Send(ctx, Message{To: "alice", Payload: []byte("end"), Payer: "boss", Group: "g", Ends: true}); err != nil {
			t.Fatal(err)
		}
		if n := rdb.XLen(ctx, w.keys().mailbox("alice")).Val(); n != 1 {
			t.Errorf("%d messages are left, want the last", n)
		}
		s.close()
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestUnseenMember: the mailbox of a member that never joined is small and lives
// for an hour after its last message; once it has joined it gets the waiting
// messages, and full size and lifetime.
func TestUnseenMember(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.UnseenMax, c.UnseenMaxBytes = 0, 0 })
		ctx, k := context.Background(), w.keys()
		life := func(member string) time.Duration { return rdb.PTTL(ctx, k.mailbox(member)).Val() }
		w.send(a, "alice", "early")
		for range 2 { // also after a second append, which renews no recent renewal
			if ttl := life("alice"); ttl > time.Hour || ttl < 50*time.Minute {
				t.Errorf("the mailbox of a member never seen lives for %v, want an hour", ttl)
			}
			if err := rdb.PExpire(ctx, k.mailbox("alice"), time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			w.send(a, "alice", "late")
		}
		if sent, err := w.fill(a, "ghost", "", 1); !errors.Is(err, ErrMailboxFull) || sent != 64 {
			t.Errorf("%d messages and %v, want ErrMailboxFull after 64", sent, err)
		}
		if sent, err := w.fill(a, "spirit", "", 20<<10); !errors.Is(err, ErrMailboxFull) || sent != 12 {
			t.Errorf("%d messages of 20 KiB and %v, want ErrMailboxFull after 12", sent, err)
		}
		m, s := w.join(a, "alice", 0, 1000)
		seq := s.want("early", "late", "late")
		if ttl := life("alice"); ttl < 6*24*time.Hour {
			t.Errorf("the mailbox of a member that has joined lives for %v", ttl)
		}
		if err := m.Ack(ctx, seq); err != nil {
			t.Fatal(err)
		}
		if err := m.Leave(ctx); err != nil {
			t.Fatal(err)
		}
		for range 200 {
			w.send(a, "alice", "while away")
		}
		if ttl := life("alice"); ttl < 6*24*time.Hour {
			t.Errorf("the mailbox of a member that has been here lives for %v", ttl)
		}
	})
}

// TestMailboxOfTheVersionBefore: messages appended by a node of the version before
// count, whatever their payer, and the mailbox's member counts as seen.
func TestMailboxOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a", func(c *Config) { c.MailboxMaxBytes, c.UnseenMax, c.UnseenMaxBytes = 2<<20, 0, 0 })
		for i := range 100 {
			w.sendBefore("alice", fmt.Sprint("before-", i))
		}
		large := string(bytes.Repeat([]byte("x"), 100<<10))
		for range 10 {
			w.sendBefore("alice", large)
		}
		const held = 100*(8+256) + 90 + 10*(100<<10+256)
		sent, err := w.fill(a, "alice", "", 50<<10)
		if want := (2<<20 - held) / (50<<10 + 256); !errors.Is(err, ErrMailboxFull) || sent != want {
			t.Errorf("%d messages of 50 KiB and %v, want ErrMailboxFull after %d", sent, err, want)
		}
		if n := rdb.Exists(context.Background(), w.keys().joined("alice")).Val(); n != 1 {
			t.Error("it is not remembered that the member was seen")
		}
		if got, want := w.accounts("alice"); got["bytes"] != want["bytes"] || got["entries"] != want["entries"] {
			t.Errorf("the account is %v, want %v", got, want)
		}
		_, s := w.join(a, "alice", 0, 1000)
		s.want(func() (all []string) {
			for i := range 100 {
				all = append(all, fmt.Sprint("before-", i))
			}
			return all
		}()...)
		for range 10 {
			s.want(large)
		}
	})
}
