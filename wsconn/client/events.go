package client

import "time"

// Connected reports that the client has registered with a node.
type Connected struct {
	URL  string // the socket's
	Node string
}

// Reconnecting reports that the connection was lost, or not made, and when it will
// be retried.
type Reconnecting struct {
	URL string // the socket's; empty if no server was reached
	Err error
	In  time.Duration
}

func (Connected) IsEvent() {}

func (Reconnecting) IsEvent() {}
