package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"
)

// console writes to stderr. Its lines begin with "conclave:" and a lower case letter
// and have no full stop. On a terminal the last line may be a status, which is
// overwritten, or a question, which stays the last; elsewhere a status is left out.
// All escape sequences of the program are here. It is safe for concurrent use.
type console struct {
	w        io.Writer
	terminal bool
	color    bool
	ascii    bool // the terminal does not show UTF-8
	columns  func() int

	mu       sync.Mutex
	status   string
	question string
	drawn    string // the last line as shown on the terminal
}

func newConsole(w io.Writer, env func(string) string) *console {
	c := &console{w: w, columns: func() int { return 80 }}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || env("TERM") == "dumb" {
		return c
	}
	c.terminal = true
	c.color = env("NO_COLOR") == ""
	c.ascii = !speaksUTF8(env)
	c.columns = func() int { return terminalWidth(f) }
	return c
}

func terminalWidth(f *os.File) int {
	if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
		return w
	}
	return 80
}

// speaksUTF8 goes by the locale, as other programs do. Without one, as in most
// containers, it assumes UTF-8.
func speaksUTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
		}
	}
	return true
}

// say writes a line.
func (c *console) say(format string, args ...any) {
	c.print("conclave: " + fmt.Sprintf(format, args...) + "\n")
}

// Write writes lines formatted by others.
func (c *console) Write(p []byte) (int, error) {
	c.print(string(p))
	return len(p), nil
}

func (c *console) print(text string) { c.through(c.w, text) }

// through writes whole lines to w, which may be the same terminal, above the last
// line.
func (c *console) through(w io.Writer, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	if w == c.w {
		text = c.plain(text)
	}
	_, _ = io.WriteString(w, text) // stderr is gone: the error cannot be reported
	c.draw()
}

// show makes text the status; an empty one removes it.
func (c *console) show(text string) {
	if !c.terminal {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = text
	if c.question != "" { // an answer is being typed
		return
	}
	c.erase()
	c.draw()
}

// ask puts a question. On a terminal the answer is typed after it.
func (c *console) ask(text, question string) {
	if !c.terminal {
		c.print(text + question + "\n")
		return
	}
	c.mu.Lock()
	c.question = c.plain(question) + " "
	if c.drawn == "" {
		c.drawn = " " // input typed while no question was shown is on that line
	}
	c.mu.Unlock()
	c.print(text)
}

// answered ends a question. typed means that the answer has ended its line.
func (c *console) answered(typed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.question == "" {
		return
	}
	c.question = ""
	if typed {
		c.drawn = ""
	}
	c.erase()
	c.draw()
}

// erase and draw require mu.
func (c *console) erase() {
	if c.drawn != "" {
		_, _ = io.WriteString(c.w, "\r\x1b[K")
	}
	c.drawn = ""
}

func (c *console) draw() {
	text := c.question
	if text == "" && c.status != "" {
		// A status broken into two lines could not be erased.
		text = c.plain(fit(c.plain(c.status), c.columns()-len("...")))
	}
	_, _ = io.WriteString(c.w, text)
	c.drawn = text
}

// plain is text that the terminal can show.
func (c *console) plain(text string) string {
	if !c.ascii {
		return text
	}
	return toASCII(text)
}

// toASCII spells out non-ASCII characters, so that two names never look the same.
func toASCII(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r == '…':
			b.WriteString("...")
		case r == '·':
			b.WriteByte('-')
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// plainer returns stdout, spelled out if it is a terminal without UTF-8.
func plainer(w io.Writer, env func(string) string) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && !speaksUTF8(env) {
		return asciiWriter{w}
	}
	return w
}

// asciiWriter expects whole lines.
type asciiWriter struct{ w io.Writer }

func (a asciiWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(a.w, toASCII(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// style is a text style, by its number in ECMA-48.
type style string

const (
	bold  style = "1"
	dim   style = "2"
	red   style = "31"
	green style = "32"
)

func (c *console) paint(s style, text string) string {
	if !c.color || text == "" || s == "" {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

func (c *console) bold(text string) string { return c.paint(bold, text) }

// bar draws n of total in width columns.
func bar(n, total, width int) string {
	width -= 2
	if total <= 0 || width < 1 {
		return ""
	}
	full := min(width, width*max(n, 0)/total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
