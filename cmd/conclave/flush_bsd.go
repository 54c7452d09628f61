//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

// flushTyped drops what was typed on a terminal and not read yet, the beginning of
// a line too.
func flushTyped(fd int) error {
	const input = 1 // FREAD in sys/fcntl.h
	return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, input)
}
