package wsconn

import (
	"container/list"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// strangers are the sockets that have not begun to register, oldest first:
// nobody knows whose they are, and anybody can have as many as it likes. The
// zero value is ready; Server.mu guards it.
type strangers struct {
	queue list.List // of *Conn
	place map[*Conn]*list.Element
}

func (s *strangers) add(c *Conn) {
	if s.place == nil {
		s.place = make(map[*Conn]*list.Element)
	}
	if s.place[c] == nil {
		s.place[c] = s.queue.PushBack(c)
	}
}

func (s *strangers) remove(c *Conn) {
	if e := s.place[c]; e != nil {
		s.queue.Remove(e)
		delete(s.place, c)
	}
}

// makeRoom closes the oldest socket that has not begun to register, if there are
// too many. Its client may try again.
func (s *Server) makeRoom() {
	s.mu.Lock()
	var oldest *Conn
	if s.strangers.queue.Len() > s.cfg.MaxUnregistered {
		oldest = s.strangers.queue.Front().Value.(*Conn)
		s.strangers.remove(oldest)
	}
	s.mu.Unlock()
	if oldest != nil {
		oldest.Close(wire.CloseUnavailable, "too many sockets that have not registered")
	}
}

// estrange counts c, whose register was refused, among the strangers again.
func (s *Server) estrange(c *Conn) {
	s.mu.Lock()
	s.strangers.add(c)
	s.mu.Unlock()
	s.makeRoom()
}

// greet takes c, which registers, off the strangers.
func (s *Server) greet(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers.remove(c)
}
