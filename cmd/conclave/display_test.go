package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// terminalOf is a console that writes to b, as on a terminal of that width.
func terminalOf(b *strings.Builder, width int) *console {
	return &console{w: b, terminal: true, color: true, columns: func() int { return width }}
}

// hostile would clear the screen, change colours, break the line, and run
// backwards.
const hostile = "a\x1b[2J\x1b]0;t\x07\r\nb\u202ec\u2066d\x9b31m\x00"

// TestNothingRawIsShown: no control character that a server or a request puts into
// an event or an invitation reaches the terminal.
func TestNothingRawIsShown(t *testing.T) {
	t.Parallel()
	inv := participant.Invitation{
		Kind: request.KindSign, SessionID: hostile, KeyID: hostile, Coordinator: hostile, Curve: hostile, Participants: []string{hostile, hostile},
		Data: hostile, Hash: hostile, Digest: hostile, AccountAddr: hostile,
		Signer: &participant.Signer{Fingerprint: hostile, Nonce: hostile},
	}
	events := []request.Event{
		client.Connected{URL: hostile, Node: hostile},
		client.Reconnecting{URL: hostile, Err: errors.New(hostile)},
		request.Requested{Kind: hostile, SessionID: hostile, KeyID: hostile},
		participant.Invited{Invitation: inv},
		participant.Answered{Invitation: inv, Reason: hostile},
		participant.Started{Kind: hostile, SessionID: hostile, KeyID: hostile},
		participant.Round{Kind: hostile, SessionID: hostile, KeyID: hostile, N: 1, Of: 2},
		participant.Waiting{Kind: hostile, SessionID: hostile, KeyID: hostile, N: 1, Of: 2, Parts: []int{1}, Users: []string{hostile}},
		participant.Finished{Kind: hostile, SessionID: hostile, KeyID: hostile, AccountAddr: hostile},
		participant.Failed{Kind: hostile, SessionID: hostile, KeyID: hostile, Reason: hostile},
		request.IdentityChanged{Kind: hostile, SessionID: hostile, IdentityError: trust.IdentityError{User: hostile, Known: hostile, Now: hostile}},
		participant.Convicted{Kind: hostile, SessionID: hostile, User: hostile, Kept: hostile},
		request.Ended{Kind: hostile, SessionID: hostile, Status: hostile, Reason: hostile},
	}
	for _, terminal := range []bool{true, false} {
		for _, e := range events {
			var b strings.Builder
			c := terminalOf(&b, 80)
			c.terminal, c.color = terminal, false
			d := display{console: c}
			d.event(e)
			text := strings.ReplaceAll(b.String(), "\r\x1b[K", "")
			if bad := strings.IndexFunc(text, unprintable); bad >= 0 || strings.Contains(text, "\nb") {
				t.Errorf("terminal %t: %T is shown as %q", terminal, e, text)
			}
		}
	}
	s := rest.SessionInfo{
		SessionID: hostile, Kind: "sign", Phase: hostile, KeyID: hostile, Coordinator: hostile, Participants: []string{hostile}, Reason: hostile, Data: hostile,
		Responses: []rest.PartInfo{{PartIndex: 1, UserID: hostile, Invited: true, Response: hostile, Result: hostile}}, Culprits: []int{1, 7}, Digest: hostile,
	}
	text := drawn([]rest.SessionInfo{s}, 160) + drawn([]rest.SessionInfo{s}, 30) + strings.Join(told(rest.SessionInfo{}, s), "\n")
	if strings.ContainsFunc(text, unprintable) {
		t.Errorf("a session is drawn as %q", text)
	}
	var b strings.Builder
	c := &cli{stdout: &b}
	if err := c.print(nil, result(s)...); err != nil || strings.ContainsFunc(b.String(), unprintable) {
		t.Errorf("an outcome is shown as %q, %v", b.String(), err)
	}
}

func unprintable(r rune) bool { return r != '\n' && clean(string(r)) == "?" && r != '?' }

// TestUnseenIsShown: invisible characters do not make a name look like another.
func TestUnseenIsShown(t *testing.T) {
	t.Parallel()
	for _, unseen := range []string{"\u3164", "\u1160", "\u200b", "\ufe0f", "\u034f", "\u202e", "\u2800"} {
		if got := clean("alice" + unseen); got != "alice?" {
			t.Errorf("clean(%q) = %q", "alice"+unseen, got)
		}
	}
}

// TestPrintable: text that others want signed is quoted; text that would be
// reordered is spelled out.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"pay bob":         `"pay bob"`,
		`a"b`:             `"a\"b"`,
		"0x00ff":          "0x00ff",
		"0x00\n":          `"0x00\n"`,
		"付款":              `"付款"`,
		"a\u202eb":        `"a\u202eb"`,
		"pay 5 \u05d0 10": `"pay 5 \u05d0 10"`,
		"pay \u0661":      `"pay \u0661"`,
		"pay bob\u3164":   `"pay bob\u3164"`,
		"pay bob\ufe0f":   `"pay bob\ufe0f"`,
		"a\u0301\u0336b":  `"a\u0301\u0336b"`,
		"จ่าย bob":        `"จ่าย bob"`,
		"\u0e48\u0e48 ":   `"\u0e48\u0e48 "`,
		"a\u3164\ufe0fb":  `"a\u3164\ufe0fb"`,
		"a\xff\ufffdb":    `"a\xff\ufffdb"`,
		"0xabc":           `"0xabc"`,
	} {
		if got := printable(data); got != want {
			t.Errorf("printable(%q) = %s, want %s", data, got, want)
		}
	}
}

// TestStatusFits: a status never breaks into two lines, because the second could not
// be erased; and lines printed meanwhile are above it.
func TestStatusFits(t *testing.T) {
	t.Parallel()
	for _, width := range []int{10, 40, 200} {
		var b strings.Builder
		c := terminalOf(&b, width)
		d := display{console: c}
		d.event(participant.Round{Kind: request.KindSign, SessionID: "sg-1", N: 3, Of: 9})
		d.event(participant.Waiting{Kind: request.KindSign, SessionID: "sg-1", N: 3, Of: 9, Users: []string{"鲍勃", "carol"}})
		d.event(participant.Preparing{Found: 1, Of: 2})
		for _, line := range strings.FieldsFunc(b.String(), func(r rune) bool { return r == '\r' }) {
			if n := columns(strings.TrimPrefix(line, "\x1b[K")); n >= width {
				t.Errorf("%d columns on a terminal with %d: %q", n, width, line)
			}
		}
		if width == 200 && (!strings.Contains(b.String(), "sign sg-1 round 3 of 9 · waiting for 鲍勃, carol") || !strings.Contains(b.String(), "(1 more) preparing [")) {
			t.Errorf("the status is %q", b.String())
		}
		b.Reset()
		c.say("hello")
		if got := b.String(); !strings.HasPrefix(got, "\r\x1b[Kconclave: hello\n") || strings.HasSuffix(got, "\n") {
			t.Errorf("said %q", got)
		}
	}
}

// TestQuestionStays: events during a question are printed above it, and no status
// overwrites the typed answer.
func TestQuestionStays(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	c := terminalOf(&b, 80)
	c.ask("conclave: who\n", "conclave: sign? [y k7f3/n k7f3]")
	b.Reset()
	c.show("round 1 of 9")
	if b.Len() > 0 {
		t.Errorf("a status beside a question: %q", b.String())
	}
	c.say("hello")
	if got := b.String(); got != "\r\x1b[Kconclave: hello\nconclave: sign? [y k7f3/n k7f3] " {
		t.Errorf("said %q", got)
	}
	b.Reset()
	c.answered(true)
	if got := b.String(); got != "round 1 of 9" {
		t.Errorf("after the answer: %q", got)
	}
}

// TestNoTerminal: a line for each change, and no escape sequence.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	d := display{console: newConsole(&b, noEnv)}
	d.event(participant.Preparing{Found: 1, Of: 2})
	d.event(participant.Round{Kind: request.KindSign, SessionID: "sg-1", N: 3, Of: 9})
	d.event(participant.Waiting{Kind: request.KindSign, SessionID: "sg-1", N: 3, Of: 9, Users: []string{"bob"}})
	want := "conclave: preparing: safe primes 1 of 2\nconclave: sign sg-1: round 3 of 9\nconclave: sign sg-1: round 3 of 9 · waiting for bob\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestSpeaksUTF8(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, true},
		{map[string]string{"LANG": "zh_CN.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8"}, true},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, false},
		{map[string]string{"LANG": "C", "LC_CTYPE": "C.UTF-8"}, true},
	} {
		if got := speaksUTF8(func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%v: got %t", tc.env, got)
		}
	}
	if got := toASCII("a…·é😀"); got != `a...-\u00e9\U0001f600` {
		t.Errorf("toASCII: %s", got)
	}
	var b strings.Builder
	_, _ = io.WriteString(asciiWriter{&b}, "é\n")
	if b.String() != "\\u00e9\n" {
		t.Errorf("wrote %q", b.String())
	}
}

// printable is data in its shown form, unbroken, on a terminal that shows everything.
func printable(data string) string {
	var b strings.Builder
	for _, u := range dataUnits(data, func(shown string) string { return shown }) {
		b.WriteString(u.shown)
	}
	return b.String()
}
