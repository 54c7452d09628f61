package client

import (
	"sync"
	"time"
)

const (
	ackEvery = 32                     // mailbox messages, or
	ackAfter = 200 * time.Millisecond // from the first unacknowledged one
)

// inbox tracks how much of the mailbox this client has, and how much of that it may
// acknowledge: acknowledged messages are gone from the server, so a message that a
// restart would need again is held until it does not.
type inbox struct {
	wake chan struct{} // due has a new result

	mu    sync.Mutex
	have  uint64              // taken up to here, in order
	acked uint64              // acknowledged on this connection
	since time.Time           // when the first message after acked came; zero if there is none
	held  map[uint64]struct{} // not to be acknowledged yet
	end   uint64              // nor this one and all after it, permanently; 0 if there is none
}

func (b *inbox) init() {
	b.wake = make(chan struct{}, 1)
	b.held = map[uint64]struct{}{}
}

// last returns the seq for register's resume.
func (b *inbox) last() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.have
}

// reset begins a connection to a mailbox. If its newest message is one that this
// client has had before, the mailbox was lost and counts anew from there, unless
// the server says that it continues after this client's last message.
func (b *inbox) reset(newest uint64, rolledBack bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if newest < b.have && !rolledBack {
		b.have = newest
		clear(b.held)
		b.end = 0
	}
	b.acked, b.since = 0, time.Time{}
	if b.have > 0 {
		b.since = time.Now() // the last ack may have been lost
	}
}

// fresh reports whether a message is new.
func (b *inbox) fresh(seq uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return seq > b.have
}

// took records that a message has been taken.
func (b *inbox) took(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.have = max(b.have, seq)
	if b.since.IsZero() {
		b.since = time.Now()
		b.ring()
	}
	if b.have-b.acked == ackEvery {
		b.ring()
	}
}

// hold prevents a message, and so all after it, from being acknowledged. It must be
// called before took.
func (b *inbox) hold(seq uint64) {
	if seq == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[seq] = struct{}{}
}

// holdAll holds a message, and all after it, for as long as the client lives.
func (b *inbox) holdAll(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq > 0 && (b.end == 0 || seq < b.end) {
		b.end = seq
	}
}

func (b *inbox) release(seqs ...uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, seq := range seqs {
		delete(b.held, seq)
	}
	if b.since.IsZero() && b.have > b.acked {
		b.since = time.Now()
	}
	b.ring()
}

func (b *inbox) ring() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// due returns the seq to acknowledge now, 0 for none, and, if another is to be
// acknowledged later, when. Flush means not to wait.
func (b *inbox) due(now time.Time, flush bool) (seq uint64, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	upTo := b.have
	if b.end > 0 {
		upTo = min(upTo, b.end-1)
	}
	for seq := range b.held {
		upTo = min(upTo, seq-1)
	}
	if upTo <= b.acked || b.since.IsZero() {
		return 0, time.Time{}
	}
	if at := b.since.Add(ackAfter); !flush && upTo-b.acked < ackEvery && now.Before(at) {
		return 0, at
	}
	b.acked, b.since = upTo, time.Time{}
	return upTo, time.Time{}
}
