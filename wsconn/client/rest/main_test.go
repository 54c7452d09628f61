package rest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

func TestMain(m *testing.M) {
	sample.Idling()
	// tss-lib's logger starts one goroutine when the program does, and never ends it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ipfs/go-log/writer.(*MirrorWriter).logRoutine"))
}
