//go:build unix

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCommandsChildrenAreKilled: a command's children end with it, when it takes too
// long and when one still holds its output.
func TestCommandsChildrenAreKilled(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text     string
		deadline time.Duration
		failed   bool
	}{
		"too slow":    {"sleep 600 & echo $! > %s; wait", 2 * time.Second, false},
		"left behind": {"sleep 600 & echo $! > %s; exit 0", time.Minute, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			noted := filepath.Join(t.TempDir(), "pid")
			var stderr strings.Builder
			inv := pinnedRequest()
			inv.Deadline = time.Now().Add(tc.deadline)
			ok, reason, err := script(t, &stderr, fmt.Sprintf(tc.text, noted))(t.Context(), inv)
			if ok || (err != nil) != tc.failed {
				t.Errorf("got %t, %q, %v", ok, reason, err)
			}
			text, err := os.ReadFile(noted)
			if err != nil {
				t.Fatal(err)
			}
			child, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			for until := time.Now().Add(time.Minute); running(child); {
				if time.Now().After(until) {
					_ = syscall.Kill(child, syscall.SIGKILL)
					t.Fatal("the command's child runs on")
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}

// running reports whether a process runs: one that has ended and was not waited for
// does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true // not Linux
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
