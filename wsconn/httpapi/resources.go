package httpapi

import (
	"net/http"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func keyView(k session.Key) wire.KeyInfo {
	return wire.KeyInfo{
		KeyID: k.ID, Status: string(k.Status), Curve: string(k.Curve), AccountAddr: k.AccountAddr, PublicKey: k.PublicKey,
		Threshold: k.Threshold, TotalParts: len(k.Participants), Participants: k.Participants, Coordinator: k.Coordinator,
		CreatedAt: k.CreatedAt, SessionID: k.Session,
	}
}

func sessionView(s session.Session) wire.SessionInfo {
	v := wire.SessionInfo{
		SessionID: s.ID, Kind: string(s.Kind), Phase: string(s.Phase), Attempt: s.Attempt, KeyID: s.KeyID,
		Coordinator: s.Coordinator, Curve: string(s.Curve), Threshold: s.Threshold, Participants: s.Users(),
		Invited: s.InvitedUsers(), Signers: s.Signers, Data: s.Data, Hash: string(s.Hash), Digest: s.Digest,
		AccountAddr: s.AccountAddr, PublicKey: s.PublicKey, Signature: s.Signature,
		CreatedAt: s.CreatedAt, Deadline: s.Deadline, EndedAt: s.EndedAt, Reason: s.Reason, Culprits: s.Culprits,
	}
	for i, p := range s.Parties {
		v.Responses = append(v.Responses, wire.PartInfo{
			PartIndex: i + 1, UserID: p.User, Invited: p.Invited, Response: string(p.Response), Result: p.Result,
		})
	}
	return v
}

func (a *api) createKey(r *http.Request) (int, any, error) {
	if err := a.request(r); err != nil {
		return 0, nil, err
	}
	var req wire.KeygenRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	if req.TotalParts == 0 {
		req.TotalParts = len(req.Participants)
	}
	id, err := a.cfg.Sessions.ReserveKey(r.Context(), caller(r), &req)
	if err != nil {
		return 0, nil, err
	}
	task := wire.Task{KeyID: id}
	if started(r) {
		s, err := a.cfg.Sessions.RequestKeygen(r.Context(), caller(r), &req, "")
		if err != nil {
			return 0, nil, err
		}
		task.SessionID = s.ID
	}
	return http.StatusCreated, task, nil
}

func (a *api) createSignature(r *http.Request) (int, any, error) {
	id, err := pathID(r)
	if err == nil {
		err = a.request(r)
	}
	if err != nil {
		return 0, nil, err
	}
	var req wire.SignRequest
	if err := decode(r, &req); err != nil {
		return 0, nil, err
	}
	req.KeyID = id
	task := wire.Task{KeyID: id}
	task.SessionID, err = a.cfg.Sessions.ReserveSigning(r.Context(), caller(r), &req)
	if err != nil {
		return 0, nil, err
	}
	if started(r) {
		req.SessionID = task.SessionID
		if _, err := a.cfg.Sessions.RequestSign(r.Context(), caller(r), &req, ""); err != nil {
			return 0, nil, err
		}
	}
	return http.StatusCreated, task, nil
}

func started(r *http.Request) bool { return r.URL.Query().Get("start") == "true" }

func (a *api) getKey(r *http.Request) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	k, err := a.cfg.Sessions.Key(r.Context(), caller(r), id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, keyView(k), nil
}

func (a *api) listKeys(r *http.Request) (int, any, error) {
	p, err := a.page(r)
	if err != nil {
		return 0, nil, err
	}
	keys, err := a.cfg.Sessions.Keys(r.Context(), caller(r), p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, list(keys, keyView, p, func(k session.Key) time.Time { return k.CreatedAt }), nil
}

func (a *api) getSession(r *http.Request) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	s, err := a.cfg.Sessions.Session(r.Context(), caller(r), id)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, sessionView(s), nil
}

func (a *api) listSessions(r *http.Request) (int, any, error) {
	p, err := a.page(r)
	if err != nil {
		return 0, nil, err
	}
	sessions, err := a.cfg.Sessions.Sessions(r.Context(), caller(r), p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, list(sessions, sessionView, p, func(s session.Session) time.Time { return s.CreatedAt }), nil
}

func (a *api) cancelSession(r *http.Request) (int, any, error) {
	id, err := pathID(r)
	if err != nil {
		return 0, nil, err
	}
	if _, err := a.cfg.Sessions.Session(r.Context(), caller(r), id); err != nil {
		return 0, nil, err // a stranger learns nothing, not even that it exists
	}
	s, err := a.cfg.Sessions.Cancel(r.Context(), caller(r), id, "")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, sessionView(s), nil
}

// list makes a page of items; a full one may have a next.
func list[T, V any](items []T, view func(T) V, p session.Page, at func(T) time.Time) wire.List[V] {
	l := wire.List[V]{Items: make([]V, 0, len(items))}
	for _, item := range items {
		l.Items = append(l.Items, view(item))
	}
	if len(items) == p.Limit {
		l.Next = at(items[len(items)-1]).Format(time.RFC3339Nano)
	}
	return l
}
