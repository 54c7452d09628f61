package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The cluster's clock is Redis's, as far as each node knows it: to within a
// round trip, and anew with each heartbeat. It measures how long messages are
// under way between nodes whose own clocks need not agree, and it tells a node
// that its own clock is wrong: a node judges tokens by its own, and what it finds
// expired another may take.

// MaxClockOffset is how far a node's own clock may be from Redis's. A node that is
// further off is not ready. Tokens are forgiven as much (package auth).
const MaxClockOffset = 10 * time.Second

// ErrClock is returned by Ready when the node's clock is more than MaxClockOffset
// from Redis's; its text says by how much. One of the two is wrong.
var ErrClock = errors.New("cluster: this node's clock and Redis's differ")

// Now returns the time by the cluster's clock. Until Redis has been asked once it
// is this process's.
func (n *Node) Now() time.Time { return time.UnixMicro(n.clockNow()) }

// ClockOffset returns how far this process's clock is ahead of the cluster's,
// negative if it is behind.
func (n *Node) ClockOffset() time.Duration {
	return time.Duration(n.cfg.Clock().UnixMicro()-n.clockNow()) * time.Microsecond
}

// clockError returns an ErrClock if the clock is further off than it may be.
func (n *Node) clockError() error {
	off := n.ClockOffset().Round(time.Millisecond)
	switch {
	case off > MaxClockOffset:
		return fmt.Errorf("%w: it is %s ahead", ErrClock, off)
	case off < -MaxClockOffset:
		return fmt.Errorf("%w: it is %s behind", ErrClock, -off)
	}
	return nil
}

// clockNow returns the time by the cluster's clock, in µs.
func (n *Node) clockNow() int64 { return n.ahead.Load() + time.Since(n.started).Microseconds() }

// ownTime turns a time by the cluster's clock, in µs, into one of this process's.
func (n *Node) ownTime(at int64) time.Time {
	return n.started.Add(time.Duration(at-n.ahead.Load()) * time.Microsecond)
}

// SetClock asks Redis for the time. Without an answer the clock stays as it is.
// Each heartbeat does so; a node that serves before its first one asks first.
// On Redis Cluster all nodes ask the same server.
func (n *Node) SetClock(ctx context.Context) error {
	begun := time.Since(n.started)
	now, err := n.clock(ctx, n.keys.nodes())
	if err != nil {
		return err
	}
	middle := (begun + time.Since(n.started)) / 2
	n.ahead.Store(now.UnixMicro() - middle.Microseconds())
	return nil
}

// watchClock sets the clock, and says when it begins to be wrong and when no longer.
// The heartbeat's goroutine calls it; wrong is what it returned before.
func (n *Node) watchClock(ctx context.Context, wrong bool) bool {
	if err := n.SetClock(ctx); err != nil {
		return wrong
	}
	err := n.clockError()
	switch {
	case err != nil && !wrong:
		n.log.Error().Err(err).Dur("offset", n.ClockOffset()).Msg("clock wrong: not ready until it is set")
	case err == nil && wrong:
		n.log.Info().Dur("offset", n.ClockOffset()).Msg("clock right again")
	}
	return err != nil
}
