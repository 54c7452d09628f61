package request

import (
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestOutcomeNamesAPartOnce: neither a part nor the status appears twice, and a
// party's own words do not hide whom the server blames.
func TestOutcomeNamesAPartOnce(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]OutcomeError{
		"keygen expired: the deadline for answers passed without a word from ghost (part 3)": {
			Kind: KindKeygen, Status: wire.StatusExpired, Reason: "the deadline for answers passed without a word from ghost (part 3)", Culprits: []int{3},
		},
		"sign failed: bob (part 2) could not go on: no (part 3) (blamed: part 3)": {
			Kind: KindSign, Status: wire.StatusFailed, Reason: "bob (part 2) could not go on: no (part 3)", Culprits: []int{3},
		},
		"sign failed: a (part 1) and b (part 2) left (blamed: part 3, 11)": {
			Kind: KindSign, Status: wire.StatusFailed, Reason: "a (part 1) and b (part 2) left", Culprits: []int{1, 2, 3, 11},
		},
		"sign cancelled by alice: changed my mind": {Kind: KindSign, Status: wire.StatusCancelled, Reason: "cancelled by alice: changed my mind"},
		"sign failed": {Kind: KindSign, Status: wire.StatusFailed},
	} {
		if got := e.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
