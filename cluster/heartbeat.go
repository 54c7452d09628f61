package cluster

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// timeFormat is RFC 3339 in UTC with milliseconds, as for every time in Redis.
const timeFormat = "2006-01-02T15:04:05.000Z"

// NodeInfo is a node's record.
type NodeInfo struct {
	ID          string
	Address     string
	Version     string
	StartedAt   time.Time
	Seen        time.Time // its last heartbeat, by its own clock
	Connections int
	Draining    bool
}

// SetDraining sets in the node's record whether it takes new connections, and
// writes the record at once. This package does not act on it.
func (n *Node) SetDraining(draining bool) {
	n.draining.Store(draining)
	select {
	case n.beatNow <- struct{}{}:
	default:
	}
}

// Nodes returns the live nodes, by id.
func (n *Node) Nodes(ctx context.Context) ([]NodeInfo, error) {
	ids, err := n.rdb.ZRangeWithScores(ctx, n.keys.nodes(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	pipe := n.rdb.Pipeline()
	records := make([]*redis.MapStringStringCmd, len(ids))
	for i, z := range ids {
		id, _ := z.Member.(string)
		records[i] = pipe.HGetAll(ctx, n.keys.node(id))
	}
	if err := redisx.Exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	var nodes []NodeInfo
	for i, z := range ids {
		record := records[i].Val()
		if len(record) == 0 {
			continue // its lease has ended
		}
		info := NodeInfo{Address: record["address"], Version: record["version"], Draining: record["draining"] == "true"}
		info.ID, _ = z.Member.(string)
		info.StartedAt, _ = time.Parse(timeFormat, record["started_at"])
		info.Seen = time.UnixMilli(int64(z.Score)).UTC()
		info.Connections, _ = strconv.Atoi(record["connections"])
		nodes = append(nodes, info)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].ID < nodes[j].ID })
	return nodes, nil
}

// heartbeats renews the node's record until ctx ends.
func (n *Node) heartbeats(ctx context.Context) {
	tick := time.NewTicker(n.cfg.HeartbeatEvery)
	defer tick.Stop()
	failing, wrong := false, false
	for turn := 0; ; turn++ {
		begun := time.Since(n.started)
		err := n.beat(ctx)
		if taken := errors.Is(err, ErrIDTaken); n.taken.Swap(taken) != taken && taken {
			n.log.Error().Msg("another process has started with this node's id: this one is out")
		}
		switch {
		case err == nil:
			if turn%compareEvery == 0 || !n.compared.Load() {
				n.compare(ctx)
			}
			n.noteContact(begun)
			n.lastBeat.Store(int64(begun))
			n.registered.Store(true)
			if failing {
				n.log.Info().Msg("heartbeat back")
			}
			wrong = n.watchClock(ctx, wrong)
			n.tellSelf(ctx)
			n.leaveDangling(ctx)
		case ctx.Err() == nil && !failing:
			n.log.Warn().Err(err).Msg("heartbeat failed")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-n.beatNow:
		}
	}
}

// noteContact records a successful heartbeat, before lastBeat is set: the first
// after a failed one begins a new contact with Redis.
func (n *Node) noteContact(begun time.Duration) {
	if n.registered.Load() && begun-time.Duration(n.lastBeat.Load()) > 2*n.cfg.HeartbeatEvery {
		n.contact.Store(int64(time.Since(n.started)))
	}
}

// Contact returns since when, by the cluster's clock, this node's heartbeats have
// reached Redis without a break; the zero time if none has since it started, and
// now while they fail. Where Redis itself was unreachable, other nodes may have
// been cut off as well: that a member of theirs is not Present says nothing about
// the time before.
func (n *Node) Contact() time.Time {
	if n.registered.Load() && n.since(&n.lastBeat) > 2*n.cfg.HeartbeatEvery {
		return n.Now()
	}
	at := n.contact.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n.ahead.Load() + at/int64(time.Microsecond))
}

// beat writes the record and its lease in one step, lists this node as live, and
// removes nodes whose lease has ended. Other nodes rely on the record: only its
// error is returned.
func (n *Node) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HeartbeatEvery)
	defer cancel()
	n.mu.Lock()
	connections := len(n.conns)
	n.mu.Unlock()
	key := n.keys.node(n.cfg.NodeID)
	ours, err := beatScript.Run(ctx, n.rdb, []string{key}, n.cfg.LeaseTTL.Milliseconds(), n.startedAt(),
		"address", n.cfg.Address,
		"version", n.cfg.Version,
		"protocol", n.cfg.protocol,
		"agree", n.cfg.agreement(),
		"connections", connections,
		"draining", strconv.FormatBool(n.draining.Load())).Bool()
	if err == nil && !ours {
		err = ErrIDTaken
	}
	if err != nil {
		return fmt.Errorf("renew node record: %w", err)
	}
	now := time.Now()
	if err := enlistScript.Run(ctx, n.rdb, []string{n.keys.nodes()}, n.cfg.NodeID, now.UnixMilli()).Err(); err != nil {
		n.log.Warn().Err(err).Msg("not put on the list of nodes")
	}
	if err := n.prune(ctx, now.Add(-n.cfg.LeaseTTL)); err != nil {
		n.log.Warn().Err(err).Msg("prune failed")
	}
	return nil
}

// prune removes from the list of nodes those without a heartbeat since before and
// without a record. A node removed by mistake, because it returned meanwhile, adds
// itself again at its next heartbeat.
func (n *Node) prune(ctx context.Context, before time.Time) error {
	stale, err := n.rdb.ZRangeByScore(ctx, n.keys.nodes(), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(before.UnixMilli(), 10), Count: 100,
	}).Result()
	if err != nil {
		return err
	}
	for _, id := range stale {
		alive, err := n.rdb.Exists(ctx, n.keys.node(id)).Result()
		if err != nil {
			return err
		}
		if alive != 0 {
			continue
		}
		if err := n.rdb.ZRem(ctx, n.keys.nodes(), id).Err(); err != nil {
			return err
		}
		n.log.Info().Str("to_node", id).Msg("node gone")
	}
	return nil
}

// watchLease signals Lost when the lease has run out. It has its own goroutine
// because a heartbeat may hang with Redis.
func (n *Node) watchLease(ctx context.Context) {
	tick := time.NewTicker(n.cfg.HeartbeatEvery / 2)
	defer tick.Stop()
	lost := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		out := n.since(&n.lastBeat) > n.cfg.LeaseTTL
		if out && !lost {
			n.log.Error().Dur("dur", n.since(&n.lastBeat)).Msg("lease lost")
			select {
			case n.lost <- struct{}{}:
			default:
			}
		}
		lost = out
	}
}

// retire removes the node's record, unless another process has taken its id.
func (n *Node) retire(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.HeartbeatEvery)
	defer cancel()
	n.leaveDangling(ctx)
	removed, err := retireScript.Run(ctx, n.rdb, []string{n.keys.node(n.cfg.NodeID)}, n.startedAt()).Int()
	if err == nil && removed == 1 {
		err = n.rdb.ZRem(ctx, n.keys.nodes(), n.cfg.NodeID).Err()
	}
	if err != nil {
		n.log.Warn().Err(err).Msg("retire failed") // the lease expires
	}
}

// startedAt distinguishes this process from others with the same id.
func (n *Node) startedAt() string { return n.started.UTC().Format(timeFormat) }

// stamp returns the time for a presence: never before startedAt, even if the
// clock was set back meanwhile.
func (n *Node) stamp() string { return n.started.Add(time.Since(n.started)).UTC().Format(timeFormat) }
