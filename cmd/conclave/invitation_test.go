package main

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/text/width"
	"pgregory.net/rapid"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// shownColumns counts as a terminal does; characters whose width depends on the
// terminal must not occur.
func shownColumns(t *rapid.T, line string) int {
	n := 0
	for _, r := range line {
		switch k := width.LookupRune(r).Kind(); {
		case r < ' ' || r == 0x7f || wire.Invisible(r) || rightToLeft(r) || r == 0x301 || r == 0x20dd:
			t.Fatalf("%U is shown: %q", r, line)
		case k == width.EastAsianWide || k == width.EastAsianFullwidth || k == width.EastAsianAmbiguous || r >= 0x1f000:
			n++
		}
		n++
	}
	return n
}

// hostileText is made of text that could move, cover, widen or hide something.
func hostileText(most int) *rapid.Generator[string] {
	pieces := rapid.SampledFrom([]string{
		"a", "b", " ", "\n", "\r", "\t", "\x1b[2J", "\x1b[31m", "\u202e", "\u2066", "\u0301", "\u20dd", "\u3164", "\ufe0f", "\u200b", "付", "款", "😀", "🇩", "α", "é",
		"ก", "่", "\u05d0", "\xff", "\\", `"`, ", ", "    address    0x00", "conclave: sign? [y k7f3/n k7f3] ", "\u2800", "\U000e0041", "\u2028", strings.Repeat("x", 90),
	})
	return rapid.Custom(func(t *rapid.T) string {
		text := strings.Join(rapid.SliceOfN(pieces, 0, 40).Draw(t, "pieces"), "")
		text = strings.Repeat(text, rapid.SampledFrom([]int{1, 1, 1, 30}).Draw(t, "times"))
		return text[:min(len(text), most)]
	})
}

func hostileInvitation(t *rapid.T) participant.Invitation {
	id := rapid.OneOf(rapid.SampledFrom([]string{"alice", strings.Repeat("付", 42), strings.Repeat("n", 128)}), hostileText(128))
	inv := participant.Invitation{
		Kind: rapid.SampledFrom([]request.Kind{request.KindKeygen, request.KindSign}).Draw(t, "kind"), SessionID: id.Draw(t, "session"), KeyID: id.Draw(t, "key"),
		Coordinator: id.Draw(t, "coordinator"), Curve: pubkey.Curve(hostileText(200).Draw(t, "curve")), Threshold: rapid.IntRange(0, 16).Draw(t, "threshold"),
		PartIndex: 3, Participants: rapid.SliceOfN(id, 1, 16).Draw(t, "participants"), Deadline: time.Now(), Hash: hostileText(99).Draw(t, "hash"),
	}
	if inv.Kind == request.KindSign {
		inv.AccountAddr = rapid.OneOf(rapid.Just("0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F"), id).Draw(t, "address")
		inv.Digest = rapid.OneOf(rapid.Just("0x"+strings.Repeat("ab", 32)), hostileText(9000)).Draw(t, "digest")
		if rapid.Bool().Draw(t, "ethereum") {
			inv.Curve = pubkey.Secp256k1
		}
		inv.Data = rapid.OneOf(hostileText(6000), rapid.Just("0xdf80018252089435353535353535353535353535353535353535350180018080"), rapid.Just("0x"+strings.Repeat("00ff", 3000))).Draw(t, "data")
	}
	if rapid.Bool().Draw(t, "signed") {
		inv.Signer = &participant.Signer{
			Fingerprint: rapid.OneOf(rapid.Just("BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA"), id).Draw(t, "fingerprint"),
			Pinned:      rapid.Bool().Draw(t, "pinned"), First: rapid.Bool().Draw(t, "first"), Nonce: id.Draw(t, "nonce"), IssuedAt: time.Now(), ExpiresAt: time.Now(),
		}
	}
	return inv
}

// TestRequestFitsAScreen: whatever is in a request, it and its question are at most
// 22 lines of 80 columns; the key, the address and the requester stand in its last
// lines, and the requester in the last of all.
func TestRequestFitsAScreen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		inv := hostileInvitation(t)
		c := &console{w: new(strings.Builder), terminal: true, columns: func() int { return 80 }, ascii: rapid.Bool().Draw(t, "ascii")}
		code := newCode()
		text := shownRequest(c, inv, rapid.SampledFrom([]int{0, 1, 10_000}).Draw(t, "waiting"), false)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		question := questionOf(c, inv, code)
		if len(lines) > maxShown {
			t.Errorf("%d lines:\n%s", len(lines), text)
		}
		for _, line := range append(lines, question+" show "+code) {
			if n := shownColumns(t, line); n > 80 {
				t.Errorf("%d columns: %q", n, line)
			}
		}
		if !strings.Contains(question, "[y "+code+"/n "+code+"]") {
			t.Errorf("the question is %q", question)
		}
		wants := []string{`  key        \S`, `  asked by   \S`, `  signed by  \S`}
		if inv.Kind == request.KindSign && !blank(inv.AccountAddr) {
			wants = append(wants, `  address    \S`)
		}
		end := strings.Join(lines[max(0, len(lines)-6):], "\n")
		for _, want := range wants {
			if blank(inv.KeyID) || blank(inv.Coordinator) || inv.Signer != nil && blank(inv.Signer.Fingerprint) {
				break
			}
			if !regexp.MustCompile(`(?m)^` + want).MatchString(end) {
				t.Errorf("the last lines have no %q:\n%s", want, text)
			}
		}
	})
}

func blank(text string) bool { return strings.Trim(text, " ") == "" }

// TestHiddenBytesAreCounted: a prompt's shown data and its count of hidden bytes add
// up to all of it, and nothing in the data looks like that count.
func TestHiddenBytesAreCounted(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		length := rapid.IntRange(0, 3000).Draw(t, "length") // rapid's own slices are short
		raw := rapid.SliceOfN(rapid.Byte(), length, length).Draw(t, "raw")
		columns, lines := rapid.IntRange(20, 70).Draw(t, "columns"), rapid.IntRange(3, 6).Draw(t, "lines")
		data := "0x" + hex.EncodeToString(raw)
		e := excerptOf(data, columns, lines, func(s string) string { return s })
		head, tail := strings.Join(e.head, ""), strings.Join(e.tail, "")
		if e.bytes != len(raw) || len(head)+len(tail)+2*e.hidden != len(data) || !strings.HasPrefix(data, head) || !strings.HasSuffix(data, tail) {
			t.Errorf("%d bytes, %d hidden: %s .. %s of %s", e.bytes, e.hidden, head, tail, data)
		}
		if all := len(e.head) + len(e.tail); all > lines || e.hidden > 0 && all != lines-1 {
			t.Errorf("%d lines of %d", all, lines)
		}
		text := hostileText(3000).Draw(t, "text")
		e = excerptOf(text, columns, lines, func(s string) string { return s })
		if e.hidden == 0 && strings.Join(e.head, "") != printable(text) {
			t.Errorf("%q is shown as %q", text, e.head)
		}
		if e.bytes != len(text) {
			t.Errorf("%d of %d bytes", e.bytes, len(text))
		}
	})
}

// TestLongDataLeavesWhoAsksOnTheScreen: 6,000 bytes, of which the middle matters.
func TestLongDataLeavesWhoAsksOnTheScreen(t *testing.T) {
	t.Parallel()
	inv := signing()
	inv.Curve, inv.Hash = pubkey.Ed25519, "none"
	inv.Data = strings.Repeat("pay bob ", 400) + "AND ALL THE REST TO EVE " + strings.Repeat("pay bob ", 347)
	inv.Digest = pubkey.Encode([]byte(inv.Data))
	c := newConsole(new(strings.Builder), noEnv)
	text := shownRequest(c, inv, 0, false)
	for _, want := range []string{
		"NOT SHOWN  5,801 of 6,000 bytes; answer show to see them\n", "hash       none: the data is signed as it is\n", "key        key-1\n  address    0xacc\n  asked by   dave\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "digest") || strings.Contains(text, "EVE") {
		t.Errorf("a copy of the data as its digest, or all of it:\n%s", text)
	}
	whole := shownRequest(c, inv, 0, true)
	var joined strings.Builder
	for line := range strings.Lines(whole) {
		joined.WriteString(strings.TrimSuffix(line[min(labelWidth, len(line)):], "\n"))
	}
	if !strings.Contains(joined.String(), inv.Data) {
		t.Errorf("show does not show all of it:\n%s", whole)
	}
	d := display{console: c}
	d.event(participant.Invited{Invitation: inv})
	if line := c.w.(*strings.Builder).String(); len(line) > 300 || strings.Contains(line, "digest") {
		t.Errorf("a log gets %q", line)
	}
}

// TestManyLongNames: names that do not fit are counted.
func TestManyLongNames(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 16 {
		names = append(names, fmt.Sprintf("%s-%d", strings.Repeat("n", 40), i))
	}
	inv := participant.Invitation{Kind: request.KindKeygen, KeyID: "k", Coordinator: "alice", Participants: names, PartIndex: 1, Threshold: 2}
	c := newConsole(new(strings.Builder), noEnv)
	if text := shownRequest(c, inv, 0, false); !strings.Contains(text, "-2 and 13 MORE, not shown\n") && !strings.Contains(text, "-3 and 12 MORE, not shown\n") {
		t.Errorf("got:\n%s", text)
	}
	text := strings.Join(strings.Fields(shownRequest(c, inv, 0, true)), " ")
	if !strings.Contains(text, strings.Join(names, ", ")) {
		t.Errorf("show leaves names out:\n%s", text)
	}
}

// TestShownAsTheCheckSaw: without a prompt, a request signed by a pinned coordinator
// is shown as such; for one that failed its check nothing is claimed.
func TestShownAsTheCheckSaw(t *testing.T) {
	t.Parallel()
	pinned := pinnedRequest()
	for _, terminal := range []bool{true, false} {
		for _, tc := range []struct {
			e        participant.Invited
			want, no string
		}{
			{participant.Invited{Invitation: pinned}, "FINGER, pinned", "NOT SIGNED"},
			{participant.Invited{Invitation: signing()}, "signed", "FINGER"},
			{participant.Invited{Invitation: signing(), Refused: "the request was used before"}, "dave asks to sign", "signed"},
		} {
			var b strings.Builder
			c := terminalOf(&b, 80)
			c.terminal, c.color = terminal, false
			(&display{console: c}).event(tc.e)
			if text := b.String(); !strings.Contains(text, tc.want) || strings.Contains(text, tc.no) {
				t.Errorf("terminal %t: got %s", terminal, text)
			}
		}
	}
}

// TestHintsFitTheReason: the hint to pin is only for declines that pinning avoids.
func TestHintsFitTheReason(t *testing.T) {
	t.Parallel()
	unpinned := signing()
	unpinned.Signer = &participant.Signer{Fingerprint: "FINGER"}
	_, notPinned, _ := participant.ApproveAll(t.Context(), unpinned)
	for reason, want := range map[string]bool{
		notPinned: true,
		"the policy does not allow it: words: the text matches no pattern": false,
		"declined by a command": false,
	} {
		var b strings.Builder
		(&display{console: newConsole(&b, noEnv)}).event(participant.Answered{Invitation: unpinned, Reason: reason})
		if got := strings.Contains(b.String(), "hint:"); got != want {
			t.Errorf("a participant that declines with %q: %s", reason, b.String())
		}
		hint := hintFor(&request.OutcomeError{Status: "rejected", Reason: "bob (part 1) declined: " + reason})
		if got := strings.Contains(hint, "pinned"); got != want {
			t.Errorf("a coordinator that is told %q gets %q", reason, hint)
		}
	}
}
