package participant

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/session/statement"
)

// ErrNoShare is returned by [ShareStore.Get] for a key without a share.
var ErrNoShare = errors.New("client: no share of that key")

// ShareStore keeps sealed shares. A share is named by its key id and its account
// address: the key id of a keygen that the server reports as failed may be used
// again, and that must not lose a share. Implementations are safe for concurrent
// use and need not keep anything secret, since shares are sealed.
type ShareStore interface {
	// Put stores a share_json durably, beside any others of the same key id.
	Put(ctx context.Context, shareJSON string) error
	// Get returns the share of a key with that account address, or the newest of
	// that key if the address is empty. Without one the error is ErrNoShare.
	Get(ctx context.Context, keyID, accountAddr string) (shareJSON string, err error)
	// List returns the public parts of all shares, by key id, then newest first.
	List(ctx context.Context) ([]share.Public, error)
}

// EvidenceStore is a store that keeps evidence against parties.
type EvidenceStore interface {
	// PutEvidence stores evidence durably and returns where it is, for people.
	// Storing it again has no effect.
	PutEvidence(ctx context.Context, e *statement.Evidence) (where string, err error)
}

// SortShares sorts as [ShareStore.List] does: by key id, then newest first.
func SortShares(list []share.Public) {
	slices.SortStableFunc(list, func(a, b share.Public) int {
		if c := strings.Compare(a.KeyID, b.KeyID); c != 0 {
			return c
		}
		return b.Created.Compare(a.Created)
	})
}
