package proc

import (
	"fmt"
	"syscall"
)

// HideMemory keeps this process's memory out of core dumps: it sets the limit on
// their size to 0 and, on Linux, makes the process undumpable, which also holds
// where the kernel pipes dumps into a program, and keeps other processes of the same
// user from reading it (ptrace, /proc/PID/mem and environ). Then only root can
// attach a debugger. Call it at the beginning of main; child processes inherit only
// the limit. On systems without either it does nothing.
func HideMemory() error {
	if err := noCore(); err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
		return fmt.Errorf("make process undumpable: %w", errno)
	}
	return nil
}
