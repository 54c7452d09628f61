package httpapi

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	pageSize    = 50
	maxPageSize = 200
	// filterCost is the cost of a filter in Config.Users, beside the page: it may
	// read many more entries than it returns.
	filterCost = 100
)

var (
	keyStates = []session.KeyStatus{session.KeyReserved, session.KeyGenerating, session.KeyActive, session.KeyFailed}
	phases    = []session.Phase{
		session.Inviting, session.Running, session.Completed, session.Rejected, session.Expired, session.Failed, session.Cancelled,
	}
)

// page reads which part of a list is requested and charges a user for it.
func (a *api) page(r *http.Request, filtered bool) (service.Page, error) {
	p, err := pageOf(r.URL.Query())
	if err != nil {
		return p, err
	}
	cost := p.Limit
	if filtered {
		cost += filterCost
	}
	return p, auth.Charge(a.cfg.Users, caller(r).User, cost, "too many long lists")
}

// pageOf reads ?limit= and ?cursor=, or ?before=, which is a time as well.
func pageOf(q url.Values) (service.Page, error) {
	p := service.Page{Limit: pageSize}
	var err error
	if p.Limit, err = limitOf(q, pageSize, maxPageSize); err != nil {
		return p, err
	}
	if text := q.Get("cursor"); text != "" {
		if p.After, err = parseCursor(text); err != nil {
			return p, err
		}
	} else if text := q.Get("before"); text != "" {
		if p.After.At, err = time.Parse(time.RFC3339Nano, text); err == nil {
			return p, nil
		}
		if p.After, err = parseCursor(text); err != nil {
			return p, wire.Errorf(wire.CodeBadRequest, "before must be an RFC 3339 time")
		}
	}
	return p, nil
}

// limitOf reads ?limit=.
func limitOf(q url.Values, preset, most int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return preset, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, wire.Errorf(wire.CodeBadRequest, "limit must be from 1 to %d", most)
	}
	return n, nil
}

// A cursor is where a list continues: a time in microseconds and an id. It is
// opaque to clients.
func cursor(p service.Place) string {
	if p.At.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.At.UnixMicro(), 10) + " " + p.ID))
}

func parseCursor(text string) (service.Place, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	at, id, ok := strings.Cut(string(raw), " ")
	micros, bad := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || bad != nil || micros <= 0 || micros > maxMicros || !wire.StoredID(id) {
		return service.Place{}, wire.Errorf(wire.CodeBadRequest, "cursor must be the next of a page")
	}
	return service.Place{At: time.UnixMicro(micros).UTC(), ID: id}, nil
}

// maxMicros is in the year 5138: Redis scores are exact up to it.
const maxMicros = 1e17

// kindNames returns the name of every kind of session.
func kindNames() []string {
	var names []string
	for _, kind := range session.Kinds() {
		names = append(names, string(kind))
	}
	return names
}

// oneOf reads a list, separated by commas, of words from all.
func oneOf[T ~string](q url.Values, name string, all []T) ([]T, error) {
	text := q.Get(name)
	if text == "" {
		return nil, nil
	}
	var list []T
	for word := range strings.SplitSeq(text, ",") {
		if !slices.Contains(all, T(word)) {
			return nil, wire.Errorf(wire.CodeBadRequest, "%s must be of these, separated by commas: %v", name, all)
		}
		list = append(list, T(word))
	}
	return list, nil
}

func (a *api) listKeys(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	var f service.KeyFilter
	var err error
	if f.States, err = oneOf(r.URL.Query(), "state", keyStates); err != nil {
		return 0, nil, err
	}
	p, err := a.page(r, f.States != nil)
	if err != nil {
		return 0, nil, err
	}
	keys, next, err := a.cfg.Sessions.Keys(r.Context(), caller(r), f, p)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, listed(keys, session.Key.Info, next), nil
}

func (a *api) getKey(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "key_id")
	if err != nil {
		return 0, nil, err
	}
	k, err := a.cfg.Sessions.Key(r.Context(), caller(r), id)
	if err != nil {
		return 0, nil, err
	}
	v := k.Info()
	v.Attestations, err = a.cfg.Sessions.KeyAttestations(r.Context(), k)
	return http.StatusOK, v, err
}

func (a *api) listSessions(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	q := r.URL.Query()
	f := service.Filter{KeyID: q.Get("key_id")}
	var err error
	if f.States, err = oneOf(q, "state", phases); err != nil {
		return 0, nil, err
	}
	switch f.Kind = session.Kind(q.Get("kind")); {
	case f.Kind != "" && !f.Kind.Known():
		return 0, nil, wire.Errorf(wire.CodeBadRequest, "kind must be %s", strings.Join(kindNames(), " or "))
	case f.KeyID != "" && !wire.StoredID(f.KeyID):
		return 0, nil, wire.Errorf(wire.CodeBadRequest, "key_id is not a valid id")
	}
	p, err := a.page(r, f.States != nil || f.Kind != "" || f.KeyID != "")
	if err != nil {
		return 0, nil, err
	}
	sessions, next, err := a.cfg.Sessions.Sessions(r.Context(), caller(r), f, p)
	if err != nil {
		return 0, nil, err
	}
	view := func(s session.Session) wire.SessionInfo {
		v := s.Info()
		v.Attestations, v.Certificate = nil, "" // some kilobytes of each
		return v
	}
	return http.StatusOK, listed(sessions, view, next), nil
}

func listed[T, V any](items []T, view func(T) V, next service.Place) wire.List[V] {
	l := wire.List[V]{Items: make([]V, 0, len(items)), Next: cursor(next)}
	for _, item := range items {
		l.Items = append(l.Items, view(item))
	}
	return l
}
