package rest

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
)

// Calls of the web API continue at another URL when one hangs: before it answers,
// and in the middle of a stream.
func TestStoppedAPIServerIsLeft(t *testing.T) {
	t.Parallel()
	session := `{"session_id":"s","kind":"sign","phase":"completed"}`
	good := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			_, _ = io.WriteString(w, "id: 2\nevent: outcome\ndata: "+session+"\n\n")
		case r.URL.Path == "/v1/login":
			_, _ = io.WriteString(w, `{"token":"a.b.c","user_id":"alice"}`)
		default:
			_, _ = io.WriteString(w, session)
		}
	})
	for what, call := range map[string]func(a *Client) error{
		"get":  func(a *Client) error { _, err := a.Session(clienttest.Within(t), "s"); return err },
		"wait": func(a *Client) error { _, err := a.WaitSession(clienttest.Within(t), "s"); return err },
		"events": func(a *Client) error {
			for _, err := range a.Events(clienttest.Within(t), "s") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"login": func(a *Client) error { _, err := a.Login(clienttest.Within(t), "alice", "pw"); return err },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			a, begun := newAPI(t, clienttest.Hanging(t), good), time.Now()
			if err := call(a); err != nil {
				t.Fatal(err)
			}
			clienttest.InTime(t, what, begun, clienttest.SoonOut)
			begun = time.Now()
			if err := call(a); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > clienttest.SoonIn {
				t.Errorf("the second took %s", took)
			}
			if first := a.servers.Order(time.Now())[0]; first != 1 {
				t.Error("it has forgotten who hangs")
			}
		})
	}
	t.Run("stream", func(t *testing.T) {
		t.Parallel()
		goesSilent := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "id: 1\nevent: session\ndata: %s\n\n", strings.Replace(session, "completed", "inviting", 1))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		var begun time.Time
		for e, err := range newAPI(t, goesSilent, good).Events(clienttest.Within(t), "s") {
			if err != nil {
				t.Fatal(err)
			}
			if e.Ended {
				clienttest.InTime(t, "the next event", begun, clienttest.SoonOut)
			}
			begun = time.Now()
		}
	})
}
