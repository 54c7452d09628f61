// Package cluster joins the nodes that share one Redis: which nodes are live, which
// node holds the socket of which member, and how a message reaches a member on any
// of them. A member is a user as this package sees it: an id that may have one live
// socket in the cluster. Payloads are opaque.
//
// To send is to append to the member's mailbox, a Redis stream, and to publish to
// the node that holds the member's socket. Publishing only speeds delivery up: a
// publication that is lost (a node gone, a reconnect, a full socket) is read from
// the mailbox. So a live socket gets its mailbox in order, without gaps and without
// repeats, and unacknowledged messages wait for the next socket, on any node.
//
//	node, err := cluster.New(cluster.Config{Redis: rdb, NodeID: "n1"})
//	go node.Run(ctx)
//	m, err := node.Join(ctx, "alice", "participant", lastSeq, socket)
//	m.Start()
//	err = node.Send(ctx, cluster.Message{To: "alice", Payload: p, ID: "session-1/7"})
//
// It knows no sessions, no protocol and no HTTP, does not decide who may join, and
// opens or closes no socket (it asks a [Socket] to).
//
// # Numbers
//
// Each mailbox counts its messages: the seq is the second part of the stream's
// entry id, so it continues when everything is acknowledged. A mailbox that is new,
// or whose predecessor has expired, starts at Redis's clock in µs, so that no seq
// is given twice to one member.
//
// Redis may lose messages that it had confirmed: after a failover without the
// settings against it, or when an older file is restored. So the numbers that one
// Redis gives while it is the master form a generation (see generations.lua).
// Within a generation numbers are consecutive; another Redis, or the same after a
// restart or a promotion, begins a generation with its first append, at least
// thousands further on. The append script identifies its Redis in the same step, so
// a failover need not be detected. A seq therefore identifies its own history, in a
// client's resume point, in an ack and in a node's cursor:
//
//   - of a generation that the mailbox knows, even beyond its end: lost messages are
//     gone, the client has the rest up to there, and later ones are delivered;
//   - of an unknown generation: what the client has cannot be determined. All that the
//     mailbox holds is delivered, under numbers of a new generation above that seq.
//     Only in this case does a message arrive twice under two numbers. An ack
//     of such a seq forgets nothing.
//
// A server that does not identify itself (INFO refused, or an imitation of Redis)
// is taken for one and the same. There a mailbox that is behind a client's seq is
// delivered whole, and one that has since overtaken it is not noticed.
//
// A client that does not resume may get messages again under the same seq: those
// whose acknowledgement the node had not passed on when it died (see Ack). So every
// message is delivered at least once, and under one seq, except in the case above.
//
// A message that ends a group may remove the group's others from the mailbox
// (Message.Ends). Their numbers are not reused, so a client sees a gap.
//
// # Shares
//
// A mailbox is bounded in messages and in bytes, which the appending script counts
// exactly. Each message may name its causer, the payer. One payer holds at most a
// quarter of a mailbox, the member itself three quarters, and the last quarter is
// for payers that hold at most 1/64 of the mailbox. So one sender cannot fill the
// mailbox, and three that have used up their shares do not exclude others. Of one
// group of messages a payer may hold Config.GroupMaxBytes.
//
// A member that has never joined may not exist. Its mailbox is small, and lives for
// Config.UnseenTTL after the last message.
//
// # Crowds
//
// When thousands connect or leave at once they must not take all of the node's
// connections to Redis. So the number of members that join, leave and read their
// mailboxes at one time is limited ([MaxCalls]). The others wait: a join briefly,
// after which Join fails and the client retries; a leave a little longer, after
// which the heartbeat does it.
//
// # Keys
//
// All are prefixed with Config.Prefix. A script touches the keys of one member or
// one node: one slot.
//
//	node:{<id>}         hash    address, version, protocol, agree, started_at, connections, draining; TTL LeaseTTL
//	nodes               zset    node id by its last heartbeat, ms
//	presence:{<member>} hash    node, conn, role, since, seq (newest when joined), at (when, µs; orders joins), acked; void when the node is gone
//	mailbox:{<member>}  stream  0-<seq>, payload, payer, group, link; trimmed on ack; TTL MailboxTTL after the last append
//	mailbox:{<member>}:usage hash how much the mailbox holds, in all and by payer and group, see usage.lua; TTL likewise
//	mailbox:{<member>}:generations string which numbers it has given, see generations.lua; TTL likewise
//	joined:{<member>}   string  when the member joined or left last; TTL a year
//	seen:{<member>}     set     newest message ids appended; TTL MailboxTTL after the last
//	seen:{<member>}:old set     those before; TTL likewise
//	lock:{<id>}         string  token, <node>/<random>; TTL LockTTL
//	node:<id>           channel "m <conn> <seq> <sent> <payload>", a message (sent is when, by Redis's clock, µs);
//	                            "s <conn>", that connection is superseded; "w <conn>", it may have missed something;
//	                            "n <text>", see Notify;
//	                            "e <n>", the node's own echo, see echo
//
// # Missed publications
//
// A node learns of messages and of newer sockets from publications. Where Redis
// loses a presence, or can no longer publish (a permission was withdrawn), none
// arrive. So each heartbeat interval the node checks some of its sockets, each
// within five intervals, and repairs any deviation (check.go): it records the
// presence again, closes the socket as superseded, or reads the mailbox. Joins are
// ordered by Redis's clock, so that a record from before a join does not supersede
// it.
//
// # Scripts that fail in the middle
//
// A script has no rollback, and a command in it may fail: a permission was
// withdrawn, or a key holds another type. The append script does not record a
// message that it could not append as seen, so it can be sent again; a failure
// after a message was appended (publishing, the account, times to live) is only
// reported. The account is checked against the stream at its next use; a time to
// live is renewed with the next append of the same node. A failed join is undone by
// the caller and retried by the client; an ack is repeated; messages that were
// renumbered only in part are delivered in both forms. Other scripts write once, or
// may be repeated.
//
// # Goroutines and locks
//
// [Node.Run] has five: the heartbeat, the lease watch, the subscriber and its
// prober, and the socket checker; they end with Run's context. The subscriber alone
// receives publications, in order, and never waits for Redis or a socket. A
// [Membership] has no goroutine while its socket is level with its mailbox; a pump
// runs from the first gap, refusal or new subscription until it is level again, or
// until the membership or Run ends. Appends and acknowledgements are each sent to
// Redis by one goroutine, which runs while there are any; one pipeline is in flight
// at a time, and later calls share the next. On Redis Cluster each member of a Send
// has a goroutine, which the Send waits for. No others are started.
//
// Node.mu guards the table of connections, Membership.mu the phase of one. Neither
// is held over I/O or a call of a Socket's method. Node.mu may be taken while
// Membership.mu is held; never the reverse.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

// Errors of this package. Others are from Redis or a context.
var (
	// ErrMailboxFull: Send would exceed Config.MailboxMax unacknowledged messages
	// or Config.MailboxMaxBytes; or the mailbox is three quarters full, and the
	// payer holds more than 1/64 of it.
	ErrMailboxFull = errors.New("cluster: the member's mailbox is full")
	// ErrShareUsed: the payer would hold more than a quarter of the member's
	// mailbox, or, as the member itself, more than three quarters.
	ErrShareUsed = errors.New("cluster: the payer's share of the member's mailbox is used up")
	// ErrGroupFull: the payer would exceed Config.GroupMax or Config.GroupMaxBytes.
	ErrGroupFull = errors.New("cluster: the payer has too much unread of one group in the member's mailbox")
	// ErrNotSent: Send skipped this message because an earlier one to the same
	// member failed.
	ErrNotSent = errors.New("cluster: not sent, an earlier message to the same member failed")
	// ErrBadID: an id is not 1 to 128 bytes of letters, digits and _ . @ - (or
	// a Message.ID is too long).
	ErrBadID = errors.New("cluster: malformed id")
	// ErrBadSeq: Join was given a sequence number that no mailbox gives.
	ErrBadSeq = errors.New("cluster: sequence number out of range")
	// ErrSuperseded: a newer connection of the member registered before Join
	// returned.
	ErrSuperseded = errors.New("cluster: superseded by a newer connection")
	// ErrStopped: the node's Run has ended.
	ErrStopped = errors.New("cluster: the node has stopped")
	// ErrLocked: another holder kept the lock for all of Lock's wait.
	ErrLocked = errors.New("cluster: locked by another")
	// ErrLockLost: the lock had expired before Release.
	ErrLockLost = errors.New("cluster: the lock was no longer held")
	// ErrNotReady: Ready found no current node record or no live subscription.
	ErrNotReady = errors.New("cluster: not registered or not subscribed")
)

// Config configures a node. Redis and NodeID are required.
type Config struct {
	// Redis holds all state. Its client should have ContextTimeoutEnabled set,
	// so that calls end with their context when Redis hangs. The node does not
	// close it.
	Redis redis.UniversalClient
	// Durable is where messages are appended: a client of the same Redis that
	// requires stronger confirmation of writes. Nil means Redis.
	Durable redis.UniversalClient
	// Pipeline takes locks, batched with other calls to the same Redis. Nil means
	// one of the node's own, on Redis.
	Pipeline *redisx.Client
	// Prefix starts every key. Zero value means "conclave:".
	Prefix string
	// NodeID names this node: 1 to 128 bytes of letters, digits and _ . @ -,
	// unique in the cluster.
	NodeID string
	// Address and Version are shown in the list of nodes. Optional.
	Address, Version string
	// Notified receives other nodes' notices, see [Node.Notify]. It must not block.
	// Nil discards them.
	Notified func(text string)
	// Log receives events. Nil means none.
	Log *zerolog.Logger
	// Observer holds instrumentation hooks. Nil disables them.
	Observer Observer

	// Agree is what all nodes of a cluster must have in common: by name, marks that
	// reveal nothing of their source. Of several, one node's first must be among
	// another's, so that a secret can be rotated node by node. A mark holds no
	// spaces, commas or equals signs. Nil compares nothing.
	Agree map[string][]string
	// protocol is the constant, except in tests.
	protocol int

	// Clock is this process's own clock, compared with Redis's. Nil means time.Now.
	Clock func() time.Time

	// HeartbeatEvery is the time between renewals of the node's record. Zero
	// value means 2 s.
	HeartbeatEvery time.Duration
	// LeaseTTL is how long the record lives without renewal. Zero value means 6 s.
	LeaseTTL time.Duration
	// ProbeEvery is how long the subscription may be silent before it is probed;
	// after three times that it is renewed. Zero value means 1 s.
	ProbeEvery time.Duration
	// MailboxMax bounds the unacknowledged messages of one member. Zero value
	// means 10000.
	MailboxMax int
	// MailboxMaxBytes bounds their charged size: payloads, plus 256 bytes for each.
	// Zero value means 64 MiB.
	MailboxMaxBytes int
	// UnseenMax and UnseenMaxBytes are those bounds for a member that has not
	// joined in the last year: it may not exist. Zero values mean 64 and 256 KiB,
	// so that one payer's share has room for the largest invitation to a keygen.
	UnseenMax, UnseenMaxBytes int
	// UnseenTTL is how long the mailbox of such a member lives after its last
	// message. Zero value means 1 hour.
	UnseenTTL time.Duration
	// GroupMax and GroupMaxBytes bound what one payer may hold of one group in one
	// mailbox (see Message). Zero values mean 512 messages and 4 MiB.
	GroupMax, GroupMaxBytes int
	// MailboxTTL is how long a mailbox lives after its last message. Zero value
	// means 7 days.
	MailboxTTL time.Duration
	// LockTTL is how long a lock lasts when its holder does not release it.
	// Zero value means 1 s.
	LockTTL time.Duration
	// LockWait is how long Lock waits for another holder. Zero value means 2 s.
	LockWait time.Duration
	// Sharded uses sharded pub/sub, and publishes from the node instead of from the
	// scripts, because a script on Redis Cluster cannot publish to another slot.
	// Every node of a cluster must agree. It is always true with a
	// *redis.ClusterClient; otherwise the zero value means false.
	Sharded bool
}

func (c *Config) defaults() {
	text := func(v *string, d string) {
		if *v == "" {
			*v = d
		}
	}
	span := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	number := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	text(&c.Prefix, "conclave:")
	span(&c.HeartbeatEvery, 2*time.Second)
	span(&c.LeaseTTL, 6*time.Second)
	span(&c.ProbeEvery, time.Second)
	span(&c.MailboxTTL, 7*24*time.Hour)
	span(&c.UnseenTTL, time.Hour)
	span(&c.LockTTL, time.Second)
	span(&c.LockWait, 2*time.Second)
	number(&c.MailboxMax, 10000)
	number(&c.MailboxMaxBytes, 64<<20)
	number(&c.UnseenMax, 64)
	number(&c.UnseenMaxBytes, 256<<10)
	number(&c.GroupMax, 512)
	number(&c.GroupMaxBytes, 4<<20)
	if c.Log == nil {
		nop := zerolog.Nop()
		c.Log = &nop
	}
	if c.Observer == nil {
		c.Observer = unobserved{}
	}
	if c.Durable == nil {
		c.Durable = c.Redis
	}
	number(&c.protocol, protocol)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Pipeline == nil {
		c.Pipeline = redisx.New(c.Redis)
	}
	if _, ok := c.Redis.(*redis.ClusterClient); ok {
		c.Sharded = true
	}
}

// Node is one server process's part in the cluster. Its methods are safe for
// concurrent use.
type Node struct {
	cfg     Config
	keys    keys
	rdb     redis.UniversalClient
	log     zerolog.Logger
	started time.Time // wall and monotonic

	draining   atomic.Bool
	registered atomic.Bool   // a heartbeat has succeeded
	contact    atomic.Int64  // start of the first heartbeat after a failed one, ns after started; 0 for never
	lastBeat   atomic.Int64  // start of the last successful heartbeat, ns after started
	beatNow    chan struct{} // requests an early heartbeat
	lost       chan struct{}
	ahead      atomic.Int64  // the cluster's clock at started, µs
	subscribed atomic.Bool   // the subscription is confirmed
	echo       echo          // whether the subscription receives
	heard      atomic.Int64  // when it last received anything, ns after started
	readSlots  chan struct{} // limits concurrent mailbox reads
	joinSlots  chan struct{} // limits concurrent joins
	leaveSlots chan struct{} // limits concurrent leaves

	sends      redisx.Gatherer[*batch]
	acks       redisx.Gatherer[*Membership]
	renewed    renewals
	differs    atomic.Pointer[difference] // nil: all nodes agree
	compared   atomic.Bool                // the other nodes were compared with
	taken      atomic.Bool                // another process has the node's id
	hung       hung                       // members whose mailbox is out of reach
	checks     checks
	mute       atomic.Bool // Redis takes messages but does not publish all of them
	appendArgs []any       // see appendArgs

	mu       sync.Mutex
	stopped  bool
	conns    map[string]*Membership // by connection id, including those joining
	dangling map[string]struct{}    // members whose presence may be left over
	pumps    sync.WaitGroup         // Add only under mu while not stopped
}

// New makes a node. It starts nothing and makes no call to Redis.
func New(cfg Config) (*Node, error) {
	if cfg.Redis == nil {
		return nil, errors.New("cluster: Config.Redis is missing")
	}
	if !validID(cfg.NodeID) {
		return nil, fmt.Errorf("node id %q: %w", cfg.NodeID, ErrBadID)
	}
	cfg.defaults()
	if strings.ContainsAny(cfg.Prefix, "{}* \r\n") {
		return nil, errors.New("cluster: Config.Prefix has braces, stars or white space")
	}
	if cfg.LeaseTTL <= cfg.HeartbeatEvery {
		return nil, errors.New("cluster: Config.LeaseTTL is not longer than Config.HeartbeatEvery")
	}
	n := &Node{
		cfg:        cfg,
		keys:       keys{cfg.Prefix},
		rdb:        cfg.Redis,
		log:        cfg.Log.With().Str("node", cfg.NodeID).Logger(),
		started:    time.Now(),
		beatNow:    make(chan struct{}, 1),
		lost:       make(chan struct{}, 1),
		readSlots:  make(chan struct{}, maxReads),
		joinSlots:  make(chan struct{}, maxJoins),
		leaveSlots: make(chan struct{}, maxLeaves),
		conns:      map[string]*Membership{},
		dangling:   map[string]struct{}{},
	}
	n.ahead.Store(n.started.UnixMicro())
	n.appendArgs = appendArgs(&n.cfg, n.keys)
	n.sends = redisx.Gatherer[*batch]{Run: n.appendAll, Most: sendsAtOnce}
	n.renewed.life = cfg.MailboxTTL
	n.acks = redisx.Gatherer[*Membership]{Run: n.passAcks, Most: ackMembers, Rest: ackEvery}
	return n, nil
}

// ID returns Config.NodeID.
func (n *Node) ID() string { return n.cfg.NodeID }

// Lost receives a value each time the node has had no successful heartbeat for
// Config.LeaseTTL, noticed at most half a Config.HeartbeatEvery later: others may
// by then treat its members as gone. The owner closes its sockets, so that clients
// go to a node that is not cut off. The node itself keeps trying.
func (n *Node) Lost() <-chan struct{} { return n.lost }

// Ready returns nil when Redis answers and the node's record, subscription and clock
// are good; ErrNotReady, ErrClock, ErrDiffers, ErrIDTaken or Redis's error otherwise.
func (n *Node) Ready(ctx context.Context) error {
	if err := n.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis: %w", err)
	}
	if !n.registered.Load() || n.since(&n.lastBeat) > n.cfg.LeaseTTL {
		return ErrNotReady
	}
	if !n.subscribed.Load() || n.since(&n.heard) > 3*n.cfg.ProbeEvery || n.echo.deaf() {
		return ErrNotReady
	}
	if err := n.disagreement(); err != nil {
		return err
	}
	return n.clockError()
}

// Run keeps the node in the cluster until ctx ends: it renews the node's record and
// delivers publications to the node. When ctx ends it removes the record, ends
// every delivery and returns nil. Call it once; the owner closes its sockets before
// it ends ctx.
func (n *Node) Run(ctx context.Context) error {
	n.mark(&n.lastBeat)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { n.heartbeats(ctx); return nil })
	g.Go(func() error { n.watchLease(ctx); return nil })
	g.Go(func() error { n.subscribe(ctx); return nil })
	g.Go(func() error { n.watchSockets(ctx); return nil })
	err := g.Wait()
	n.stop()
	n.retire(context.WithoutCancel(ctx))
	return err
}

// stop ends every membership's delivery and waits for it.
func (n *Node) stop() {
	n.mu.Lock()
	n.stopped = true
	all := n.membersLocked()
	n.mu.Unlock()
	for _, m := range all {
		m.end()
	}
	n.pumps.Wait()
}

func (n *Node) membersLocked() []*Membership {
	all := make([]*Membership, 0, len(n.conns))
	for _, m := range n.conns {
		all = append(all, m)
	}
	return all
}

// mark and since use the monotonic clock, which clock steps do not affect.
func (n *Node) mark(at *atomic.Int64) { at.Store(int64(time.Since(n.started))) }

func (n *Node) since(at *atomic.Int64) time.Duration {
	return time.Since(n.started) - time.Duration(at.Load())
}

const notifyWithin = time.Second

// Notify passes text to the Config.Notified of other nodes. It is best effort: a
// notice published while a node's subscription is broken, or to a dead node, is
// lost, and failures are not reported.
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

// Observer holds the instrumentation hooks. Its methods must not block, and are
// called concurrently.
type Observer interface {
	// Appended is called after messages were appended to a mailbox, with its new
	// number of messages.
	Appended(depth int)
	// Refused is called when a mailbox did not take all messages sent to it, with
	// the reason: ErrMailboxFull, ErrShareUsed or ErrGroupFull.
	Refused(why error)
	// Drained is called with the number of entries read from a mailbox because its
	// socket was behind.
	Drained(entries int)
}

// unobserved is the Observer that does nothing.
type unobserved struct{}

func (unobserved) Appended(int)  {}
func (unobserved) Refused(error) {}
func (unobserved) Drained(int)   {}

// late is the first of the messages received by pub/sub that could not be offered
// at once: the pump offers it when the socket has room, and learns from it when it
// was sent. The zero value means none.
type late struct {
	seq  uint64
	sent time.Time
}
