package audit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session/audit"
)

//go:embed append.lua
var appendSource string

var appendScript = redisx.NewScript(appendSource)

// First result of append.lua.
const (
	overtaken    = 0
	appended     = 1
	appendedOnce = 2 // by an earlier call with this batch
	someThere    = 3
	noEntries    = 4
)

const (
	entryArgs    = 24                    // script arguments per entry, approximately
	scriptWithin = 5 * time.Second       // one call
	yieldAfter   = 3                     // lost races in a row before backing off
	yieldMost    = 20 * time.Millisecond // maximum back-off
)

// errNoEntries means that the stream has so many foreign entries that its last
// audit entry is not found.
var errNoEntries = errors.New("the last hundred of the stream are no entries of the audit; remove them (XDEL)")

// streamKey is a stream, the audit: one entry's fields each, under Redis's ids.
// TTL: none. Written here; read here and by operators.
func (l *Log) streamKey() string { return l.cfg.Prefix + "audit" }

// auditedKey is a sorted set: names of batches, and of entries recorded once, by ms.
// TTL: none, trimmed to the newest. Written and read by the append script alone.
func (l *Log) auditedKey() string { return l.cfg.Prefix + "audited:{" + l.streamKey() + "}" }

// batch is the content of one append.
type batch struct {
	name    string // the same for every try
	gap     bool   // its first item is a gap entry
	items   []item
	entries []audit.Entry // made from the items once Redis's clock is known
}

// writer appends batches to the stream. Not safe for concurrent use.
type writer struct {
	log *Log

	head      audit.Head // the last known entry
	known     bool
	contended bool      // others write too: read the last entry first
	redis     time.Time // Redis's clock when local was ours
	local     time.Time
}

// append appends b, despite concurrent writers. After an error it may or may not
// have been appended, and may be retried.
func (w *writer) append(ctx context.Context, b *batch) error {
	if !w.known || w.contended {
		was := w.head
		if _, _, err := w.call(ctx, &batch{}); err != nil {
			return err
		}
		w.contended = w.contended && w.head != was
	}
	if b.entries == nil {
		for _, i := range b.items {
			b.entries = append(b.entries, audit.New(i.Decision, w.log.cfg.NodeID, w.timeOf(i)))
		}
	}
	for lost := 1; len(b.items) > 0; lost++ {
		status, there, err := w.call(ctx, b)
		if err != nil {
			return err
		}
		switch status {
		case appended, appendedOnce:
			w.log.written(b.items)
			return nil
		case someThere:
			w.drop(b, there)
		case overtaken:
			w.contended = true
			if lost >= yieldAfter {
				pause(ctx, rand.N(min(time.Duration(lost)*time.Millisecond, yieldMost)))
			}
		}
	}
	return nil
}

// timeOf returns when an item was decided, by Redis's clock.
func (w *writer) timeOf(i item) time.Time {
	if !i.Time.IsZero() {
		return i.Time
	}
	return w.redis.Add(i.at.Sub(w.local))
}

// drop removes from b the items already in the audit.
func (w *writer) drop(b *batch, places []int) {
	var there, rest []item
	var entries []audit.Entry
	for i := range b.items {
		if slices.Contains(places, i+1) {
			there = append(there, b.items[i])
			continue
		}
		rest, entries = append(rest, b.items[i]), append(entries, b.entries[i])
	}
	b.items, b.entries = rest, entries
	w.log.written(there)
}

// call runs the script with b, after the last known entry, and records the new last
// one. A batch without a name only reads it.
func (w *writer) call(ctx context.Context, b *batch) (status int, there []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, scriptWithin)
	defer cancel()
	begun, seen := time.Now(), w.head
	args := append(make([]any, 0, 3+len(b.entries)*entryArgs), w.head.Hash, b.name, keepAudited)
	head := w.head
	for i := range b.entries {
		head = b.entries[i].Follow(head)
		pairs := b.entries[i].Pairs()
		args = append(args, b.items[i].once, len(pairs))
		for _, p := range pairs {
			args = append(args, p)
		}
	}
	w.known = false // until Redis replies
	reply, err := appendScript.Run(ctx, w.log.cfg.Redis, []string{w.log.streamKey(), w.log.auditedKey()}, args...).Slice()
	if err != nil {
		return 0, nil, fmt.Errorf("append to the audit: %w", err)
	}
	numbers, last, err := parseReply(reply)
	if err != nil {
		return 0, nil, fmt.Errorf("append to the audit: %w", err)
	}
	status, there = int(numbers[0]), nil
	if status == noEntries {
		return status, nil, errNoEntries
	}
	if last.N < seen.N || last.N == seen.N && seen.Hash != "" && last.Hash != seen.Hash {
		w.log.noteCut(seen, last)
	}
	w.head, w.known = last, true
	w.redis, w.local = time.UnixMicro(numbers[2]*1e6+numbers[3]), begun.Add(time.Since(begun)/2)
	switch status {
	case appended:
		w.head = head
	case someThere:
		for _, place := range numbers[4:] {
			there = append(there, int(place))
		}
	}
	return status, there, nil
}

// parseReply parses the script's reply: its numbers, of which the second is n, and
// the last entry.
func parseReply(reply []any) (numbers []int64, last audit.Head, err error) {
	if len(reply) < 5 {
		return nil, last, errors.New("unexpected reply")
	}
	last.Hash, _ = reply[2].(string)
	for i, r := range reply {
		if i == 2 {
			continue
		}
		n, err := strconv.ParseInt(fmt.Sprint(r), 10, 64)
		if err != nil {
			return nil, last, fmt.Errorf("unexpected reply: %w", err)
		}
		numbers = append(numbers, n)
	}
	last.N = uint64(numbers[1])
	return numbers, last, nil
}
