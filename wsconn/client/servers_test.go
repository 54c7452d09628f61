package client

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// A stopped server is left within ten seconds, at any stage: before it has answered
// the upgrade, the register, or later.
func TestStoppedServerIsLeft(t *testing.T) {
	if !sample.Turn("servers that hang", 1, 2) {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	f := clienttest.New(t)
	silent, registers := clienttest.Mute(t)
	for what, first := range map[string]string{"upgrade": clienttest.Hanging(t), "register": silent} {
		t.Run(what, func(t *testing.T) {
			begun := time.Now()
			c, err := Dial(clienttest.Within(t), Config{URLs: []string{first, f.URL}, Token: rest.StaticToken(clienttest.Token(what, ""))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			clienttest.InTime(t, "connecting", begun, clienttest.SoonIn)
		})
	}
	if n := registers.Load(); n != 1 {
		t.Errorf("%d registers at the server that does not answer them, want 1", n)
	}
	t.Run("registered", func(t *testing.T) {
		way := clienttest.NewPassage(t, f.URL)
		lost := make(chan Reconnecting, 16)
		c, err := Dial(clienttest.Within(t), Config{URLs: []string{way.URL, f.URL}, Token: rest.StaticToken(clienttest.Token("later", "")), OnEvent: func(e request.Event) {
			if e, ok := e.(Reconnecting); ok {
				lost <- e
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		begun := time.Now()
		way.Stopped.Store(true)
		<-lost
		if err := c.WaitConnected(clienttest.Within(t)); err != nil {
			t.Fatal(err)
		}
		clienttest.InTime(t, "noticing and reconnecting", begun, clienttest.SoonOut)
	})
}

// A socket superseded by a register that its own client had abandoned is made
// again: a stopped node has read it late.
func TestSupersededByAGhost(t *testing.T) {
	if !sample.Turn("servers that hang", 0, 2) {
		t.Skip(sample.Reason)
	}
	t.Parallel()
	if testing.Short() {
		t.Skip("it waits for ten seconds")
	}
	f := clienttest.New(t)
	silent, _ := clienttest.Mute(t)
	c, err := Dial(clienttest.Within(t), Config{URLs: []string{silent, f.URL}, Token: rest.StaticToken(clienttest.Token("u", ""))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	clienttest.WaitFor(t, "the connection is settled", func() bool { return time.Since(begun) > settledAfter+time.Second })
	supersede := func() {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		ws := f.User("u").WS
		_ = ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(wire.CloseSuperseded, ""), time.Now().Add(time.Second))
		_ = ws.Close()
	}
	supersede()
	clienttest.WaitFor(t, "it comes back", func() bool {
		f.Mu.Lock()
		defer f.Mu.Unlock()
		return len(f.User("u").Resumes) == 2 || errors.Is(c.stopped(), ErrSuperseded)
	})
	if err := c.stopped(); err != nil {
		t.Fatalf("stopped: %v", err)
	}
}

// The pause is shorter where connections succeed and end early than where servers
// are unreachable.
func TestFlappingLinkIsTriedOften(t *testing.T) {
	t.Parallel()
	f := clienttest.New(t)
	pauses := make(chan time.Duration, 64)
	c, err := New(Config{URLs: []string{f.URL}, Token: rest.StaticToken(clienttest.Token("flapper", "")), OnEvent: func(e request.Event) {
		switch e := e.(type) {
		case Connected:
			f.Drop("flapper")
		case Reconnecting:
			pauses <- e.In
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(clienttest.Within(t))
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
