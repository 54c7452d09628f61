package cluster

import (
	"context"
	"time"
)

// Observer is told what passes, to count it. Its methods do not block, and are
// called by any number of goroutines.
type Observer interface {
	// Appended is called after messages were appended to a mailbox, with how many
	// it holds then.
	Appended(depth int)
	// Refused is called when a mailbox did not take all that was sent to it, with
	// why: ErrMailboxFull, ErrShareUsed or ErrGroupFull.
	Refused(why error)
	// Drained is called when entries of a mailbox were read because its socket was
	// behind, with how many.
	Drained(entries int)
}

// unobserved is the Observer of who wants none.
type unobserved struct{}

func (unobserved) Appended(int)  {}
func (unobserved) Refused(error) {}
func (unobserved) Drained(int)   {}

// The cluster's clock is Redis's, as far as each node knows it: to within a
// round trip, and anew with each heartbeat. It only measures how long messages
// are under way between nodes whose own clocks need not agree; nothing hangs on
// it.

// clockNow returns the time by the cluster's clock, in µs.
func (n *Node) clockNow() int64 { return n.ahead.Load() + time.Since(n.started).Microseconds() }

// ownTime turns a time by the cluster's clock, in µs, into one of this process's.
func (n *Node) ownTime(at int64) time.Time {
	return n.started.Add(time.Duration(at-n.ahead.Load()) * time.Microsecond)
}

// setClock asks Redis for the time. Without an answer the clock stays as it is.
func (n *Node) setClock(ctx context.Context) {
	begun := time.Since(n.started)
	now, err := n.rdb.Time(ctx).Result()
	if err != nil {
		return
	}
	middle := (begun + time.Since(n.started)) / 2
	n.ahead.Store(now.UnixMicro() - middle.Microseconds())
}

// late is the first of the messages that came by pub/sub and could not be
// offered at once: the pump offers it when the socket has room, and knows by
// this when it was sent. The zero value is none.
type late struct {
	seq  uint64
	sent time.Time
}
