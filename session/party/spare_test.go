package party_test

import (
	"runtime"
	"testing"

	"github.com/conclave-mpc/conclave/session/party"
)

// Not parallel: it affects the whole process.
func TestSpareThread(t *testing.T) {
	was := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	want := func(want int) {
		t.Helper()
		if n := runtime.GOMAXPROCS(0); n != want {
			t.Errorf("%d threads, want %d", n, want)
		}
	}
	first, second := party.SpareThread(), party.SpareThread()
	want(was + 1)
	first()
	first()
	want(was + 1)
	second()
	want(was)
	t.Setenv("GOMAXPROCS", "7")
	party.SpareThread()()
	want(was)
}
