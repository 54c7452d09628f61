package cluster

import (
	"context"
	"strconv"
	"sync/atomic"
)

// A subscription may be alive, answer pings, and receive nothing: its server is a
// demoted master that replicates nothing, or its slot's old owner. So with each
// heartbeat the node publishes an echo to itself, on the channel that others use,
// and subscribes anew when three in a row have not arrived.
type echo struct {
	sent, heard atomic.Uint64 // numbers of the newest echoes
}

// deafAfter is how many echoes may be in transit.
const deafAfter = 3

// deaf reports whether the subscription has missed the node's echoes.
func (e *echo) deaf() bool { return e.sent.Load() >= e.heard.Load()+deafAfter }

// reset marks the start of a subscription: earlier echoes are not for it.
func (e *echo) reset() { e.heard.Store(e.sent.Load()) }

// hear records a received echo.
func (e *echo) hear(text string) bool {
	number, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		raiseTo(&e.heard, min(number, e.sent.Load()))
	}
	return err == nil
}

// tellSelf publishes the next echo. A publish failure says nothing about the
// subscription.
func (n *Node) tellSelf(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HeartbeatEvery)
	defer cancel()
	if !n.subscribed.Load() {
		return
	}
	publish := n.rdb.Publish
	if n.cfg.Sharded {
		publish = n.rdb.SPublish
	}
	next := n.echo.sent.Load() + 1
	n.echo.sent.Store(next) // first: it may arrive before the reply
	err := publish(ctx, n.keys.channel(n.cfg.NodeID), "e "+strconv.FormatUint(next, 10)).Err()
	if err != nil {
		n.echo.sent.Store(next - 1)
		if ctx.Err() == nil {
			n.setMute(err.Error())
		}
		return
	}
	if n.mute.CompareAndSwap(true, false) {
		n.log.Info().Msg("redis publishes again")
	}
}
