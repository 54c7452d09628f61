package rest

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

func TestMain(m *testing.M) {
	sample.Idling()
	goleak.VerifyTestMain(m)
}
