package httpapi

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// A certificate has the identities and signatures of all members: some 2 KB each.
	lineagePage    = 8
	maxLineagePage = 16
)

// epochsPage reads ?after=, an epoch number, and ?limit=, and charges a user for the
// page.
func (a *api) epochsPage(r *http.Request, preset, most int) (after, limit int, err error) {
	if after, err = afterEpoch(r.URL.Query()); err != nil {
		return 0, 0, err
	}
	if limit, err = limitOf(r.URL.Query(), preset, most); err != nil {
		return 0, 0, err
	}
	return after, limit, auth.Charge(a.cfg.Users, caller(r).User, limit, "too many long lists")
}

// afterEpoch reads ?after=.
func afterEpoch(q url.Values) (int, error) {
	text := q.Get("after")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 0 {
		return 0, wire.Errorf(wire.CodeBadRequest, "after must be the number of an epoch")
	}
	return int(n), nil
}

func (a *api) listEpochs(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := a.epochsPage(r, pageSize, maxPageSize)
	if err != nil {
		return 0, nil, err
	}
	epochs, err := a.cfg.Sessions.Epochs(r.Context(), caller(r), id, after)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, numbered(epochs, limit, session.Epoch.Info, func(e wire.EpochInfo) int { return e.Epoch }), nil
}

func (a *api) lineage(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := a.epochsPage(r, lineagePage, maxLineagePage)
	if err != nil {
		return 0, nil, err
	}
	list, err := a.cfg.Sessions.Lineage(r.Context(), caller(r), id, after, limit+1)
	if err != nil {
		return 0, nil, err
	}
	view := func(c service.Certificate) wire.CertificateInfo {
		return wire.CertificateInfo{Epoch: c.Number, Certificate: c.Text}
	}
	return http.StatusOK, numbered(list, limit, view, func(c wire.CertificateInfo) int { return c.Epoch }), nil
}

// numbered is a page of the first limit items, in ascending order; the next page begins
// after the last one's number.
func numbered[T, V any](items []T, limit int, view func(T) V, number func(V) int) wire.List[V] {
	l := wire.List[V]{Items: make([]V, 0, min(len(items), limit))}
	for _, item := range items[:min(len(items), limit)] {
		l.Items = append(l.Items, view(item))
	}
	if len(items) > limit {
		l.Next = strconv.Itoa(number(l.Items[limit-1]))
	}
	return l
}
