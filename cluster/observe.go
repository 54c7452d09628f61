package cluster

import "time"

// Observer is told what passes, to count it. Its methods do not block, and are
// called by any number of goroutines.
type Observer interface {
	// Appended is called after messages were appended to a mailbox, with how many
	// it holds then.
	Appended(depth int)
	// Refused is called when a mailbox did not take all that was sent to it, with
	// why: ErrMailboxFull, ErrShareUsed or ErrGroupFull.
	Refused(why error)
	// Drained is called when entries of a mailbox were read because its socket was
	// behind, with how many.
	Drained(entries int)
}

// unobserved is the Observer of who wants none.
type unobserved struct{}

func (unobserved) Appended(int)  {}
func (unobserved) Refused(error) {}
func (unobserved) Drained(int)   {}

// late is the first of the messages that came by pub/sub and could not be
// offered at once: the pump offers it when the socket has room, and knows by
// this when it was sent. The zero value is none.
type late struct {
	seq  uint64
	sent time.Time
}
