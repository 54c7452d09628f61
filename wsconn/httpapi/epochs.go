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

// EpochRequest is the body of POST /v1/keys/{key_id}/epochs. It is a
// wire.ReshareRequest.
type EpochRequest struct {
	KeyID         string       `json:"key_id,omitempty" maxLength:"128" doc:"ignored: the path names the key"`
	Threshold     int          `json:"threshold" minimum:"2" maximum:"128" doc:"number of parties of the new committee that must sign"`
	TotalParts    int          `json:"total_parts,omitempty" minimum:"0" maximum:"128" doc:"number of its members; optional"`
	Participants  []wire.Party `json:"participants" minItems:"2" maxItems:"128" doc:"the new committee, with identities; place i holds part index i+1"`
	SessionID     string       `json:"session_id,omitempty" maxLength:"128" doc:"an id chosen by the caller, or the one derived from user, key_id and Idempotency-Key (deploy/docs/INTEGRATION.md, Ids); required with signed_request"`
	ExpiresIn     int          `json:"expires_in,omitempty" minimum:"0" maximum:"604800" doc:"seconds until the session expires; default: the server's deadlines"`
	SignedRequest string       `json:"signed_request,omitempty" maxLength:"52480" doc:"the request as signed by the coordinator, as in reshare_request; participants decline a reshare without it"`
}

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

func (a *api) createEpoch(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "key_id")
	if err == nil {
		err = a.request(r)
	}
	if err != nil {
		return 0, nil, err
	}
	wait, err := waitOf(r)
	if err != nil {
		return 0, nil, err
	}
	once, err := onceOf(r)
	if err != nil {
		return 0, nil, err
	}
	var body EpochRequest
	if err := decode(r, &body); err != nil {
		return 0, nil, err
	}
	p := wire.ReshareRequest(body)
	p.KeyID = id
	if p.TotalParts == 0 {
		p.TotalParts = len(p.Participants)
	}
	s, err := a.cfg.Sessions.ReshareTask(r.Context(), caller(r), &p, once)
	return a.begun(w, r, wire.Task{KeyID: id, SessionID: s.ID}, wait, err)
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
