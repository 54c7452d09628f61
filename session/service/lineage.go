package service

import (
	"context"
	"fmt"
	"slices"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Epochs returns the certified epochs of a key, ascending, with numbers above after, to
// a user who is involved in it, or was in one of them, or an admin; to others
// ErrNotFound. There are none before the key is active.
func (v *Service) Epochs(ctx context.Context, c Caller, keyID string, after int) ([]session.Epoch, error) {
	_, list, err := v.keyWithEpochs(ctx, c, keyID)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(e session.Epoch) bool { return e.Number <= after }), nil
}

// Lineage returns up to limit certificates of a key, ascending, with numbers above
// after, to those who may see its epochs (see Epochs).
func (v *Service) Lineage(ctx context.Context, c Caller, keyID string, after, limit int) ([]Certificate, error) {
	k, epochs, err := v.keyWithEpochs(ctx, c, keyID)
	if err != nil || len(epochs) == 0 {
		return nil, err
	}
	if k.Certificate != "" { // it has been reshared: all are stored
		return v.cfg.Store.Lineage(ctx, k.ID, after, limit)
	}
	first, err := v.firstCertificate(ctx, k)
	if err != nil || first == nil || after >= first.Number() || limit < 1 {
		return nil, err
	}
	return []Certificate{{Number: first.Number(), Text: first.String()}}, nil
}

// keyWithEpochs returns a key's record with its certified epochs. That of a key that
// was never reshared is its record's.
func (v *Service) keyWithEpochs(ctx context.Context, c Caller, id string) (session.Key, []session.Epoch, error) {
	if !wire.StoredID(id) {
		return session.Key{}, nil, ErrNotFound
	}
	k, err := v.cfg.Store.Key(ctx, id)
	if err != nil {
		return session.Key{}, nil, err
	}
	list, err := v.cfg.Store.EpochsOf(ctx, id)
	if err != nil {
		return session.Key{}, nil, err
	}
	past := func(e session.Epoch) bool { return slices.Contains(e.Participants, c.User) }
	if !k.Involves(c.User) && !c.has(wire.RoleAdmin) && !slices.ContainsFunc(list, past) {
		return session.Key{}, nil, ErrNotFound
	}
	if len(list) == 0 && k.Status == session.KeyActive {
		list = []session.Epoch{k.FirstEpoch()}
	}
	return k, list, nil
}

// firstCertificate returns the certificate of epoch 1 of a key that was never reshared,
// made of its keygen's attestations; nil if not all of its parties have sent one.
func (v *Service) firstCertificate(ctx context.Context, k session.Key) (*statement.Certificate, error) {
	attestations, err := v.KeyAttestations(ctx, k)
	if err != nil || attestations == nil || slices.Contains(attestations, "") {
		return nil, err
	}
	first, err := statement.FirstCertificate(statement.Attested{
		SessionID: k.Session, KeyID: k.ID, Epoch: k.Epoch, Coordinator: k.Coordinator, Curve: k.Curve, Threshold: k.Threshold,
		Participants: k.Participants, AccountAddr: k.AccountAddr, PublicKey: k.PublicKey,
	}, attestations)
	if err != nil {
		// The server passes attestations on unread: a party's may be of anything.
		v.log.Debug().Err(fmt.Errorf("key %s: %w", k.ID, err)).Msg("the attestations of a key are no certificate")
		return nil, nil
	}
	return first, nil
}
