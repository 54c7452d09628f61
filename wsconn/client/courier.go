package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// windowSize limits the unanswered messages. It keeps a client with many
	// messages below the server's rate limit.
	windowSize = 64
	// answerWithin is how long the server may take to answer a message before the
	// connection is closed: longer than the server's own limit.
	answerWithin = 45 * time.Second

	retryFirst = 200 * time.Millisecond // pause before resending a temporarily refused message
	retryMost  = 5 * time.Second
)

// parcel is a message on its way to the server.
type parcel struct {
	requestID string
	kind      wire.Type
	payload   json.RawMessage
	session   string // the session it is for, "" if it must outlive it
	attempt   int    // of a round message
	// done is called once the message has taken effect, with the server's
	// acknowledgement, or with the reason why it never will.
	done func(wire.Ack, *wire.Error)

	sent  time.Time // on this connection; zero if it has not been
	after time.Time // not to be sent before
	tries int       // temporary refusals
}

// courier keeps the messages that the server has not yet acknowledged, in order,
// and sends them again on each new connection.
type courier struct {
	wake chan struct{} // something may be ready to be sent

	mu    sync.Mutex
	queue []*parcel
}

func (c *courier) init() { c.wake = make(chan struct{}, 1) }

func (c *courier) ring() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// add queues a message. If one with the same request id is still queued, they are
// the same message.
func (c *courier) add(requestID string, p wire.Payload, session string, done func(wire.Ack, *wire.Error)) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode %s: %w", p.Type(), err)
	}
	entry := &parcel{requestID: requestID, kind: p.Type(), payload: raw, session: session, done: done}
	if tss, ok := p.(*wire.TSSMessage); ok {
		entry.attempt = tss.Attempt
	}
	c.mu.Lock()
	if !slices.ContainsFunc(c.queue, func(q *parcel) bool { return q.requestID == requestID }) {
		c.queue = append(c.queue, entry)
	}
	c.mu.Unlock()
	c.ring()
	return nil
}

// count returns how many messages of these types are unacknowledged.
func (c *courier) count(types ...wire.Type) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.queue {
		if slices.Contains(types, p.kind) {
			n++
		}
	}
	return n
}

// reset prepares for a new connection: nothing has been sent on it.
func (c *courier) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.queue {
		p.sent = time.Time{}
	}
	c.ring()
}

// next takes the next message to send. Without one it returns when to look again,
// or when a message will have been unanswered for too long, and whether one has;
// the zero time means only when notified.
func (c *courier) next(now time.Time) (p *parcel, at time.Time, overdue bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := 0
	for _, q := range c.queue {
		var due time.Time
		switch {
		case !q.sent.IsZero():
			waiting++
			due = q.sent.Add(answerWithin)
			overdue = overdue || !now.Before(due)
		case waiting >= windowSize:
			return nil, at, overdue
		case q.after.After(now):
			due = q.after
		default:
			q.sent = now
			return q, time.Time{}, overdue
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return nil, at, overdue
}

// take removes and returns the message with that request id, nil if absent.
func (c *courier) take(requestID string) *parcel {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.queue, func(p *parcel) bool { return p.requestID == requestID })
	if requestID == "" || i < 0 {
		return nil
	}
	p := c.queue[i]
	c.queue = slices.Delete(c.queue, i, i+1)
	c.ring()
	return p
}

// acked handles the server's acknowledgement that a message took effect.
func (c *courier) acked(requestID string, ack wire.Ack) {
	if p := c.take(requestID); p != nil && p.done != nil {
		p.done(ack, nil)
	}
}

// refused handles the server's error for a message. A temporary one delays it,
// unless a request lacks storage: that may last, so its caller gets the error.
func (c *courier) refused(requestID string, e *wire.Error, now time.Time) {
	if e.Temporary && !(e.Code == wire.CodeStorageFull && c.asks(requestID)) {
		c.putOff(requestID, now)
		return
	}
	if p := c.take(requestID); p != nil && p.done != nil {
		p.done(wire.Ack{}, e)
	}
}

// asks reports whether a queued message requests something new.
func (c *courier) asks(requestID string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.queue, func(p *parcel) bool {
		return p.requestID == requestID && (p.kind == wire.TypeKeygenRequest || p.kind == wire.TypeSignRequest)
	})
}

// putOff delays a message's next sending; with an empty request id that of all
// unanswered ones, since the server did not read which one it refused.
func (c *courier) putOff(requestID string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.queue {
		if p.sent.IsZero() || requestID != "" && p.requestID != requestID {
			continue
		}
		pause := min(retryFirst<<min(p.tries, 10), retryMost)
		p.tries++
		p.sent, p.after = time.Time{}, now.Add(pause)
	}
	c.ring()
}

// drop removes the messages of a session: all of them, or, with an attempt above 0,
// the round messages of earlier attempts.
func (c *courier) drop(session string, before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = slices.DeleteFunc(c.queue, func(p *parcel) bool {
		return p.session == session && session != "" && (before == 0 || p.attempt > 0 && p.attempt < before)
	})
	c.ring()
}
