package wsconn

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"
)

// stream is a socket's network connection once it is a WebSocket. What is written
// to it is held until flush, so that frames which are there at one time make one
// packet and one call of the kernel; the memory for that is lent while there is
// something to hold. Writing and flushing are one goroutine's at a time.
type stream struct {
	net.Conn
	upgraded bool // what is written before is the handshake, and not held
	held     *[]byte
	deadline time.Time // of writing, as it is wanted
	set      time.Time // as it is set
	slack    time.Duration
}

// streamBytes is how much a stream holds before it writes by itself.
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

// flush writes what is held.
func (s *stream) flush() error {
	if s.held == nil {
		return nil
	}
	s.setDeadline()
	_, err := s.Conn.Write(*s.held)
	s.drop()
	return err
}

// drop forgets what is held.
func (s *stream) drop() {
	if s.held == nil {
		return
	}
	clear(*s.held) // it may be what was decrypted for this write alone
	*s.held = (*s.held)[:0]
	streamBuffers.Put(s.held)
	s.held = nil
}

// SetWriteDeadline implements net.Conn. It takes effect with the next write, and
// may then be earlier than wanted by the slack, so as not to be set for each.
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
