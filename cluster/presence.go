package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// maxSeq bounds the sequence numbers that Join accepts: far above what a mailbox
// gives in a century, far below what JSON and Lua hold exactly.
const maxSeq = 1 << 52

// cleanupTimeout bounds the cleanup after a failure, when the caller's context may
// have ended.
const cleanupTimeout = 2 * time.Second

// joinWithin is the timeout of Join. Redis refuses a later join, so that a
// connection that its client has given up cannot replace the client's next one:
// this node may be stopped or cut off from Redis in between. Clients should wait
// longer for an answer.
const joinWithin = 2 * time.Second

// joinedTTL is how long a member's last join is remembered.
const joinedTTL = 366 * 24 * time.Hour

const (
	maxJoins  = 16 // concurrent, per node
	maxLeaves = 8  // likewise

	// MaxCalls is the maximum number of a node's concurrent Redis calls for members
	// that join, leave, or have much to read. A connection pool should be larger.
	MaxCalls = maxJoins + maxLeaves + maxReads

	joinWait  = joinWithin / 2  // for a turn; the rest is for Redis
	leaveWait = 5 * time.Second // for a turn
)

// errBusy: too many members join or leave at once.
var errBusy = errors.New("too many at one time")

// turn waits for one of slots and returns a function that frees it.
func turn(ctx context.Context, slots chan struct{}, wait time.Duration) (done func(), err error) {
	done = func() { <-slots }
	select {
	case slots <- struct{}{}:
		return done, nil
	default:
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return done, nil
	case <-timer.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// errNoLease: this node was stopped or cut off for longer than its lease. Data then
// read from its sockets may be old: a client that has moved to another node must
// not be superseded by its earlier message here.
var errNoLease = errors.New("the node's lease has run out")

// errTooLate: the join reached Redis after its deadline.
var errTooLate = errors.New("redis was out of reach for too long")

// Presence says where a member's live socket is.
type Presence struct {
	Node  string
	Conn  string
	Role  string
	Since time.Time
}

// Join makes s the live socket of member, in a role set by the caller. The previous
// live socket, on any node, is superseded; on this node, before Join returns. after
// is the newest sequence number that the client says it has received, 0 = none;
// delivery begins after it once Start is called. If the mailbox did not give that
// number, because Redis has lost data, all that it holds is delivered, under
// numbers above it ([Membership.RolledBack]).
//
// Each Socket joins once. It returns ErrBadID, ErrBadSeq, ErrStopped, ErrSuperseded
// when a newer connection registered meanwhile (s is then superseded too), or
// Redis's error, and fails when too many others are joining; after an error there
// is nothing to Leave.
func (n *Node) Join(ctx context.Context, member, role string, after uint64, s Socket) (*Membership, error) {
	if !validID(member) || !validID(role) || !validID(s.ID()) {
		return nil, fmt.Errorf("join: %w", ErrBadID)
	}
	if after > maxSeq {
		return nil, fmt.Errorf("join: %w", ErrBadSeq)
	}
	m := &Membership{
		node: n, member: member, role: role, conn: s.ID(), since: n.stamp(), sock: s,
		cursor: after,
	}
	m.offered.Store(after)
	if n.registered.Load() && n.since(&n.lastBeat) > n.cfg.LeaseTTL {
		return nil, fmt.Errorf("join: %w", errNoLease)
	}
	// Waiting for a slot counts.
	joining, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	done, err := turn(joining, n.joinSlots, joinWait)
	if err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	defer done()
	// Admitted before Redis records it: from then on a newer connection may
	// supersede this one, and the notice must find it.
	if err := n.admit(m); err != nil {
		return nil, fmt.Errorf("join: %w", err)
	}
	if err := n.join(joining, m, after); err != nil {
		n.forget(m)
		m.end()
		// It may have been recorded nevertheless.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if n.leave(ctx, m.conn, m.member) != nil {
			n.leaveLater(m.member)
		}
		return nil, fmt.Errorf("join: %w", err)
	}
	if m.isEnded() {
		return nil, fmt.Errorf("join: %w", ErrSuperseded)
	}
	return m, nil
}

// join records m in Redis, by ctx's deadline.
func (n *Node) join(ctx context.Context, m *Membership, after uint64) error {
	channels := n.keys.channelPrefix()
	if n.cfg.Sharded {
		channels = ""
	}
	now, err := n.clock(ctx, n.keys.presence(m.member))
	if err != nil {
		return err
	}
	deadline, _ := ctx.Deadline()
	by := now.Add(time.Until(deadline)) // independent of the caller's clock
	k := n.keys
	touched := []string{k.presence(m.member), k.mailbox(m.member), k.usage(m.member), k.seen(m.member), k.joined(m.member), k.generations(m.member)}
	reply, err := joinScript.Run(ctx, n.rdb, touched, n.cfg.NodeID, m.conn, m.role, m.since, after, channels,
		by.UnixMilli(), n.cfg.MailboxTTL.Milliseconds(), joinedTTL.Milliseconds(), now.UTC().Format(timeFormat)).Slice()
	if err != nil {
		return err
	}
	if len(reply) == 0 {
		return errTooLate
	}
	if len(reply) != 6 {
		return fmt.Errorf("redis returned %d values, want 6", len(reply))
	}
	waiting, _ := reply[1].(int64)
	oldNode, _ := reply[2].(string)
	oldConn, _ := reply[3].(string)
	m.at, _ = reply[4].(string)
	if m.rolledBack = reply[5] != "given"; m.rolledBack {
		n.log.Warn().Str("conn", m.conn).Uint64("seq", after).Msg("mailbox rolled back: redis has lost what its member had")
	}
	if m.lastSeq, err = parseSeq(reply[0]); err != nil {
		return err
	}
	m.mu.Lock()
	if waiting != 0 {
		m.missed = true
	} else if m.lastSeq > m.cursor {
		m.cursor = m.lastSeq
		m.offered.Store(m.cursor)
	}
	m.mu.Unlock()
	if old := n.find(oldConn); old != nil && oldConn != m.conn {
		old.supersede()
	}
	if n.cfg.Sharded && oldNode != "" && oldNode != n.cfg.NodeID {
		n.publish(ctx, []notice{{oldNode, "s " + oldConn}})
	}
	return nil
}

// clock returns the time of the Redis that holds a key.
func (n *Node) clock(ctx context.Context, key string) (time.Time, error) {
	reply, err := clockScript.Run(ctx, n.rdb, []string{key}).StringSlice()
	if err != nil {
		return time.Time{}, fmt.Errorf("read the time: %w", err)
	}
	if len(reply) != 2 {
		return time.Time{}, fmt.Errorf("read the time: redis returned %d values, want 2", len(reply))
	}
	sec, err1 := strconv.ParseInt(reply[0], 10, 64)
	usec, err2 := strconv.ParseInt(reply[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return time.Time{}, fmt.Errorf("read the time: %w", err)
	}
	return time.Unix(sec, usec*1000), nil
}

// Leave ends delivery and removes the member's presence, if it is still this
// connection's. After an error the node removes it when Redis is back.
func (m *Membership) Leave(ctx context.Context) error {
	n := m.node
	m.end()
	if !n.forget(m) {
		return nil // superseded, or left before
	}
	done, err := turn(ctx, n.leaveSlots, leaveWait)
	if err == nil {
		m.flushAck(ctx)
		err = n.leave(ctx, m.conn, m.member)
		done()
	}
	if err != nil {
		n.leaveLater(m.member)
		return fmt.Errorf("leave: %w", err)
	}
	return nil
}

func (n *Node) leave(ctx context.Context, conn, member string) error {
	return leaveScript.Run(ctx, n.rdb, []string{n.keys.presence(member), n.keys.joined(member)},
		conn, time.UnixMicro(n.clockNow()).UTC().Format(timeFormat), joinedTTL.Milliseconds()).Err()
}

// restore records the membership where Redis has no record, or an earlier one;
// messages sent meanwhile were not published to it, so it then reads its mailbox. A
// concurrent Leave is repeated.
func (m *Membership) restore(ctx context.Context) error {
	n := m.node
	if m.isEnded() {
		return nil
	}
	err := restoreScript.Run(ctx, n.rdb, []string{n.keys.presence(m.member)},
		n.cfg.NodeID, m.conn, m.role, m.since, m.at).Err()
	if m.isEnded() { // so ctx has too: Redis may have recorded it, whatever err says
		n.leaveLater(m.member)
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("restore presence: %w", err)
	}
	n.log.Warn().Str("conn", m.conn).Msg("presence restored")
	m.wake()
	return nil
}

// Present returns where the given members are connected; the map omits those that
// are not. A presence whose node is gone, or has restarted since, is void.
func (n *Node) Present(ctx context.Context, members ...string) (map[string]Presence, error) {
	for _, member := range members {
		if !validID(member) {
			return nil, fmt.Errorf("presence of %q: %w", member, ErrBadID)
		}
	}
	if len(members) == 0 {
		return nil, nil
	}
	pipe := n.rdb.Pipeline()
	found := make([]*redis.SliceCmd, len(members))
	for i, member := range members {
		found[i] = pipe.HMGet(ctx, n.keys.presence(member), "node", "conn", "role", "since")
	}
	if err := redisx.Exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("read presence: %w", err)
	}
	present := make(map[string]Presence, len(members))
	nodes := map[string]*redis.StringCmd{}
	pipe = n.rdb.Pipeline()
	for i, member := range members {
		var p Presence
		var since string
		for k, field := range []*string{&p.Node, &p.Conn, &p.Role, &since} {
			*field, _ = found[i].Val()[k].(string)
		}
		if p.Conn == "" {
			continue
		}
		p.Since, _ = time.Parse(timeFormat, since)
		present[member] = p
		if nodes[p.Node] == nil {
			nodes[p.Node] = pipe.HGet(ctx, n.keys.node(p.Node), "started_at")
		}
	}
	// A missing record is redis.Nil, which is no error here.
	if err := redisx.Exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("read presence: %w", err)
	}
	for member, p := range present {
		started, err := time.Parse(timeFormat, nodes[p.Node].Val())
		if err != nil || p.Since.Before(started) {
			delete(present, member)
		}
	}
	return present, nil
}

// LastSeen returns when members last joined or left, by Redis's clock, to the
// millisecond; the map omits those that have never joined. A member lost when its
// node died shows in Present alone.
func (n *Node) LastSeen(ctx context.Context, members ...string) (map[string]time.Time, error) {
	pipe := n.rdb.Pipeline()
	found := make([]*redis.StringCmd, len(members))
	for i, member := range members {
		if !validID(member) {
			return nil, fmt.Errorf("last seen of %q: %w", member, ErrBadID)
		}
		found[i] = pipe.Get(ctx, n.keys.joined(member))
	}
	if len(members) == 0 {
		return nil, nil
	}
	if err := redisx.Exec(ctx, pipe); err != nil {
		return nil, fmt.Errorf("read when members were seen: %w", err)
	}
	seen := make(map[string]time.Time, len(members))
	for i, member := range members {
		if at, err := time.Parse(timeFormat, found[i].Val()); err == nil {
			seen[member] = at
		}
	}
	return seen, nil
}

// Waiting returns a member's unacknowledged payloads after the sequence number
// after, newest first, at most most.
func (n *Node) Waiting(ctx context.Context, member string, after uint64, most int) ([][]byte, error) {
	if !validID(member) {
		return nil, fmt.Errorf("mailbox of %q: %w", member, ErrBadID)
	}
	entries, err := n.rdb.XRevRangeN(ctx, n.keys.mailbox(member), "+", "(0-"+strconv.FormatUint(after, 10), int64(most)).Result()
	if err != nil {
		return nil, fmt.Errorf("read mailbox: %w", err)
	}
	payloads := make([][]byte, 0, len(entries))
	for _, e := range entries {
		if p, ok := e.Values["payload"].(string); ok {
			payloads = append(payloads, []byte(p))
		}
	}
	return payloads, nil
}

// admit makes m findable by its connection.
func (n *Node) admit(m *Membership) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return ErrStopped
	}
	if n.conns[m.conn] != nil {
		return fmt.Errorf("connection %s has joined: %w", m.conn, ErrBadID)
	}
	n.conns[m.conn] = m
	return nil
}

// find returns the membership of a connection, nil if it is not here.
func (n *Node) find(conn string) *Membership {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.conns[conn]
}

// forget removes m and reports whether it was present.
func (n *Node) forget(m *Membership) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns[m.conn] != m {
		return false
	}
	delete(n.conns, m.conn)
	return true
}

// spawn runs f in a goroutine that Run waits for; false if the node has stopped.
func (n *Node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopped {
		return false
	}
	n.pumps.Go(f)
	return true
}

// leaveLater records that member may have a presence here without a socket, because
// Redis did not answer when it was to be removed.
func (n *Node) leaveLater(member string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dangling[member] = struct{}{}
}

// leaveDangling removes the presences that could not be removed before. Each
// successful heartbeat calls it, and must not delay the next: after a mass
// disconnect there may be many.
func (n *Node) leaveDangling(ctx context.Context) {
	begun := time.Now()
	n.mu.Lock()
	todo := slices.Collect(maps.Keys(n.dangling))
	n.mu.Unlock()
	for _, member := range todo {
		if time.Since(begun) > n.cfg.HeartbeatEvery/2 {
			return
		}
		if err := n.leaveIfGone(ctx, member); err != nil {
			n.log.Warn().Err(err).Msg("leave failed")
			return
		}
		n.mu.Lock()
		delete(n.dangling, member)
		n.mu.Unlock()
	}
}

// leaveIfGone removes a presence that names this node and none of its connections.
// Joining ones are admitted before Redis records them.
func (n *Node) leaveIfGone(ctx context.Context, member string) error {
	where, err := n.rdb.HMGet(ctx, n.keys.presence(member), "node", "conn").Result()
	if err != nil {
		return err
	}
	conn, _ := where[1].(string)
	if where[0] != n.cfg.NodeID || n.find(conn) != nil {
		return nil
	}
	return n.leave(ctx, conn, member)
}
