package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

const (
	callMessages = 64      // most messages of one append
	callBytes    = 1 << 20 // most bytes of one append; a single message may pass it
	maxMessageID = 512     // bytes of Message.ID
	seenKeep     = 4096    // ids that a mailbox remembers, at least
)

// Message is one entry of a member's mailbox to be.
type Message struct {
	To      string // the member
	Payload []byte // opaque; not kept after Send returns
	// ID makes the message idempotent: the same ID is appended to the same
	// mailbox once, however often and from whichever nodes it is sent. Up to 512
	// bytes. A mailbox remembers its newest 4096 IDs. Empty means that each Send
	// appends.
	ID string
}

// SendError says which of the messages of one Send was not appended, and why.
type SendError struct {
	Index int    // of the message among Send's arguments
	To    string // its member
	Err   error
}

// Error implements error.
func (e *SendError) Error() string { return "send to " + e.To + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *SendError) Unwrap() error { return e.Err }

// Send appends messages to the mailboxes of their members, in their order, and
// hurries them to the sockets of those who are connected anywhere. It returns
// when the mailboxes hold them; nobody needs to be connected.
//
// Each message that was not appended is a *SendError in the error, which then
// unwraps to several ([errors.Join]): ErrMailboxFull, ErrBadID, ErrNotSent, or
// what Redis or the context said. After a failure no later message of the same
// Send to the same member is appended. When the reply of Redis is lost, the
// message may or may not have been appended; with an ID it is safe to send
// again. Safe for concurrent use.
func (n *Node) Send(ctx context.Context, msgs ...Message) error {
	b := &batch{msgs: msgs, failed: make([]error, len(msgs)), broken: map[string]bool{}}
	for _, round := range b.plan() {
		// Two pipelines: go-redis may repeat the first when a connection breaks,
		// because every message in it has an id, and must not repeat the second.
		for _, once := range []bool{false, true} {
			calls := b.pending(round, once)
			n.exec(ctx, calls, once)
			n.publish(ctx, b.settle(calls, n.cfg.Sharded))
		}
	}
	return b.err()
}

// batch is one Send on its way.
type batch struct {
	msgs   []Message
	failed []error         // by message
	broken map[string]bool // members to whom nothing more is sent
}

// call is one run of the append script: messages for one member, in order.
type call struct {
	to    string
	index []int // of the messages among Send's arguments
	args  []any // id, payload, id, payload, …
	bytes int
	once  bool // holds a message without an id: must not be repeated blindly
	cmd   *redis.Cmd
}

// plan sorts messages into calls, and calls into rounds: each round has at most
// one call per member, so that the order of one member's messages does not
// hang on which command of a pipeline fails.
func (b *batch) plan() [][]*call {
	type place struct {
		round int
		call  *call
	}
	var rounds [][]*call
	last := make(map[string]place, len(b.msgs))
	for i := range b.msgs {
		m := &b.msgs[i]
		if !validID(m.To) || len(m.ID) > maxMessageID {
			b.fail(i, ErrBadID)
			continue
		}
		if b.broken[m.To] {
			b.fail(i, ErrNotSent)
			continue
		}
		p, ok := last[m.To]
		if !ok || len(p.call.index) == callMessages || p.call.bytes+len(m.Payload) > callBytes {
			round := 0
			if ok {
				round = p.round + 1
			}
			if round == len(rounds) {
				rounds = append(rounds, nil)
			}
			p = place{round: round, call: &call{to: m.To}}
			rounds[round] = append(rounds[round], p.call)
			last[m.To] = p
		}
		p.call.index = append(p.call.index, i)
		p.call.args = append(p.call.args, m.ID, m.Payload)
		p.call.bytes += len(m.Payload)
		p.call.once = p.call.once || m.ID == ""
	}
	return rounds
}

// pending returns the calls of a round that are of the one kind and whose
// members have not failed in an earlier round.
func (b *batch) pending(round []*call, once bool) []*call {
	var calls []*call
	for _, c := range round {
		switch {
		case c.once != once:
		case b.broken[c.to]:
			for _, i := range c.index {
				b.fail(i, ErrNotSent)
			}
		default:
			calls = append(calls, c)
		}
	}
	return calls
}

func (b *batch) fail(i int, err error) {
	b.failed[i] = err
	b.broken[b.msgs[i].To] = true
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

// onceCmd is a command that go-redis must not send a second time by itself.
type onceCmd struct{ *redis.Cmd }

// NoRetry implements redis.Cmder.
func (onceCmd) NoRetry() bool { return true }

// exec runs calls as one pipeline. Those that met a Redis without the script
// (it restarted, it failed over) did nothing there, so they are run again with
// its text, whatever they hold. (To load it first would, on Redis Cluster, need
// every server, the dead one too.)
func (n *Node) exec(ctx context.Context, calls []*call, once bool) {
	for _, run := range [][2]string{{"evalsha", appendScript.Hash()}, {"eval", appendLua}} {
		if len(calls) == 0 {
			return
		}
		pipe := n.cfg.Durable.Pipeline()
		for _, c := range calls {
			c.cmd = n.appendCmd(ctx, c, run)
			if once {
				_ = pipe.Process(ctx, onceCmd{c.cmd})
			} else {
				_ = pipe.Process(ctx, c.cmd)
			}
		}
		_, _ = pipe.Exec(ctx) // each command has its own error
		var missing []*call
		for _, c := range calls {
			if redis.HasErrorPrefix(c.cmd.Err(), "NOSCRIPT") {
				missing = append(missing, c)
			}
		}
		calls = missing
	}
}

func (n *Node) appendCmd(ctx context.Context, c *call, run [2]string) *redis.Cmd {
	channels := n.keys.channelPrefix()
	if n.cfg.Sharded {
		channels = ""
	}
	args := make([]any, 0, 10+len(c.args))
	args = append(args, run[0], run[1], 3,
		n.keys.mailbox(c.to), n.keys.seen(c.to), n.keys.presence(c.to),
		channels, n.cfg.MailboxMax, n.cfg.MailboxTTL.Milliseconds(), seenKeep)
	args = append(args, c.args...)
	cmd := redis.NewCmd(ctx, args...)
	cmd.SetFirstKeyPos(3)
	return cmd
}

// notice is something to publish to a node.
type notice struct{ node, text string }

// settle reads the replies of calls, notes what failed, and returns what is
// left to publish when the script did not.
func (b *batch) settle(calls []*call, sharded bool) []notice {
	var out []notice
	for _, c := range calls {
		reply, err := c.cmd.Slice()
		want := len(c.index)
		if sharded {
			want += 2
		}
		if err == nil && len(reply) != want {
			err = fmt.Errorf("append: redis returned %d values, want %d", len(reply), want)
		}
		if err != nil {
			for _, i := range c.index {
				b.fail(i, err)
			}
			continue
		}
		var node, conn string
		if sharded {
			node, _ = reply[want-2].(string)
			conn, _ = reply[want-1].(string)
		}
		for k, i := range c.index {
			switch r := reply[k].(type) {
			case string:
				if node != "" {
					out = append(out, notice{node, messageText(conn, r, b.msgs[i].Payload)})
				}
			case int64:
				if r < 0 {
					b.fail(i, ErrMailboxFull)
				}
			}
		}
	}
	return out
}

// publish hurries notices to their nodes. What it cannot say is found in the
// mailbox, so its failure is nobody's error.
func (n *Node) publish(ctx context.Context, notices []notice) {
	if len(notices) == 0 {
		return
	}
	pipe := n.rdb.Pipeline()
	for _, p := range notices {
		pipe.SPublish(ctx, n.keys.channel(p.node), p.text)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		n.log.Warn().Err(err).Msg("publish failed")
	}
}

func messageText(conn, seq string, payload []byte) string {
	return "m " + conn + " " + seq + " " + string(payload)
}
