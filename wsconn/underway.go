package wsconn

import (
	"context"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// maxUnderway is how many messages of one socket may be under way. Their frames
// together are bounded too, by Config.QueueBytes.
const maxUnderway = 32

// Later is the rest of what a Handler has to do with a message, where it has only
// begun: see [Handler.Receive].
type Later interface {
	// Done is closed when Answer has little left to do.
	Done() <-chan struct{}
	// Answer returns what Receive would have. It is called once.
	Answer() (wire.Payload, error)
}

// underway is a message that its Handler has begun to deal with.
type underway struct {
	m      wire.Message // without payload
	later  Later
	cancel context.CancelFunc // of the context that Receive had
	bytes  int                // of its frame
	begun  time.Time
}

// underways are a socket's, oldest first, guarded by its Conn.mu. While there are
// any, a goroutine answers them.
type underways struct {
	list  []underway
	bytes int
}

// awaitTurn waits until a message may be received: one that may be under way
// beside others when there are not too many of them, any other when there is
// none. It returns [ErrClosed] when the socket is closed.
func (c *Conn) awaitTurn(t wire.Type, bytes int) error {
	return c.await(context.Background(), func() bool {
		u := &c.underway
		switch t {
		case wire.TypeTSSMessage:
			return len(u.list) == 0 || len(u.list) < maxUnderway && u.bytes+bytes <= c.server.cfg.QueueBytes
		case wire.TypeAck:
			return true // says nothing of messages to the server
		}
		return len(u.list) == 0
	})
}

// begin notes a message that is under way.
func (c *Conn) begin(u underway) {
	u.m.Payload = nil // its memory is the frame's
	c.mu.Lock()
	defer c.mu.Unlock()
	c.underway.list = append(c.underway.list, u)
	c.underway.bytes += u.bytes
	if len(c.underway.list) == 1 {
		go c.conclude()
	}
}

// conclude answers what is under way, in order, until there is nothing. Answers
// that are known at one time are written together.
func (c *Conn) conclude() {
	defer c.release()
	for more := true; more; {
		u := c.oldest()
		select {
		case <-u.later.Done():
		default:
			c.release()
			<-u.later.Done()
		}
		c.hold()
		var reply wire.Payload
		err := c.guard("receive", func() (err error) {
			reply, err = u.later.Answer()
			return err
		})
		u.cancel()
		refusal := c.answer(u.m, reply, err)
		c.server.cfg.Observer.Handled(u.m.Type, refusal, time.Since(u.begun))
		more = c.concluded()
	}
}

func (c *Conn) oldest() underway {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.underway.list[0]
}

// concluded forgets the oldest message under way and reports whether there is
// another; if not, the next one to come is concluded by a goroutine of its own.
func (c *Conn) concluded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.underway
	u.bytes -= u.list[0].bytes
	u.list[0] = underway{}
	if u.list = u.list[1:]; len(u.list) == 0 {
		u.list = nil
	}
	c.wake()
	return u.list != nil
}

// awaitConclusion waits until nothing is under way.
func (c *Conn) awaitConclusion() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.underway.list) > 0 { // bounded by Config.HandleTimeout
		changed := c.waitable()
		c.mu.Unlock()
		<-changed
		c.mu.Lock()
	}
}
