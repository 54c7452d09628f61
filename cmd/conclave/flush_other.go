//go:build !linux && !darwin && !dragonfly && !freebsd && !netbsd && !openbsd && !windows

package main

// flushTyped cannot drop anything here.
func flushTyped(int) error { return nil }

// hush drops input. Later input is echoed until it is read as a passphrase.
func hush(fd int) (restore func(), err error) { return func() {}, flushTyped(fd) }
