package cluster

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

const notifyWithin = time.Second

// Notify gives text to the Config.Notified of other nodes. It is a hint: what is
// published while a node's subscription is broken, or to one that is gone, is
// lost, and the failure nobody's error.
func (n *Node) Notify(ctx context.Context, text string, nodes ...string) {
	ctx, cancel := context.WithTimeout(ctx, notifyWithin)
	defer cancel()
	_, err := n.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, node := range nodes {
			if n.cfg.Sharded {
				p.SPublish(ctx, n.keys.channel(node), "n "+text)
			} else {
				p.Publish(ctx, n.keys.channel(node), "n "+text)
			}
		}
		return nil
	})
	if err != nil {
		n.log.Debug().Err(err).Msg("notify failed")
	}
}
