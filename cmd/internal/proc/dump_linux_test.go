package proc

import (
	"bytes"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestHideMemory crashes two processes with unlimited core dumps: the one that hides
// its memory leaves none.
func TestHideMemory(t *testing.T) {
	if mode := os.Getenv("SECRET_TEST_CRASH"); mode != "" {
		if mode == "hidden" {
			if err := HideMemory(); err != nil {
				t.Fatal(err)
			}
			dumpable, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0)
			var limit syscall.Rlimit
			if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 || dumpable != 0 {
				t.Fatalf("dumpable %d, limit %+v, %v", dumpable, limit, err)
			}
		}
		os.Stdout.WriteString("ready\n")
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
		select {}
	}
	t.Parallel()
	dumped := func(mode string) bool {
		cmd := exec.Command("sh", "-c", `ulimit -c unlimited 2>/dev/null; exec "$0" -test.run '^TestHideMemory$'`, os.Args[0])
		cmd.Dir = t.TempDir()
		// crash: the runtime ends with the signal that causes a core dump.
		cmd.Env = append(os.Environ(), "SECRET_TEST_CRASH="+mode, "GOTRACEBACK=crash")
		out, err := cmd.CombinedOutput()
		status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if err == nil || !ok || !status.Signaled() || !bytes.Contains(out, []byte("ready")) {
			t.Fatalf("the process that should crash did not: %v\n%s", err, out)
		}
		return status.CoreDump()
	}
	if dumped("hidden") {
		t.Error("a process that hides its memory dumped core")
	}
	if !dumped("open") {
		t.Log("this system dumps no core at all")
	}
}
