package e2e_test

import (
	"os/exec"
	"syscall"
)

// tie has the kernel kill a process if the test that started it is killed.
func tie(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
