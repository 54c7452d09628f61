package main

import "golang.org/x/sys/windows"

// flushTyped drops console input that was not read yet. It cannot drop the beginning
// of a line that a pending read has taken.
func flushTyped(fd int) error { return windows.FlushConsoleInputBuffer(windows.Handle(fd)) }

// hush drops input. Later input is echoed until it is read as a passphrase.
func hush(fd int) (restore func(), err error) { return func() {}, flushTyped(fd) }
