package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// display prints events as they happen. On a terminal the current progress is one
// line that is redrawn; elsewhere each step of it is a line.
type display struct {
	mu       sync.Mutex
	out      io.Writer
	began    time.Time
	terminal bool
	colour   bool
	progress string // drawn on the current line of a terminal
}

func newDisplay(out io.Writer) *display {
	f, ok := out.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	_, plain := os.LookupEnv("NO_COLOR")
	return &display{out: out, began: time.Now(), terminal: terminal, colour: terminal && !plain}
}

// title begins a part of the demonstration.
func (d *display) title(text string) {
	if d.colour {
		text = "\x1b[1m" + text + "\x1b[0m"
	}
	d.line("\n" + text)
}

// say prints one line, with the time since the beginning.
func (d *display) say(format string, args ...any) {
	d.line(fmt.Sprintf("%6.2fs  ", time.Since(d.began).Seconds()) + fmt.Sprintf(format, args...))
}

func (d *display) line(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	fmt.Fprintln(d.out, text)
	d.draw()
}

// doing shows progress: done of all steps, and their name.
func (d *display) doing(what string, done, all int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	const width = 24
	full := 0
	if all > 0 {
		full = width * done / all
	}
	text := fmt.Sprintf("%6.2fs  [%s%s] %s", time.Since(d.began).Seconds(), strings.Repeat("#", full), strings.Repeat(".", width-full), what)
	if d.terminal {
		d.erase()
		d.progress = text
		d.draw()
		return
	}
	fmt.Fprintln(d.out, text)
}

// done ends the current progress.
func (d *display) done() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	d.progress = ""
}

func (d *display) erase() {
	if d.terminal && d.progress != "" {
		fmt.Fprint(d.out, "\r\x1b[2K")
	}
}

func (d *display) draw() {
	if d.terminal && d.progress != "" {
		fmt.Fprint(d.out, d.progress)
	}
}
