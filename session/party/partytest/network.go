package partytest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
)

// patience is how long a test waits for an expected event. It only detects hangs; the
// slowest honest run stays far below it.
const patience = 4 * time.Minute

// Network carries messages between the runs of one session. It has a goroutine
// for each run; all end by the end of the test. Set the fields before Start.
type Network struct {
	// Tamper, if set, sees each message on its way to each recipient and returns the
	// messages to deliver instead: zero or more. It is called by one goroutine at a
	// time and must not change the bytes it is given.
	Tamper func(m party.Message, to int) []party.Message
	// Refused, if set, is called likewise for each message that a recipient refused. If
	// nil, a refusal fails the test, unless the run had ended.
	Refused func(m party.Message, to int, err error)

	tb    testing.TB
	runs  map[int]*party.Run
	mu    sync.Mutex // serialises Tamper, and Refused
	pumps sync.WaitGroup
	once  sync.Once
}

// NewNetwork connects runs by their part indexes. At the end of the test it
// closes them and waits for its goroutines.
func NewNetwork(tb testing.TB, runs map[int]*party.Run) *Network {
	n := &Network{tb: tb, runs: runs}
	tb.Cleanup(func() {
		for _, run := range runs {
			run.Close()
		}
		n.pumps.Wait()
	})
	return n
}

// Start starts the runs, in no particular order, and carries their messages.
func (n *Network) Start() {
	n.tb.Helper()
	n.once.Do(func() {
		for _, run := range n.runs {
			if err := run.Start(); err != nil {
				n.tb.Fatal(err)
			}
			n.pumps.Go(func() {
				for m := range run.Out() {
					n.carry(m)
				}
			})
		}
	})
}

// Wait starts the network if necessary, and waits until all runs are done.
func (n *Network) Wait() {
	n.tb.Helper()
	n.Start()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for part, run := range n.runs {
		select {
		case <-run.Done():
		case <-timeout.C:
			n.tb.Fatalf("part %d waits for %v", part, run.Waiting())
		}
	}
}

func (n *Network) carry(m party.Message) {
	for part := range n.runs {
		if part == m.From || m.To != 0 && m.To != part {
			continue
		}
		for _, delivered := range n.tampered(m, part) {
			n.Deliver(delivered, part)
		}
	}
}

func (n *Network) tampered(m party.Message, to int) []party.Message {
	if n.Tamper == nil {
		return []party.Message{m}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.Tamper(m, to)
}

// Deliver gives a message to the run of part to, without Tamper.
func (n *Network) Deliver(m party.Message, to int) {
	err := n.runs[to].Accept(m)
	switch {
	case err == nil:
	case n.Refused != nil:
		n.mu.Lock()
		defer n.mu.Unlock()
		n.Refused(m, to, err)
	case !errors.Is(err, party.ErrEnded):
		n.tb.Errorf("part %d refuses a message of part %d: %v", to, m.From, err)
	}
}
