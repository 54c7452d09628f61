//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

// flushTyped drops what was typed on a terminal and not read yet, the beginning of
// a line too.
func flushTyped(fd int) error {
	const input = 1 // FREAD in sys/fcntl.h
	return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, input)
}

// hush drops what was typed on a terminal and shows no more of it, until restore is
// called.
func hush(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TIOCGETA)
	if err != nil {
		return nil, err
	}
	hushed := *before
	hushed.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TIOCSETAF, &hushed); err != nil {
		return nil, err
	}
	return func() { _ = unix.IoctlSetTermios(fd, unix.TIOCSETA, before) }, nil // the terminal may be gone
}
