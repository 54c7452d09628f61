package party_test

import (
	"runtime"
	"testing"

	"github.com/conclave-mpc/conclave/session/party"
)

// Not parallel: it is about the whole process.
func TestSpareThread(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	restore := party.SpareThread()
	if n := runtime.GOMAXPROCS(0); n != was+1 {
		t.Errorf("%d threads, want %d", n, was+1)
	}
	restore()
	t.Setenv("GOMAXPROCS", "7")
	party.SpareThread()()
	if n := runtime.GOMAXPROCS(0); n != was {
		t.Errorf("%d threads at the end, want %d", n, was)
	}
}
