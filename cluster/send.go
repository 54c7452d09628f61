package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

const (
	callMessages = 64      // maximum per append
	callBytes    = 1 << 20 // maximum per append; a single message may exceed it
	maxMessageID = 512     // bytes of Message.ID
	seenKeep     = 4096    // ids that a mailbox remembers, at least

	sendsAtOnce  = 512             // maximum per pipeline
	pipeBytes    = 4 << 20         // maximum per pipeline; a single Send may exceed it
	appendWithin = 5 * time.Second // per pipeline, independent of the callers' contexts
)

// Message is one entry to append to a member's mailbox.
type Message struct {
	To      string // the member
	Payload []byte // opaque; not to be changed after Send
	// ID makes the message idempotent: the same ID is appended to the same
	// mailbox once, however often and from whichever nodes it is sent. Up to 512
	// bytes. A mailbox remembers its newest 4096 IDs. Empty means that each Send
	// appends.
	ID string
	// Payer is the causer of the message, an opaque id of at most 512 bytes: the
	// message counts against its share of the mailbox. It may be the member itself.
	// Empty means that only the bounds of the whole mailbox apply.
	Payer string
	// Group is the id of what the message belongs to, opaque, of at most 512 bytes.
	// Empty means no group.
	Group string
	// Ends says that the message makes all others of its group in this mailbox
	// worthless, before it and after: they are removed if they would stay there for
	// long, and later ones are not appended (and no error).
	Ends bool
}

// SendError says which message of a Send was not appended, and why.
type SendError struct {
	Index int    // of the message among Send's arguments
	To    string // its member
	Err   error
}

// Error implements error.
func (e *SendError) Error() string { return "send to " + e.To + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Send appends messages to the mailboxes of their members, in order, and notifies
// the nodes of connected members. It returns when the mailboxes hold them; no
// member needs to be connected.
//
// Each message that was not appended is a *SendError in the error, which then
// unwraps to several ([errors.Join]): ErrMailboxFull, ErrShareUsed, ErrGroupFull,
// ErrBadID, ErrNotSent, or an error of Redis or the context. After a failure no
// later message of the same Send to the same member is appended. When Redis's reply
// is lost, or ctx ends meanwhile, the message may or may not have been appended;
// with an ID it is safe to send again. Safe for concurrent use.
func (n *Node) Send(ctx context.Context, msgs ...Message) error {
	s := n.Begin(ctx, msgs...)
	select {
	case <-s.Done():
		return s.Err()
	case <-ctx.Done():
	}
	select {
	case <-s.Done(): // both are ready: return the known result
		return s.Err()
	default:
		return s.b.all(ctx.Err())
	}
}

// Sending is a Send in progress.
type Sending struct{ b *batch }

// Done is closed when Err is ready.
func (s *Sending) Done() <-chan struct{} { return s.b.done }

// Err returns Send's result, once Done is closed.
func (s *Sending) Err() error { return s.b.err() }

// Begin is Send, but returns when its place in the order is fixed: Sends that one
// goroutine begins in turn are appended in that order, though a later one may
// succeed where an earlier one has failed. With no other Send in progress it may
// already be done. The deadline of ctx covers the whole Send; a cancellation of ctx
// does not stop it once begun.
func (n *Node) Begin(ctx context.Context, msgs ...Message) *Sending {
	b := &batch{msgs: msgs, failed: make([]error, len(msgs)), sent: n.clockNow(), done: isDone}
	b.deadline, _ = ctx.Deadline()
	switch err := ctx.Err(); {
	case err != nil:
		for i := range msgs {
			b.fail(i, err)
		}
	case len(msgs) == 0:
	case n.cfg.Sharded: // batched, it would wait for the slowest server
		n.append(ctx, b)
	// go-redis honours a deadline, but not a cancellation.
	case !b.deadline.IsZero() && n.sends.Lead():
		defer n.sends.Pass()
		n.append(ctx, b)
	default:
		b.done = make(chan struct{})
		n.sends.Add(b)
	}
	return &Sending{b}
}

// isDone is a closed channel.
var isDone = func() chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// appendAll is the gatherer's work function.
func (n *Node) appendAll(sends []*batch) {
	for len(sends) > 0 {
		// As many as one pipeline should hold.
		some, bytes := 0, 0
		for some < len(sends) && (some == 0 || bytes+sends[some].bytes() <= pipeBytes) {
			bytes += sends[some].bytes()
			some++
		}
		ctx, cancel := carried(sends[:some])
		n.append(ctx, sends[:some]...)
		cancel()
		for _, b := range sends[:some] {
			close(b.done)
		}
		sends = sends[some:]
	}
}

// carried returns a context for work that several callers wait for: it ends with
// the last of their deadlines.
func carried(sends []*batch) (context.Context, context.CancelFunc) {
	var last time.Time
	for _, b := range sends {
		if b.deadline.IsZero() {
			return context.WithCancel(context.Background())
		}
		if b.deadline.After(last) {
			last = b.deadline
		}
	}
	return context.WithDeadline(context.Background(), last)
}

// append carries sends out, in their order.
func (n *Node) append(ctx context.Context, sends ...*batch) {
	for _, round := range plan(sends) {
		// Two pipelines: go-redis may repeat the first when a connection breaks,
		// because every message in it has an id, and must not repeat the second.
		for _, once := range []bool{false, true} {
			calls := pending(round, once)
			if n.cfg.Sharded {
				n.appendApart(ctx, calls, once)
				continue
			}
			n.exec(ctx, calls, once)
			n.publish(ctx, n.settle(calls))
		}
	}
}

// batch is one Send in progress.
type batch struct {
	msgs     []Message
	sent     int64     // by the cluster's clock
	deadline time.Time // after which its caller no longer waits; zero if it has none
	done     chan struct{}

	// Owned by the goroutine that carries it out, until done is closed.
	failed []error         // by message
	broken map[string]bool // members to whom nothing more is sent; may be nil
}

func (b *batch) fail(i int, err error) {
	b.failed[i] = err
	if b.broken == nil {
		b.broken = map[string]bool{}
	}
	b.broken[b.msgs[i].To] = true
}

func (b *batch) bytes() (sum int) {
	for i := range b.msgs {
		sum += len(b.msgs[i].Payload)
	}
	return sum
}

func (b *batch) err() error {
	var errs []error
	for i, err := range b.failed {
		if err != nil {
			errs = append(errs, &SendError{Index: i, To: b.msgs[i].To, Err: err})
		}
	}
	return errors.Join(errs...)
}

// all is the error of a Send whose caller has stopped waiting.
func (b *batch) all(err error) error {
	errs := make([]error, len(b.msgs))
	for i := range b.msgs {
		errs[i] = &SendError{Index: i, To: b.msgs[i].To, Err: err}
	}
	return errors.Join(errs...)
}

// exec runs calls as one pipeline. With once go-redis does not retry any of them.
func (n *Node) exec(ctx context.Context, calls []*call, once bool) {
	ctx, cancel := context.WithTimeout(ctx, appendWithin)
	defer cancel()
	runs := make([]*redisx.Call, len(calls))
	for i, c := range calls {
		c.run = n.appendCall(c)
		runs[i] = c.run
	}
	redisx.RunCalls(ctx, n.cfg.Durable, once, runs) // each call has its own error
}

func (n *Node) appendCall(c *call) *redisx.Call {
	ids := slices.ContainsFunc(c.places, func(p place) bool { return p.message().ID != "" })
	renew := 0
	if n.renewed.due(c.to, ids, time.Now()) {
		renew = 1
	}
	k := n.keys
	args := make([]any, 0, len(n.appendArgs)+4+6*len(c.places))
	args = append(args, n.appendArgs...)
	args = append(args, renew, c.places[0].send.sent, c.to, n.cfg.uncounted())
	send := 0
	for i, p := range c.places {
		m := p.message()
		if i > 0 && p.send != c.places[i-1].send {
			send++
		}
		ends := 0
		if m.Ends {
			ends = 1
		}
		args = append(args, m.ID, m.Payer, m.Group, ends, send, m.Payload)
	}
	return appendScript.Call([]string{
		k.mailbox(c.to), k.seen(c.to), k.seenBefore(c.to), k.presence(c.to), k.usage(c.to), k.joined(c.to), k.generations(c.to),
	}, args...)
}

// appendArgs returns the append script's constant arguments, made once for all
// calls.
func appendArgs(cfg *Config, k keys) []any {
	channels := k.channelPrefix()
	if cfg.Sharded {
		channels = "" // publishing is left to the caller
	}
	return []any{channels, cfg.MailboxMax, cfg.MailboxMaxBytes, cfg.MailboxTTL.Milliseconds(),
		cfg.UnseenMax, cfg.UnseenMaxBytes, cfg.UnseenTTL.Milliseconds(), cfg.GroupMax, cfg.GroupMaxBytes,
		joinedTTL.Milliseconds(), seenKeep}
}

// uncounted is how many entries of the mailbox of a member with a socket are not
// counted, if none exceeds 8 KiB: at most 1/32 of the mailbox.
func (c *Config) uncounted() int { return min(256, c.MailboxMax/32, c.MailboxMaxBytes/32>>13) }

// refusals maps append.lua's negative replies to errors.
var refusals = map[int64]error{-1: ErrMailboxFull, -2: ErrShareUsed, -3: ErrGroupFull}

// notice is a publication to a node.
type notice struct{ node, text string }

// settle reads the replies of calls, records failures, and returns the notices
// still to publish when the script did not.
func (n *Node) settle(calls []*call) []notice {
	var out []notice
	for _, c := range calls {
		reply, err := c.run.Slice()
		want := len(c.places) + 1
		if n.cfg.Sharded {
			want += 2
		}
		if err == nil && len(reply) == want+1 { // appended, and something failed after it
			n.noteTrouble(c, reply[want])
			reply = reply[:want]
		}
		if err == nil && len(reply) != want {
			err = fmt.Errorf("append: redis returned %d values, want %d", len(reply), want)
		}
		if err != nil {
			n.renewed.forget(c.to)
			for _, p := range c.places {
				p.fail(err)
			}
			continue
		}
		var node, conn string
		if n.cfg.Sharded {
			node, _ = reply[want-2].(string)
			conn, _ = reply[want-1].(string)
		}
		var refused error
		look := false
		for k, p := range c.places {
			switch r := reply[k].(type) {
			case string:
				if node != "" {
					out = append(out, notice{node, messageText(conn, r, c.places[0].send.sent, p.message().Payload)})
				}
			case int64:
				look = look || r == 0
				if r < 0 {
					refused = refusals[r]
					p.fail(refused)
				}
			}
		}
		// The earlier append may never have been published: its reply was lost, or
		// go-redis has repeated the round trip because another mailbox's slot
		// replied "not now".
		if look && node != "" {
			out = append(out, notice{node, "w " + conn})
		}
		if depth, ok := reply[len(c.places)].(int64); ok {
			n.cfg.Observer.Appended(int(depth))
		}
		if refused != nil {
			n.cfg.Observer.Refused(refused)
		}
	}
	return out
}

// publish sends notices to their nodes. A lost notice's message is still in the
// mailbox, so a failure is not returned.
func (n *Node) publish(ctx context.Context, notices []notice) {
	if len(notices) == 0 {
		return
	}
	pipe := n.rdb.Pipeline()
	for _, p := range notices {
		pipe.SPublish(ctx, n.keys.channel(p.node), p.text)
	}
	if err := redisx.Exec(ctx, pipe); err != nil {
		n.setMute(err.Error())
	}
}

// noteTrouble records a failure after a call's messages were appended.
func (n *Node) noteTrouble(c *call, why any) {
	n.renewed.forget(c.to)
	text, _ := why.(string)
	n.setMute(text)
}

func messageText(conn, seq string, sent int64, payload []byte) string {
	return "m " + conn + " " + seq + " " + strconv.FormatInt(sent, 10) + " " + string(payload)
}

// place is one message of a Send.
type place struct {
	send  *batch
	index int
}

func (p place) message() *Message { return &p.send.msgs[p.index] }

func (p place) fail(err error) { p.send.fail(p.index, err) }

// call is one run of the append script: messages for one member, in order.
type call struct {
	to     string
	places []place
	round  int
	bytes  int
	once   bool         // holds a message without an id: must not be repeated blindly
	run    *redisx.Call // nil until sent
}

// takes reports whether a message may join the call. A message with an id does not
// join another Send's without one: it could then not be retried.
func (c *call) takes(p place) bool {
	m := p.message()
	same := c.once == (m.ID == "") || c.places[0].send == p.send
	return same && len(c.places) < callMessages && c.bytes+len(m.Payload) <= callBytes
}

// plan sorts messages into calls, and calls into rounds: each round has at most one
// call per member, so that the order of one member's messages does not depend on
// which command of a pipeline fails.
func plan(sends []*batch) [][]*call {
	var rounds [][]*call
	last := make(map[string]*call, len(sends))
	now := time.Now()
	for _, b := range sends {
		late := !b.deadline.IsZero() && !b.deadline.After(now)
		for i := range b.msgs {
			m, p := &b.msgs[i], place{b, i}
			if late {
				p.fail(context.DeadlineExceeded)
				continue
			}
			if !validID(m.To) || max(len(m.ID), len(m.Payer), len(m.Group)) > maxMessageID {
				p.fail(ErrBadID)
				continue
			}
			if b.broken[m.To] {
				p.fail(ErrNotSent)
				continue
			}
			c := last[m.To]
			if c == nil || !c.takes(p) {
				next := &call{to: m.To}
				if c != nil {
					next.round = c.round + 1
				}
				if next.round == len(rounds) {
					rounds = append(rounds, nil)
				}
				rounds[next.round] = append(rounds[next.round], next)
				c, last[m.To] = next, next
			}
			c.places = append(c.places, p)
			c.bytes += len(m.Payload)
			c.once = c.once || m.ID == ""
		}
	}
	return rounds
}

// pending returns the calls of a round that are of one kind, without messages whose
// Send failed to reach the member in an earlier round.
func pending(round []*call, once bool) []*call {
	var calls []*call
	for _, c := range round {
		if c.once != once {
			continue
		}
		c.places = slices.DeleteFunc(c.places, func(p place) bool {
			broken := p.send.broken[c.to]
			if broken {
				p.fail(ErrNotSent)
			}
			return broken
		})
		if len(c.places) > 0 {
			calls = append(calls, c)
		}
	}
	return calls
}
