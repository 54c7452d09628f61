package participant_test

import (
	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

func init() {
	participant.TestingOpenStore = func(dir string) (participant.DiskStore, error) { return dirstore.Open(dir) }
	participant.TestingOpenPreParams = func(dir string, id *identity.Identity) (participant.PreParamsStore, error) {
		return dirstore.OpenPreParams(dir, id)
	}
}
