package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	readMessages = 256     // maximum entries per read of a mailbox
	readBytes    = 1 << 20 // maximum payload bytes per read; a single entry may exceed it
	maxReads     = 32      // maximum concurrent mailbox reads per node

	// Pauses between attempts to read while Redis fails, doubling.
	readPauseFirst = 20 * time.Millisecond
	readPauseMost  = time.Second

	// How often a socket that reports room and then refuses is asked again at once;
	// after that, with a pause.
	freeRefusals = 8
	refusalPause = 2 * time.Millisecond
)

// Socket is one registered connection. The package calls its methods from its own
// goroutines, Offer from one at a time, and holds no lock meanwhile.
type Socket interface {
	// ID names the connection: 1 to 128 bytes of letters, digits and _ . @ -,
	// unique in the cluster for ever.
	ID() string
	// Offer hands a message over without blocking. False means that there is no
	// room or that the socket is closed; the same message is then offered again
	// after Room. The socket may keep the payload but not change it. Sent is when
	// it was sent, by this process's clock; zero if unknown.
	Offer(seq uint64, payload []byte, sent time.Time) bool
	// Room waits until Offer may succeed. It returns an error when the socket is
	// closed or ctx has ended.
	Room(ctx context.Context) error
	// Supersede is called once when a newer connection of the same member has
	// registered, here or on another node. It does not block.
	Supersede()
}

// phase is a membership's state.
type phase int8

const (
	joined phase = iota // Start has not been called: nothing is offered
	level               // the socket has everything; the subscriber offers live messages
	taking              // the subscriber is offering
	behind              // a pump runs and offers the mailbox's entries
	ended               // left, superseded or closed
)

// Membership is a member's connection on this node, from [Node.Join] on. Its
// methods are safe for concurrent use.
type Membership struct {
	node                      *Node
	member, role, conn, since string
	sock                      Socket
	lastSeq                   uint64
	at                        string // when it joined, µs by Redis's clock; see owner.lua
	rolledBack                bool   // see RolledBack

	// cursor is the newest seq that the socket took, or that is known to be gone
	// from the mailbox. Owned by the offering goroutine: the subscriber while
	// taking, the pump while behind; the phase transfers ownership.
	cursor  uint64
	offered atomic.Uint64 // cursor, or the seq being offered; bounds acks
	acked   atomic.Uint64 // reported to Redis

	ackable   atomic.Uint64 // set by AckLater
	ackQueued atomic.Bool   // queued for sending

	looked look // by the last check; owned by watchSockets, see unread

	mu     sync.Mutex
	phase  phase
	missed bool               // news since the pump's last read (or, when joined, any)
	cancel context.CancelFunc // ends the pump; nil without one
	late   late
}

// LastSeq returns the newest sequence number the mailbox had when the member
// joined, 0 if it never had one.
func (m *Membership) LastSeq() uint64 { return m.lastSeq }

// RolledBack reports whether Redis has lost messages that the member had, judged by
// Join's after: the mailbox gave that number but has no record of it, or did not
// give it. All that the mailbox holds and cannot vouch for is delivered, under
// numbers above it.
func (m *Membership) RolledBack() bool { return m.rolledBack }

// Start begins delivery: first the mailbox's entries after the seq passed to Join,
// then live messages, in order, without gaps or repeats. Calling it again, or after
// the membership has ended, does nothing.
func (m *Membership) Start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != joined {
		return
	}
	m.phase = level
	if m.missed {
		m.pumpLocked()
	}
}

// wake makes the membership read its mailbox.
func (m *Membership) wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.phase {
	case joined, taking, behind:
		m.missed = true
	case level:
		m.pumpLocked()
	}
}

// pumpLocked starts a pump; the caller holds m.mu and the phase is level.
func (m *Membership) pumpLocked() {
	ctx, cancel := context.WithCancel(context.Background())
	if !m.node.spawn(func() { m.pump(ctx) }) {
		cancel() // the node has stopped
		m.phase = ended
		return
	}
	m.phase, m.missed, m.cancel = behind, false, cancel
}

// live takes a message from the subscriber, in its goroutine. It offers the one
// after the cursor; otherwise the mailbox is read: for a gap, a full socket, and a
// seq already seen, which usually is a message that the pump delivered first, and
// rarely a mailbox that Redis has lost.
func (m *Membership) live(seq uint64, sent time.Time, payload string) {
	m.mu.Lock()
	if m.phase != level {
		m.missed = true
		m.noteLate(seq, sent)
		m.mu.Unlock()
		return
	}
	m.phase = taking
	m.mu.Unlock()
	took := seq == m.cursor+1 && m.offer(seq, []byte(payload), sent)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != taking {
		return // ended
	}
	m.phase = level
	if !took {
		m.noteLate(seq, sent)
	}
	if !took || m.missed {
		m.pumpLocked()
	}
}

// noteLate records when a message was sent that cannot be offered now, unless an
// earlier one is recorded. m.mu is held.
func (m *Membership) noteLate(seq uint64, sent time.Time) {
	if m.late.seq == 0 {
		m.late = late{seq, sent}
	}
}

// takeLate returns the recorded message, if its seq is at most newest: it is
// offered with the others, or gone from the mailbox.
func (m *Membership) takeLate(newest uint64) late {
	m.mu.Lock()
	defer m.mu.Unlock()
	was := m.late
	if was.seq > newest {
		return late{}
	}
	m.late = late{}
	return was
}

// offer is called by the cursor's owner.
func (m *Membership) offer(seq uint64, payload []byte, sent time.Time) bool {
	// The client may acknowledge before Offer has returned.
	m.offered.Store(seq)
	if !m.sock.Offer(seq, payload, sent) {
		m.offered.Store(m.cursor)
		return false
	}
	m.cursor = seq
	return true
}

// pump offers the mailbox's entries until the socket is level with it, then ends.
func (m *Membership) pump(ctx context.Context) {
	pause := readPauseFirst
	for {
		got, err := m.read(ctx)
		if err == nil {
			pause = readPauseFirst
			err = m.deliver(ctx, got)
			if err != nil {
				m.end() // closed; its owner will call Leave
				return
			}
			if !got.more && m.settle() {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		m.node.log.Warn().Err(err).Str("conn", m.conn).Msg("mailbox read failed")
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, readPauseMost)
	}
}

// settle ends the pump unless there is more to read.
func (m *Membership) settle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase != behind {
		return true
	}
	if m.missed {
		m.missed = false
		return false
	}
	m.phase = level
	m.cancel()
	m.cancel = nil
	return true
}

// deliver offers entries in order, waiting for room. An error means that the socket
// is closed or ctx has ended.
func (m *Membership) deliver(ctx context.Context, got *reading) error {
	late := m.takeLate(got.upTo())
	for _, e := range got.entries {
		var sent time.Time
		if e.seq == late.seq {
			sent = late.sent
		}
		for refused := 0; !m.offer(e.seq, e.payload, sent); refused++ {
			if err := m.sock.Room(ctx); err != nil {
				return err
			}
			if refused >= freeRefusals && !sleep(ctx, refusalPause) {
				return ctx.Err()
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if got.newest > m.cursor {
		m.cursor = got.newest // numbers that are gone: acknowledged, trimmed
		m.offered.Store(m.cursor)
	}
	return nil
}

type entry struct {
	seq     uint64
	payload []byte
}

// reading is read.lua's result.
type reading struct {
	more    bool
	anew    bool   // entries are all there is, under new numbers
	newest  uint64 // 0 = not reported
	entries []entry
}

// upTo is the newest seq covered.
func (r *reading) upTo() uint64 {
	if n := len(r.entries); n > 0 {
		return max(r.newest, r.entries[n-1].seq)
	}
	return r.newest
}

// read returns the entries after the cursor. It ends the membership when
// another connection has taken its place, and records it again when Redis has
// lost the record.
func (m *Membership) read(ctx context.Context) (*reading, error) {
	n := m.node
	select {
	case n.readSlots <- struct{}{}:
		defer func() { <-n.readSlots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	reply, err := readScript.Run(ctx, n.rdb, m.readKeys(),
		m.conn, m.cursor, readMessages, readBytes, m.at).Slice()
	if err != nil {
		return nil, fmt.Errorf("read mailbox: %w", err)
	}
	owner, got, err := parseReading(reply)
	if err != nil {
		return nil, err
	}
	n.cfg.Observer.Drained(len(got.entries))
	switch owner {
	case ownedByOther:
		m.supersede()
		return nil, ErrSuperseded
	case ownedByNone:
		if err := m.restore(ctx); err != nil {
			return nil, err
		}
	}
	if got.anew {
		n.log.Warn().Str("conn", m.conn).Uint64("seq", m.cursor).Msg("mailbox rolled back, delivering all of it")
	}
	return got, nil
}

func (m *Membership) readKeys() []string {
	k := m.node.keys
	return []string{k.mailbox(m.member), k.presence(m.member), k.usage(m.member), k.generations(m.member)}
}

// owner.lua's replies on a member's live socket, and ack.lua's own.
const (
	ownedByNone  = -1
	ownedByOther = 0
	ownedByThis  = 1
	foreignSeq   = 2
)

func parseReading(reply []any) (owner int64, got *reading, err error) {
	bad := func() (int64, *reading, error) {
		return 0, nil, fmt.Errorf("read mailbox: reply of %d values is not understood", len(reply))
	}
	if len(reply) < 3 || len(reply)%2 == 0 {
		return bad()
	}
	owner, ok1 := reply[0].(int64)
	more, ok2 := reply[1].(int64)
	newest, err := parseSeq(reply[2])
	if !ok1 || !ok2 || err != nil {
		return bad()
	}
	got = &reading{more: more > 0, anew: more == 2, newest: newest, entries: make([]entry, 0, len(reply)/2-1)}
	for i := 3; i < len(reply); i += 2 {
		seq, err := parseSeq(reply[i])
		payload, ok := reply[i+1].(string)
		if err != nil || !ok {
			return bad()
		}
		got.entries = append(got.entries, entry{seq, []byte(payload)})
	}
	return owner, got, nil
}

func parseSeq(v any) (uint64, error) {
	s, _ := v.(string)
	return strconv.ParseUint(s, 10, 64)
}

func (m *Membership) isEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.phase == ended
}

// end stops delivery and reports whether it had not ended before.
func (m *Membership) end() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.phase == ended {
		return false
	}
	m.phase = ended
	if m.cancel != nil {
		m.cancel()
		m.cancel = nil
	}
	return true
}

// supersede ends the membership and closes its socket as superseded.
func (m *Membership) supersede() {
	m.node.forget(m)
	if m.end() {
		m.node.log.Info().Str("conn", m.conn).Msg("superseded")
		m.sock.Supersede()
	}
}

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

// listen subscribes and handles publications until the subscription breaks. It
// reports whether the subscription was ever confirmed.
func (n *Node) listen(ctx context.Context) (confirmed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	subscribe := n.rdb.Subscribe
	if n.cfg.Sharded {
		subscribe = n.rdb.SSubscribe
	}
	sub := subscribe(ctx, n.keys.channel(n.cfg.NodeID))
	// Receive waits without a deadline (a timeout in the middle of a message would
	// truncate it), so only closing ends it: the prober does it.
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

// wakeAll makes every membership read its mailbox.
func (n *Node) wakeAll() {
	n.mu.Lock()
	all := n.membersLocked()
	n.mu.Unlock()
	for _, m := range all {
		m.wake()
	}
}

// receive handles one publication: "m <conn> <seq> <sent> <payload>", a message; "s
// <conn>", that connection is superseded; "w <conn>", it must read its mailbox; "n
// <text>", a notice; "e <n>", the node's echo. It never blocks.
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
