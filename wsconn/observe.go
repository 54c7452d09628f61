package wsconn

import (
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Observer is told what passes through the sockets, to count it. Its methods do
// not block, and are called by any number of goroutines.
type Observer interface {
	// Handled is called when a frame has been dealt with: with its type in its
	// sender's own words ("" if it could not be read), the code with which it was
	// refused ("" if it was not), and how long that took.
	Handled(t wire.Type, refused wire.Code, took time.Duration)
	// Written is called when a mailbox frame has been written to its socket, with
	// the frame as it was offered and when it was sent, zero if that is not known.
	Written(frame []byte, sent time.Time)
	// TurnedAway is called when a mailbox frame was offered to a socket whose queue
	// is full. It is offered again.
	TurnedAway()
	// Closed is called when a socket is gone, with its close code: ours, or any
	// that the client has sent.
	Closed(code int)
}

// unobserved is the Observer of who wants none.
type unobserved struct{}

func (unobserved) Handled(wire.Type, wire.Code, time.Duration) {}
func (unobserved) Written([]byte, time.Time)                   {}
func (unobserved) TurnedAway()                                 {}
func (unobserved) Closed(int)                                  {}
