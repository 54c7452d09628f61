// Package audit keeps the audit on Redis: it numbers and chains the decisions of
// the nodes (package session/audit defines an entry) and appends them to one
// stream, in one chain over all nodes.
//
// Start here: [New] makes a node's [Log], Log.Run writes what Log.Record queues.
//
//	log, err := auditstore.New(auditstore.Config{Redis: rdb, NodeID: "n1"})
//	go log.Run(ctx)
//	log.Record(audit.Decision{Who: "alice", What: audit.Login, Outcome: audit.OK})
//
// # How it is written
//
// Redis cannot compute SHA-256 in a script, so the nodes chain: a node chains its
// entries to the last one that it knows, and a script appends them if that is still
// the last. If another node was first, the script returns the current last entry
// and the node tries again. Entries are written in batches, so that a node normally
// writes at most 25 times a second and seldom races another; and by one goroutine,
// so that no decision waits for the audit.
//
// The script remembers each batch's name: a node that did not receive the reply
// sends the batch again and the script recognises it. Decisions that may be
// recorded only once ([Log.RecordOnce]) work in the same way.
//
// # Possible gaps
//
// Decisions wait in a queue for the next batch. While Redis is down they wait
// longer; once the queue is full, further ones are only counted, and so are
// refusals beyond a rate, or while Redis is full, since anyone can cause these and
// the audit is kept for ever. All other decisions are written even to a full Redis.
// As soon as it can, the node then writes an entry "gap" with the counts. A killed
// node loses its unwritten entries, those of the last ten milliseconds while Redis
// answers, or forty under load; its next node_start follows no node_stop. Entries
// that are requested until written, such as package session's for the end of each
// session, are not lost then either.
//
// Redis itself may lose its newest writes
// (deploy/docs/OPERATIONS.md#what-redis-may-lose), and a person who controls it can
// remove the last entries. A node that had seen them reports it in an entry "cut".
//
// # Keys
//
// Both begin with the configured prefix, and are kept for ever.
//
//	audit                      stream  the entries; the ids are Redis's, and say when an entry was written
//	audited:{<prefix>audit}    zset    names of batches and of entries recorded once, by ms; the newest 100000
//
// The head of the chain is the last entry itself, so it cannot be changed or
// forgotten separately. The hash tag of the second key is the whole name of the
// first, which has none, so that Redis Cluster keeps both in one slot while the
// stream has the name that operators look for.
//
// Nothing here removes an entry. To make Redis hold less, export the entries,
// verify the export, note its head, and trim the stream (XTRIM) up to an entry that
// is not the last: the chain continues after it, and verification from the noted
// head.
//
// # Goroutines and locks
//
// [Log.Run] is the writer. Nothing else is started. Log.mu guards the queue and is
// not held during I/O or a callback.
package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/conclave-mpc/conclave/session/audit"
)

// Config configures a Log. Redis and NodeID are required.
type Config struct {
	Redis  redis.UniversalClient
	Prefix string // of every key; zero value means "conclave:"
	NodeID string // the author of entries
	Log    *zerolog.Logger

	// QueueMax is the maximum queue length. Zero value means 8192.
	QueueMax int
	// Linger is how long a batch's first decision waits for others; right after a
	// batch it is four times as long. Zero value means 10 ms.
	Linger time.Duration
	// GapEvery is the shortest interval between gap entries. Zero value means 10 s.
	GapEvery time.Duration
	// RefusalRate is the sustained number of refusals written a second,
	// RefusalBurst the burst. Zero values mean 10 and 500.
	RefusalRate  float64
	RefusalBurst int
	// Full reports whether Redis is short of memory: refusals, which anyone can
	// cause, are then counted and not written. Nil means never.
	Full func() bool
	// CloseWithin is the time Run has to write the queue after its context has
	// ended. Zero value means 3 s.
	CloseWithin time.Duration
}

const (
	batchMax    = 256 // entries
	restLingers = 4   // pause after a partial batch, so that nodes seldom race
	retryFirst  = 50 * time.Millisecond
	retryMost   = 2 * time.Second
	keepAudited = 100_000
)

// Log writes the audit. It is safe for concurrent use.
type Log struct {
	cfg      Config
	log      zerolog.Logger
	refusals *rate.Limiter
	run      string // prefix of this Log's batch names
	wake     chan struct{}

	mu        sync.Mutex
	queue     []item
	pending   map[string]func() // queued entries that may be recorded only once, with their callbacks
	lost      map[string]int    // decisions not queued, by kind, since the last gap entry
	lostSince time.Time
}

// item is a queued decision.
type item struct {
	audit.Decision
	at   time.Time // on this machine's clock
	once string
}

// New returns a Log. It does no I/O and starts nothing; see [Log.Run].
func New(cfg Config) (*Log, error) {
	if cfg.Redis == nil || cfg.NodeID == "" {
		return nil, errors.New("audit: a Redis client and the node's id are required")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "conclave:"
	}
	if strings.ContainsAny(cfg.Prefix, "{}") {
		return nil, errors.New("audit: the prefix has braces")
	}
	for _, d := range []struct {
		field  *time.Duration
		preset time.Duration
	}{{&cfg.Linger, 10 * time.Millisecond}, {&cfg.GapEvery, 10 * time.Second}, {&cfg.CloseWithin, 3 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.preset
		}
	}
	if cfg.Full == nil {
		cfg.Full = func() bool { return false }
	}
	if cfg.QueueMax <= 0 {
		cfg.QueueMax = 8192
	}
	if cfg.RefusalRate <= 0 {
		cfg.RefusalRate = 10
	}
	if cfg.RefusalBurst <= 0 {
		cfg.RefusalBurst = 500
	}
	l := &Log{
		cfg: cfg, log: zerolog.Nop(), refusals: rate.NewLimiter(rate.Limit(cfg.RefusalRate), cfg.RefusalBurst),
		run: cfg.NodeID + "/" + rand.Text(), wake: make(chan struct{}, 1),
		pending: map[string]func(){}, lost: map[string]int{},
	}
	if cfg.Log != nil {
		l.log = *cfg.Log
	}
	return l, nil
}

// Record queues a decision and returns at once.
func (l *Log) Record(d audit.Decision) {
	now := time.Now()
	refusal := d.Outcome == audit.Refused || d.Outcome == audit.Throttled
	l.mu.Lock()
	switch {
	case refusal && (!l.refusals.AllowN(now, 1) || l.cfg.Full()), len(l.queue) >= l.cfg.QueueMax:
		l.lose(d, now)
	default:
		l.queue = append(l.queue, item{Decision: d, at: now})
	}
	l.mu.Unlock()
	l.nudge()
}

// RecordOnce queues a decision that must be in the audit once, however often and on
// however many nodes it is recorded under that name, and calls then, if not nil,
// once it is there. Best effort: it is lost if the queue is full or the process
// ends, so call it again until then was called. Then must not block.
func (l *Log) RecordOnce(name string, d audit.Decision, then func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, queued := l.pending[name]; queued {
		if old == nil {
			l.pending[name] = then
		}
		return
	}
	if len(l.queue) >= l.cfg.QueueMax {
		return
	}
	l.pending[name] = then
	l.queue = append(l.queue, item{Decision: d, at: time.Now(), once: name})
	l.nudge()
}

func (l *Log) nudge() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lose counts a decision that was not queued. l.mu is held.
func (l *Log) lose(d audit.Decision, now time.Time) {
	if len(l.lost) == 0 {
		l.lostSince = now
	}
	l.lost[strings.TrimSpace(d.What+" "+d.Outcome)]++
}

// Run writes recorded decisions until ctx ends, then the rest of the queue, and
// returns. Call it once.
func (l *Log) Run(ctx context.Context) error {
	w := writer{log: l}
	tick := time.NewTicker(l.cfg.GapEvery)
	defer tick.Stop()
	var b batch
	var gap time.Time // when the last gap entry was made
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.wake:
			pause(ctx, l.cfg.Linger)
		case <-tick.C:
		}
		for ctx.Err() == nil {
			b = l.take(time.Since(gap) >= l.cfg.GapEvery)
			if b.gap {
				gap = time.Now()
			}
			if len(b.items) == 0 {
				break
			}
			full := len(b.items) >= batchMax
			if l.write(ctx, &w, &b) == nil {
				b = batch{}
			}
			if !full {
				pause(ctx, restLingers*l.cfg.Linger)
			}
		}
	}
	l.finish(ctx, &w, b)
	return nil
}

// finish writes the rest, beginning with b, in a bounded time.
func (l *Log) finish(ctx context.Context, w *writer, b batch) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.CloseWithin)
	defer cancel()
	for {
		if len(b.items) == 0 {
			b = l.take(true)
		}
		if len(b.items) == 0 {
			return
		}
		if err := l.write(ctx, w, &b); err != nil {
			l.mu.Lock()
			left := len(b.items) + len(l.queue)
			l.mu.Unlock()
			l.log.Error().Err(err).Int("lost", left).Msg("audit not written, the node ends without it")
			return
		}
		b = batch{}
	}
}

// take takes a batch from the queue, preceded, if withGap, by an entry on the
// losses so far.
func (l *Log) take(withGap bool) batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := batch{name: l.run + "/" + rand.Text()}
	if withGap && len(l.lost) > 0 {
		now := time.Now()
		b.gap = true
		b.items = append(b.items, item{Decision: l.gapEntry(now), at: now})
		clear(l.lost)
	}
	n := min(len(l.queue), batchMax)
	b.items = append(b.items, l.queue[:n]...)
	l.queue = slices.Delete(l.queue, 0, n)
	return b
}

// gapEntry reports the losses. l.mu is held.
func (l *Log) gapEntry(now time.Time) audit.Decision {
	total := 0
	var kinds []string
	for _, kind := range slices.SortedFunc(maps.Keys(l.lost), func(a, b string) int { return l.lost[b] - l.lost[a] }) {
		total += l.lost[kind]
		kinds = append(kinds, fmt.Sprintf("%d %s", l.lost[kind], kind))
	}
	detail := fmt.Sprintf("%d decisions of the last %s are not here: %s", total, now.Sub(l.lostSince).Round(time.Millisecond), strings.Join(kinds, ", "))
	l.log.Error().Str("lost", detail).Msg("audit has a gap")
	return audit.Decision{What: audit.Gap, Outcome: audit.Lost, Detail: detail}
}

// noteCut records that the last entry this node saw is gone: Redis lost it in a
// failover, or a person removed it.
func (l *Log) noteCut(seen, last audit.Head) {
	detail := fmt.Sprintf("entry %d with hash %s is gone, entry %d was the last then", seen.N, seen.Hash, last.N)
	l.log.Error().Str("lost", detail).Msg("audit was cut off")
	l.Record(audit.Decision{What: audit.Cut, Outcome: audit.Lost, Detail: detail})
}

// write appends a batch, retrying until ctx ends.
func (l *Log) write(ctx context.Context, w *writer, b *batch) error {
	wait := retryFirst
	for {
		err := w.append(ctx, b)
		if err == nil || ctx.Err() != nil {
			return err
		}
		l.log.Warn().Err(err).Int("entries", len(b.items)).Msg("audit not written, will be tried again")
		pause(ctx, wait)
		wait = min(2*wait, retryMost)
	}
}

// written calls the callbacks of entries now in the audit.
func (l *Log) written(items []item) {
	var calls []func()
	l.mu.Lock()
	for _, i := range items {
		if i.once == "" {
			continue
		}
		if then := l.pending[i.once]; then != nil {
			calls = append(calls, then)
		}
		delete(l.pending, i.once)
	}
	l.mu.Unlock()
	for _, then := range calls {
		then()
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Append writes decisions at once, for programs that run no Log.
func (l *Log) Append(ctx context.Context, decisions ...audit.Decision) error {
	b := batch{name: l.run + "/" + rand.Text()}
	for _, d := range decisions {
		b.items = append(b.items, item{Decision: d, at: time.Now()})
	}
	w := writer{log: l}
	return w.append(ctx, &b)
}
