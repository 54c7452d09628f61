//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package node

import "syscall"

// openFiles is how many files this process may have open, 0 if unknown. (Go raises
// the soft limit to the hard one by itself.)
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur) // signed on some systems
}
