package party

import (
	"os"
	"runtime"
	"sync"
)

// SpareThread lets this process run one thread of Go more than it has cores, until
// restore is called; several callers share it. A computing run keeps all cores busy,
// and Go's scheduler may notice an arriving message up to 10 ms late, while its
// recipient could compute already. The spare thread waits for the network and gets its
// share of a core from the operating system at once.
//
// It is for programs that compute, near their start; not for libraries, since it
// affects the whole process. If the environment sets GOMAXPROCS it does nothing.
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
