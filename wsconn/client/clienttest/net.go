package clienttest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// Time limits on a busy machine: a client takes 1 and 5 seconds to leave a server
// that does not let it in, and below 10 to leave one that worked. Without the code
// that makes it leave these are 10, and 30 or more.
const (
	SoonIn  = 9 * time.Second
	SoonOut = 25 * time.Second
)

// Hanging is the URL of a stopped process: the kernel accepts, but no answer comes.
func Hanging(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return "http://" + l.Addr().String()
}

// Passage is a connection to a server that can be stopped in both directions.
type Passage struct {
	URL     string
	Stopped atomic.Bool
}

// NewPassage returns a passage to the server at target.
func NewPassage(t *testing.T, target string) *Passage {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Passage{URL: "http://" + l.Addr().String()}
	var conns sync.WaitGroup
	ctx, end := context.WithCancel(context.Background())
	t.Cleanup(func() { end(); _ = l.Close(); conns.Wait() })
	pass := func(from, to net.Conn) {
		defer from.Close()
		defer to.Close()
		piece := make([]byte, 32<<10)
		for {
			n, err := from.Read(piece)
			if p.Stopped.Load() {
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

// Mute is a server that upgrades to WebSocket and never sends a message. It counts
// the messages it gets.
func Mute(t *testing.T) (url string, registers *atomic.Int32) {
	registers = new(atomic.Int32)
	return Serve(t, func(w http.ResponseWriter, r *http.Request) {
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

// InTime fails a test in which something took longer than limit.
func InTime(t *testing.T, what string, begun time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(begun); took > limit {
		t.Errorf("%s took %s, want less than %s", what, took, limit)
	}
}

// Serve starts an HTTP server, which ends with the test, and returns its URL.
func Serve(t *testing.T, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}
