package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func newAPI(t *testing.T, urls ...string) *Client {
	t.Helper()
	a, err := New(Config{URLs: urls, Token: StaticToken("t0ken")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

func TestLogin(t *testing.T) {
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Method+r.URL.Path != "POST/v1/login" || string(body) != `{"password":"pw","username":"alice"}` || r.Header.Get("Authorization") != "" {
			t.Errorf("%s %s %s", r.Method, r.URL, body)
		}
		_, _ = io.WriteString(w, `{"token":"a.b.c","expires_at":"2030-01-02T03:04:05Z","user_id":"alice","roles":["participant"]}`)
	})
	tok, err := Login(context.Background(), url, "alice", "pw")
	if err != nil || tok.Secret != "a.b.c" || tok.UserID != "alice" || tok.Roles[0] != wire.RoleParticipant || tok.ExpiresAt.Year() != 2030 {
		t.Errorf("got %s, %v", tok, err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if text := fmt.Sprintf(verb, tok); strings.Contains(text, "a.b.c") {
			t.Errorf("%s prints the token", verb)
		}
	}
}

func TestAPIPathsAndErrors(t *testing.T) {
	var seen []string
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen = append(seen, strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL.RequestURI(), " ", string(body))))
		if got := r.Header.Get("Authorization"); got != "Bearer t0ken" {
			t.Errorf("Authorization %q", got)
		}
		switch r.URL.Path {
		case "/v1/keys/鍵":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"type":"about:blank","title":"Not Found","status":404,"detail":"no such key","code":"not_found"}`)
		case "/v1/sessions":
			w.WriteHeader(http.StatusTeapot)
		case "/v1/sessions/html":
			_, _ = io.WriteString(w, "<html>")
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"key_id": "k1", "session_id": "s1", "items": []any{}, "next": "n"})
		}
	})
	a, ctx := newAPI(t, url), context.Background()
	if _, err := a.Key(ctx, "鍵"); !errors.Is(err, wire.ErrNotFound) || err.Error() != "no such key" {
		t.Errorf("got %v, want not found", err)
	}
	if _, err := a.Sessions(ctx, Page{}); err == nil || !strings.Contains(err.Error(), "418") {
		t.Errorf("got %v, want the status", err)
	}
	if _, err := a.Session(ctx, "html"); err == nil || !strings.Contains(err.Error(), "URL") {
		t.Errorf("got %v, want a hint", err)
	}
	if l, err := a.Keys(ctx, Page{Before: "a b", Limit: 3}); err != nil || l.Next != "n" {
		t.Errorf("%+v, %v", l, err)
	}
	if id, err := a.ReserveKey(ctx, request.Keygen{KeyID: "mine", Threshold: 2, Participants: []string{"a", "b"}}); err != nil || id != "k1" {
		t.Errorf("%s, %v", id, err)
	}
	if id, err := a.ReserveSigning(ctx, request.Sign{KeyID: "k1", Data: "x", ExpiresIn: 1500 * time.Millisecond}); err != nil || id != "s1" {
		t.Errorf("%s, %v", id, err)
	}
	if _, err := a.CancelSession(ctx, "s1"); err != nil {
		t.Error(err)
	}
	if err := a.ResendOutcome(ctx, "s1"); err != nil {
		t.Error(err)
	}
	clienttest.Want(t, "requests", seen, []string{
		"GET /v1/keys/%E9%8D%B5", "GET /v1/sessions", "GET /v1/sessions/html", "GET /v1/keys?cursor=a+b&limit=3",
		`POST /v1/keys {"key_id":"","threshold":2,"total_parts":2,"participants":["a","b"]}`,
		`POST /v1/keys/k1/signatures {"key_id":"k1","data":"x","expires_in":2}`,
		"DELETE /v1/sessions/s1", "POST /v1/sessions/s1/webhook",
	})
}

func TestAPINextURL(t *testing.T) {
	asked := 0
	busy := clienttest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	good := clienttest.Serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"key_id":"k"}`) })
	k, err := newAPI(t, "http://127.0.0.1:1", busy, good).Key(context.Background(), "k")
	if err != nil || k.KeyID != "k" || asked != 1 {
		t.Errorf("%+v, %v, asked %d", k, err, asked)
	}
}

// A redirect must not carry token or password elsewhere.
func TestAPIFollowsNoRedirect(t *testing.T) {
	elsewhere := clienttest.Serve(t, func(http.ResponseWriter, *http.Request) { t.Error("followed a redirect") })
	url := clienttest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	if _, err := newAPI(t, url).Key(context.Background(), "k"); err == nil {
		t.Error("no error")
	}
}
