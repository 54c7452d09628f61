//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

// flushTyped drops terminal input that was not read yet, including the beginning of
// a line.
func flushTyped(fd int) error {
	const input = 1 // FREAD in sys/fcntl.h
	return unix.IoctlSetPointerInt(fd, unix.TIOCFLUSH, input)
}

// hush drops terminal input and turns off echo, until restore is called.
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
