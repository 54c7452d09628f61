package cluster

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pauses between attempts to subscribe, doubling from the first to the most.
const (
	subscribePauseFirst = 20 * time.Millisecond
	subscribePauseMost  = time.Second
)

// subscribe keeps one subscription to the node's channel until ctx ends.
func (n *Node) subscribe(ctx context.Context) {
	pause := subscribePauseFirst
	for ctx.Err() == nil {
		confirmed, err := n.listen(ctx)
		n.subscribed.Store(false)
		if confirmed {
			pause = subscribePauseFirst
		}
		if ctx.Err() != nil {
			return
		}
		n.log.Warn().Err(err).Dur("dur", pause).Msg("subscription lost")
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, subscribePauseMost)
	}
}

// listen subscribes and handles what comes until the subscription breaks. It
// says whether the subscription was ever confirmed.
func (n *Node) listen(ctx context.Context) (confirmed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	subscribe := n.rdb.Subscribe
	if n.cfg.Sharded {
		subscribe = n.rdb.SSubscribe
	}
	sub := subscribe(ctx, n.keys.channel(n.cfg.NodeID))
	// Receive waits without a deadline (a timeout in the middle of a message
	// would cut it), so closing is what ends it: the prober does it.
	n.mark(&n.heard)
	n.echo.reset() // or the prober would take this subscription for the deaf one before it
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		n.probe(ctx, sub)
		_ = sub.Close()
	}()
	defer func() {
		cancel()
		<-probed
	}()
	for {
		msg, err := sub.Receive(ctx)
		if err != nil {
			return confirmed, err
		}
		n.mark(&n.heard)
		switch msg := msg.(type) {
		case *redis.Subscription:
			if strings.HasSuffix(msg.Kind, "unsubscribe") {
				return confirmed, errors.New("redis ended the subscription") // its slot has moved
			}
			// go-redis may also have reconnected by itself. Either way messages
			// may have been missed.
			confirmed = true
			n.echo.reset()
			n.subscribed.Store(true)
			n.wakeAll()
		case *redis.Message:
			n.receive(msg.Payload)
		}
	}
}

// probe pings a silent subscription, and returns when it stays silent or ctx
// ends.
func (n *Node) probe(ctx context.Context, sub *redis.PubSub) {
	for {
		idle := n.since(&n.heard)
		if idle > 3*n.cfg.ProbeEvery {
			return
		}
		if n.echo.deaf() {
			n.log.Warn().Msg("subscription hears nothing")
			return
		}
		if idle >= n.cfg.ProbeEvery {
			if err := sub.Ping(ctx); err != nil {
				return
			}
		}
		if !sleep(ctx, n.cfg.ProbeEvery/2) {
			return
		}
	}
}

// wakeAll lets every member look into its mailbox.
func (n *Node) wakeAll() {
	n.mu.Lock()
	all := n.membersLocked()
	n.mu.Unlock()
	for _, m := range all {
		m.wake()
	}
}

// receive handles one publication: "m <conn> <seq> <sent> <payload>", a
// message; "s <conn>", that connection is superseded; "w <conn>", it is to look
// into its mailbox; "n <text>", a notice; "e <n>", what the node told itself. It
// never blocks.
func (n *Node) receive(text string) {
	kind, rest, _ := strings.Cut(text, " ")
	switch kind {
	case "m":
		conn, rest, _ := strings.Cut(rest, " ")
		number, rest, _ := strings.Cut(rest, " ")
		at, payload, ok := strings.Cut(rest, " ")
		seq, err1 := strconv.ParseUint(number, 10, 64)
		sent, err2 := strconv.ParseInt(at, 10, 64)
		if !ok || err1 != nil || err2 != nil {
			break
		}
		if m := n.find(conn); m != nil {
			m.live(seq, n.ownTime(sent), payload)
		}
		return
	case "w":
		if m := n.find(rest); m != nil {
			m.wake()
		}
		return
	case "s":
		if m := n.find(rest); m != nil {
			m.supersede()
		}
		return
	case "e":
		if n.echo.hear(rest) {
			return
		}
	case "n":
		if n.cfg.Notified != nil {
			n.cfg.Notified(rest)
		}
		return
	}
	n.log.Error().Int("bytes", len(text)).Msg("publication not understood")
}

// sleep waits and reports whether ctx still runs.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
