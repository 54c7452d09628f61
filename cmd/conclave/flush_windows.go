package main

import "golang.org/x/sys/windows"

// flushTyped drops what was typed in a console and not read yet. The beginning of
// a line, which a read under way has taken already, stays.
func flushTyped(fd int) error { return windows.FlushConsoleInputBuffer(windows.Handle(fd)) }

// hush drops what was typed. What is typed shows until it is read as a passphrase.
func hush(fd int) (restore func(), err error) { return func() {}, flushTyped(fd) }
