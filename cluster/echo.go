package cluster

import (
	"context"
	"strconv"
	"sync/atomic"
)

// A subscription may be alive, answer pings, and hear nothing: its server is a
// demoted master that follows nobody, or its slot's old owner. So with each
// heartbeat the node tells itself something, by the way that others would use, and
// subscribes anew when three such words in turn have not come back.
type echo struct {
	sent, heard atomic.Uint64 // numbers of the newest words
}

// deafAfter is how many words may be on their way.
const deafAfter = 3

// deaf reports whether the subscription has missed what the node told itself.
func (e *echo) deaf() bool { return e.sent.Load() >= e.heard.Load()+deafAfter }

// reset says that a subscription has begun: what was said before is not for it.
func (e *echo) reset() { e.heard.Store(e.sent.Load()) }

// hear takes a word back.
func (e *echo) hear(text string) bool {
	number, err := strconv.ParseUint(text, 10, 64)
	if err == nil {
		raiseTo(&e.heard, min(number, e.sent.Load()))
	}
	return err == nil
}

// tellSelf sends the next word. What cannot be published says nothing about the
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
	n.echo.sent.Store(next) // first: it may be back before the reply
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
