package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	heartbeat   = 3 * time.Second  // interval between a stream's signs of life
	writeWithin = 10 * time.Second // for a client to take an event
	eventsType  = "text/event-stream"
)

// Event names.
const (
	eventSession = "session"
	eventOutcome = "outcome"
	eventProblem = "problem"
)

// events streams a session's states until its end.
func (a *api) events(w http.ResponseWriter, r *http.Request) (int, any, error) {
	id, err := pathID(r, "session_id")
	if err != nil {
		return 0, nil, err
	}
	user := caller(r).User
	if !a.streams.enter(user) {
		return 0, nil, wire.Errorf(wire.CodeRateLimited, "more than %d concurrent event streams of one user, or too many in total", a.streams.most)
	}
	defer a.streams.leave(user)
	f, err := a.cfg.Sessions.Follow(r.Context(), caller(r), id)
	if err != nil {
		return 0, nil, err
	}
	defer f.Close()
	s := f.Session()
	// A value that is not one of our versions starts the stream with the session.
	read, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64)
	if s.Phase.Final() && s.Version == read {
		return http.StatusNoContent, nil, nil
	}
	endless(w)
	st := newStream(w)
	if s.Version != read {
		st.session(s)
	}
	a.follow(r, f, st)
	return 0, nil, nil
}

// follow writes the events of f until the session ends, the client leaves, its
// token becomes invalid or the node drains.
func (a *api) follow(r *http.Request, f *service.Follower, st *stream) {
	for version := f.Session().Version; !f.Session().Phase.Final(); {
		err := next(r.Context(), f, lookUp)
		switch {
		case r.Context().Err() != nil:
			return
		case err == nil && a.draining():
			err = wire.Errorf(wire.CodeUnavailable, "the node is shutting down")
		case err == nil:
			err = a.still(r)
		}
		if err != nil {
			a.report(r, err)
			st.problem(err)
			return
		}
		if s := f.Session(); s.Version != version {
			version = s.Version
			st.session(s)
		}
		st.beat()
		if st.err != nil {
			return // the client has left, or does not read
		}
	}
}

// still returns why a caller is no longer served, nil if it is.
func (a *api) still(r *http.Request) error {
	claims, _ := auth.FromContext(r.Context())
	if !time.Now().Before(claims.ExpiresAt) {
		if a.cfg.Doubts != nil && a.cfg.Doubts() != nil {
			return a.cfg.Doubts()
		}
		return wire.Errorf(wire.CodeTokenExpired, "the token has expired")
	}
	if a.cfg.Still == nil {
		return nil
	}
	return a.cfg.Still(claims)
}

// stream writes events. It keeps the first error, and writes nothing after it.
type stream struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	last time.Time // time of the last write
	err  error
}

func newStream(w http.ResponseWriter) *stream {
	st := &stream{w: w, ctl: http.NewResponseController(w)}
	h := w.Header()
	answerHeader(h)
	h.Set("Content-Type", eventsType)
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.WriteHeader(http.StatusOK)
	st.write("retry: 1000\n\n") // ms, until a browser reconnects
	return st
}

func (st *stream) write(text string) {
	if st.err != nil {
		return
	}
	st.last = time.Now()
	_ = st.ctl.SetWriteDeadline(st.last.Add(writeWithin)) // without a deadline, the client's leaving ends it
	if _, st.err = st.w.Write([]byte(text)); st.err == nil {
		st.err = st.ctl.Flush()
	}
}

// event writes one event; an id of 0 is omitted.
func (st *stream) event(name string, id int64, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		st.err = err
		return
	}
	var b strings.Builder
	if id > 0 {
		fmt.Fprintf(&b, "id: %d\n", id)
	}
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", name, text) // JSON has no line breaks
	st.write(b.String())
}

func (st *stream) session(s session.Session) {
	name := eventSession
	if s.Phase.Final() {
		name = eventOutcome
	}
	st.event(name, s.Version, s.Info())
}

func (st *stream) problem(err error) { st.event(eventProblem, 0, auth.ProblemOf(err)) }

// beat shows the client and proxies that the stream is alive.
func (st *stream) beat() {
	if time.Since(st.last) >= heartbeat {
		st.write(": \n\n")
	}
}
