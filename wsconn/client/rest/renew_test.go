package rest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// renewServer renews logins as a server does: each refresh token once, a repeated
// attempt again.
type renewServer struct {
	*httptest.Server
	life time.Duration

	mu       sync.Mutex
	number   int
	attempt  string
	lost     int // answers to lose
	ended    bool
	renewals int
	calls    int // renewals and their repetitions
}

func newRenewServer(t *testing.T) *renewServer {
	s := &renewServer{life: time.Hour}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *renewServer) token(n int) Token {
	now := time.Now()
	claims := fmt.Sprintf(`{"sub":"bob","iat":%d,"exp":%d,"n":%d}`, now.Unix(), now.Add(s.life).Unix(), n)
	return Token{
		Secret: "h." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".s", ExpiresAt: now.Add(s.life), UserID: "bob",
		Refresh: fmt.Sprint("refresh-", n), RefreshUntil: now.Add(time.Hour), ReceivedAt: now, Seed: "seed",
	}
}

func (s *renewServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var body struct {
		RefreshToken string `json:"refresh_token"`
		Attempt      string `json:"attempt"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	s.calls++
	switch {
	case s.ended:
	case body.RefreshToken == fmt.Sprint("refresh-", s.number):
		s.number++
		s.attempt = body.Attempt
		s.renewals++
	case body.RefreshToken != fmt.Sprint("refresh-", s.number-1) || body.Attempt != s.attempt:
		s.ended = true
	}
	if s.ended {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		_ = json.NewEncoder(w).Encode(map[string]string{"code": "unauthenticated", "detail": "the login has been ended; log in again"})
		return
	}
	if s.lost > 0 {
		s.lost--
		panic(http.ErrAbortHandler)
	}
	_ = json.NewEncoder(w).Encode(s.token(s.number))
}

// renewHome is a client's saved state.
type renewHome struct {
	mu    sync.Mutex
	token Token
	full  bool // saving fails
}

func (h *renewHome) load() (Token, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.token, nil
}

func (h *renewHome) save(t Token) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full {
		return errors.New("no space left on device")
	}
	h.token = t
	return nil
}

func newTestRenewer(t *testing.T, s *renewServer, h *renewHome, lock string, urls ...string) *Renewer {
	t.Helper()
	api, err := New(Config{URLs: append(urls, s.URL)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRenewer(RenewerConfig{API: api, Load: h.load, Save: h.save, LockFile: lock})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// old is a token due for renewal, still valid for that long.
func (s *renewServer) old(left time.Duration) Token {
	t := s.token(s.number)
	t.ReceivedAt = time.Now().Add(left - s.life)
	return t
}

// get must return a token within a minute.
func get(t *testing.T, r *Renewer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	token, err := r.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestRenewerLostAnswers: lost answers cost only time, and so does an unreachable
// server.
func TestRenewerLostAnswers(t *testing.T) {
	t.Parallel()
	s := newRenewServer(t)
	h := &renewHome{token: s.old(-time.Second)} // expired, so that the renewal is waited for
	before := h.token.Secret
	s.lost = 2
	r := newTestRenewer(t, s, h, "", "http://127.0.0.1:1")
	if token := get(t, r); token == before || token != h.token.Secret || h.token.Refresh != "refresh-1" || h.token.Seed != "seed" {
		t.Errorf("got %q, saved %q", token, h.token.Refresh)
	}
	if s.renewals != 1 {
		t.Errorf("%d renewals, want 1", s.renewals)
	}
}

// TestRenewerKeepsOn: a valid token is returned at once, while it is renewed.
func TestRenewerKeepsOn(t *testing.T) {
	t.Parallel()
	s := newRenewServer(t)
	h := &renewHome{token: s.old(10 * time.Minute)}
	before := h.token.Secret
	r := newTestRenewer(t, s, h, "")
	if token := get(t, r); token != before {
		t.Error("a token that is good is not given at once")
	}
	for deadline := time.Now().Add(time.Minute); get(t, r) == before; {
		if time.Now().After(deadline) {
			t.Fatal("it is never renewed")
		}
	}
	fresh := get(t, r)
	if token, err := r.Token(WithSpentToken(t.Context(), fresh)); err != nil || token == fresh {
		t.Errorf("a token that the servers find expired: got the same again, %v", err)
	}
}

// TestRenewerEnds: a login that has ended is an error that stops a client.
func TestRenewerEnds(t *testing.T) {
	t.Parallel()
	s := newRenewServer(t)
	s.ended = true
	r := newTestRenewer(t, s, &renewHome{token: s.old(-time.Second)}, "")
	_, err := r.Token(t.Context())
	var told *wire.Error
	if !errors.As(err, &told) || told.Temporary || told.Code != wire.CodeUnauthenticated {
		t.Errorf("got %v", err)
	}
}

// TestRenewerDiskFull: a token that cannot be saved is used, and the next renewal
// waits until it can.
func TestRenewerDiskFull(t *testing.T) {
	t.Parallel()
	s := newRenewServer(t)
	h := &renewHome{token: s.old(-time.Second), full: true}
	before := h.token.Secret
	r := newTestRenewer(t, s, h, "")
	token := get(t, r)
	if token == before || h.token.Secret != before {
		t.Errorf("got %q, saved %q", token, h.token.Secret)
	}
	h.mu.Lock()
	h.full = false
	h.mu.Unlock()
	if again, err := r.Token(WithSpentToken(t.Context(), token)); err != nil || again == token {
		t.Errorf("the renewal after it: %v", err)
	}
	if h.token.Refresh != "refresh-2" {
		t.Errorf("saved is %s", h.token.Refresh)
	}
}

// TestRenewersShare: processes with one home do not end each other's login.
func TestRenewersShare(t *testing.T) {
	t.Parallel()
	s := newRenewServer(t)
	h := &renewHome{token: s.old(-time.Second)}
	lock := filepath.Join(t.TempDir(), "lock")
	const many = 8
	var all, loaded sync.WaitGroup
	loaded.Add(many)
	for range many {
		r := newTestRenewer(t, s, h, lock)
		var first sync.Once
		r.cfg.Load = func() (Token, error) {
			token, err := h.load()
			first.Do(func() { // all have seen the old one before any renews it
				loaded.Done()
				loaded.Wait()
			})
			return token, err
		}
		all.Go(func() {
			token := get(t, r)
			if saved, _ := h.load(); token != saved.Secret {
				t.Errorf("got %q", token)
			}
		})
	}
	all.Wait()
	if s.renewals != 1 || s.calls != 1 || s.ended {
		t.Errorf("%d renewals in %d calls, want 1 in 1; ended %t", s.renewals, s.calls, s.ended)
	}
}
