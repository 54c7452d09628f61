package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// What a client may take on a busy machine: it takes 1 and 5 seconds to leave a
// server that does not let it in, and below 10 to leave one that was good. Without
// what makes it leave these are 10, and 30 or more.
const (
	soonIn  = 9 * time.Second
	soonOut = 25 * time.Second
)

// hanging is the URL of a stopped process: the kernel accepts, and nobody answers.
func hanging(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// passage is a way to a server that can be stopped in both directions.
type passage struct {
	url     string
	stopped atomic.Bool
}

func newPassage(t *testing.T, target string) *passage {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &passage{url: "http://" + l.Addr().String()}
	var conns sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(func() { end(); _ = l.Close(); conns.Wait() })
	pass := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		piece := make([]byte, 32<<10)
		for {
			n, err := from.Read(piece)
			if p.stopped.Load() {
				<-ctx.Done()
			}
			if err != nil {
				return
			}
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
	}
	conns.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", strings.TrimPrefix(target, "http://"))
			if err != nil {
				_ = in.Close()
				continue
			}
			context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
			conns.Go(func() { pass(in, out) })
			conns.Go(func() { pass(out, in) })
		}
	})
	return p
}

// mute is a server that upgrades to WebSocket and never says a word. It counts what
// it is told.
func mute(t *testing.T) (url string, registers *atomic.Int32) {
	registers = new(atomic.Int32)
	return apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			if _, _, err := ws.ReadMessage(); err != nil {
				return
			}
			registers.Add(1)
		}
	}), registers
}

func inTime(t *testing.T, what string, begun time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %s, want less than %s", what, took, limit)
	}
}

// A server that is stopped is left within ten seconds, wherever it is: before it
// has answered the upgrade, the register, or later.
func TestStoppedServerIsLeft(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	silent, registers := mute(t)
	for what, first := range map[string]string{"upgrade": hanging(t), "register": silent} {
		t.Run(what, func(t *testing.T) {
			begun := time.Now()
			c, err := Dial(within(t), Config{URLs: []string{first, f.url}, Token: StaticToken(token(what, ""))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			inTime(t, "connecting", begun, soonIn)
		})
	}
	if n := registers.Load(); n != 1 {
		t.Errorf("%d registers at the server that does not answer them, want 1", n)
	}
	t.Run("registered", func(t *testing.T) {
		way := newPassage(t, f.url)
		lost := make(chan Reconnecting, 16)
		c, err := Dial(within(t), Config{URLs: []string{way.url, f.url}, Token: StaticToken(token("later", "")), OnEvent: func(e Event) {
			if e, ok := e.(Reconnecting); ok {
				lost <- e
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		way.stopped.Store(true)
		<-lost
		if err := c.WaitConnected(within(t)); err != nil {
			t.Fatal(err)
		}
		inTime(t, "noticing and reconnecting", begun, soonOut)
	})
}

// A socket that was superseded by a register which its own client had given up is
// made again: a node that was stopped has read it late.
func TestSupersededByAGhost(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for ten seconds")
	}
	f := newFake(t)
	silent, _ := mute(t)
	c, err := Dial(within(t), Config{URLs: []string{silent, f.url}, Token: StaticToken(token("u", ""))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	waitFor(t, "the connection is settled", func() bool { return time.Since(begun) > settledAfter+time.Second })
	supersede := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		ws := f.user("u").ws
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(wire.CloseSuperseded, ""), time.Now().Add(time.Second))
		_ = ws.Close()
	}
	supersede()
	waitFor(t, "it comes back", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.user("u").resumes) == 2 || errors.Is(c.stopped(), ErrSuperseded)
	})
	if err := c.stopped(); err != nil {
		t.Fatalf("stopped: %v", err)
	}
}

// Calls of the web API go on at another URL when one hangs: before it answers, and
// in the middle of a stream.
func TestStoppedAPIServerIsLeft(t *testing.T) {
	t.Parallel()
	session := `{"session_id":"s","kind":"sign","phase":"completed"}`
	good := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			_, _ = io.WriteString(w, "id: 2\nevent: outcome\ndata: "+session+"\n\n")
		case r.URL.Path == "/v1/login":
			_, _ = io.WriteString(w, `{"token":"a.b.c","user_id":"alice"}`)
		default:
			_, _ = io.WriteString(w, session)
		}
	})
	for what, call := range map[string]func(a *API) error{
		"get":  func(a *API) error { _, err := a.Session(within(t), "s"); return err },
		"wait": func(a *API) error { _, err := a.WaitSession(within(t), "s"); return err },
		"events": func(a *API) error {
			for _, err := range a.Events(within(t), "s") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"login": func(a *API) error { _, err := a.Login(within(t), "alice", "pw"); return err },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			a, begun := newAPI(t, hanging(t), good), time.Now()
			if err := call(a); err != nil {
				t.Fatal(err)
			}
			inTime(t, what, begun, soonOut)
			begun = time.Now()
			if err := call(a); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > soonIn {
				t.Errorf("the second took %s", took)
			}
			if first := a.servers.order(time.Now())[0]; first != 1 {
				t.Error("it has forgotten who hangs")
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		goesSilent := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "id: 1\nevent: session\ndata: %s\n\n", strings.Replace(session, "completed", "inviting", 1))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		var begun time.Time
		for e, err := range newAPI(t, goesSilent, good).Events(within(t), "s") {
			if err != nil {
				t.Fatal(err)
			}
			if e.Ended {
				inTime(t, "the next event", begun, soonOut)
			}
			begun = time.Now()
		}
	})
}

func TestServersOrder(t *testing.T) {
	now := time.Now()
	s := newServers(3)
	check := func(what string, at time.Time, order ...int) {
		t.Helper()
		if got := s.order(at); !slices.Equal(got, order) {
			t.Errorf("%s: got %v, want %v", what, got, order)
		}
	}
	check("at first", now, 0, 1, 2)
	s.failing(0, now)
	check("after a failure", now, 1, 2, 0)
	s.failing(1, now)
	s.failing(1, now)
	check("after others", now, 2, 0, 1)
	check("much later", now.Add(2*avoidMost), 2, 0, 1)
	s.answered(1)
	check("the one that has answered is first", now, 1, 2, 0)
	later := now.Add(2 * avoidMost)
	s.failing(2, later)
	check("one that has failed is last, though it was not preferred", later, 1, 0, 2)
	for range 40 {
		s.failing(2, later)
	}
	s.failing(0, later)
	check("of those that have failed, the one that may be tried sooner is first", later, 1, 0, 2)
	if until := s.failed[2].until; until.After(later.Add(avoidMost)) {
		t.Errorf("avoided for %s", until.Sub(later))
	}
}

// A link on which connections are made and end early is not waited for as for
// servers that are away.
func TestFlappingLinkIsTriedOften(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	pauses := make(chan time.Duration, 64)
	c, err := New(Config{URLs: []string{f.url}, Token: StaticToken(token("flapper", "")), OnEvent: func(e Event) {
		switch e := e.(type) {
		case Connected:
			f.drop("flapper")
		case Reconnecting:
			pauses <- e.In
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	for range 8 {
		if p := <-pauses; p > time.Second {
			t.Errorf("it pauses for %s", p)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
