package client

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestInvitedSaysWhoSigned: the event comes after the check, with its result, for
// a display of a participant that approves without asking.
func TestInvitedSaysWhoSigned(t *testing.T) {
	t.Parallel()
	forged := signInvite(t)
	forged.Coordinator = "mallory"
	for name, tc := range map[string]struct {
		invite        *wire.SignInvite
		pin           bool
		pinned, first bool
		refused       string
	}{
		"pinned":     {signInvite(t), true, true, false, ""},
		"first use":  {signInvite(t), false, false, true, ""},
		"not signed": {unsigned(signInvite(t)), false, false, false, ""},
		"forged":     {forged, true, false, false, "has signed something else"},
	} {
		v := newInvited(t, nil)
		if tc.pin {
			v.pin(t)
		}
		if err := v.receive(within(t), 1, tc.invite); err != nil {
			t.Fatal(err)
		}
		v.tasks.Wait()
		var shown []Invited
		for _, e := range v.events {
			if e, ok := e.(Invited); ok {
				shown = append(shown, e)
			}
		}
		if len(shown) != 1 {
			t.Errorf("%s: %d events: %+v", name, len(shown), v.events)
			continue
		}
		got, signed := shown[0], tc.pinned || tc.first
		if (got.Signer != nil) != signed || signed && (got.Signer.Pinned != tc.pinned || got.Signer.First != tc.first) {
			t.Errorf("%s: signer is %+v", name, got.Signer)
		}
		if !strings.Contains(got.Refused, tc.refused) || (got.Refused == "") != (tc.refused == "") {
			t.Errorf("%s: refused with %q, want %q", name, got.Refused, tc.refused)
		}
	}
}

func unsigned(m *wire.SignInvite) *wire.SignInvite {
	m.SignedRequest = ""
	return m
}

// TestApproverLearnsHowTheSessionEnded: the cause of its context is the outcome.
func TestApproverLearnsHowTheSessionEnded(t *testing.T) {
	t.Parallel()
	v := newInvited(t, nil).pin(t)
	asking := make(chan struct{})
	cause := make(chan error, 1)
	v.approve = func(ctx context.Context, _ Invitation) (bool, string, error) {
		close(asking)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return false, "", ctx.Err()
	}
	inv := signInvite(t)
	if err := v.receive(within(t), 1, inv); err != nil {
		t.Fatal(err)
	}
	<-asking
	ended := &wire.SessionEnded{SessionID: inv.SessionID, KeyID: inv.KeyID, Kind: "sign", Status: wire.StatusCancelled, Reason: "cancelled by coord"}
	if err := v.receive(within(t), 2, ended); err != nil {
		t.Fatal(err)
	}
	var out *OutcomeError
	if err := <-cause; !errors.As(err, &out) || out.Status != wire.StatusCancelled || out.SessionID != inv.SessionID || out.Error() != "sign cancelled by coord" {
		t.Errorf("the cause is %v", err)
	}
	v.tasks.Wait()
}

// TestOutcomeNamesAPartOnce: neither a part nor the status is there twice, and no
// party's own words hide whom the server blames.
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

func TestNeedsPin(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]bool{
		"alice (part 1) declined: the identity of dave is not pinned here, and this participant approves without asking": true,
		"the request: " + ErrNotPinned.Error() + ": dave":                                                                true,
		"the policy does not allow it: words: the text matches no pattern":                                               false,
		"no rule of the policy is for this":                                                                              false,
	} {
		if got := NeedsPin(reason); got != want {
			t.Errorf("%s: got %t", reason, got)
		}
	}
}
