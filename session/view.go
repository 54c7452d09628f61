package session

import "github.com/conclave-mpc/conclave/wsconn/wire"

// Info returns k in the form of the web API.
func (k Key) Info() wire.KeyInfo {
	return wire.KeyInfo{
		KeyID: k.ID, Status: string(k.Status), Curve: string(k.Curve), AccountAddr: k.AccountAddr, PublicKey: k.PublicKey,
		Epoch: max(k.Epoch, 1), Threshold: k.Threshold, TotalParts: len(k.Participants), Participants: k.Participants, Coordinator: k.Coordinator,
		CreatedAt: k.CreatedAt, SessionID: k.Session, Certificate: k.Certificate, Origin: k.Origin, Reshare: k.Reshare,
	}
}

// FirstEpoch returns the record of the first epoch of k, which is in no other.
func (k Key) FirstEpoch() Epoch {
	return Epoch{
		Number: k.Epoch, Threshold: k.Threshold, Participants: k.Participants, Session: k.Session, Certificate: k.Certificate, CertifiedAt: k.CreatedAt,
	}
}

// Info returns e in the form of the web API.
func (e Epoch) Info() wire.EpochInfo {
	return wire.EpochInfo{
		Epoch: e.Number, Parent: e.Parent, Threshold: e.Threshold, TotalParts: len(e.Participants), Participants: e.Participants,
		Certificate: e.Certificate, SessionID: e.Session, CertifiedAt: e.CertifiedAt,
	}
}

// Info returns s in the form of the web API and webhooks.
func (s Session) Info() wire.SessionInfo {
	v := wire.SessionInfo{
		SessionID: s.ID, Kind: string(s.Kind), Phase: string(s.Phase), Attempt: s.Attempt, KeyID: s.KeyID,
		Coordinator: s.Coordinator, Curve: string(s.Curve), Threshold: s.Threshold, Participants: s.Users(),
		Invited: s.InvitedUsers(), Signers: s.Signers, Data: s.Data, Hash: string(s.Hash), Digest: s.Digest,
		AccountAddr: s.AccountAddr, PublicKey: s.PublicKey, Signature: s.Signature,
		CreatedAt: s.CreatedAt, Deadline: s.Deadline, EndedAt: s.EndedAt, Reason: s.Reason, Culprits: s.Culprits,
		Attestations: s.Attestations(),
		Epoch:        s.Epoch, FromEpoch: s.FromEpoch, OldParts: s.Old, NewThreshold: s.ToThreshold,
	}
	if s.Phase == Completed {
		v.Certificate = s.Certified()
	}
	for i, p := range s.Parties {
		v.Responses = append(v.Responses, wire.PartInfo{
			PartIndex: i + 1, UserID: p.User, Invited: p.Invited, Response: string(p.Response), Result: p.Result,
		})
	}
	return v
}
