package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// display prints a client's events. Long work is a status line on a terminal, and a
// few plain lines elsewhere.
type display struct {
	console *console
	began   time.Time
	// asks says that the prompt asks about each invitation, and so shows it.
	asks bool
	// requested, if set, is called with the session of a coordinator's request.
	requested func(session string)

	mu      sync.Mutex
	current string // session id of a coordinator's request
	work    []work // work in progress, the most recent last
}

// work is a session, or the search for safe primes, in progress.
type work struct{ id, what string }

func (d *display) event(e request.Event) {
	c := d.console
	switch e := e.(type) {
	case client.Connected:
		c.say("connected to %s", clean(e.Node))
	case client.Reconnecting:
		c.say("not connected: %s; retrying", clean(e.Err.Error()))
	case request.Requested:
		d.mu.Lock()
		d.current = e.SessionID
		d.mu.Unlock()
		c.say("%s of %s began: session %s", clean(string(e.Kind)), clean(e.KeyID), clean(e.SessionID))
		c.show("waiting for the participants")
		if d.requested != nil {
			d.requested(e.SessionID)
		}
	case participant.Invited:
		if !d.asks {
			d.invited(e)
		}
	case participant.Answered:
		d.answered(e)
	case participant.Crowded:
		c.say("%s requests were declined automatically: too many at once", grouped(e.Declined))
	case participant.Preparing:
		d.progress("", "preparing", "safe primes", e.Found, e.Of)
	case participant.Started:
		c.say("%s: attempt %d with parts %s", sessionName(e.Kind, e.SessionID), e.Attempt, wire.FormatParts(e.Parties))
	case participant.Round:
		d.progress(e.SessionID, sessionName(e.Kind, e.SessionID), "round", e.N, e.Of)
	case participant.Waiting:
		d.waiting(e)
	case participant.Finished:
		d.over(e.SessionID)
		c.say("%s: our part is done", sessionName(e.Kind, e.SessionID))
	case participant.Failed:
		d.over(e.SessionID)
		c.say("%s: attempt %d failed here: %s", sessionName(e.Kind, e.SessionID), e.Attempt, clean(e.Reason))
	case participant.Convicted:
		d.convicted(e)
	case participant.Certified:
		c.say("epoch %d of key %s is certified", e.Epoch, clean(e.KeyID))
	case participant.ShareMissing:
		c.say("%s", c.bold(fmt.Sprintf("the share of epoch %d of key %s is missing: %s; the shares before it are kept", e.Epoch, clean(e.KeyID), clean(e.Err.Error()))))
	case request.IdentityChanged:
		d.identityChanged(e)
	case request.Ended:
		d.ended(e)
	}
}

func sessionName(kind request.Kind, id string) string { return clean(string(kind) + " " + id) }

// invited shows a request that no prompt asks about. A refused request has not been
// verified, and gets only one line.
func (d *display) invited(e participant.Invited) {
	inv := e.Invitation
	if d.console.terminal && e.Refused == "" {
		d.console.print(shownRequest(d.console, inv, 0, false))
		return
	}
	const shown = 60 // columns of the data
	what := "take part in the key"
	if inv.Kind == request.KindReshare && inv.Reshare != nil {
		what = "reshare (" + clean(changesOf(inv.Reshare)) + ") key"
	}
	if inv.Kind == request.KindSign {
		data := dataInLine(inv.Data, shown) + " (" + clean(inv.Hash)
		if digest := ownDigest(inv.Data, inv.Digest); digest != "" {
			data += ", digest " + clean(digest)
		}
		what = "sign " + data + ") with key"
	}
	signed := ", " + signedBy(inv)
	if e.Refused != "" && inv.Signer == nil {
		signed = "" // or the signature was not verified
	}
	d.console.say("%s asks to %s %s: session %s%s", clean(inv.Coordinator), what, clean(inv.KeyID), clean(inv.SessionID), signed)
}

// dataInLine is the beginning of data in n columns, and how much of it is left out.
func dataInLine(data string, n int) string {
	e := excerptOf(data, n, 3, func(text string) string { return text })
	switch {
	case e.hidden == 0 && len(e.head) == 1:
		return e.head[0]
	case e.hidden == 0:
		return strings.Join(e.head, "")
	}
	return fmt.Sprintf("%s... %s more bytes ...%s", e.head[0], grouped(e.hidden), e.tail[0])
}

func (d *display) answered(e participant.Answered) {
	answer := d.console.paint(green, "accepted")
	if !e.Accepted {
		answer = d.console.paint(red, "declined")
	}
	if e.Reason != "" {
		answer += ": " + clean(e.Reason)
	}
	d.console.say("%s %s", sessionName(e.Kind, e.SessionID), answer)
	if s := e.Signer; s != nil && !e.Accepted && trust.NeedsPin(e.Reason) {
		d.console.say("hint: only requests of pinned coordinators are accepted; if conclave identity shows %s this fingerprint:", clean(e.Coordinator))
		d.console.say("  conclave trust add %s %s", clean(e.Coordinator), clean(s.Fingerprint))
	}
}

func (d *display) convicted(e participant.Convicted) {
	c := d.console
	c.say("%s", c.bold(fmt.Sprintf("CAUGHT: %s (part %d) has signed two different messages in %s", clean(e.User), e.PartIndex, clean(e.SessionID))))
	if e.Kept != "" {
		c.say("  the evidence is in %s; check it with conclave verify --evidence", clean(e.Kept))
	}
}

func (d *display) identityChanged(e request.IdentityChanged) {
	c, user := d.console, clean(e.User)
	c.say("%s", c.bold("REFUSED: "+user+" presents another identity"))
	c.say("  %-9s %s", trustOf(e.Pinned), clean(e.Known))
	c.say("  %-9s %s", "now", clean(e.Now))
	c.say("  either %s has a new identity, or somebody, possibly the server, impersonates %s", user, user)
	c.say("  ask %s to read you the output of conclave identity; if it is the new one:", user)
	c.say("  conclave trust remove %s && conclave trust add %s %s", user, user, clean(e.Now))
}

func (d *display) ended(e request.Ended) {
	d.over(e.SessionID)
	out := request.OutcomeError{Status: e.Status, Reason: e.Reason, Culprits: e.Culprits}
	status, reason := clean(string(e.Status)), clean(out.Outcome())
	if rest, ok := strings.CutPrefix(reason, status); ok {
		reason = d.console.paint(styleOf(e.Status), status) + rest
	}
	d.console.say("%s: %s", sessionName(e.Kind, e.SessionID), reason)
}

func styleOf(s wire.Status) style {
	if s == wire.StatusSuccess {
		return green
	}
	return red
}

// progress shows n of a number of steps. Without a terminal each step is a line.
func (d *display) progress(id, what, unit string, n, of int) {
	if !d.console.terminal {
		d.console.say("%s: %s %d of %d", what, unit, n, of)
		return
	}
	if n >= of && id == "" { // the last round is shown like other work
		d.over(id)
		return
	}
	drawn := ""
	if d.console.columns() >= 60 { // narrower terminals need the room for the rest
		drawn = bar(n, of, 26) + " "
	}
	d.does(id, fmt.Sprintf("%s %s%s %d of %d", what, drawn, unit, n, of))
}

// waiting adds the parties that a round waits for.
func (d *display) waiting(e participant.Waiting) {
	text := fmt.Sprintf("round %d of %d · waiting for %s", e.N, e.Of, clean(strings.Join(e.Users, ", ")))
	if !d.console.terminal {
		d.console.say("%s: %s", sessionName(e.Kind, e.SessionID), text)
		return
	}
	d.does(e.SessionID, sessionName(e.Kind, e.SessionID)+" "+text)
}

// does makes what the status; over removes it.
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
