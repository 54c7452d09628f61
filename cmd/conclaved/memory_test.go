package main

import (
	"runtime/debug"
	"runtime/metrics"
	"testing"
)

// TestMemory checks that a process that was busy releases unused memory once it is
// idle, and does not collect a small heap. It changes the whole process's collector.
func TestMemory(t *testing.T) {
	t.Cleanup(func() { debug.SetGCPercent(100) })
	reading := func(name string) uint64 {
		s := []metrics.Sample{{Name: name}}
		metrics.Read(s)
		return s[0].Value.Uint64()
	}
	m := newMemory()
	debug.FreeOSMemory()
	m.look()
	if m.percent <= 100 {
		t.Errorf("a small heap may grow by %d %%", m.percent)
	}
	var kept [][]byte
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	debug.FreeOSMemory() // so that it counts as live
	m.look()
	if m.percent != 100 {
		t.Errorf("a heap of %d MiB may grow by %d %%", len(kept), m.percent)
	}
	clear(kept)
	before := reading("/memory/classes/heap/released:bytes")
	for range 2 { // the first covers earlier allocations
		m.look()
	}
	after := reading("/memory/classes/heap/released:bytes")
	if after < before+32<<20 {
		t.Errorf("%d MiB were released of 64 that nobody uses", (int64(after)-int64(before))>>20)
	}
	cycles := reading("/gc/cycles/forced:gc-cycles")
	m.look()
	if again := reading("/gc/cycles/forced:gc-cycles"); again != cycles {
		t.Error("a process at rest is trimmed again and again")
	}
}
