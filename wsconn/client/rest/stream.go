package rest

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

	"github.com/conclave-mpc/conclave/wsconn/client/internal/servers"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// streamSilence is how long a stream may be silent: three of the server's
	// heartbeats.
	streamSilence = 9 * time.Second
	maxEventBytes = 4 << 20
)

// SessionEvent is a state of a session.
type SessionEvent struct {
	Session SessionInfo
	Ended   bool // it is the last
}

// errToldAll says that a stream is complete.
var errToldAll = errors.New("client: the session has ended")

// Events follows a session until its end: its state at the beginning, and after
// each change; of several in quick succession perhaps only the last. A broken
// stream is reopened, at the next URL, and continues where it was. An error ends
// the sequence: the server's refusal, a [*wire.Error], or ctx's.
func (a *Client) Events(ctx context.Context, sessionID string) iter.Seq2[SessionEvent, error] {
	return func(yield func(SessionEvent, error) bool) {
		last := ""
		for {
			stop := errors.New("client: the caller has stopped reading")
			err := a.stream(ctx, sessionID, &last, func(e SessionEvent) error {
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

// opened is a stream that has begun, or the reason why it has not.
type opened struct {
	resp *http.Response
	end  context.CancelFunc
	err  error // errToldAll, or the server's refusal
}

func (o opened) close() {
	o.end()
	if o.resp != nil {
		_ = o.resp.Body.Close()
	}
}

// stream reads one stream, of the first base URL that answers. Last is the id of
// the last event read.
func (a *Client) stream(ctx context.Context, sessionID string, last *string, each func(SessionEvent) error) error {
	token, err := a.freshToken(ctx)
	if err != nil {
		return err
	}
	o, i, err := servers.Race(ctx, a.servers, servers.StaggerBy, func(racing context.Context, i int) (opened, error) {
		// The end of the race must not end the winning stream.
		reading, end := context.WithCancel(ctx)
		stop := context.AfterFunc(racing, end)
		resp, err := a.open(reading, a.bases[i], sessionID, token, *last)
		if !stop() && err == nil {
			_ = resp.Body.Close()
			err = context.Cause(racing)
		}
		if err != nil && (racing.Err() != nil || elsewhere(err) && !errors.Is(err, errToldAll)) {
			end()
			return opened{}, err
		}
		return opened{resp, end, err}, nil
	}, opened.close)
	if err != nil {
		return err
	}
	defer o.close()
	a.servers.Answered(i)
	if o.err != nil {
		return o.err
	}
	silence := time.AfterFunc(streamSilence, o.end)
	defer silence.Stop()
	err = readStream(o.resp, last, each, func() { silence.Reset(streamSilence) })
	var told *wire.Error
	if errors.Is(err, errBroken) || errors.As(err, &told) && told.Code == wire.CodeUnavailable {
		a.servers.Failing(i, time.Now())
	}
	return err
}

// open requests a stream from one base URL.
func (a *Client) open(ctx context.Context, base *url.URL, sessionID, token, last string) (*http.Response, error) {
	req, err := newRequest(ctx, base, webCall{method: http.MethodGet, path: sessionPath(sessionID) + "/events"}, token, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := a.begin(req, answerBegins)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return nil, errToldAll
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerSize))
	if err != nil {
		return nil, err
	}
	return nil, servers.Problem(resp, body)
}

// errBroken says that a stream has ended early, or become silent.
var errBroken = errors.New("client: the stream of events has broken off")

// readStream passes on the events of a stream until its end. Alive is called with
// each line.
func readStream(resp *http.Response, last *string, each func(SessionEvent) error, alive func()) error {
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	var id, name, data string
	for lines.Scan() {
		alive()
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
	return errors.Join(lines.Err(), errBroken)
}

// event passes one on. Unknown ones are skipped.
func event(resp *http.Response, name, data string, each func(SessionEvent) error) error {
	switch name {
	case "problem":
		return servers.Problem(resp, []byte(data))
	case "session", "outcome":
		e := SessionEvent{Ended: name == "outcome"}
		if err := wire.Unmarshal([]byte(data), &e.Session); err != nil {
			return fmt.Errorf("%s: an event is not what Conclave would say: %w", resp.Request.URL.Redacted(), err)
		}
		return each(e)
	}
	return nil
}
