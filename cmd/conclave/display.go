package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/unicode/bidi"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// display turns a client's events into words. Long work is a status line on a
// terminal, and a few plain lines elsewhere.
type display struct {
	console *console
	began   time.Time
	// asks says that a person is asked about each invitation, and so shown it.
	asks bool
	// requested, if set, is told the session of a coordinator's request.
	requested func(session string)

	mu      sync.Mutex
	current string // session id of a coordinator's request
	work    []work // what goes on, that which last did is the last
}

// work is a session, or the search for safe primes, on its way.
type work struct{ id, what string }

func (d *display) event(e client.Event) {
	c := d.console
	switch e := e.(type) {
	case client.Connected:
		c.say("connected to %s", clean(e.Node))
	case client.Reconnecting:
		c.say("not connected: %s; trying again", clean(e.Err.Error()))
	case client.Requested:
		d.mu.Lock()
		d.current = e.SessionID
		d.mu.Unlock()
		c.say("%s of %s began: session %s", clean(string(e.Kind)), clean(e.KeyID), clean(e.SessionID))
		c.show("waiting for the participants")
		if d.requested != nil {
			d.requested(e.SessionID)
		}
	case client.Invited:
		if !d.asks {
			d.invited(e.Invitation)
		}
	case client.Answered:
		d.answered(e)
	case client.Preparing:
		d.progress("", "preparing", "safe primes", e.Found, e.Of)
	case client.Started:
		c.say("%s: attempt %d with parts %s", sessionName(e.Kind, e.SessionID), e.Attempt, wire.FormatParts(e.Parties))
	case client.Round:
		d.progress(e.SessionID, sessionName(e.Kind, e.SessionID), "round", e.N, e.Of)
	case client.Waiting:
		d.waiting(e)
	case client.Finished:
		d.over(e.SessionID)
		c.say("%s: our part is done", sessionName(e.Kind, e.SessionID))
	case client.Failed:
		d.over(e.SessionID)
		c.say("%s: attempt %d failed here: %s", sessionName(e.Kind, e.SessionID), e.Attempt, clean(e.Reason))
	case client.Convicted:
		d.convicted(e)
	case client.IdentityChanged:
		d.identityChanged(e)
	case client.Ended:
		d.ended(e)
	}
}

func sessionName(kind client.Kind, id string) string { return clean(string(kind) + " " + id) }

// invited shows what is asked for where nobody will be asked about it.
func (d *display) invited(inv client.Invitation) {
	if d.console.terminal {
		d.console.print(request(d.console, inv))
		return
	}
	const shown = 60 // columns of the data; the digest is of all of it
	what := "take part in the key"
	if inv.Kind == client.KindSign {
		what = fmt.Sprintf("sign %s (%s, digest %s) with key", fit(printable(inv.Data), shown), clean(inv.Hash), clean(inv.Digest))
	}
	d.console.say("%s asks to %s %s: session %s", clean(inv.Coordinator), what, clean(inv.KeyID), clean(inv.SessionID))
}

func (d *display) answered(e client.Answered) {
	answer := d.console.paint(green, "accepted")
	if !e.Accepted {
		answer = d.console.paint(red, "declined")
	}
	if e.Reason != "" {
		answer += ": " + clean(e.Reason)
	}
	d.console.say("%s %s", sessionName(e.Kind, e.SessionID), answer)
	if s := e.Signer; s != nil && !s.Pinned && !e.Accepted && !d.asks {
		d.console.say("hint: only pinned coordinators are heard; if %s shows this fingerprint with conclave identity:", clean(e.Coordinator))
		d.console.say("  conclave trust add %s %s", clean(e.Coordinator), clean(s.Fingerprint))
	}
}

func (d *display) convicted(e client.Convicted) {
	c := d.console
	c.say("%s", c.bold(fmt.Sprintf("CAUGHT: %s (part %d) has signed two different messages in %s", clean(e.User), e.PartIndex, clean(e.SessionID))))
	if e.Kept != "" {
		c.say("  the evidence is in %s; conclave verify --evidence checks it", clean(e.Kept))
	}
}

func (d *display) identityChanged(e client.IdentityChanged) {
	c, user := d.console, clean(e.User)
	c.say("%s", c.bold("REFUSED: "+user+" comes with another identity"))
	c.say("  %-9s %s", trustOf(e.Pinned), clean(e.Known))
	c.say("  %-9s %s", "now", clean(e.Now))
	c.say("  either %s has a new identity, or somebody, the server too, pretends to be %s", user, user)
	c.say("  ask %s to read you what conclave identity shows; if it is the new one:", user)
	c.say("  conclave trust remove %s && conclave trust add %s %s", user, user, clean(e.Now))
}

func (d *display) ended(e client.Ended) {
	d.over(e.SessionID)
	reason := ""
	if e.Reason != "" {
		reason = ": " + clean(e.Reason)
	}
	if len(e.Culprits) > 0 {
		reason += fmt.Sprintf(" (blamed: part %s)", wire.FormatParts(e.Culprits))
	}
	d.console.say("%s: %s%s", sessionName(e.Kind, e.SessionID), d.console.paint(styleOf(e.Status), clean(string(e.Status))), reason)
}

func styleOf(s wire.Status) style {
	if s == wire.StatusSuccess {
		return green
	}
	return red
}

// progress shows n of a number of steps. Without a terminal each is a line.
func (d *display) progress(id, what, unit string, n, of int) {
	if !d.console.terminal {
		d.console.say("%s: %s %d of %d", what, unit, n, of)
		return
	}
	if n >= of && id == "" { // the last round is work like any other
		d.over(id)
		return
	}
	drawn := ""
	if d.console.columns() >= 60 { // else there are more important things
		drawn = bar(n, of, 26) + " "
	}
	d.does(id, fmt.Sprintf("%s %s%s %d of %d", what, drawn, unit, n, of))
}

// waiting adds for whom a round waits.
func (d *display) waiting(e client.Waiting) {
	text := fmt.Sprintf("round %d of %d · waiting for %s", e.N, e.Of, clean(strings.Join(e.Users, ", ")))
	if !d.console.terminal {
		d.console.say("%s: %s", sessionName(e.Kind, e.SessionID), text)
		return
	}
	d.does(e.SessionID, sessionName(e.Kind, e.SessionID)+" "+text)
}

// does makes what the status; over ends that.
func (d *display) does(id, what string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(id)
	d.work = append(d.work, work{id, what})
	d.draw()
}

func (d *display) over(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(id)
	d.draw()
}

func (d *display) drop(id string) {
	d.work = slices.DeleteFunc(d.work, func(w work) bool { return w.id == id })
}

func (d *display) draw() {
	text := ""
	if n := len(d.work); n > 0 {
		text = d.work[n-1].what
		if n > 1 {
			text = fmt.Sprintf("(%d more) %s", n-1, text)
		}
	}
	d.console.show(text)
}

func (d *display) session() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

func (d *display) done() { d.console.show("") }

// printable shows data that comes from others: hex as it is, text quoted, so
// that nothing in it can pass for something else on a terminal. Text with letters
// that run from right to left is spelled out, for terminals reorder what stands
// beside them, and so is text with characters that do not show.
func printable(data string) string {
	if strings.HasPrefix(data, "0x") && !strings.ContainsFunc(data, func(r rune) bool { return r < '!' || r > '~' }) {
		return data
	}
	if strings.ContainsFunc(data, func(r rune) bool { return rightToLeft(r) || wire.Invisible(r) }) {
		return strconv.QuoteToASCII(data)
	}
	return strconv.Quote(data)
}

func rightToLeft(r rune) bool {
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}
