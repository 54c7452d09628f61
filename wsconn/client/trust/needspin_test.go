package trust

import "testing"

func TestNeedsPin(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]bool{
		"alice (part 1) declined: the identity of dave is not pinned here, and this participant approves without asking": true,
		"the request: " + ErrNotPinned.Error() + ": dave":                                                                true,
		"the policy does not allow it: words: the text matches no pattern":                                               false,
		"no rule of the policy matches":                                                                                  false,
	} {
		if got := NeedsPin(reason); got != want {
			t.Errorf("%s: got %t", reason, got)
		}
	}
}
