package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The cluster's clock is Redis's, as each node knows it: to within a round trip,
// refreshed with each heartbeat. It measures how long messages travel between nodes
// whose own clocks need not agree, and detects a node's wrong clock: a node checks
// tokens by its own, so one may reject as expired what another accepts.

// MaxClockOffset is how far a node's own clock may be from Redis's. A node that is
// further off is not ready. Token checks have the same leeway (package auth).
const MaxClockOffset = 10 * time.Second

// ErrClock is returned by Ready when the node's clock is more than MaxClockOffset
// from Redis's; its text gives the offset. One of the two is wrong.
var ErrClock = errors.New("cluster: this node's clock and Redis's differ")

// Now returns the time by the cluster's clock. Before Redis has first answered it
// is this process's.
func (n *Node) Now() time.Time { return time.UnixMicro(n.clockNow()) }

// ClockOffset returns how far this process's clock is ahead of the cluster's;
// negative if it is behind.
func (n *Node) ClockOffset() time.Duration {
	return time.Duration(n.cfg.Clock().UnixMicro()-n.clockNow()) * time.Microsecond
}

// clockError returns an ErrClock if the offset exceeds MaxClockOffset.
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

// ownTime converts a time by the cluster's clock, in µs, to this process's clock.
func (n *Node) ownTime(at int64) time.Time {
	return n.started.Add(time.Duration(at-n.ahead.Load()) * time.Microsecond)
}

// SetClock asks Redis for the time. Without an answer the clock is unchanged. Each
// heartbeat calls it; a node that serves before its first heartbeat calls it first.
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

// watchClock sets the clock, and logs when it begins and ceases to be wrong. The
// heartbeat's goroutine calls it; wrong is its previous result.
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
