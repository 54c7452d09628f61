package participant

import (
	"context"
	"fmt"

	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// Approver decides about an invitation. It may take its time: ctx ends when the
// session does, and context.Cause is then its [*OutcomeError], when its deadline
// has passed, or when the client ends. A refusal's reason is told to the
// coordinator. An error is logged and declines without a reason. Invitations are
// asked about concurrently, and again after a restart in which no answer was noted.
type Approver func(ctx context.Context, inv Invitation) (ok bool, reason string, err error)

// ApproveAll approves whatever a coordinator has signed whose identity was pinned
// by hand, and nothing else: where nobody looks, a captured server must not be
// able to ask.
func ApproveAll(ctx context.Context, inv Invitation) (bool, string, error) {
	return SignedOnly(ApproveUnsigned)(ctx, inv)
}

// ApproveUnsigned approves whatever is asked, on the server's word alone. It is
// for tests and for what is worth nothing.
func ApproveUnsigned(context.Context, Invitation) (bool, string, error) { return true, "", nil }

// SignedOnly asks approve about what a pinned coordinator has signed, and declines
// all else. With [Config.SignedOnly] a client does that before it writes the
// invitation down, which is cheaper under a flood.
func SignedOnly(approve Approver) Approver {
	return func(ctx context.Context, inv Invitation) (bool, string, error) {
		if reason := signedOnly(inv); reason != "" {
			return false, reason, nil
		}
		return approve(ctx, inv)
	}
}

// signedOnly returns why nobody needs to be asked about an invitation, "" if a
// pinned coordinator has signed it.
func signedOnly(inv Invitation) string {
	switch {
	case inv.Signer == nil:
		return "the request is not signed, and this participant approves without asking"
	case !inv.Signer.Pinned:
		return fmt.Sprintf("the identity of %s %s, and this participant approves without asking", inv.Coordinator, trust.ReasonNotPinned)
	}
	return ""
}

// ByPolicy asks a policy about what a pinned coordinator has signed, and declines
// all else.
func ByPolicy(p *policy.Policy) Approver {
	return SignedOnly(func(_ context.Context, inv Invitation) (bool, string, error) {
		return p.Decide(inv.SessionID, inv.request())
	})
}
