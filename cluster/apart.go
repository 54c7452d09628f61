package cluster

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// On Redis Cluster the mailboxes of one Send are on several servers, and one of
// them may hang, or its slot be unavailable. So each member's messages are sent
// separately and published as soon as they are appended. A member whose server did
// not answer in time is skipped for a while, so that the next Send with messages
// for others does not wait for it again.
const (
	apartWithin = time.Second // for one member's messages
	apartFirst  = time.Second // how long it is skipped, doubling
	apartMost   = 4 * time.Second
)

// errLeftAlone: the server of a member's mailbox timed out recently.
var errLeftAlone = errors.New("cluster: the member's mailbox is out of reach")

// appendApart does exec, settle and publish for calls on different servers.
func (n *Node) appendApart(ctx context.Context, calls []*call, once bool) {
	var all sync.WaitGroup
	var settling sync.Mutex // a Send's notes are not safe for concurrent use
	for _, c := range calls {
		if n.hung.avoid(c.to, time.Now()) {
			settling.Lock()
			for _, p := range c.places {
				p.fail(errLeftAlone)
			}
			settling.Unlock()
			continue
		}
		all.Go(func() {
			trying, cancel := context.WithTimeout(ctx, apartWithin)
			defer cancel()
			n.exec(trying, []*call{c}, once)
			n.hung.note(c.to, trying.Err() != nil && c.run.Err() != nil && ctx.Err() != context.Canceled, time.Now())
			settling.Lock()
			notices := n.settle([]*call{c})
			settling.Unlock()
			telling, done := context.WithTimeout(context.WithoutCancel(ctx), notifyWithin)
			defer done()
			n.publish(telling, notices)
		})
	}
	all.Wait()
}

// hung records the members whose mailbox is out of reach. The zero value is ready.
// Safe for concurrent use.
type hung struct {
	mu  sync.Mutex
	who map[string]pause
}

type pause struct {
	until time.Time
	long  time.Duration
}

func (h *hung) avoid(member string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.who[member].until)
}

// note records the outcome of a call.
func (h *hung) note(member string, inVain bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !inVain {
		delete(h.who, member)
		return
	}
	if h.who == nil {
		h.who = map[string]pause{}
	}
	maps.DeleteFunc(h.who, func(_ string, p pause) bool { return now.Sub(p.until) > time.Minute })
	long := min(max(2*h.who[member].long, apartFirst), apartMost)
	h.who[member] = pause{now.Add(long), long}
}
