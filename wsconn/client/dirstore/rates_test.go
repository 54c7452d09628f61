package dirstore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRatesSurvive: a policy's approvals still count after a restart, and a damaged
// file is not taken for an empty one.
func TestRatesSurvive(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "rates.json")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	l, err := OpenRates(path)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Take("r", "s1", 1, time.Hour, now); !ok || err != nil {
		t.Fatalf("got %t, %v", ok, err)
	}
	l, err = OpenRates(path)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := l.Take("r", "s2", 1, time.Hour, now); ok || err != nil {
		t.Errorf("after a restart: got %t, %v", ok, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// An uncountable approval is refused.
	if l, err = OpenRates(filepath.Join(path, "not a directory")); err == nil {
		if ok, err := l.Take("r", "s", 1, time.Hour, now); ok || err == nil {
			t.Errorf("got %t, %v", ok, err)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenRates(path); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("got %v, want that it is damaged", err)
	}
}
