//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package e2e_test

import "syscall"

// filesAllowed is how many files this process may open. (Go has raised the soft
// limit to the hard one.)
func filesAllowed() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(uint64(limit.Cur), 1<<20))
}
