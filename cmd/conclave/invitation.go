package main

import (
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const clock = "2006-01-02 15:04:05"

// A request is shown in at most maxShown lines of at most widestShown columns,
// whatever its content, so that it fits on a screen of 24 lines and 80 columns with
// the question and the answer below it. The requester and the key stand first and
// last.
const (
	maxShown    = 21
	widestShown = 80
	labelWidth  = 13 // columns before each value
)

// rows writes the rows of a request.
type rows struct {
	c     *console
	b     strings.Builder
	width int // of a value
}

func newRows(c *console) *rows {
	return &rows{c: c, width: max(min(c.columns(), widestShown)-labelWidth, 20)}
}

// shown is text from others in a form that the terminal can show.
func (r *rows) shown(text string) string { return r.c.plain(spelled(text)) }

// row adds a value in as many lines as it takes; values that others can make long
// are shortened before.
func (r *rows) row(name, value string) {
	if value != "" {
		r.lines(name, wrapped(value, r.width), "")
	}
}

func (r *rows) lines(name string, lines []string, s style) {
	for i, line := range lines {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(&r.b, "  %-10s %s\n", name, r.c.paint(s, line))
	}
}

// short adds a value in one line.
func (r *rows) short(name, value string) { r.row(name, elide(r.shown(value), len(value), r.width)) }

// upTo adds a value in at most so many lines. It stands for so many bytes.
func (r *rows) upTo(most int, name, value string, bytes int) {
	rest, lines := elide(value, bytes, most*(r.width-1)), []string{}
	for rest != "" {
		line := firstColumns(rest, r.width)
		lines, rest = append(lines, line), rest[len(line):]
	}
	r.lines(name, lines, "")
}

// newName adds a name that is seen for the first time, with the code points of its
// non-ASCII letters: letters of two scripts can look the same.
func (r *rows) newName(name, value string) {
	if value != "" {
		r.upTo(2, name, r.shown(wire.DescribeName(value)), len(value))
	}
}

// shownRequest shows the requester and everything that an answer would agree to. With
// whole nothing is left out.
func shownRequest(c *console, inv participant.Invitation, waiting int, whole bool) string {
	r := newRows(c)
	short := r.short
	if whole {
		short = func(name, value string) { r.row(name, r.shown(value)) }
	}
	fmt.Fprintf(&r.b, "conclave: %s\n", headline(c, inv))
	switch inv.Kind {
	case request.KindSign:
		short("address", inv.AccountAddr)
		r.data(inv, whole)
	case request.KindReshare:
		r.reshare(inv, whole)
	default:
		short("curve", string(inv.Curve))
	}
	if inv.Kind != request.KindReshare {
		r.committee(inv, whole)
	}
	if !inv.Deadline.IsZero() {
		r.row("answer by", inv.Deadline.Local().Format(clock))
	}
	short("session", inv.SessionID)
	if s := inv.Signer; s != nil {
		r.row("asked at", s.IssuedAt.Local().Format(clock)+", holds until "+s.ExpiresAt.Local().Format(clock))
		if whole {
			r.row("nonce", r.shown(s.Nonce))
		}
	}
	switch {
	case waiting == 1:
		r.row("waiting", "1 more request, shown after this one")
	case waiting > 1:
		r.row("waiting", fmt.Sprintf("%s more requests, shown after this one", grouped(waiting)))
	}
	name := short // the key is already known by this very name
	if inv.Kind == request.KindKeygen {
		name = r.newName
	}
	name("key", inv.KeyID)
	short("address", inv.AccountAddr)
	if name = short; isNew(inv) {
		name = r.newName
	}
	name("asked by", inv.Coordinator)
	r.signer(inv)
	return r.b.String()
}

// isNew reports whether the requester is not known by that name.
func isNew(inv participant.Invitation) bool { return inv.Signer == nil || inv.Signer.First }

// headline names the requester and the request, in a line.
func headline(c *console, inv participant.Invitation) string {
	what := "make key "
	switch inv.Kind {
	case request.KindSign:
		what = "sign with key "
	case request.KindReshare:
		what = "reshare key "
	}
	const most = 21
	name := func(text string) string { return elide(c.plain(spelled(text)), len(text), most) }
	return c.bold(name(inv.Coordinator)) + " asks you to " + c.bold(what+name(inv.KeyID))
}

const dataLines = 5

// caution warns if the bytes to sign differ from their appearance.
func caution(inv participant.Invitation) string {
	if inv.Curve == pubkey.Secp256k1 && inv.Hash != string(pubkey.HashKeccak256) && pubkey.HexIsTransaction(inv.Data) {
		return "the data is an Ethereum transaction, and is not signed as one"
	}
	return ""
}

// data shows the data to sign, and states plainly how much of it is not shown.
func (r *rows) data(inv participant.Invitation, whole bool) {
	lines := dataLines
	if isNew(inv) {
		lines-- // for the requester's name
	}
	if caution(inv) != "" {
		lines--
	}
	if whole {
		lines = len(inv.Data) + 2 // more than it can take
	}
	e := excerptOf(inv.Data, r.width, lines, r.c.plain)
	r.lines("data", e.head, "")
	if e.hidden > 0 {
		text := fmt.Sprintf("%s of %s bytes; answer show to see them", grouped(e.hidden), grouped(e.bytes))
		r.lines("NOT SHOWN", []string{firstColumns(text, r.width)}, red)
		r.lines("", e.tail, "")
	}
	hash := inv.Hash
	if ownDigest(inv.Data, inv.Digest) == "" {
		hash += ": the data is signed as it is"
	}
	r.short("hash", hash)
	if text := caution(inv); text != "" {
		r.lines("caution", wrapped(text, r.width), red)
	}
	r.short("digest", ownDigest(inv.Data, inv.Digest))
}

// committee shows the other parties, and the threshold.
func (r *rows) committee(inv participant.Invitation, whole bool) {
	name, most := "held by", 4
	if inv.Kind == request.KindSign {
		name, most = "invited", 2
	}
	names := make([]string, len(inv.Participants))
	for i, user := range inv.Participants {
		if inv.Kind == request.KindKeygen {
			user = wire.DescribeName(user)
		}
		names[i] = r.shown(user)
	}
	if whole {
		r.row(name, strings.Join(names, ", "))
	} else {
		r.lines(name, listed(names, r.width, most), "")
	}
	part := fmt.Sprintf("yours is %d", inv.PartIndex)
	if inv.Threshold > 0 {
		part += fmt.Sprintf("; %d must sign", inv.Threshold)
	}
	r.row("part", part)
}

// signer shows whose identity has signed the request, and why it is taken for the
// coordinator's.
func (r *rows) signer(inv participant.Invitation) {
	s := inv.Signer
	switch {
	case s == nil:
		r.lines("signed by", wrapped("NOT SIGNED: only the server names the coordinator", r.width), red)
	case s.Pinned:
		r.row("signed by", elide(r.shown(s.Fingerprint), len(s.Fingerprint), r.width-len(", pinned"))+", pinned")
	case s.First:
		r.short("signed by", s.Fingerprint)
		r.lines("", wrapped("SEEN FOR THE FIRST TIME: compare it with the owner before you agree", r.width), red)
	default:
		r.short("signed by", s.Fingerprint)
		r.row("", "as before, but not pinned")
	}
}

// signedBy is signer in a line, for a log.
func signedBy(inv participant.Invitation) string {
	s := inv.Signer
	switch {
	case s == nil:
		return "not signed"
	case s.Pinned:
		return "signed by " + clean(s.Fingerprint) + ", pinned"
	}
	return "signed by " + clean(s.Fingerprint) + ", not pinned"
}

// questionOf is the question, with requester and key: it stays the last line,
// whatever is printed above. typed is how many columns are left for the answer.
func questionOf(c *console, inv participant.Invitation, code string) string {
	answers := fmt.Sprintf("[y %s/n %s]", code, code)
	verb, act := "make key", "conclave: make the key?"
	switch inv.Kind {
	case request.KindSign:
		verb, act = "sign with", "conclave: sign?"
	case request.KindReshare:
		verb, act = "reshare", "conclave: reshare the key?"
	}
	const typed = len("  show ") + codeLength
	fixed := len("conclave:  for ?  ") + len(verb) + len(answers)
	room := (min(c.columns(), widestShown) - fixed - typed) / 2
	if room < 6 {
		return act + " " + answers
	}
	name := func(text string) string { return firstColumns(c.plain(spelled(text)), room) }
	return fmt.Sprintf("conclave: %s %s for %s? %s", verb, name(inv.KeyID), name(inv.Coordinator), answers)
}

// gist describes a request in a line that reports its outcome.
func gist(inv participant.Invitation) string {
	return fmt.Sprintf("%s with key %s for %s", sessionName(inv.Kind, inv.SessionID), clean(inv.KeyID), clean(inv.Coordinator))
}
