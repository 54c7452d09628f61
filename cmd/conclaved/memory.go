package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	heapFloor  = 32 << 20 // a smaller heap is not worth collecting
	mostGrowth = 800      // percent, of the live heap, before it is collected anyway
	tendEvery  = 2 * time.Second
	quietBytes = 1 << 20 // allocated between checks by an idle node: pings, and its own upkeep
	worthTrim  = 8 << 20 // allocated since the last trim
)

// memory keeps a node's heap in proportion. A relay allocates much and keeps little:
// by default, Go collects such a heap many times a second, which is a fifth of the
// CPU time of a message; and the memory of a crowd of closed connections stays with
// the process for minutes. So the heap may grow to a floor before it is collected,
// and an idle node releases unused memory. If GOGC is set, memory leaves it alone.
type memory struct {
	readings []metrics.Sample
	percent  int
	before   uint64 // bytes allocated ever, at the last check
	trimmed  uint64 // the same, at the last trim
}

func newMemory() *memory {
	return &memory{readings: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}, percent: 100}
}

// tend manages the heap until ctx ends.
func (m *memory) tend(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for m.look(); ; m.look() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look adjusts the collector to the live heap, and trims if the node is idle.
func (m *memory) look() {
	metrics.Read(m.readings)
	allocated, live := m.readings[0].Value.Uint64(), m.readings[1].Value.Uint64()
	percent := int(min(mostGrowth, max(100, 100*heapFloor/max(live, 1))))
	if percent*10 < m.percent*9 || percent*9 > m.percent*10 {
		debug.SetGCPercent(percent)
		m.percent = percent
	}
	quiet := allocated-m.before < quietBytes
	m.before = allocated
	if quiet && allocated-m.trimmed > worthTrim {
		m.trimmed = allocated
		debug.FreeOSMemory()
	}
}
