package main

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/width"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// clean makes text that comes from others safe to print: nothing in it can move the
// cursor, change colours, reverse the direction of the text after it, or be
// invisible.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || wire.Invisible(r) {
			return '?'
		}
		return r
	}, text)
}

// plainly reports whether a rune shows as one sign on its own. Combining marks do
// not: they change or cover their neighbours.
func plainly(r rune) bool {
	return unicode.IsPrint(r) && !wire.Invisible(r) && !unicode.IsMark(r) && !rightToLeft(r)
}

// spelled spells out the runes of text that do not show plainly, where clean would
// hide which they are: \u202e. It is for text that people decide by.
func spelled(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r == utf8.RuneError || !plainly(r) }) {
		return text
	}
	var b strings.Builder
	for _, u := range unitsOf(text, false) {
		b.WriteString(u.shown)
	}
	return b.String()
}

// isHex reports whether data is 0x and whole bytes of hex, which stand for bytes.
func isHex(data string) bool {
	digits, ok := strings.CutPrefix(data, "0x")
	return ok && len(digits)%2 == 0 && strings.Trim(digits, "0123456789abcdefABCDEF") == ""
}

// unit is the text that is shown for some bytes; it is never broken.
type unit struct {
	shown string
	bytes int
}

// maxMarks is how many vowel signs and tones may stand on a letter.
const maxMarks = 3

// unitsOf splits text into units. Within quotes, backslashes and quotes are escaped;
// and if a letter of it runs from right to left, so is all non-ASCII text. Marks
// that belong to a script, as in Thai and Hindi, stay on their letter; marks that
// fit any letter are spelled out.
func unitsOf(text string, quoted bool) []unit {
	list := make([]unit, 0, len(text))
	ascii := strings.ContainsFunc(text, rightToLeft)
	marks := maxMarks // no letter yet
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		part := text[:n]
		text = text[n:]
		if unicode.IsMark(r) && !unicode.Is(unicode.Inherited, r) && !wire.Invisible(r) && !ascii && marks < maxMarks {
			last := &list[len(list)-1]
			last.shown, last.bytes = last.shown+part, last.bytes+n
			marks++
			continue
		}
		marks = maxMarks
		if r >= utf8.RuneSelf && unicode.IsLetter(r) && plainly(r) {
			marks = 0
		}
		shown := part
		switch escaped := strconv.QuoteToASCII(part); {
		case quoted && (r == '"' || r == '\\'),
			r == utf8.RuneError, r >= utf8.RuneSelf && ascii, !plainly(r):
			shown = escaped[1 : len(escaped)-1]
		}
		list = append(list, unit{shown, n})
	}
	return list
}

// hexUnits splits hex, checked with isHex, into its bytes.
func hexUnits(data string) []unit {
	list := make([]unit, 0, len(data)/2)
	list = append(list, unit{"0x", 0})
	for i := 2; i < len(data); i += 2 {
		list = append(list, unit{data[i : i+2], 1})
	}
	return list
}

func rightToLeft(r rune) bool {
	if r < utf8.RuneSelf {
		return false
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}

// atMost is the columns that text takes on any terminal: some show signs of
// ambiguous width, Greek letters and dashes, in two.
func atMost(text string) int {
	n := 0
	for _, r := range text {
		n += mostColumns(r)
	}
	return n
}

func mostColumns(r rune) int {
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth, width.EastAsianAmbiguous:
		return 2
	}
	if r >= 0x1f000 { // emoji, and letters that form flags
		return 2
	}
	return 1
}

// elide shortens text to n columns: it leaves out the middle, and states how many
// bytes the text stands for.
func elide(text string, bytes, n int) string {
	if atMost(text) <= n {
		return text
	}
	end := fmt.Sprintf(" (%s bytes)", grouped(bytes))
	if atMost(end)+8 > n {
		end = ""
	}
	room := max(n-len("...")-len(end), 2)
	tail := lastColumns(text, room/2)
	return firstColumns(text, room-atMost(tail)) + "..." + tail + end
}

func firstColumns(text string, n int) string {
	for i, r := range text {
		if n -= mostColumns(r); n < 0 {
			return text[:i]
		}
	}
	return text
}

func lastColumns(text string, n int) string {
	for i := len(text); i > 0; {
		r, size := utf8.DecodeLastRuneInString(text[:i])
		if n -= mostColumns(r); n < 0 {
			return text[i:]
		}
		i -= size
	}
	return text
}

// grouped writes n with a comma before each three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// wrapped breaks text into lines of n columns at most, at spaces if there are any.
func wrapped(text string, n int) []string {
	var lines []string
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		switch {
		case line == "":
			line = word
		case atMost(line)+1+atMost(word) <= n:
			line += " " + word
			continue
		default:
			lines, line = append(lines, line), word
		}
		for atMost(line) > n {
			begin := firstColumns(line, n)
			lines, line = append(lines, begin), line[len(begin):]
		}
	}
	return append(lines, line)
}

// listed lists as many of the names, whole, as fit into so many lines of n columns,
// and says how many it leaves out.
func listed(names []string, n, lines int) []string {
	var best []string
	for k := 1; k <= len(names); k++ {
		text := strings.Join(names[:k], ", ")
		if left := len(names) - k; left > 0 {
			text += fmt.Sprintf(" and %d MORE, not shown", left)
		}
		all := wrapped(text, n)
		if len(all) > lines && best != nil {
			break
		}
		best = all
	}
	if len(best) > lines { // the first name alone is too long
		return []string{elide(names[0], len(names[0]), n), fmt.Sprintf("and %d MORE, not shown", len(names)-1)}[:min(lines, 2)]
	}
	return best
}

// excerpt is data in a few lines.
type excerpt struct {
	head, tail []string
	bytes      int // in all
	hidden     int // of them between head and tail
}

// excerptOf shows data in so many lines of n columns, or in one less and one of its
// end.
func excerptOf(data string, n, lines int, plain func(string) string) excerpt {
	units := dataUnits(data, plain)
	e := excerpt{bytes: bytesIn(units)}
	used := 0
	e.head, used = fill(units, n, lines)
	if used == len(units) {
		return e
	}
	e.head, used = fill(units, n, lines-2)
	from, room := len(units), n
	for from > used {
		if room -= atMost(units[from-1].shown); room < 0 {
			break
		}
		from--
	}
	e.hidden = bytesIn(units[used:from])
	e.tail, _ = fill(units[from:], n, 1)
	return e
}

// dataUnits are the units in which data that comes from others is shown: hex
// unchanged, text quoted, so that nothing in it can pass for something else on a
// terminal that shows only plain's output. Text with letters that run from right to
// left is spelled out, because terminals reorder their neighbours.
func dataUnits(data string, plain func(string) string) []unit {
	if isHex(data) {
		return hexUnits(data)
	}
	units := unitsOf(data, true)
	for i := range units {
		units[i].shown = plain(units[i].shown)
	}
	units = append(units, unit{`"`, 0})
	return append([]unit{{`"`, 0}}, units...)
}

// fill fills lines of n columns with units, and returns how many it has used.
func fill(units []unit, n, most int) (lines []string, used int) {
	var line strings.Builder
	columns := 0
	for i, u := range units {
		if w := atMost(u.shown); columns+w > n && columns > 0 {
			lines = append(lines, line.String())
			line.Reset()
			if columns = 0; len(lines) == most {
				return lines, i
			}
		}
		line.WriteString(u.shown)
		columns += atMost(u.shown)
	}
	return append(lines, line.String()), len(units)
}

func bytesIn(units []unit) int {
	n := 0
	for _, u := range units {
		n += u.bytes
	}
	return n
}

// ownDigest is the digest, or "" if it repeats the data. An ed25519 key signs the
// data itself, and a secp256k1 key signs 32 bytes that are already a digest.
func ownDigest(data, digest string) string {
	raw := []byte(data)
	if isHex(data) {
		raw, _ = pubkey.Decode(data) // isHex has checked it
	}
	if digest == pubkey.Encode(raw) {
		return ""
	}
	return digest
}
