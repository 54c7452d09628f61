package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// KeyRequest is the body of POST /v1/keys. It is a wire.KeygenRequest.
type KeyRequest struct {
	KeyID         string   `json:"key_id,omitempty" maxLength:"128" doc:"with ?start=true an id chosen by the caller, otherwise ignored; required with signed_request"`
	Threshold     int      `json:"threshold" minimum:"2" maximum:"128" doc:"number of parties that must sign"`
	TotalParts    int      `json:"total_parts,omitempty" minimum:"0" maximum:"128" doc:"number of participants; optional"`
	Participants  []string `json:"participants" minItems:"2" maxItems:"128" uniqueItems:"true" doc:"user ids; the first holds part 1"`
	Curve         string   `json:"curve,omitempty" maxLength:"64" doc:"secp256k1 (default) or ed25519"`
	ExpiresIn     int      `json:"expires_in,omitempty" minimum:"0" maximum:"604800" doc:"seconds until the session expires; default: the server's deadlines"`
	SignedRequest string   `json:"signed_request,omitempty" maxLength:"52480" doc:"the request as signed by the coordinator, as in keygen_request"`
}

// SignatureRequest is the body of POST /v1/keys/{key_id}/signatures. It is a
// wire.SignRequest.
type SignatureRequest struct {
	KeyID         string   `json:"key_id,omitempty" maxLength:"128" doc:"ignored: the path names the key"`
	Data          string   `json:"data" minLength:"1" maxLength:"131072" doc:"0x and hex, or text"`
	AccountAddr   string   `json:"account_addr,omitempty" maxLength:"128" doc:"if given, it must be the address of the key"`
	Participants  []string `json:"participants,omitempty" maxItems:"128" uniqueItems:"true" doc:"user ids to invite; default: all participants of the key"`
	SessionID     string   `json:"session_id,omitempty" maxLength:"128" doc:"with ?start=true an id that was reserved for this request, or the one derived from user, key_id and Idempotency-Key (deploy/docs/INTEGRATION.md, Ids); otherwise ignored; required with signed_request"`
	Hash          string   `json:"hash,omitempty" maxLength:"64" doc:"none, keccak256, sha256, sha256d or eip191; default on secp256k1: none for 32 bytes of hex, keccak256 for other hex, eip191 for text. Required for 32 bytes that are also an Ethereum transaction"`
	ExpiresIn     int      `json:"expires_in,omitempty" minimum:"0" maximum:"604800" doc:"seconds until the session expires; default: the server's deadlines"`
	MinEpoch      int      `json:"min_epoch,omitempty" minimum:"0" maximum:"2147483647" doc:"the signing is valid under this epoch of the key and later ones; default: every epoch"`
	SignedRequest string   `json:"signed_request,omitempty" maxLength:"52480" doc:"the request as signed by the coordinator, as in sign_request"`
}

const (
	// maxWait is below the usual answer timeouts of load balancers
	// (deploy/haproxy.cfg: 40 s), and the node's ReadTimeout and WriteTimeout.
	maxWait = 30 * time.Second
	// lookUp is how often a waiting call checks whether its node drains, or its
	// token has become invalid.
	lookUp = time.Second
)

// task reads the options of a request.
func task(r *http.Request) (t service.Task, wait time.Duration, err error) {
	switch start := r.URL.Query().Get("start"); start {
	case "", "true", "false":
		t.Start = start == "true"
	default: // if only reserved, it would wait for ever
		return t, 0, wire.Errorf(wire.CodeBadRequest, "start must be true or false")
	}
	if wait, err = waitOf(r); err != nil {
		return t, 0, err
	}
	if wait > 0 && !t.Start {
		return t, 0, wire.Errorf(wire.CodeBadRequest, "wait requires start=true")
	}
	t.Once, err = onceOf(r)
	return t, wait, err
}

// onceOf reads the Idempotency-Key, empty if there is none.
func onceOf(r *http.Request) (string, error) {
	names := r.Header.Values(onceHeader)
	if len(names) == 0 {
		return "", nil
	}
	once := names[0]
	if len(names) > 1 || once == "" || len(once) > onceMax || strings.ContainsFunc(once, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "", wire.Errorf(wire.CodeBadRequest, "%s must be a single value of 1 to %d visible ASCII characters", onceHeader, onceMax)
	}
	return once, nil
}

// waitOf reads ?wait=.
func waitOf(r *http.Request) (time.Duration, error) {
	text := r.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 || wait > maxWait {
		return 0, wire.Errorf(wire.CodeBadRequest, "wait must be a duration like 10s, at most %s", maxWait)
	}
	return wait, nil
}

func (a *api) createKey(w http.ResponseWriter, r *http.Request) (int, any, error) {
	if err := a.request(r); err != nil {
		return 0, nil, err
	}
	t, wait, err := task(r)
	if err != nil {
		return 0, nil, err
	}
	var body KeyRequest
	if err := decode(r, &body); err != nil {
		return 0, nil, err
	}
	p := wire.KeygenRequest(body)
	if p.TotalParts == 0 {
		p.TotalParts = len(p.Participants)
	}
	id, s, err := a.cfg.Sessions.KeygenTask(r.Context(), caller(r), &p, t)
	return a.begun(w, r, wire.Task{KeyID: id, SessionID: s.ID}, wait, err)
}

func (a *api) createSignature(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "key_id")
	if err == nil {
		err = a.request(r)
	}
	if err != nil {
		return 0, nil, err
	}
	t, wait, err := task(r)
	if err != nil {
		return 0, nil, err
	}
	var body SignatureRequest
	if err := decode(r, &body); err != nil {
		return 0, nil, err
	}
	p := wire.SignRequest(body)
	p.KeyID = id
	sessionID, _, err := a.cfg.Sessions.SignTask(r.Context(), caller(r), &p, t)
	return a.begun(w, r, wire.Task{KeyID: id, SessionID: sessionID}, wait, err)
}

// begun answers with a task, once its session has ended, or the time is up.
func (a *api) begun(w http.ResponseWriter, r *http.Request, t wire.Task, wait time.Duration, err error) (int, any, error) {
	if err != nil {
		return 0, nil, err
	}
	if wait > 0 {
		s, err := a.await(w, r, t.SessionID, wait)
		if err != nil {
			return 0, nil, named(err, t)
		}
		info := s.Info()
		t.Session = &info
	}
	return http.StatusCreated, t, nil
}

// named adds to an error the ids of the task, so that a caller that lost them can
// query it.
func named(err error, t wire.Task) error {
	told := *wire.AsError(err)
	told.KeyID, told.SessionID = t.KeyID, t.SessionID
	return errTask{error: err, told: &told}
}

// errTask is an error with its cause, for the log, and its client form.
type errTask struct {
	error
	told *wire.Error
}

// Unwrap returns the client's error first.
func (e errTask) Unwrap() []error { return []error{e.told, e.error} }

// await returns a session once it has ended, or in its current state when the time
// is up or the node drains.
func (a *api) await(w http.ResponseWriter, r *http.Request, id string, wait time.Duration) (session.Session, error) {
	ctx, cancel := context.WithTimeout(r.Context(), wait)
	defer cancel()
	f, err := a.cfg.Sessions.Follow(r.Context(), caller(r), id)
	if err != nil {
		return session.Session{}, err
	}
	defer f.Close()
	endless(w)
	for s := f.Session(); ; s = f.Session() {
		if s.Phase.Final() || ctx.Err() != nil || a.draining() {
			return s, r.Context().Err()
		}
		if err := next(ctx, f, lookUp); err != nil {
			return session.Session{}, err
		}
	}
}

// next waits for f's next state, for some time and no longer than ctx lasts; a
// timeout is not an error.
func next(ctx context.Context, f *service.Follower, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if _, err := f.Next(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// endless removes the node's read deadline from a request that has been read: its
// expiry would look as if the client had left.
func endless(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // without a deadline there is no limit
}

func (a *api) draining() bool {
	select {
	case <-a.cfg.Draining:
		return true
	default:
		return false
	}
}

func (a *api) getSession(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "session_id")
	if err != nil {
		return 0, nil, err
	}
	wait, err := waitOf(r)
	if err != nil {
		return 0, nil, err
	}
	var s session.Session
	if wait > 0 {
		s, err = a.await(w, r, id, wait)
	} else {
		s, err = a.cfg.Sessions.Session(r.Context(), caller(r), id)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.Info(), nil
}

// ResendResponse answers POST /v1/sessions/{session_id}/webhook once the resending
// is stored.
type ResendResponse struct {
	Status    string `json:"status" enum:"queued"`
	SessionID string `json:"session_id"`
}

func (a *api) resend(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "session_id")
	if err == nil {
		err = a.request(r)
	}
	if err != nil {
		return 0, nil, err
	}
	s, err := a.cfg.Sessions.Resend(r.Context(), caller(r), id)
	if err != nil {
		return 0, nil, err
	}
	a.record(audit.Decision{Who: caller(r).User, What: audit.Resend, Outcome: audit.OK, Session: s.ID, Key: s.KeyID})
	return http.StatusAccepted, ResendResponse{Status: "queued", SessionID: s.ID}, nil
}

func (a *api) cancelSession(_ http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "session_id")
	if err != nil {
		return 0, nil, err
	}
	reason := r.URL.Query().Get("reason")
	if err := (&wire.SessionCancel{SessionID: id, Reason: reason}).Validate(); err != nil {
		return 0, nil, err
	}
	s, err := a.cfg.Sessions.Cancel(r.Context(), caller(r), id, reason)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, s.Info(), nil
}
