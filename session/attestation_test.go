package session

import (
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestAttestationsArePassedOn: unread, in the order of the parts, and only for an
// existing key.
func TestAttestationsArePassedOn(t *testing.T) {
	t.Parallel()
	s := newKeygen(2, "alice", "bob", "carol")
	report := func(part int, attestation string) at {
		ev := s.generated(part, theKey)
		ev.Attestation = attestation
		return at{0, ev}
	}
	accepted := []at{{0, s.accept(1)}, {0, s.accept(2)}, {0, s.accept(3)}}
	for name, tc := range map[string]struct {
		events []at
		want   []string
	}{
		"all":                   {[]at{report(3, "c"), report(1, "a"), report(2, "b"), {0, KeyStored{}}}, []string{"a", "b", "c"}},
		"all but one":           {[]at{report(1, "a"), report(2, ""), report(3, "c"), {0, KeyStored{}}}, []string{"a", "", "c"}},
		"nobody":                {[]at{report(1, ""), report(2, ""), report(3, ""), {0, KeyStored{}}}, nil},
		"the first one stands":  {[]at{report(1, "a"), report(1, "x"), report(2, "b"), report(3, "c"), {0, KeyStored{}}}, []string{"a", "b", "c"}},
		"not before it is kept": {[]at{report(1, "a"), report(2, "b"), report(3, "c")}, nil},
		"not of a key that was lost": {
			[]at{report(1, "a"), report(2, "b"), report(3, "c"), {0, KeyLost{}}}, nil,
		},
	} {
		end, _ := play(t, s, append(slices.Clone(accepted), tc.events...)...)
		if got := Outcome(end).(*wire.KeygenConfirm).Attestations; !slices.Equal(got, tc.want) || (got == nil) != (tc.want == nil) {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
