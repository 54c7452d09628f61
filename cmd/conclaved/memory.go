package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	heapFloor  = 32 << 20 // a heap that is smaller is not worth collecting
	mostGrowth = 800      // percent, of what lives, before it is collected all the same
	tendEvery  = 2 * time.Second
	quietBytes = 1 << 20 // allocated meanwhile by a node that rests: pings, and its own upkeep
	worthTrim  = 8 << 20 // allocated since it last gave back what is unused
)

// memory keeps a node's heap in proportion. A relay allocates much and keeps
// little: left alone, Go collects such a heap many times a second, which is a
// fifth of the CPU time of a message; and what a crowd of connections has left
// behind stays with the process for minutes. So the heap may grow to a floor
// before it is collected, and a node that has come to rest gives back what it
// does not use. Who sets GOGC decides for themselves.
type memory struct {
	readings []metrics.Sample
	percent  int
	before   uint64 // bytes allocated ever, at the last look
	trimmed  uint64 // the same, at the last trim
}

func newMemory() *memory {
	return &memory{readings: []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}, percent: 100}
}

// tend looks after the heap until ctx ends.
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

// look adjusts the collector to what lives, and trims when nothing happens.
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
