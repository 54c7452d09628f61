package party

import (
	"os"
	"runtime"
	"sync"
)

// SpareThread lets this process run one thread of Go more than it has cores, until
// restore is called; several callers share it. While a run computes it keeps all of them busy, and a message
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
	spare.mu.Lock()
	defer spare.mu.Unlock()
	if spare.users++; spare.users == 1 {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	}
	return sync.OnceFunc(func() {
		spare.mu.Lock()
		defer spare.mu.Unlock()
		if spare.users--; spare.users == 0 {
			runtime.SetDefaultGOMAXPROCS()
		}
	})
}

// spare is the process's one spare thread.
var spare struct {
	mu    sync.Mutex
	users int
}
