package party

import (
	"os"
	"runtime"
)

// SpareThread lets this process run one thread of Go more than it has cores, until
// restore is called. While a run computes it keeps all of them busy, and a message
// that comes meanwhile is only noticed when Go's scheduler takes a look, after up
// to 10 ms, while the party that it is for could compute already. The spare thread
// waits for the network and gets its share of a core from the operating system at
// once.
//
// It is for programs that compute, near their start; not for libraries, since it
// is for the whole process. Where the environment sets GOMAXPROCS it does nothing.
func SpareThread() (restore func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	was := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(was + 1)
	return func() { runtime.GOMAXPROCS(was) }
}
