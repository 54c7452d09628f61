package audit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	auditstore "github.com/conclave-mpc/conclave/cluster/store/audit"
	"github.com/conclave-mpc/conclave/session/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// bench is one audit on one Redis, for any number of nodes.
type bench struct {
	*testing.T
	ctx    context.Context
	rdb    redis.UniversalClient
	prefix string
}

func each(t *testing.T, test func(b *bench)) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		test(&bench{T: t, ctx: context.Background(), rdb: rdb, prefix: prefix})
	})
}

func (b *bench) stream() string { return b.prefix + "audit" }

// open makes a Log whose writer does not run. Change may be nil.
func (b *bench) open(node string, change func(*auditstore.Config)) *auditstore.Log {
	b.Helper()
	cfg := auditstore.Config{Redis: b.rdb, Prefix: b.prefix, NodeID: node}
	if change != nil {
		change(&cfg)
	}
	l, err := auditstore.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// run runs a Log's writer, until stop or the end of the test.
func (b *bench) run(l *auditstore.Log) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan struct{})
	go func() { defer close(done); _ = l.Run(ctx) }()
	stop = func() { cancel(); <-done }
	b.Cleanup(stop)
	return stop
}

func (b *bench) eventually(what string, ok func() bool) {
	b.Helper()
	deadline, poll := time.After(patience), time.NewTicker(2*time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			b.Fatalf("never: %s", what)
		}
	}
}

// all reads the whole audit, a few entries at a time.
func (b *bench) all() []audit.Fields {
	b.Helper()
	l, after := b.open("reader", nil), ""
	var all []audit.Fields
	for {
		entries, next, err := l.Read(b.ctx, after, 7)
		if err != nil {
			b.Fatal(err)
		}
		if len(entries) == 0 {
			if next != after {
				b.Fatalf("after nothing comes %q, want %q", next, after)
			}
			return all
		}
		all, after = append(all, entries...), next
	}
}

// whole verifies the audit and returns its entries.
func (b *bench) whole() []audit.Fields {
	b.Helper()
	all := b.all()
	if err := verify(all, ""); err != nil {
		b.Fatal(err)
	}
	return all
}

func verify(entries []audit.Fields, anchor string) error {
	v, err := audit.NewVerifier(anchor)
	for i := 0; i < len(entries) && err == nil; i++ {
		err = v.Add(entries[i])
	}
	if err == nil {
		_, err = v.End()
	}
	return err
}

func (b *bench) written(n int) {
	b.Helper()
	b.eventually(fmt.Sprintf("%d entries are written", n), func() bool { return b.rdb.XLen(b.ctx, b.stream()).Val() >= int64(n) })
}

func decision(n int) audit.Decision {
	return audit.Decision{Who: "alice", What: audit.Login, Outcome: audit.OK, Detail: fmt.Sprint(n)}
}

func TestEntriesAsTheyAreKept(t *testing.T) {
	each(t, func(b *bench) {
		l := b.open("n1", nil)
		before, err := b.rdb.Time(b.ctx).Result()
		if err != nil {
			b.Fatal(err)
		}
		l.Record(decision(1)) // before the writer runs
		b.run(l)
		l.Record(decision(2))
		at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		l.Record(audit.Decision{Time: at, What: audit.Ended})
		b.written(3)
		all := b.whole()
		if all[0]["node"] != "n1" || all[0]["who"] != "alice" || all[0]["detail"] != "1" || all[1]["detail"] != "2" {
			b.Errorf("got %v", all)
		}
		if all[2]["time"] != "2026-01-02T03:04:05.000000Z" {
			b.Errorf("a decision with a time of its own has %s", all[2]["time"])
		}
		decided, err := time.Parse(audit.TimeFormat, all[0]["time"])
		if err != nil || decided.Before(before.Add(-5*time.Second)) || decided.After(before.Add(patience)) {
			b.Errorf("time %s is not Redis's, which was %s: %v", all[0]["time"], before, err)
		}
		if _, ok := all[0]["account"]; ok {
			b.Error("an empty field is kept")
		}
		if ttl := b.rdb.TTL(b.ctx, b.stream()).Val(); ttl > 0 {
			b.Errorf("the audit ends in %s", ttl)
		}
		for _, cursor := range []string{"x", "1", "1-", "-1", "1-18446744073709551615", "1-2-3", "(1-1"} {
			if _, _, err := l.Read(b.ctx, cursor, 1); !errors.Is(err, auditstore.ErrCursor) {
				b.Errorf("after %q: got %v, want %v", cursor, err, auditstore.ErrCursor)
			}
		}
	})
}

func TestRacingWriters(t *testing.T) {
	each(t, func(b *bench) { b.race(b.rdb, 4, 300) })
}

// race has nodes write at once, each twice over: by its writer, and by an
// operator's command.
func (b *bench) race(rdb redis.UniversalClient, nodes, decisions int) {
	b.Helper()
	var logs []*auditstore.Log
	var stops []func()
	for i := range nodes {
		l := b.open(fmt.Sprintf("n%d", i), func(c *auditstore.Config) { c.Redis, c.Linger = rdb, time.Millisecond })
		logs, stops = append(logs, l), append(stops, b.run(l))
	}
	var group sync.WaitGroup
	for _, l := range logs {
		group.Go(func() {
			for d := range decisions {
				l.Record(decision(d))
			}
		})
		group.Go(func() {
			for range 5 {
				if err := l.Append(b.ctx, audit.Decision{What: audit.UserAdd}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	for _, stop := range stops {
		stop()
	}
	all, next := b.whole(), map[string]int{}
	if want := nodes * (decisions + 5); len(all) != want {
		b.Errorf("%d entries, want %d", len(all), want)
	}
	for _, f := range all {
		if f["what"] != audit.Login {
			continue
		}
		if f["detail"] != fmt.Sprint(next[f["node"]]) {
			b.Fatalf("entry %s of %s is decision %s, want %d", f["n"], f["node"], f["detail"], next[f["node"]])
		}
		next[f["node"]]++
	}
}

// TestRedisCluster has three shards: a script with keys in two slots would fail.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartShards(t, 3, 0).Client(t)
	b := &bench{T: t, ctx: context.Background(), rdb: rdb, prefix: redistest.Prefix()}
	b.race(rdb, 2, 50)
	l := b.open("n9", nil)
	stop := b.run(l)
	l.RecordOnce("s/failed", decision(1), nil)
	stop()
	b.whole()
}

func TestOnce(t *testing.T) {
	each(t, func(b *bench) {
		const nodes, names = 3, 20
		var told [nodes * names]atomic.Int64
		var stops []func()
		for n := range nodes {
			l := b.open(fmt.Sprintf("n%d", n), func(c *auditstore.Config) { c.Linger = time.Millisecond })
			stops = append(stops, b.run(l))
			for i := range names {
				name := fmt.Sprintf("session-%d/completed", i)
				l.RecordOnce(name, audit.Decision{What: audit.Ended, Session: name}, nil)
				l.RecordOnce(name, audit.Decision{What: audit.Ended, Session: name}, func() { told[n*names+i].Add(1) })
				l.Record(decision(i))
			}
		}
		for i := range told {
			b.eventually("who asked is told", func() bool { return told[i].Load() > 0 })
		}
		// And again, by a node without knowledge of it.
		late := b.open("late", nil)
		stops = append(stops, b.run(late))
		again := make(chan struct{})
		late.RecordOnce("session-3/completed", audit.Decision{What: audit.Ended, Session: "session-3/completed"}, func() { close(again) })
		select {
		case <-again:
		case <-time.After(patience):
			b.Error("who asks again is not told")
		}
		for _, stop := range stops {
			stop()
		}
		seen, others := map[string]int{}, 0
		for _, f := range b.whole() {
			if f["what"] == audit.Ended {
				seen[f["session"]]++
			} else {
				others++
			}
		}
		for i := range names {
			if n := seen[fmt.Sprintf("session-%d/completed", i)]; n != 1 {
				b.Errorf("session %d is there %d times", i, n)
			}
		}
		for i := range told {
			if n := told[i].Load(); n != 1 {
				b.Errorf("told %d times", n)
			}
		}
		if others != nodes*names {
			b.Errorf("%d other entries, want %d", others, nodes*names)
		}
	})
}

// trouble is a go-redis hook between a Log and Redis.
type trouble struct {
	away   atomic.Bool  // no call reaches Redis
	unsure atomic.Int64 // so many replies are lost, after Redis has acted
}

var errTrouble = errors.New("the network is down")

func (*trouble) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*trouble) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *trouble) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.away.Load() {
			cmd.SetErr(errTrouble)
			return errTrouble
		}
		err := next(ctx, cmd)
		if strings.HasPrefix(cmd.Name(), "eval") && err == nil && h.unsure.Add(-1) >= 0 {
			cmd.SetErr(errTrouble)
			return errTrouble
		}
		return err
	}
}

// troubled returns a separate client for the same Redis, with trouble.
func (b *bench) troubled() (redis.UniversalClient, *trouble) {
	b.Helper()
	client, ok := b.rdb.(*redis.Client)
	if !ok {
		b.Fatalf("unexpected client %T", b.rdb)
	}
	rdb, h := redis.NewClient(&redis.Options{Addr: client.Options().Addr}), &trouble{}
	rdb.AddHook(h)
	b.Cleanup(func() { _ = rdb.Close() })
	return rdb, h
}

// TestLostAnswers has Redis append batches without the node's getting the reply,
// while others append too.
func TestLostAnswers(t *testing.T) {
	each(t, func(b *bench) {
		rdb, h := b.troubled()
		l := b.open("n1", func(c *auditstore.Config) { c.Redis = rdb })
		other := b.open("n2", nil)
		b.run(l)
		for i := range 5 {
			h.unsure.Store(2) // whichever call it is: reading the head or appending the batch
			l.Record(decision(i))
			if err := other.Append(b.ctx, audit.Decision{What: audit.UserAdd}); err != nil {
				b.Fatal(err)
			}
			b.written(2*i + 2)
		}
		l.Record(decision(5))
		b.written(11)
		var got []string
		for _, f := range b.whole() {
			if f["what"] == audit.Login {
				got = append(got, f["detail"])
			}
		}
		if strings.Join(got, " ") != "0 1 2 3 4 5" {
			b.Errorf("got decisions %v, want each once", got)
		}
	})
}

func TestRedisAway(t *testing.T) {
	each(t, func(b *bench) {
		rdb, h := b.troubled()
		var logged bytes.Buffer
		log := zerolog.New(zerolog.SyncWriter(&logged))
		l := b.open("n1", func(c *auditstore.Config) { c.Redis, c.QueueMax, c.Log = rdb, 20, &log })
		h.away.Store(true)
		const decided = 500
		for i := range decided {
			l.Record(decision(i))
			l.RecordOnce(fmt.Sprintf("s%d/failed", i), audit.Decision{What: audit.Ended}, nil)
		}
		stop := b.run(l)
		h.away.Store(false)
		b.eventually("the gap is told", func() bool {
			return len(b.rdb.XRange(b.ctx, b.stream(), "-", "+").Val()) >= 21
		})
		stop()
		all := b.whole()
		if all[0]["what"] != audit.Gap || all[0]["outcome"] != audit.Lost || !strings.HasPrefix(all[0]["detail"], "490 decisions of the last ") ||
			!strings.HasSuffix(all[0]["detail"], ": 490 login ok") {
			b.Errorf("the gap is %v", all[0])
		}
		if len(all) != 21 {
			b.Errorf("%d entries, want the gap and the 20 that were queued", len(all))
		}
		if !strings.Contains(logged.String(), "audit has a gap") || !strings.Contains(logged.String(), "490") {
			b.Errorf("the log says %s", logged.String())
		}
	})
}

func TestRefusalsAreBounded(t *testing.T) {
	each(t, func(b *bench) {
		l := b.open("n1", func(c *auditstore.Config) { c.RefusalRate, c.RefusalBurst = 1e-9, 5 })
		refused := audit.Decision{What: audit.Login, Outcome: audit.Refused}
		for range 100 {
			l.Record(refused)
		}
		for i := range 10 {
			l.Record(decision(i)) // are not delayed by them
		}
		b.run(l)()
		all := b.whole()
		if len(all) != 1+5+10 || all[0]["what"] != audit.Gap || !strings.HasSuffix(all[0]["detail"], ": 95 login refused") {
			b.Errorf("%d entries, the first is %v", len(all), all[0])
		}
	})
}

// While Redis is full refusals are counted, so that they cannot fill it further,
// and all other decisions are written.
func TestRefusalsWhileFull(t *testing.T) {
	each(t, func(b *bench) {
		l := b.open("n1", func(c *auditstore.Config) { c.Full = func() bool { return true } })
		for i := range 3 {
			l.Record(audit.Decision{What: audit.Login, Outcome: audit.Refused})
			l.Record(decision(i))
		}
		b.run(l)()
		all := b.whole()
		if len(all) != 1+3 || all[0]["what"] != audit.Gap || !strings.HasSuffix(all[0]["detail"], ": 3 login refused") {
			b.Errorf("%d entries, the first is %v", len(all), all[0])
		}
	})
}

func TestEndWritesWhatIsQueued(t *testing.T) {
	each(t, func(b *bench) {
		l := b.open("n1", func(c *auditstore.Config) { c.Linger = time.Hour })
		stop := b.run(l)
		for i := range 1000 {
			l.Record(decision(i))
		}
		stop()
		if n := len(b.whole()); n != 1000 {
			b.Errorf("%d entries, want 1000", n)
		}

		rdb, h := b.troubled()
		h.away.Store(true)
		var logged bytes.Buffer
		log := zerolog.New(zerolog.SyncWriter(&logged))
		l = b.open("n1", func(c *auditstore.Config) { c.Redis, c.Log, c.CloseWithin = rdb, &log, 10*time.Millisecond })
		l.Record(decision(1))
		b.run(l)()
		if !strings.Contains(logged.String(), `"lost":1,"message":"audit not written, the node ends without it"`) {
			b.Errorf("the log says %s", logged.String())
		}
	})
}

// TestTamperedInRedis changes the stream as a person with redis-cli can, and checks
// that the nodes go on and that the change is found.
func TestTamperedInRedis(t *testing.T) {
	for _, tc := range []struct {
		name  string
		do    func(b *bench, ids []string)
		found string // by full verification; empty for nothing
		cut   bool   // by the node that has seen more
	}{
		{"an entry removed", func(b *bench, ids []string) { b.rdb.XDel(b.ctx, b.stream(), ids[2]) }, "entry 4 (place 3): entry 3 is missing", false},
		{"a stranger appended", func(b *bench, _ []string) {
			b.rdb.XAdd(b.ctx, &redis.XAddArgs{Stream: b.stream(), Values: []string{"hello", "world"}})
		}, "what stands after entry 5 (place 6): it has no number", false},
		{"strangers appended", func(b *bench, _ []string) {
			for range 50 {
				b.rdb.XAdd(b.ctx, &redis.XAddArgs{Stream: b.stream(), Values: []string{"n", "one", "hash", audit.Genesis}})
			}
		}, "what stands after entry 5 (place 6): it has no number", false},
		{"an entry copied to the end", func(b *bench, ids []string) {
			b.rdb.XAdd(b.ctx, &redis.XAddArgs{Stream: b.stream(), Values: b.rdb.XRange(b.ctx, b.stream(), ids[1], ids[1]).Val()[0].Values})
		}, "entry 2 (place 6): it stands after entry 5", true},
		{"the end cut off", func(b *bench, ids []string) { b.rdb.XDel(b.ctx, b.stream(), ids[3:]...) }, "", true},
		{"the last replaced", func(b *bench, ids []string) {
			b.rdb.XDel(b.ctx, b.stream(), ids[4])
			e := audit.New(decision(99), "n1", time.Now())
			e.Follow(audit.Head{N: 4, Hash: b.all()[3]["hash"]})
			b.rdb.XAdd(b.ctx, &redis.XAddArgs{Stream: b.stream(), Values: e.Pairs()})
		}, "", true},
		{"everything removed", func(b *bench, _ []string) { b.rdb.Del(b.ctx, b.stream()) }, "", true},
		{"a field written twice", func(b *bench, ids []string) {
			last := b.all()[4]
			b.rdb.XDel(b.ctx, b.stream(), ids[4])
			values := []string{"who", "eve"}
			for name, text := range last {
				values = append(values, name, text)
			}
			b.rdb.XAdd(b.ctx, &redis.XAddArgs{Stream: b.stream(), Values: values})
		}, `what stands after entry 4 (place 5): it has the field "who (again)", which no entry has`, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			each(t, func(b *bench) {
				l := b.open("n1", nil)
				stop := b.run(l)
				for i := range 5 {
					l.Record(decision(i))
				}
				b.written(5)
				anchor := b.whole()[4]["hash"]
				var ids []string
				for _, m := range b.rdb.XRange(b.ctx, b.stream(), "-", "+").Val() {
					ids = append(ids, m.ID)
				}
				tc.do(b, ids)
				l.Record(decision(5))
				stop()
				all := b.all()
				last := all[len(all)-1]
				if tc.cut {
					if last["what"] != audit.Cut || !strings.Contains(last["detail"], "entry 5 with hash "+anchor+" is gone") {
						b.Errorf("the node that saw more says %v", last)
					}
					last = all[len(all)-2]
				}
				if last["detail"] != "5" {
					b.Errorf("the last entry is %v: the node does not go on", last)
				}
				err := verify(all, "")
				if tc.found == "" {
					if err != nil {
						b.Errorf("found without an anchor: %v", err)
					}
					if err := verify(all, anchor); !errors.Is(err, audit.ErrAnchor) {
						b.Errorf("with an anchor: got %v, want %v", err, audit.ErrAnchor)
					}
				} else if err == nil || !strings.Contains(err.Error(), tc.found) {
					b.Errorf("got %v, want %q", err, tc.found)
				}
			})
		})
	}
}

// BenchmarkRecord measures a decision's cost to its maker.
func BenchmarkRecord(b *testing.B) {
	l, err := auditstore.New(auditstore.Config{Redis: redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}), NodeID: "n1", QueueMax: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	d := decision(1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.Record(d)
		if i%256 == 255 {
			l.Drop() // a batch, as the writer takes it
		}
	}
}

// BenchmarkAppend measures a batch on a real Redis, from decisions to the reply,
// and the part of it spent in Redis.
func BenchmarkAppend(b *testing.B) {
	rdb := redistest.Real(b)
	for _, size := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l, err := auditstore.New(auditstore.Config{Redis: rdb, NodeID: "n1", Prefix: redistest.Prefix(), Linger: time.Nanosecond})
			if err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			ctx, cancel := context.WithCancel(context.Background())
			go func() { defer close(done); _ = l.Run(ctx) }()
			told := make(chan struct{})
			before := busy(b, rdb)
			for i := 0; b.Loop(); i++ {
				for range size - 1 {
					l.Record(decision(i))
				}
				l.RecordOnce(fmt.Sprint(i), decision(i), func() { told <- struct{}{} })
				<-told
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "µs/entry")
			b.ReportMetric(float64(busy(b, rdb)-before)/float64(b.N*size), "redis-µs/entry")
			cancel()
			<-done
		})
	}
}

// busy returns the µs Redis has spent in scripts.
func busy(b *testing.B, rdb redis.UniversalClient) (all int64) {
	b.Helper()
	info := rdb.InfoMap(context.Background(), "commandstats").Val()["Commandstats"]
	for _, name := range []string{"cmdstat_eval", "cmdstat_evalsha"} {
		var calls, usec int64
		if _, err := fmt.Sscanf(info[name], "calls=%d,usec=%d", &calls, &usec); err == nil {
			all += usec
		}
	}
	return all
}

// A permission is withdrawn in the middle of a write: each entry is there once when
// it is restored, and the audit is whole.
func TestWithdrawnRights(t *testing.T) {
	t.Parallel()
	b := &bench{T: t, ctx: context.Background(), rdb: redistest.StartRedis(t).Client(t), prefix: redistest.Prefix()}
	l := b.open("n1", nil)
	b.run(l)
	for i, command := range []string{"zadd", "xadd"} {
		l.Record(decision(3 * i))
		b.written(3*i + 1)
		refused := func() int64 {
			var n int64
			for line := range strings.Lines(b.rdb.Info(b.ctx, "stats").Val()) {
				if text, ok := strings.CutPrefix(line, "total_error_replies:"); ok {
					_, _ = fmt.Sscan(text, &n)
				}
			}
			return n
		}
		before := refused()
		if err := b.rdb.Do(b.ctx, "acl", "setuser", "default", "-"+command).Err(); err != nil {
			b.Fatal(err)
		}
		l.Record(decision(3*i + 1))
		l.Record(decision(3*i + 2))
		b.eventually("it is refused", func() bool { return refused() > before+1 })
		if err := b.rdb.Do(b.ctx, "acl", "setuser", "default", "+"+command).Err(); err != nil {
			b.Fatal(err)
		}
		b.written(3*i + 3)
	}
	l.Record(decision(6))
	b.written(7)
	for i, f := range b.whole() {
		if want := fmt.Sprint(i); f["detail"] != want {
			b.Errorf("entry %d is %v, want detail %s", i, f, want)
		}
	}
}
