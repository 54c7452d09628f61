package participant

import (
	"context"
	"errors"

	"github.com/conclave-mpc/conclave/session/party"
)

// convict stores the evidence that an error carries, if any, and emits Convicted.
// The other parties learn only which party this one blames.
func (p *participant) convict(inv Invitation, attempt int, err error) {
	var fault *party.Error
	if !errors.As(err, &fault) || fault.Proof == nil {
		return
	}
	culprit, bad := fault.Proof.Verify()
	if bad != nil {
		p.log.Error().Err(bad).Str("session", inv.SessionID).Msg("evidence does not convict")
		return
	}
	e := Convicted{
		Kind: inv.Kind, SessionID: inv.SessionID, KeyID: inv.KeyID, Attempt: attempt, PartIndex: culprit.Index, User: culprit.User,
	}
	if p.cfg.Evidence != nil {
		// The session may end at this moment, but the evidence must not be lost.
		if e.Kept, err = p.cfg.Evidence.PutEvidence(context.Background(), fault.Proof); err != nil {
			p.log.Error().Err(err).Str("session", inv.SessionID).Msg("evidence not kept")
		}
	}
	p.log.Warn().Str("session", inv.SessionID).Str("key", inv.KeyID).Int("party", culprit.Index).Str("account", culprit.User).
		Str("kept", e.Kept).Msg("party has signed two different messages")
	p.link.Emit(e)
}
