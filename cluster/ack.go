package cluster

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

const (
	ackMembers = 512             // acknowledgements per pipeline
	ackWithin  = 3 * time.Second // timeout of one pipeline
	// ackEvery is the shortest interval between sending acknowledgements: no caller
	// waits for them, so few are better. If a node dies first, their messages stay in
	// the mailbox: a client that resumes does not get them again; one that does not,
	// such as the seed's, gets them once more, under the same seq.
	ackEvery = 200 * time.Millisecond
)

// Ack says that the client has received everything up to seq, which may then be
// forgotten. Messages that this socket was not handed are never forgotten. Ack does
// nothing once the membership is superseded or has left; a socket that is closed
// may still acknowledge until then.
func (m *Membership) Ack(ctx context.Context, seq uint64) error {
	seq = min(seq, m.offered.Load())
	if seq <= m.acked.Load() {
		return nil
	}
	owner, err := ackScript.Run(ctx, m.node.rdb, m.ackKeys(), m.conn, seq, seq+1, m.node.cfg.uncounted(), m.at).Int64()
	return m.ackDone(ctx, seq, owner, err)
}

// AckLater is Ack without waiting: the acknowledgement is sent later, together with
// those of other members, and a newer one replaces one that is still pending. Leave
// sends the pending one. A failure only causes a repeated delivery, until the next
// acknowledgement.
func (m *Membership) AckLater(seq uint64) {
	seq = min(seq, m.offered.Load())
	raiseTo(&m.ackable, seq)
	if m.ackable.Load() > m.acked.Load() && m.ackQueued.CompareAndSwap(false, true) {
		m.node.acks.Add(m)
	}
}

// Acknowledged returns the newest sequence number that this socket has
// acknowledged, by Ack or AckLater; 0 for none.
func (m *Membership) Acknowledged() uint64 { return max(m.acked.Load(), m.ackable.Load()) }

// flushAck sends the pending acknowledgement of AckLater.
func (m *Membership) flushAck(ctx context.Context) {
	if err := m.Ack(ctx, m.ackable.Load()); err != nil {
		m.node.log.Debug().Err(err).Str("conn", m.conn).Msg("ack not kept")
	}
}

// passAcks is the gatherer's work function.
func (n *Node) passAcks(batch []*Membership) {
	ctx, cancel := context.WithTimeout(context.Background(), ackWithin)
	defer cancel()
	type word struct {
		m   *Membership
		seq uint64
	}
	calls := make([]*redisx.Call, 0, len(batch))
	words := make([]word, 0, len(batch))
	for _, m := range batch {
		m.ackQueued.Store(false) // before seq is read: a later AckLater queues it anew
		if seq := m.ackable.Load(); seq > m.acked.Load() {
			words = append(words, word{m: m, seq: seq})
			calls = append(calls, ackScript.Call(m.ackKeys(), m.conn, seq, seq+1, n.cfg.uncounted(), m.at))
		}
	}
	redisx.RunCalls(ctx, n.rdb, false, calls) // each call has its own error
	for i, w := range words {
		owner, err := calls[i].Int64()
		if err := w.m.ackDone(ctx, w.seq, owner, err); err != nil {
			n.log.Debug().Err(err).Str("conn", w.m.conn).Msg("ack not kept")
		}
	}
}

func (m *Membership) ackKeys() []string {
	k := m.node.keys
	return []string{k.presence(m.member), k.mailbox(m.member), k.usage(m.member), k.generations(m.member)}
}

// ackDone acts on Redis's reply.
func (m *Membership) ackDone(ctx context.Context, seq uint64, owner int64, err error) error {
	if err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	switch owner {
	case ownedByOther:
		m.supersede()
	case ownedByNone:
		return m.restore(ctx) // the next ack trims
	case foreignSeq:
		m.wake() // another mailbox incarnation gave this number: the pump handles it
	default:
		raiseTo(&m.acked, seq)
	}
	return nil
}

func raiseTo(v *atomic.Uint64, to uint64) {
	for {
		was := v.Load()
		if was >= to || v.CompareAndSwap(was, to) {
			return
		}
	}
}
