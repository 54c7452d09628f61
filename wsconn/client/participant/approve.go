package participant

import (
	"context"
	"fmt"

	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// Approver decides about an invitation. It may take its time: ctx ends when the
// session does, and context.Cause is then its [*OutcomeError], when its deadline
// has passed, or when the client ends. A refusal's reason is sent to the
// coordinator. An error is logged and declines without a reason. Invitations are
// passed to it concurrently, and again after a restart without a recorded answer.
type Approver func(ctx context.Context, inv Invitation) (ok bool, reason string, err error)

// ApproveAll approves every request signed by a coordinator whose identity was
// pinned by hand, and nothing else: without a person who checks, a captured server
// must not be able to request anything.
func ApproveAll(ctx context.Context, inv Invitation) (bool, string, error) {
	return SignedOnly(ApproveUnsigned)(ctx, inv)
}

// ApproveUnsigned approves every request, trusting the server alone. It is for
// tests and for keys without value.
func ApproveUnsigned(context.Context, Invitation) (bool, string, error) { return true, "", nil }

// SignedOnly passes requests signed by a pinned coordinator to approve, and
// declines all others, and reshares with new identities that are not pinned. With [Config.SignedOnly] a client does that before it
// records the invitation, which is cheaper under a flood.
func SignedOnly(approve Approver) Approver {
	return func(ctx context.Context, inv Invitation) (bool, string, error) {
		if reason := signedOnly(inv); reason != "" {
			return false, reason, nil
		}
		return approve(ctx, inv)
	}
}

// signedOnly returns why an invitation is declined without a question, "" if a
// pinned coordinator has signed it.
func signedOnly(inv Invitation) string {
	switch {
	case inv.Signer == nil:
		return "the request is not signed, and this participant approves without asking"
	case !inv.Signer.Pinned:
		return fmt.Sprintf("the identity of %s %s, and this participant approves without asking", inv.Coordinator, trust.ReasonNotPinned)
	}
	return inv.unconfirmed()
}

// ByPolicy decides requests signed by a pinned coordinator by a policy, and
// declines all others.
func ByPolicy(p *policy.Policy) Approver {
	return SignedOnly(func(_ context.Context, inv Invitation) (bool, string, error) {
		return p.Decide(inv.SessionID, inv.request())
	})
}
