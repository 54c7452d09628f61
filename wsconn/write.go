package wsconn

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// queue holds the frames to be written to one socket, guarded by its Conn.mu. It
// holds no memory while it is empty.
type queue struct {
	mail      []mail   // mailbox frames, in order of seq
	mailBytes int      // their sum
	turnedBig int      // size of the frame that Offer last refused
	replies   [][]byte // direct replies, written before mail and pings
	pingDue   bool
	pongDue   bool
	pongData  string
	asked     bool // a ping is pending that asks a client without acks what it has
	closeDue  bool
	closeText []byte
	writing   bool // a writing goroutine runs
	held      bool // none may be started: more frames are about to be queued
}

type mail struct {
	seq   uint64
	frame []byte
	sent  time.Time
}

func (q *queue) empty() bool {
	return len(q.replies) == 0 && len(q.mail) == 0 && !q.pingDue && !q.pongDue && !q.closeDue
}

// fits reports whether a mailbox frame of n bytes may be queued.
func (q *queue) fits(n, messages, bytes int) bool {
	return len(q.mail) == 0 || len(q.mail) < messages && q.mailBytes+n <= bytes
}

// take makes the caller the writing goroutine, unless one runs already.
func (q *queue) take() bool {
	if q.writing {
		return false
	}
	q.writing = true
	return true
}

// drop discards the queue. Mail remains in the mailbox.
func (q *queue) drop() {
	writing := q.writing
	*q = queue{writing: writing}
}

// Offer queues a mailbox frame, as [wire.Message.Encode] made it, to be written
// with that seq. It never blocks and reports false when there is no room or the
// socket is closed; the frame must not be modified after true. Sent is for
// Config.Observer: when the frame was sent, zero if unknown.
func (c *Conn) Offer(seq uint64, frame []byte, sent time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return false
	}
	if !c.queue.fits(len(frame), c.server.cfg.QueueMessages, c.server.cfg.QueueBytes) {
		c.queue.turnedBig = len(frame)
		c.server.cfg.Observer.TurnedAway()
		return false
	}
	c.queue.mail = append(c.queue.mail, mail{seq, frame, sent})
	c.queue.mailBytes += len(frame)
	c.kick()
	return true
}

// Room waits until Offer has room for the frame it last refused and half the queue
// is free, so that the caller is not woken for each frame. It returns [ErrClosed]
// when the socket is closed, or ctx's error.
func (c *Conn) Room(ctx context.Context) error {
	cfg := &c.server.cfg
	return c.await(ctx, func() bool {
		return len(c.queue.mail) <= cfg.QueueMessages/2 && c.queue.fits(c.queue.turnedBig, cfg.QueueMessages, cfg.QueueBytes)
	})
}

// reply queues a direct reply, waiting while too many are queued: the caller is the
// reading goroutine, so reading stops for a client that does not read. The wait
// ends at the latest when the write deadline closes the socket.
func (c *Conn) reply(frame []byte) {
	err := c.await(context.Background(), func() bool { return len(c.queue.replies) < maxReplies })
	if err != nil {
		return
	}
	c.mu.Lock()
	if alone := frame != nil && !c.closing && !c.queue.writing && !c.queue.held && c.queue.empty(); !alone {
		c.queueReply(frame)
		c.mu.Unlock()
		return
	}
	// As the writing goroutine, for this one frame. Frames queued meanwhile go to
	// another writer, so that reading does not wait for more than its reply.
	c.queue.writing = true
	c.mu.Unlock()
	err = c.writeText(frame)
	if err == nil {
		err = c.stream.flush()
	}
	if err != nil {
		c.giveUp(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.writing = false
	c.wake()
	c.kick()
}

// queueReply queues a direct reply at once. c.mu is held.
func (c *Conn) queueReply(frame []byte) {
	if frame == nil || c.closing {
		return
	}
	c.queue.replies = append(c.queue.replies, frame)
	if len(c.queue.replies) >= maxReplies {
		c.queue.held = false // the holder may be the next to wait
	}
	c.kick()
}

// hold delays writing until release.
func (c *Conn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue.held = true
}

// release writes the frames delayed by hold, unless another goroutine does.
func (c *Conn) release() {
	c.mu.Lock()
	q := &c.queue
	q.held = false
	writes := !q.empty() && q.take()
	c.mu.Unlock()
	if writes {
		c.write()
	}
}

// await blocks until ok, which is called with c.mu held, or the socket closes.
func (c *Conn) await(ctx context.Context, ok func() bool) error {
	for {
		c.mu.Lock()
		if c.closing {
			c.mu.Unlock()
			return ErrClosed
		}
		if ok() {
			c.mu.Unlock()
			return nil
		}
		changed := c.waitable()
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitable returns a channel that wake closes. c.mu is held.
func (c *Conn) waitable() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// wake wakes all waiters for a change of the queue or state. c.mu is held.
func (c *Conn) wake() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// kick starts the writing goroutine unless one runs. c.mu is held.
func (c *Conn) kick() {
	if !c.queue.held && !c.queue.empty() && c.queue.take() {
		go c.write()
	}
}

// outgoing is one frame to be written.
type outgoing struct {
	kind int // of gorilla/websocket's message types
	data []byte
	mail bool // data is a mailbox frame, to be given its seq
	seq  uint64
	sent time.Time

	flush bool // no frame: the queue is empty for now
}

// write is the writing goroutine: it ends when nothing remains to be written.
func (c *Conn) write() {
	for {
		out, ok := c.next()
		if !ok {
			return
		}
		var err error
		switch {
		case out.flush:
			err = c.stream.flush()
		case out.mail:
			err = c.writeMail(out)
		case out.kind == websocket.TextMessage:
			err = c.writeText(out.data)
		default:
			err = c.ws.WriteControl(out.kind, out.data, c.writeDeadline())
		}
		if err != nil {
			c.giveUp(err)
			return
		}
	}
}

// giveUp ends the socket after a failed write: half a frame may have been sent, and
// nothing valid can follow it, not even a close frame.
func (c *Conn) giveUp(err error) {
	c.mu.Lock()
	if !c.closing {
		c.closing, c.closeCode = true, websocket.CloseAbnormalClosure
		// The library hides os.ErrDeadlineExceeded.
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			c.closeCode = wire.CloseSlow
		}
	}
	c.stream.drop()
	c.queue.drop()
	c.queue.writing = false
	c.wake()
	c.mu.Unlock()
	_ = c.ws.Close() // the reading goroutine wakes up and finishes
}

// next takes the next frame to write from the queue. If there is none, the writing
// goroutine must end: another is started for later frames.
func (c *Conn) next() (outgoing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := &c.queue
	switch {
	case q.pongDue:
		out := outgoing{kind: websocket.PongMessage, data: []byte(q.pongData)}
		q.pongDue, q.pongData = false, ""
		return out, true
	case len(q.replies) > 0:
		out := outgoing{kind: websocket.TextMessage, data: q.replies[0]}
		if q.replies[0], q.replies = nil, q.replies[1:]; len(q.replies) == 0 {
			q.replies = nil
		}
		c.wake()
		return out, true
	case q.closeDue:
		q.closeDue = false
		return outgoing{kind: websocket.CloseMessage, data: q.closeText}, true
	case q.pingDue:
		q.pingDue = false
		out := outgoing{kind: websocket.PingMessage}
		if !c.acks && c.written > c.acked {
			out.data = strconv.AppendUint(nil, c.written, 10)
			q.asked = true
		}
		return out, true
	case len(q.mail) > 0:
		m := q.mail[0]
		if q.mail[0], q.mail = (mail{}), q.mail[1:]; len(q.mail) == 0 {
			q.mail = nil
		}
		q.mailBytes -= len(m.frame)
		c.wake()
		return outgoing{kind: websocket.TextMessage, data: m.frame, mail: true, seq: m.seq, sent: m.sent}, true
	}
	if c.stream.held != nil {
		return outgoing{flush: true}, true
	}
	q.writing = false
	c.wake()
	return outgoing{}, false
}

// seqBuffers are lent while a mailbox frame is written with its seq.
var seqBuffers = sync.Pool{New: func() any { return new([]byte) }}

func (c *Conn) writeMail(out outgoing) error {
	seq, frame := out.seq, out.data
	reveal := c.server.cfg.Reveal
	if reveal != nil {
		if frame = reveal(c.UserID(), frame); frame == nil {
			c.log(zerolog.ErrorLevel).Str("account", c.UserID()).Uint64("seq", seq).Msg("mailbox frame cannot be decrypted here")
			c.Close(wire.CloseUnavailable, "this node cannot read your mailbox; connect to another")
			return nil
		}
	}
	buf := seqBuffers.Get().(*[]byte)
	*buf = wire.AppendSeq((*buf)[:0], frame, seq)
	err := c.writeText(*buf)
	if reveal != nil {
		clear(*buf) // it may hold a frame that was decrypted for this write alone
	}
	if cap(*buf) <= maxPooledBytes {
		seqBuffers.Put(buf)
	}
	if err != nil {
		return err
	}
	c.server.cfg.Observer.Written(out.data, out.sent)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written = seq
	if !c.acks && !c.queue.asked && !c.closing {
		c.queue.pingDue = true
	}
	return nil
}

func (c *Conn) writeText(frame []byte) error {
	_ = c.ws.SetWriteDeadline(c.writeDeadline())
	return c.ws.WriteMessage(websocket.TextMessage, frame)
}

// writeDeadline is that of the next frame, or of all final frames together.
func (c *Conn) writeDeadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return c.closeBy
	}
	return time.Now().Add(c.server.cfg.WriteTimeout)
}

// stream is a socket's network connection once it is a WebSocket. It buffers writes
// until flush, so that frames available together make one packet and one system
// call; the buffer is lent while it holds data. Only one goroutine writes and
// flushes at a time.
type stream struct {
	net.Conn
	upgraded bool // earlier writes are the handshake, and not buffered
	held     *[]byte
	deadline time.Time // of writing, as requested
	set      time.Time // as set on the connection
	slack    time.Duration
}

// streamBytes is how much a stream buffers before it flushes by itself.
const streamBytes = 16 << 10

var streamBuffers = sync.Pool{New: func() any {
	buf := make([]byte, 0, streamBytes)
	return &buf
}}

// Write implements net.Conn.
func (s *stream) Write(p []byte) (int, error) {
	switch {
	case !s.upgraded:
		return s.Conn.Write(p)
	case s.held == nil && len(p) >= streamBytes:
		s.setDeadline()
		return s.Conn.Write(p)
	case s.held == nil:
		s.held = streamBuffers.Get().(*[]byte)
	case len(*s.held)+len(p) > streamBytes:
		if err := s.flush(); err != nil {
			return 0, err
		}
		return s.Write(p)
	}
	*s.held = append(*s.held, p...)
	return len(p), nil
}

// flush writes the buffered data.
func (s *stream) flush() error {
	if s.held == nil {
		return nil
	}
	s.setDeadline()
	_, err := s.Conn.Write(*s.held)
	s.drop()
	return err
}

// drop discards the buffered data.
func (s *stream) drop() {
	if s.held == nil {
		return
	}
	clear(*s.held) // it may have been decrypted for this write alone
	*s.held = (*s.held)[:0]
	streamBuffers.Put(s.held)
	s.held = nil
}

// SetWriteDeadline implements net.Conn. It takes effect with the next write, and
// may then be earlier than requested by the slack, to avoid setting it for each.
func (s *stream) SetWriteDeadline(t time.Time) error {
	if !s.upgraded {
		return s.Conn.SetWriteDeadline(t)
	}
	s.deadline = t
	return nil
}

func (s *stream) setDeadline() {
	if late := s.deadline.Sub(s.set); !s.deadline.IsZero() && (late < 0 || late > s.slack) {
		s.set = s.deadline
		_ = s.Conn.SetWriteDeadline(s.deadline)
	}
}

// streamWriter is a ResponseWriter whose connection, once taken over, is a stream.
type streamWriter struct {
	http.ResponseWriter
	stream *stream
}

// Hijack implements http.Hijacker.
func (w *streamWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.stream.Conn = conn
	return w.stream, buffers, nil
}
