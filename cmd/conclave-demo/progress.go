package main

import (
	"fmt"
	"sync"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// progress sums up the steps of one session's participants.
type progress struct {
	d         *display
	preparing bool // pre-parameters are needed before the rounds

	mu     sync.Mutex
	primes map[string]participant.Preparing
	rounds map[string]participant.Round
}

func (p *progress) happened(user string, ev client.Event) {
	switch ev := ev.(type) {
	case participant.Preparing:
		p.mu.Lock()
		p.primes[user] = ev
		found, of := 0, 0
		for _, all := range p.primes {
			found += all.Found
			of = max(of, all.Of)
		}
		p.mu.Unlock()
		p.d.doing(fmt.Sprintf("%s has %d of %d safe primes", user, ev.Found, ev.Of), found, of*len(participants))
	case participant.Round:
		p.mu.Lock()
		p.rounds[user] = ev
		done, all := 0, 0
		for _, r := range p.rounds {
			done += r.N
			all += r.Of
		}
		p.mu.Unlock()
		p.d.doing(fmt.Sprintf("%s is in round %d of %d", user, ev.N, ev.Of), done, all)
	case participant.Failed:
		p.d.say("%s aborted attempt %d: %s", user, ev.Attempt, ev.Reason)
	case participant.Started:
		if ev.Attempt > 1 {
			p.d.say("%s begins attempt %d", user, ev.Attempt)
		}
	}
}
