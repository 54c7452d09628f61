package rest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Answers of the web API.
type (
	EpochInfo       = wire.EpochInfo
	CertificateInfo = wire.CertificateInfo
)

// Epochs returns the certified epochs of a key, in ascending order, as the servers know
// them.
func (a *Client) Epochs(ctx context.Context, keyID string) ([]EpochInfo, error) {
	return allAfter[EpochInfo](ctx, a, "/v1/keys/"+url.PathEscape(keyID)+"/epochs")
}

// Lineage returns the certificates of a key, in ascending order; none for a key whose
// participants attest nothing. They need no server's word: ParseCertificate and
// VerifyLineage of package session/statement verify them. Whether the members'
// identities are the right ones the caller must know from elsewhere.
func (a *Client) Lineage(ctx context.Context, keyID string) ([]CertificateInfo, error) {
	return allAfter[CertificateInfo](ctx, a, "/v1/keys/"+url.PathEscape(keyID)+"/lineage")
}

// maxPages bounds what allAfter reads: a server that never ends a list is not to fill
// the memory.
const maxPages = 256

// allAfter reads all pages of a list that is continued by ?after=.
func allAfter[T any](ctx context.Context, a *Client, path string) ([]T, error) {
	var all []T
	after := 0
	for range maxPages {
		l, err := fetch[List[T]](ctx, a, path, url.Values{"after": {strconv.Itoa(after)}})
		if err != nil {
			return nil, err
		}
		all = append(all, l.Items...)
		next, err := strconv.Atoi(l.Next)
		if err != nil || next <= after {
			return all, nil
		}
		after = next
	}
	return nil, fmt.Errorf("client: %s has more than %d pages", path, maxPages)
}
