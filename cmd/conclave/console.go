package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"
)

// console writes to stderr. What it says begins with "conclave:" and a lower
// case letter and has no full stop. On a terminal the last line may be a status,
// which is written over; elsewhere a status is left out. It is safe for
// concurrent use.
type console struct {
	w        io.Writer
	terminal bool
	color    bool

	mu     sync.Mutex
	status string
}

func newConsole(w io.Writer, env func(string) string) *console {
	c := &console{w: w}
	if f, ok := w.(*os.File); ok {
		c.terminal = term.IsTerminal(int(f.Fd())) && env("TERM") != "dumb"
		c.color = c.terminal && env("NO_COLOR") == ""
	}
	return c
}

// say writes a line.
func (c *console) say(format string, args ...any) {
	c.print("conclave: " + fmt.Sprintf(format, args...) + "\n")
}

// clean makes text that comes from others safe to print: nothing in it can move
// the cursor, change colours, or reverse the direction of what follows.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// Write writes lines that others have made.
func (c *console) Write(p []byte) (int, error) {
	c.print(string(p))
	return len(p), nil
}

func (c *console) print(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprint(c.w, c.erased(), text, c.status)
}

// show makes text the status; an empty one removes it.
func (c *console) show(text string) {
	if !c.terminal {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	erase := c.erased()
	c.status = text
	fmt.Fprint(c.w, erase, text)
}

func (c *console) erased() string {
	if c.status == "" {
		return ""
	}
	return "\r\x1b[K"
}

func (c *console) bold(text string) string {
	if !c.color {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// bar draws n of total.
func bar(n, total int) string {
	const width = 24
	if total <= 0 {
		return ""
	}
	full := min(width, width*n/total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
