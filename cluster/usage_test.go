package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// The scripts of the version before mailboxes had an account.
var (
	//go:embed testdata/before/append.lua.txt
	appendBefore string
	//go:embed testdata/before/ack.lua.txt
	ackBefore string
)

// sendBefore appends as a node of that version does.
func (w *world) sendBefore(to, payload string) {
	w.t.Helper()
	k := w.keys()
	err := redis.NewScript(appendBefore).Run(context.Background(), w.rdb,
		[]string{k.mailbox(to), k.seen(to), k.seenBefore(to), k.presence(to)},
		k.channelPrefix(), 10000, 3600_000, seenKeep, 64<<20, 1, 0, "", payload).Err()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) ackBefore(member, conn string, seq uint64) {
	w.t.Helper()
	k := w.keys()
	err := redis.NewScript(ackBefore).Run(context.Background(), w.rdb, []string{k.presence(member), k.mailbox(member)}, conn, seq, seq+1).Err()
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestNumbersOfTheVersionBefore: numbers given by a node of an older version,
// before or between, are ordinary numbers.
func TestNumbersOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		w.sendBefore("alice", "old-1")
		w.sendBefore("alice", "old-2")
		_, s := w.join(a, "alice", 0, 10)
		last := s.want("old-1", "old-2")
		w.sendBefore("alice", "old-3") // published in the old format
		w.send(a, "alice", "new-1")
		w.sendBefore("alice", "old-4")
		s.want("old-3", "new-1", "old-4")
		for _, after := range []uint64{last, s.last} {
			m, again := w.join(a, "alice", after, 10)
			if m.RolledBack() {
				t.Errorf("%d is taken for a number of another mailbox", after)
			}
			if after == last {
				again.want("old-3", "new-1", "old-4")
			}
			w.sendBefore("alice", "marker")
			again.want("marker")
			s = again
		}
	})
}

// entryCost is an entry's charge, as in usage.lua.
func entryCost(e redis.XMessage) int {
	payload, _ := e.Values["payload"].(string)
	link, _ := e.Values["link"].(string)
	waste := 0
	if rest, ok := strings.CutPrefix(link, "end "); ok {
		waste, _ = strconv.Atoi(rest)
	}
	return len(payload) + 256 + waste
}

// accounts returns the account of a member's mailbox, and its expected value,
// counted from the entries; both without fields that the entries do not show.
func (w *world) accounts(member string) (got, want map[string]string) {
	w.t.Helper()
	ctx := context.Background()
	tx := w.rdb.TxPipeline() // a socket's node may renumber the entries meanwhile
	hash, stream := tx.HGetAll(ctx, w.keys().usage(member)), tx.XRange(ctx, w.keys().mailbox(member), "-", "+")
	if _, err := tx.Exec(ctx); err != nil {
		w.t.Fatal(err)
	}
	got, entries := hash.Val(), stream.Val()
	delete(got, "last")
	delete(got, "unseen")
	for name, value := range got { // a suffix after the newest seq may be stale
		if first, rest, _ := strings.Cut(value, " "); strings.HasPrefix(name, "of:") && first != "end" && rest != "" {
			got[name] = first
		}
	}
	want, total := map[string]string{}, 0
	if len(entries) == 0 {
		return got, want
	}
	held := map[string][2]int{}
	for _, e := range entries {
		text := func(name string) string { s, _ := e.Values[name].(string); return s }
		seq, cost := strings.TrimPrefix(e.ID, "0-"), entryCost(e)
		total += cost
		ends := strings.HasPrefix(text("link"), "end")
		if group := text("group"); group != "" {
			want["of:"+group] = seq
			if ends {
				want["of:"+group] = "end " + seq
			}
		}
		for _, name := range []string{"by:" + text("payer"), "in:" + text("group") + " " + text("payer")} {
			if text("payer") == "" || strings.HasPrefix(name, "in:") && (ends || text("group") == "") {
				continue
			}
			held[name] = [2]int{held[name][0] + 1, held[name][1] + cost}
		}
	}
	for name, h := range held {
		want[name] = fmt.Sprint(h[0], h[1])
	}
	want["entries"], want["bytes"] = strconv.Itoa(len(entries)), strconv.Itoa(total)
	return got, want
}

// charged is the total charge of a member's mailbox.
func (w *world) charged(member string) int {
	w.t.Helper()
	n, err := w.rdb.HGet(context.Background(), w.keys().usage(member), "bytes").Int()
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestMailboxBoundIsExact: large messages after small ones count in full.
func TestMailboxBoundIsExact(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		for i := range 120 {
			w.send(a, "alice", fmt.Sprint("small-", i))
		}
		large := Message{To: "alice", Payload: bytes.Repeat([]byte("x"), 255<<10)}
		const small = 120*(6+256) + 10 + 2*90 + 3*20 // "small-" and the digits
		want := (64<<20 - small) / (255<<10 + 256)
		sent := 0
		var err error
		for sent < 600 && err == nil {
			if err = a.Send(ctx, large); err == nil {
				sent++
			}
		}
		if !errors.Is(err, ErrMailboxFull) || sent != want {
			t.Fatalf("after %d messages of 255 KiB: got %v, want ErrMailboxFull after %d", sent, err, want)
		}
		if got, want := w.charged("alice"), small+sent*(255<<10+256); got != want {
			t.Errorf("the mailbox is charged for %d bytes, want %d", got, want)
		}
	})
}

// TestChargeCoversMemory: a mailbox's charge is at least Redis's memory for it,
// whatever its messages and removals.
func TestChargeCoversMemory(t *testing.T) {
	t.Parallel()
	rdb := redistest.Real(t)
	w := newWorld(t, rdb, redistest.Prefix())
	a := w.node("a")
	ctx := context.Background()
	long := func(i int) string { return fmt.Sprintf("sg-%026d", i) }
	for name, size := range map[string]int{"tiny": 1, "small": 500, "invitations": 2000, "node": 3700, "large": 50_000} {
		for i := range 300 {
			err := a.Send(ctx,
				Message{To: name, Payload: bytes.Repeat([]byte("x"), size), Payer: fmt.Sprint("payer-", i%7), Group: long(i), ID: long(i) + ":1"},
				Message{To: name, Payload: bytes.Repeat([]byte("x"), size), Payer: fmt.Sprint("payer-", i%7), Group: long(i), ID: long(i) + ":2"})
			if err == nil && i%2 == 0 {
				err = a.Send(ctx, Message{To: name, Payload: bytes.Repeat([]byte("x"), 300), Payer: fmt.Sprint("payer-", i%7), Group: long(i), Ends: true, ID: long(i) + ":3"})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		charged := int64(w.charged(name))
		var needed int64
		for _, key := range []string{w.keys().mailbox(name), w.keys().usage(name)} {
			n, err := rdb.Do(ctx, "memory", "usage", key, "samples", 0).Int64()
			if err != nil {
				t.Fatal(err)
			}
			needed += n
			t.Logf("%s: %s takes %d", name, key, n)
		}
		t.Logf("%s: charged %d", name, charged)
		if needed > charged+charged/4 {
			t.Errorf("%s: a mailbox charged for %d bytes takes %d", name, charged, needed)
		}
	}
}

// TestAccountIsExact appends, acknowledges, joins, loses and expires at random,
// beside a node of the version before, and recounts after each step.
func TestAccountIsExact(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		n := 0
		small := func(bytes int) func(*Config) {
			return func(c *Config) {
				c.MailboxMax, c.MailboxMaxBytes, c.UnseenMax, c.UnseenMaxBytes, c.GroupMax, c.GroupMaxBytes = 320, bytes, 20, 16<<10, 9, 12<<10
			}
		}
		nodes := []*running{newWorld(t, rdb, prefix).node("a", small(64<<10)), newWorld(t, rdb, prefix).node("b", small(64<<20))}
		if nodes[0].cfg.uncounted() != 0 || nodes[1].cfg.uncounted() != 10 {
			t.Fatalf("nodes leave %d and %d entries uncounted, want 0 and 10", nodes[0].cfg.uncounted(), nodes[1].cfg.uncounted())
		}
		rapid.Check(t, func(rt *rapid.T) {
			w := newWorld(t, rdb, prefix)
			n++
			x := &accounting{world: w, rt: rt, node: nodes[n%2], member: fmt.Sprint("member-", n)}
			defer x.leave()
			rt.Repeat(map[string]func(*rapid.T){
				"send": x.send, "send2": x.send, "ack": x.ack, "join": x.join, "before": x.before, "expire": x.expire, "": x.check,
			})
		})
	})
}

type accounting struct {
	*world
	rt     *rapid.T
	node   *running
	member string
	m      *Membership
	s      *socket
	last   uint64
	ids    int
	beyond int  // bytes appended by a node of the version before, which has no such bound
	stale  bool // a node that counts nothing, or not everything, has appended or trimmed since
}

func (x *accounting) send(t *rapid.T) {
	msgs := make([]Message, rapid.IntRange(1, 5).Draw(t, "messages"))
	for i := range msgs {
		size := rapid.SampledFrom([]int{0, 10, 300, 3000, 5000, 9000}).Draw(t, "size")
		msgs[i] = Message{To: x.member, Payload: bytes.Repeat([]byte("x"), size),
			Payer: rapid.SampledFrom([]string{"", "bob", "carol", x.member}).Draw(t, "payer"),
			Group: rapid.SampledFrom([]string{"", "g1", "g2", "g3"}).Draw(t, "group"),
		}
		msgs[i].Ends = msgs[i].Group != "" && rapid.IntRange(0, 5).Draw(t, "ends") == 0
		if rapid.Bool().Draw(t, "id") {
			x.ids++
			msgs[i].ID = fmt.Sprint("id-", x.ids-rapid.IntRange(0, 1).Draw(t, "again"))
		}
	}
	_ = x.node.Send(context.Background(), msgs...) // some have no room
}

func (x *accounting) join(t *rapid.T) {
	x.leave()
	if rapid.IntRange(0, 3).Draw(t, "ahead") == 0 {
		x.last += uint64(rapid.IntRange(1, 50).Draw(t, "by")) // Redis has lost messages that the client has
	}
	x.m, x.s = x.world.join(x.node, x.member, x.last, 1000)
}

func (x *accounting) leave() {
	if x.m != nil {
		_ = x.m.Leave(context.Background())
		x.s.close()
		x.m = nil
		x.stale = x.stale || x.node.cfg.uncounted() > 0
	}
}

func (x *accounting) ack(t *rapid.T) {
	if x.m == nil {
		t.Skip("nobody is there")
	}
	for range rapid.IntRange(1, 10).Draw(t, "read") {
		it, ok := x.s.next(time.Millisecond)
		if !ok {
			break
		}
		x.last = it.seq
	}
	if rapid.IntRange(0, 4).Draw(t, "before") == 0 {
		x.world.ackBefore(x.member, x.s.id, x.last)
		x.stale = true
		return
	}
	if err := x.m.Ack(context.Background(), x.last); err != nil {
		t.Fatal(err)
	}
}

func (x *accounting) before(*rapid.T) {
	const text = "of the version before"
	x.world.sendBefore(x.member, text)
	x.beyond += len(text) + 256
	x.stale = true
}

func (x *accounting) expire(*rapid.T) {
	k := x.keys()
	gone := []string{k.mailbox(x.member)}
	if rapid.Bool().Draw(x.rt, "account too") {
		gone = append(gone, k.usage(x.member))
	}
	if err := x.rdb.Del(context.Background(), gone...).Err(); err != nil {
		x.rt.Fatal(err)
	}
	x.stale = true
}

// check compares the account with the entries, once the next append has made it
// agree with them where it may be behind: after a node of the version before,
// and after entries were numbered again, which a live socket's node also does by
// itself.
func (x *accounting) check(t *rapid.T) {
	for range 100 {
		if x.m != nil && x.rdb.XLen(context.Background(), x.keys().mailbox(x.member)).Val() <= int64(x.node.cfg.uncounted()) {
			return // few entries of a socket that is there
		}
		got, want := x.world.accounts(x.member)
		if b, _ := strconv.Atoi(got["bytes"]); b > x.node.cfg.MailboxMaxBytes+x.beyond {
			t.Fatalf("%d bytes in a mailbox of %d", b, x.node.cfg.MailboxMaxBytes)
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return
		}
		if got["entries"] != "" && !x.stale && (x.m == nil || x.node.cfg.uncounted() == 0) {
			t.Fatalf("the account is wrong (-want +got):\n%s", diff)
		}
		err := x.node.Send(context.Background(), Message{To: x.member, Payload: []byte("probe")})
		if err != nil && !errors.Is(err, ErrMailboxFull) {
			t.Fatal(err)
		}
		x.stale = false
	}
	t.Fatal("no append made the account agree with the entries")
}
