package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
)

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
	run    *redisx.Call // once it was sent
}

// takes reports whether a message may join the call. One with an id joins none
// of another Send without: that would take from it that it may be repeated.
func (c *call) takes(p place) bool {
	m := p.message()
	same := c.once == (m.ID == "") || c.places[0].send == p.send
	return same && len(c.places) < callMessages && c.bytes+len(m.Payload) <= callBytes
}

// plan sorts messages into calls, and calls into rounds: each round has at most
// one call per member, so that the order of one member's messages does not
// hang on which command of a pipeline fails.
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

// pending returns the calls of a round that are of the one kind, without the
// messages whose Send has failed to reach the member in an earlier round.
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
