package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// display turns a client's events into words. Long work is a status line on a
// terminal, and a few plain lines elsewhere.
type display struct {
	console *console
	began   time.Time

	mu      sync.Mutex
	current string // session id of a coordinator's request
}

func (d *display) event(e client.Event) {
	c := d.console
	switch e := e.(type) {
	case client.Connected:
		c.say("connected to %s", clean(e.Node))
	case client.Reconnecting:
		c.show("")
		c.say("not connected: %s; trying again", clean(e.Err.Error()))
	case client.Requested:
		d.mu.Lock()
		d.current = e.SessionID
		d.mu.Unlock()
		c.say("%s of %s began: session %s", e.Kind, e.KeyID, e.SessionID)
		c.show("waiting for the participants")
	case client.Answered:
		answer := "declined"
		if e.Accepted {
			answer = "accepted"
		}
		if e.Reason != "" {
			answer += ": " + clean(e.Reason)
		}
		c.say("%s %s %s", e.Kind, e.SessionID, answer)
	case client.Preparing:
		d.progress("preparing", "safe primes", e.Found, e.Of)
	case client.Started:
		c.say("%s %s: attempt %d with parts %s", e.Kind, e.SessionID, e.Attempt, wire.FormatParts(e.Parties))
	case client.Round:
		d.progress(string(e.Kind)+" "+e.SessionID, "round", e.N, e.Of)
	case client.Finished:
		c.show("")
		c.say("%s %s: our part is done", e.Kind, e.SessionID)
	case client.Failed:
		c.show("")
		c.say("%s %s: attempt %d failed here: %s", e.Kind, e.SessionID, e.Attempt, clean(e.Reason))
	case client.Convicted:
		c.show("")
		c.say("%s", c.bold(fmt.Sprintf("CAUGHT: %s (part %d) has signed two different messages in %s", clean(e.User), e.PartIndex, e.SessionID)))
		if e.Kept != "" {
			c.say("  the evidence is in %s; conclave verify --evidence checks it", e.Kept)
		}
	case client.IdentityChanged:
		c.show("")
		c.say("%s", c.bold("REFUSED: "+clean(e.User)+" comes with another identity"))
		c.say("  %-9s %s", trustOf(e.Pinned), e.Known)
		c.say("  %-9s %s", "now", e.Now)
		c.say("  either %s has a new identity, or somebody, the server too, pretends to be %s", clean(e.User), clean(e.User))
		c.say("  ask %s to read you what conclave identity shows; if it is the new one:", clean(e.User))
		c.say("  conclave trust remove %s && conclave trust add %s %s", clean(e.User), clean(e.User), e.Now)
	case client.Ended:
		c.show("")
		reason := ""
		if e.Reason != "" {
			reason = ": " + clean(e.Reason)
		}
		if len(e.Culprits) > 0 {
			reason += fmt.Sprintf(" (blamed: part %s)", wire.FormatParts(e.Culprits))
		}
		c.say("%s %s: %s%s", e.Kind, e.SessionID, c.bold(clean(string(e.Status))), reason)
	}
}

// progress shows n of a number of steps. Without a terminal each is a line.
func (d *display) progress(what, unit string, n, of int) {
	if !d.console.terminal {
		d.console.say("%s: %s %d of %d", what, unit, n, of)
		return
	}
	d.console.show(fmt.Sprintf("%s %s %s %d of %d", what, bar(n, of), unit, n, of))
	if n >= of {
		d.console.show("")
	}
}

func (d *display) session() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

func (d *display) done() { d.console.show("") }

// printable shows data that comes from others: hex as it is, text quoted, so
// that nothing in it can pass for something else on a terminal.
func printable(data string) string {
	if strings.HasPrefix(data, "0x") && !strings.ContainsFunc(data, func(r rune) bool { return r < '!' || r > '~' }) {
		return data
	}
	return strconv.Quote(data)
}
