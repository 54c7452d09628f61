package webhook

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
)

var testSecret = []byte("test-only secret of a webhook")

// queue is a Queue of one outcome, in memory.
type queue struct {
	session session.Session
	missing bool

	mu    sync.Mutex
	due   []string
	retry time.Time
	told  bool
}

func (q *queue) PutOutcome(_ context.Context, id string) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.due = append(q.due, id)
	return true, nil
}

func (q *queue) TakeOutcomes(_ context.Context, _ int, hold time.Duration) ([]session.Taken, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var taken []session.Taken
	for _, id := range q.due {
		taken = append(taken, session.Taken{ID: id, Until: time.Now().Add(hold)})
	}
	q.due = nil
	return taken, nil
}

func (q *queue) RetryOutcome(_ context.Context, _ session.Taken, at time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retry = at
	return nil
}

func (q *queue) OutcomeTold(context.Context, session.Taken) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told = true
	return nil
}

func (q *queue) Load(context.Context, string) (session.Session, time.Time, error) {
	if q.missing {
		return session.Session{}, time.Time{}, session.ErrNotFound
	}
	return q.session, time.Now(), nil
}

// told tries one outcome that ended so long ago, at a server with that handler.
func told(t *testing.T, q *queue, age time.Duration, h http.HandlerFunc) (log string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	var buf bytes.Buffer
	lines := zerolog.New(&buf)
	s, err := New(Config{URL: "http://user:passw0rd@" + strings.TrimPrefix(srv.URL, "http://") + "/s3cret", Secrets: [][]byte{testSecret}, Queue: q, Log: &lines})
	if err != nil {
		t.Fatal(err)
	}
	q.session = session.Session{ID: "sg-1", Kind: session.Sign, Phase: session.Completed, EndedAt: time.Now().Add(-age)}
	if err := s.Ended(t.Context(), q.session); err != nil {
		t.Fatal(err)
	}
	if n := s.batch(t.Context()); n != 1 {
		t.Fatalf("tried %d", n)
	}
	for _, secret := range []string{"passw0rd", "s3cret", string(testSecret)} {
		if strings.Contains(buf.String(), secret) {
			t.Errorf("the log holds %q: %s", secret, buf.String())
		}
	}
	return buf.String()
}

func TestTries(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	answers := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
		}
	}
	for _, tc := range []struct {
		name   string
		q      *queue
		age    time.Duration
		answer http.HandlerFunc
		told   bool
		says   string
	}{
		{"taken", new(queue), 0, answers(204), true, ""},
		{"taken with a long answer", new(queue), 0, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) }, true, ""},
		{"a fault", new(queue), 0, answers(500), false, "answers 500"},
		{"a redirect", new(queue), 0, answers(307), false, "answers 307"},
		{"gone", new(queue), time.Hour, answers(410), false, "answers 410"},
		{"no answer", new(queue), 0, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, "tried again"},
		{"after a day", new(queue), giveUpAfter + time.Minute, answers(500), true, "given up"},
		{"of a session that is forgotten", &queue{missing: true}, 0, answers(204), true, "forgotten"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log := told(t, tc.q, tc.age, tc.answer)
			if tc.q.told != tc.told || tc.q.retry.IsZero() == !tc.told || !strings.Contains(log, tc.says) {
				t.Errorf("told %v, retry at %v, log: %s", tc.q.told, tc.q.retry, log)
			}
			if !tc.told && !tc.q.retry.After(time.Now().Add(tc.age/3)) {
				t.Errorf("tried again at %s", tc.q.retry)
			}
		})
	}
}

// TestSignature holds the signature against the example of Standard Webhooks.
func TestSignature(t *testing.T) {
	t.Parallel()
	secret, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	s := Sender{cfg: Config{Secrets: [][]byte{secret, testSecret}}}
	got := strings.Fields(s.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`)))
	if len(got) != 2 || got[0] != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" || got[1] == got[0] {
		t.Errorf("signature %q", got)
	}
	id := eventID(session.Session{ID: "sg-1.x", Phase: session.Failed})
	if strings.Contains(id, ".") || id != eventID(session.Session{ID: "sg-1.x", Phase: session.Failed}) || id == eventID(session.Session{ID: "sg-1.x", Phase: session.Completed}) {
		t.Errorf("id %s", id)
	}
}

// TestRetries sums up the pauses: a day is bounded, and the first minute busy.
func TestRetries(t *testing.T) {
	t.Parallel()
	tries, minute := 0, 0
	for age := time.Duration(0); age < giveUpAfter; tries++ {
		if age < time.Minute {
			minute++
		}
		pause := retryIn(age)
		if pause < retryFirst || pause > retryMost*6/5 {
			t.Fatalf("a pause of %s at the age of %s", pause, age)
		}
		age += pause
	}
	if tries < 30 || tries > 60 || minute < 5 {
		t.Errorf("%d tries in a day, %d in the first minute", tries, minute)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := [][]byte{testSecret}
	for url, want := range map[string]string{
		"":                      "no URL",
		"ftp://h/x":             "want a URL",
		"https:///x":            "want a URL",
		"://passw0rd":           "want a URL",
		"https://h.example/x":   "",
		"http://127.0.0.1:1/ok": "",
	} {
		err := Check(url, good)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "passw0rd")) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if err := errors.Join(Check("", nil)); err != nil {
		t.Error(err)
	}
	for _, bad := range [][][]byte{nil, {[]byte("short")}, slices.Concat(good, [][]byte{nil})} {
		if Check("https://h/x", bad) == nil {
			t.Errorf("%q are taken for secrets", bad)
		}
	}
}
