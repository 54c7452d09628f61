package client

import "time"

// Connected says that the client has registered with a node.
type Connected struct {
	URL  string // the socket's
	Node string
}

// Reconnecting says that the connection was lost, or not made, and when it will
// be tried again.
type Reconnecting struct {
	URL string // the socket's; empty if no server was reached
	Err error
	In  time.Duration
}

func (Connected) IsEvent() {}

func (Reconnecting) IsEvent() {}
