package rest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Answers of the web API.
type (
	EpochInfo       = wire.EpochInfo
	CertificateInfo = wire.CertificateInfo
)

// Reshare requests a new epoch of a key over HTTP and waits for its certificate, which it
// verifies. The request is signed with Config.Identity: without one participants decline
// it. Errors are those of Reshare of package client. A RequestID is the Idempotency-Key,
// of visible ASCII characters.
func (a *Client) Reshare(ctx context.Context, r request.Reshare) (request.NewEpoch, error) {
	user, err := a.user(ctx)
	if err != nil {
		return request.NewEpoch{}, err
	}
	if r.RequestID == "" {
		r.RequestID = rand.Text()
	}
	p, err := request.Asker{User: user, Identity: a.identity, Trust: a.trust}.Reshare(r)
	if err != nil {
		return request.NewEpoch{}, err
	}
	body := p.Request.Wire()
	call := webCall{method: http.MethodPost, path: epochsPath(body.KeyID), query: url.Values{}, body: body, once: r.RequestID}
	s, err := a.run(ctx, request.KindReshare, call)
	if err != nil {
		return request.NewEpoch{}, err
	}
	return p.Result(&wire.ReshareConfirm{
		KeyID: s.KeyID, SessionID: s.SessionID, Epoch: s.Epoch, Status: statusOf(s), AccountAddr: s.AccountAddr, PublicKey: s.PublicKey,
		Certificate: s.Certificate, Reason: s.Reason, Culprits: s.Culprits,
	})
}

func epochsPath(keyID string) string { return "/v1/keys/" + url.PathEscape(keyID) + "/epochs" }

// Epochs returns the certified epochs of a key, in ascending order, as the servers know
// them.
func (a *Client) Epochs(ctx context.Context, keyID string) ([]EpochInfo, error) {
	return allAfter[EpochInfo](ctx, a, epochsPath(keyID))
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
