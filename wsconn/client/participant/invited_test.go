package participant

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
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
		if err := v.Receive(clienttest.Within(t), 1, tc.invite); err != nil {
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
	v.cfg.Approve = func(ctx context.Context, _ Invitation) (bool, string, error) {
		close(asking)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return false, "", ctx.Err()
	}
	inv := signInvite(t)
	if err := v.Receive(clienttest.Within(t), 1, inv); err != nil {
		t.Fatal(err)
	}
	<-asking
	ended := &wire.SessionEnded{SessionID: inv.SessionID, KeyID: inv.KeyID, Kind: "sign", Status: wire.StatusCancelled, Reason: "cancelled by coord"}
	if err := v.Receive(clienttest.Within(t), 2, ended); err != nil {
		t.Fatal(err)
	}
	var out *request.OutcomeError
	if err := <-cause; !errors.As(err, &out) || out.Status != wire.StatusCancelled || out.SessionID != inv.SessionID || out.Error() != "sign cancelled by coord" {
		t.Errorf("the cause is %v", err)
	}
	v.tasks.Wait()
}
