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
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var testSecret = []byte("test-only secret of a webhook")

// queue is a Queue of one outcome, in memory.
type queue struct {
	session session.Session
	missing bool
	full    bool

	mu     sync.Mutex
	due    []string
	since  time.Time
	retry  time.Time
	told   bool
	counts []string // counts reported to an Observer
}

func (q *queue) Tried(result string)   { q.count("tried " + result) }
func (q *queue) GivenUp(reason string) { q.count("given up " + reason) }

func (q *queue) count(what string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.counts = append(q.counts, what)
}

func (q *queue) RepeatOutcome(ctx context.Context, id string, at time.Time) (bool, error) {
	q.since = at
	return q.PutOutcome(ctx, id)
}

func (q *queue) OutcomeSince(_ context.Context, _ string, at time.Time) (time.Time, error) {
	if q.since.IsZero() {
		q.since = at
	}
	return q.since, nil
}

func (q *queue) OutcomesWaiting(context.Context) (int, time.Time, error) {
	return len(q.due), q.since, nil
}

func (q *queue) PutOutcome(_ context.Context, id string) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full {
		return false, nil
	}
	q.due = append(q.due, id)
	return true, nil
}

func (q *queue) TakeOutcomes(_ context.Context, _ int, hold time.Duration) ([]service.Taken, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var taken []service.Taken
	for _, id := range q.due {
		taken = append(taken, service.Taken{ID: id, Until: time.Now().Add(hold)})
	}
	q.due = nil
	return taken, nil
}

func (q *queue) RetryOutcome(_ context.Context, _ service.Taken, at time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.retry = at
	return nil
}

func (q *queue) OutcomeTold(context.Context, service.Taken) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told = true
	return nil
}

func (q *queue) Load(context.Context, string) (session.Session, time.Time, error) {
	if q.missing {
		return session.Session{}, time.Time{}, service.ErrNotFound
	}
	return q.session, time.Now(), nil
}

// told tries one outcome of that age, at a server with that handler.
func told(t *testing.T, q *queue, age time.Duration, h http.HandlerFunc) (log string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	defer srv.CloseClientConnections()
	var buf bytes.Buffer
	lines := zerolog.New(&buf)
	s, err := New(Config{
		URL: "http://user:passw0rd@" + strings.TrimPrefix(srv.URL, "http://") + "/s3cret", Secrets: [][]byte{testSecret}, Queue: q, Observe: q, Log: &lines,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.http.Timeout = min(s.http.Timeout, time.Second)
	q.session = session.Session{ID: "sg-1", Kind: session.Sign, Phase: session.Completed, EndedAt: time.Now().Add(-age)}
	if err := s.Ended(t.Context(), q.session); err != nil {
		t.Fatal(err)
	}
	if n := s.batch(t.Context()); n != 1 {
		t.Fatalf("tried %d", n)
	}
	for _, secret := range []string{"passw0rd", "s3cret", "the receiver's words", string(testSecret)} {
		if strings.Contains(buf.String(), secret) {
			t.Errorf("the log holds %q: %s", secret, buf.String())
		}
	}
	return buf.String()
}

// endless sends an endless answer, a byte now and then.
func endless(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = w.Write([]byte("."))
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}
}

// long sends an endless answer, as fast as it can, and must be stopped after
// filling the buffers.
func long(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		const most = 64 << 20
		chunk := make([]byte, 64<<10)
		for sent := 0; ; sent += len(chunk) {
			if sent > most {
				t.Errorf("more than %d bytes of an answer were read", most)
				return
			}
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

func TestTries(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	t.Cleanup(elsewhere.Close) // after the parallel tests within
	answers := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
			_, _ = w.Write([]byte("the receiver's words"))
		}
	}
	for _, tc := range []struct {
		name   string
		q      *queue
		age    time.Duration
		answer http.HandlerFunc
		told   bool
		says   string
		counts string
	}{
		{"taken", new(queue), 0, answers(200), true, "", "tried delivered"},
		{"taken with a long answer", new(queue), 0, long(t), true, "", "tried delivered"},
		{"taken with an answer that does not end", new(queue), 0, endless(200), true, "", "tried delivered"},
		{"a fault with an answer that does not end", new(queue), 0, endless(500), false, "answers 500", "tried failed"},
		{"a header that is too long", new(queue), 0, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		}, false, "tried again", "tried failed"},
		{"a fault", new(queue), 0, answers(500), false, "answers 500", "tried failed"},
		{"a redirect", new(queue), 0, answers(307), false, "answers 307", "tried failed"},
		{"a redirect that changes the method", new(queue), 0, answers(303), false, "answers 303", "tried failed"},
		{"a status without a name", new(queue), time.Hour, answers(599), false, "answers 599", "tried failed"},
		{"gone", new(queue), time.Second, answers(410), true, "refused by the receiver", "tried failed, given up gone"},
		{"no answer", new(queue), 0, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, "tried again", "tried failed"},
		{"after a day", new(queue), giveUpAfter + time.Minute, answers(500), true, "given up", "tried failed, given up day"},
		{"after a day, asked for again", &queue{since: time.Now()}, giveUpAfter + time.Minute, answers(500), false, "tried again", "tried failed"},
		{"of a session that is forgotten", &queue{missing: true}, 0, answers(204), true, "session deleted", "given up forgotten"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			log := told(t, tc.q, tc.age, tc.answer)
			if tc.q.told != tc.told || tc.q.retry.IsZero() == !tc.told || !strings.Contains(log, tc.says) {
				t.Errorf("told %v, retry at %v, log: %s", tc.q.told, tc.q.retry, log)
			}
			if got := strings.Join(tc.q.counts, ", "); got != tc.counts {
				t.Errorf("counted %s, want %s", got, tc.counts)
			}
			if !tc.told && tc.q.since.Before(time.Now().Add(-time.Minute)) && !tc.q.retry.After(time.Now().Add(tc.age/3)) {
				t.Errorf("tried again at %s", tc.q.retry)
			}
		})
	}
}

// TestRetryAfter: a receiver that asks for a delay gets it, but no outcome waits
// longer than an hour and the fifth that is added.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	ahead := time.Now().Add(72 * time.Hour) // the receiver's clock
	date := func(at time.Time) string { return at.UTC().Format(http.TimeFormat) }
	for _, tc := range []struct {
		name, after, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "90", "", 90 * time.Second},
		{"no time", "0", "", 0},
		{"many seconds", "86400", "", retryMost},
		{"more than any number", "99999999999999999999999", "", retryMost},
		{"a date", date(ahead.Add(5 * time.Minute)), date(ahead), 5 * time.Minute},
		{"a date far away", date(ahead.Add(10000 * time.Hour)), date(ahead), retryMost},
		{"a date long past", date(ahead.Add(-time.Hour)), date(ahead), 0},
		{"a date without the receiver's own", date(time.Now().Add(10 * time.Minute)), "no date", 10 * time.Minute},
		{"less than nothing", "-5", "", 0},
		{"no number", "soon", "", 0},
		{"a fraction", "1.5", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			q := new(queue)
			begun := time.Now()
			told(t, q, 0, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", tc.after)
				if tc.date != "" {
					w.Header().Set("Date", tc.date)
				}
				w.WriteHeader(http.StatusServiceUnavailable)
			})
			const grace = 30 * time.Second // a busy machine; and dates have whole seconds
			least := max(tc.want, retryFirst)
			if early, late := begun.Add(least-time.Second), begun.Add(least*6/5+grace); q.retry.Before(early) || q.retry.After(late) {
				t.Errorf("tried again in %s, want %s", q.retry.Sub(begun), least)
			}
		})
	}
}

// TestAgain: an outcome sent again on demand has the same id.
func TestAgain(t *testing.T) {
	t.Parallel()
	ids := make(chan string, 2)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ids <- r.Header.Get("webhook-id") }))
	defer srv.Close()
	q := &queue{session: session.Session{ID: "sg-1", Kind: session.Sign, Phase: session.Completed, EndedAt: time.Now()}}
	s, err := New(Config{URL: srv.URL, Secrets: [][]byte{testSecret}, Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		if again {
			err = s.Again(t.Context(), q.session, time.Now())
		} else {
			err = s.Ended(t.Context(), q.session)
		}
		if err != nil || s.batch(t.Context()) != 1 {
			t.Fatalf("not sent: %v", err)
		}
	}
	if first, second := <-ids, <-ids; first != second || first == "" {
		t.Errorf("sent as %s and then as %s", first, second)
	}
	q.full = true
	var told *wire.Error
	if err := s.Again(t.Context(), q.session, time.Now()); !errors.As(err, &told) || told.Code != wire.CodeUnavailable || !told.Temporary {
		t.Errorf("too much waits: %v", err)
	}
}

// TestWaiting: waiting outcomes are counted while Run runs, and how long the oldest has waited.
func TestWaiting(t *testing.T) {
	t.Parallel()
	q := &queue{since: time.Now().Add(-time.Hour)}
	s, err := New(Config{URL: "http://127.0.0.1:1", Secrets: [][]byte{testSecret}, Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	q.due = []string{"a", "b"}
	s.count(t.Context())
	if n, oldest := s.Waiting(); n != 2 || oldest < time.Hour || oldest > 2*time.Hour {
		t.Errorf("%d wait, the oldest for %s", n, oldest)
	}
	q.since = time.Now().Add(time.Hour) // its first try is still to come
	s.count(t.Context())
	if _, oldest := s.Waiting(); oldest != 0 {
		t.Errorf("the oldest waits for %s, before its time", oldest)
	}
}

// TestSignature compares the signature with the example of Standard Webhooks.
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
		pause := retryIn(age, 0)
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
