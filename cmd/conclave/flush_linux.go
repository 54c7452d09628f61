package main

import "golang.org/x/sys/unix"

// flushTyped drops what was typed on a terminal and not read yet, the beginning of
// a line too.
func flushTyped(fd int) error { return unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH) }
