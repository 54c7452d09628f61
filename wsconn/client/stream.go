package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// streamSilence is how long a stream may say nothing: three of the server's
	// heartbeats.
	streamSilence = 30 * time.Second
	maxEventBytes = 4 << 20
)

// SessionEvent is a state of a session, as it goes on.
type SessionEvent struct {
	Session SessionInfo
	Ended   bool // it is the last
}

// errToldAll says that a stream has told all there is.
var errToldAll = errors.New("client: the session has ended")

// Events follows a session until its end: its state at the beginning, and after
// each change, of several in quick succession perhaps the last only. A stream that
// breaks is made again, at the next URL, and goes on where it was. An error ends
// the sequence: the server's refusal, a [*wire.Error], or ctx's.
func (a *API) Events(ctx context.Context, sessionID string) iter.Seq2[SessionEvent, error] {
	return func(yield func(SessionEvent, error) bool) {
		last := ""
		for turn := 0; ; turn++ {
			stop := errors.New("client: nobody listens")
			err := a.stream(ctx, a.bases[turn%len(a.bases)], sessionID, &last, func(e SessionEvent) error {
				switch {
				case !yield(e, nil):
					return stop
				case e.Ended:
					return errToldAll
				}
				return nil
			})
			switch {
			case errors.Is(err, stop), errors.Is(err, errToldAll):
				return
			case ctx.Err() != nil:
				yield(SessionEvent{}, ctx.Err())
				return
			case !passes(err):
				yield(SessionEvent{}, err)
				return
			}
			select {
			case <-time.After(callAgainIn):
			case <-ctx.Done():
				yield(SessionEvent{}, ctx.Err())
				return
			}
		}
	}
}

// stream reads one stream. Last is the id of the last event that was read.
func (a *API) stream(ctx context.Context, base *url.URL, sessionID string, last *string, each func(SessionEvent) error) error {
	token, err := a.freshToken(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(streamSilence, cancel)
	defer silence.Stop()
	req, err := newRequest(ctx, base, webCall{method: http.MethodGet, path: sessionPath(sessionID) + "/events"}, token, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if *last != "" {
		req.Header.Set("Last-Event-ID", *last)
	}
	resp, err := a.streams.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	a.answered(resp)
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNoContent:
		return errToldAll
	default:
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize))
		if err != nil {
			return err
		}
		return problem(resp, body)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	var id, name, data string
	for lines.Scan() {
		silence.Reset(streamSilence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "":
			if err := event(resp, name, data, each); err != nil {
				return err
			}
			if id != "" {
				*last = id
			}
			id, name, data = "", "", ""
		case field == "id":
			id = value
		case field == "event":
			name = value
		case field == "data":
			data += value
		}
	}
	return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

// event hands one on. Those that it does not know are passed over.
func event(resp *http.Response, name, data string, each func(SessionEvent) error) error {
	switch name {
	case "problem":
		return problem(resp, []byte(data))
	case "session", "outcome":
		e := SessionEvent{Ended: name == "outcome"}
		if err := wire.Unmarshal([]byte(data), &e.Session); err != nil {
			return fmt.Errorf("%s: an event is not what Conclave would say: %w", resp.Request.URL.Redacted(), err)
		}
		return each(e)
	}
	return nil
}
