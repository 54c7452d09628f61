package participant

import (
	"context"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

// CheckShare checks whether a share and an identity are a backup from which the party
// can sign again: the share opens, is consistent, and belongs to exactly this identity
// in the key, since a party that returns with another one is taken for an impostor. It
// restores nothing. If the share is another identity's, the error is share.ErrNotOwner.
func CheckShare(shareJSON string, id *identity.Identity) (share.Public, error) {
	held, err := share.Open(shareJSON, id)
	if err != nil {
		return share.Public{}, err
	}
	public := held.Public()
	if err := held.Verify(); err != nil {
		return public, err
	}
	return public, trust.SameIdentity(public.User, public.Parties[public.PartIndex-1].Identity, id.Public())
}

// RestoreShare puts a share from a backup into a store, once [CheckShare] has
// accepted it. A share of the same key, address and epoch already in the store is
// replaced only by an identical one.
func RestoreShare(ctx context.Context, store ShareStore, shareJSON string, id *identity.Identity) (share.Public, error) {
	public, err := CheckShare(shareJSON, id)
	if err != nil {
		return public, err
	}
	stored, err := shareOf(ctx, store, public)
	switch {
	case errors.Is(err, ErrNoShare):
		return public, store.Put(ctx, shareJSON)
	case err != nil:
		return public, err
	case stored != shareJSON:
		return public, fmt.Errorf("the store has another file of the share of key %s with address %s; move that away first", public.KeyID, public.AccountAddr)
	}
	return public, nil
}

// shareOf returns the share that a store has of the same epoch.
func shareOf(ctx context.Context, store ShareStore, p share.Public) (string, error) {
	if epochs, ok := store.(EpochStore); ok {
		return epochs.GetEpoch(ctx, p.KeyID, p.AccountAddr, p.Epoch)
	}
	return store.Get(ctx, p.KeyID, p.AccountAddr)
}
