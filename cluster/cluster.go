// Package cluster joins the nodes of one Redis: which nodes live, which of them
// holds the socket of which member, and how a message reaches a member wherever
// that is. A member is a user as seen from here: an id that may have one live
// socket in the cluster. Payloads are opaque.
//
// To send is to append to the member's mailbox, a Redis stream, and to publish
// to the node that holds the member's socket. Publishing only hurries: what it
// loses (a node gone, a reconnect, a full socket) is read from the mailbox. So a
// live socket gets its mailbox in order, without gaps and without repeats, and
// what it did not acknowledge waits for the next one, on any node.
//
//	node, err := cluster.New(cluster.Config{Redis: rdb, NodeID: "n1"})
//	go node.Run(ctx)
//	m, err := node.Join(ctx, "alice", "participant", lastSeq, socket)
//	m.Start()
//	err = node.Send(ctx, cluster.Message{To: "alice", Payload: p, ID: "session-1/7"})
//
// What it does not do: it knows no sessions, no protocol and no HTTP, does not
// decide who may join, and opens or closes no socket (it asks a [Socket] to).
//
// # Numbers
//
// Each mailbox counts its messages: the seq is the second part of the stream's
// entry id, so it goes on when everything is acknowledged. A mailbox that is
// new, or whose last one has expired, starts at Redis's clock in µs, so that no seq
// is given twice to one member.
//
// Redis may lose messages that it had confirmed: after a failover without the
// settings against it, or when an older file is restored. So the numbers that one
// Redis gives while it is the master are a generation (see generations.lua). Within
// it each number follows the one before; another Redis, or the same after a restart
// or a promotion, begins with its first append a generation at a distance of
// thousands at least. Which Redis it is the append script asks in the same step, so
// nobody needs to notice a failover. A seq therefore says by itself which history
// it is of, in what a client resumes with, in an ack and in a node's cursor:
//
//   - of a generation that the mailbox knows, also beyond its end: what was lost is
//     gone, the client has the rest up to there, and what follows is delivered;
//   - of none that it knows: what the client has cannot be told. All that the
//     mailbox holds is delivered, under numbers of a new generation above that seq.
//     This is the one case in which a message comes twice under two numbers. An ack
//     of such a seq forgets nothing.
//
// A server that does not tell who it is (INFO refused, or an imitation of Redis) is
// taken for one and the same. There a mailbox that is behind a client's seq is
// delivered whole, and one that has overtaken it again is not noticed.
//
// A client that does not resume may get messages again under the same seq: those
// whose receipt the node had not passed on when it died (see Ack). So every message
// is delivered at least once, and under one seq, but for the case above.
//
// What ends a group of messages may remove the others from the mailbox
// (Message.Ends). Their numbers are given to no other, so a client sees a gap.
//
// # Shares
//
// A mailbox is bounded in messages and in bytes, which the script that appends
// counts exactly. Each message may name who has caused it, its payer. One payer
// holds at most a quarter of a mailbox, the member itself three quarters, and the
// last quarter is for payers that hold no more than 1/64 of the mailbox. So one
// sender cannot fill the mailbox, and three that have used up their shares do not
// keep others out. Of one group of messages a payer may hold Config.GroupMaxBytes.
//
// A member that has never joined may not exist. Its mailbox is small, and lives
// for Config.UnseenTTL after the last message.
//
// # Crowds
//
// When thousands connect or leave at one time they must not keep the node's
// connections to Redis from those who are at work. So only so many join, leave
// and read their mailboxes at one time ([MaxCalls]), the others wait their turn: to
// join for a moment, after which Join fails and the client comes again; to leave
// for a little longer, after which the heartbeat does it.
//
// # Keys
//
// All after Config.Prefix. Scripts touch one member's keys only, or one
// node's: one slot.
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
//	                            "e <n>", what the node told itself, see echo
//
// # What a socket is not told
//
// A node learns of messages and of newer sockets by what is published to it. Where
// Redis loses a presence, or no longer publishes (a right was withdrawn), nothing
// comes. So once in the time of a heartbeat a node looks at some of its sockets, at each within
// five times that, and puts right what it finds (check.go): it records the presence again,
// closes the socket as superseded, or reads the mailbox. Joins are ordered by
// Redis's clock, so that a record from before a join does not supersede it.
//
// # Scripts that fail in the middle
//
// A script has no rollback, and a command in it may fail: a right was withdrawn, or
// somebody has put another type at a key. What the append script could not append
// it does not remember as seen, so that it can be sent again; what fails after a
// message was appended (publishing, the account, times to live) it only reports. The
// account is checked against the stream at its next use, a time to live is renewed
// with the next append of the same node. A join that fails is undone by the caller
// and tried again by the client; an ack is repeated; numbers that were given anew in
// part are delivered in both forms. Other scripts write once, or may be repeated.
//
// # Goroutines and locks
//
// [Node.Run] has five: the heartbeat, the watch over the lease, the subscriber
// and its prober, and the one that checks sockets; they end with Run's context. The subscriber alone takes what
// is published, in order, and never waits for Redis or a socket. A [Membership]
// has no goroutine while its socket is level with its mailbox; a pump runs from
// the first gap, refusal or new subscription until it is level again, or until
// the membership or Run ends. What is appended, and what is acknowledged, is
// brought to Redis by a goroutine each, which runs while there is any; one
// pipeline is under way at a time, and what comes meanwhile shares the next.
// On Redis Cluster each member of a Send has one, which the Send waits for.
// Nothing else starts any.
//
// Node.mu guards the table of connections, Membership.mu the phase of one.
// Neither is held over I/O or over a call of a Socket's method, and none of the
// two is taken while the other is held but Node.mu under Membership.mu.
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

// Errors of this package. Others come from Redis or from a context.
var (
	// ErrMailboxFull: Send would pass Config.MailboxMax unacknowledged messages or
	// Config.MailboxMaxBytes; or the mailbox is three quarters full, and the payer
	// holds more than the 64th part of it.
	ErrMailboxFull = errors.New("cluster: the member's mailbox is full")
	// ErrShareUsed: the payer would hold more than a quarter of the member's
	// mailbox, or, as the member itself, more than three quarters.
	ErrShareUsed = errors.New("cluster: the payer's share of the member's mailbox is used up")
	// ErrGroupFull: the payer would pass Config.GroupMax or Config.GroupMaxBytes.
	ErrGroupFull = errors.New("cluster: the payer has too much unread of one group in the member's mailbox")
	// ErrNotSent: Send gave up this message because an earlier one to the same
	// member failed.
	ErrNotSent = errors.New("cluster: not sent, an earlier message to the same member failed")
	// ErrBadID: an id is not 1 to 128 bytes of letters, digits and _ . @ - (or
	// a Message.ID is too long).
	ErrBadID = errors.New("cluster: malformed id")
	// ErrBadSeq: Join was given a sequence number that no mailbox gives.
	ErrBadSeq = errors.New("cluster: sequence number out of range")
	// ErrSuperseded: a newer connection of the member registered before Join
	// was done.
	ErrSuperseded = errors.New("cluster: superseded by a newer connection")
	// ErrStopped: the node's Run has ended.
	ErrStopped = errors.New("cluster: the node has stopped")
	// ErrLocked: Lock waited its time for another holder.
	ErrLocked = errors.New("cluster: locked by another")
	// ErrLockLost: Release came after the lock had ended by itself.
	ErrLockLost = errors.New("cluster: the lock was no longer held")
	// ErrNotReady: Ready found no current node record or no live subscription.
	ErrNotReady = errors.New("cluster: not registered or not subscribed")
)

// Config says how a node behaves. Redis and NodeID are required.
type Config struct {
	// Redis holds all state. Its client should have ContextTimeoutEnabled set,
	// so that calls end with their context when Redis hangs. The node does not
	// close it.
	Redis redis.UniversalClient
	// Durable is where messages are appended: a client of the same Redis that
	// demands more for its word. Nil means Redis.
	Durable redis.UniversalClient
	// Pipeline takes locks, together with what others ask of the same Redis. Nil
	// means one of the node's own, on Redis.
	Pipeline *redisx.Client
	// Prefix starts every key. Zero value means "conclave:".
	Prefix string
	// NodeID names this node: 1 to 128 bytes of letters, digits and _ . @ -,
	// unique in the cluster.
	NodeID string
	// Address and Version are told to whoever lists the nodes. Optional.
	Address, Version string
	// Notified gets what other nodes tell this one, see [Node.Notify]. It must not
	// block. Nil means that nobody wants to know.
	Notified func(text string)
	// Log receives events. Nil means none.
	Log *zerolog.Logger
	// Observer is told what passes. Nil means nobody is.
	Observer Observer

	// Agree is what all nodes of a cluster must have in common: by name, marks that say
	// nothing of what they are made of. Of several, one node's first must be among
	// another's, so that a secret can be changed in turn. No mark holds spaces, commas
	// or equals signs. Nil compares nothing.
	Agree map[string][]string
	// protocol is the constant, but in tests.
	protocol int

	// Clock is this process's own clock, to be compared with Redis's. Nil means
	// time.Now.
	Clock func() time.Time

	// HeartbeatEvery is the time between renewals of the node's record. Zero
	// value means 2 s.
	HeartbeatEvery time.Duration
	// LeaseTTL is how long the record lives without renewal. Zero value means 6 s.
	LeaseTTL time.Duration
	// ProbeEvery is how long the subscription may be silent before it is
	// probed; after three times that it is made anew. Zero value means 1 s.
	ProbeEvery time.Duration
	// MailboxMax bounds the unacknowledged messages of one member. Zero value
	// means 10000.
	MailboxMax int
	// MailboxMaxBytes bounds what they are charged for: their payloads, and 256
	// bytes for each. Zero value means 64 MiB.
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
	// Sharded uses sharded pub/sub, and publishes from here instead of from the
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
	contact    atomic.Int64  // when the first began after one that failed, ns after started; 0 for never
	lastBeat   atomic.Int64  // when the last successful one began, ns after started
	beatNow    chan struct{} // asks for a heartbeat before its time
	lost       chan struct{}
	ahead      atomic.Int64  // the cluster's clock at started, µs
	subscribed atomic.Bool   // the subscription is confirmed
	echo       echo          // whether it hears
	heard      atomic.Int64  // when it last said anything, ns after started
	readSlots  chan struct{} // bounds mailbox reads at one time
	joinSlots  chan struct{} // bounds joins at one time
	leaveSlots chan struct{} // bounds leaves at one time

	sends      redisx.Gatherer[*batch]
	acks       redisx.Gatherer[*Membership]
	renewed    renewals
	differs    atomic.Pointer[difference] // nil: all nodes agree
	compared   atomic.Bool                // it has looked at the others
	taken      atomic.Bool                // another process has the node's id
	hung       hung                       // members whose mailbox is out of reach
	checks     checks
	mute       atomic.Bool // Redis takes messages and does not publish them, or not all
	appendArgs []any       // see appendArgs

	mu       sync.Mutex
	stopped  bool
	conns    map[string]*Membership // by connection id, joining ones too
	dangling map[string]struct{}    // members whose presence may be left over
	pumps    sync.WaitGroup         // Add only under mu while not stopped
}

// New makes a node. It starts nothing and does not talk to Redis.
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
// Config.LeaseTTL, noticed at most half a Config.HeartbeatEvery later: others
// may by then take its members for gone. The owner closes its sockets, so that
// clients go to a node that is not cut off. The node itself goes on trying.
func (n *Node) Lost() <-chan struct{} { return n.lost }

// Ready returns nil when Redis answers, the node's record is current, its
// subscription live and its clock right; ErrNotReady, ErrClock, ErrDiffers, ErrIDTaken or Redis's error otherwise.
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

// Run keeps the node in the cluster until ctx ends: it renews the node's record
// and delivers what is published to the node. When ctx ends it removes the
// record, ends every delivery and returns nil. It is to be called once; the
// owner closes its sockets before it ends ctx.
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

// mark and since measure on the monotonic clock, which no clock step touches.
func (n *Node) mark(at *atomic.Int64) { at.Store(int64(time.Since(n.started))) }

func (n *Node) since(at *atomic.Int64) time.Duration {
	return time.Since(n.started) - time.Duration(at.Load())
}

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

// late is the first of the messages that came by pub/sub and could not be
// offered at once: the pump offers it when the socket has room, and knows by
// this when it was sent. The zero value is none.
type late struct {
	seq  uint64
	sent time.Time
}
