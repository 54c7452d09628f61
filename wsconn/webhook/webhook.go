// Package webhook sends the outcomes of sessions to a URL of the operator, signed
// as Standard Webhooks (standardwebhooks.com) specifies, so that the receiver can
// verify them with any library for that.
//
//	POST the URL
//	webhook-id: out_…          the same for every try at one outcome
//	webhook-timestamp: …       seconds; of this try
//	webhook-signature: v1,…    HMAC-SHA256 over "id.timestamp.body", one for each secret
//
//	{"type":"sign.completed","timestamp":"…","data":{a session as the web API shows it}}
//
// Outcomes to send are a list in Redis, of sessions by the time of the next try,
// which all nodes process: if a node dies before sending an outcome, another sends
// it. Each is sent at least once. The content is made from the session when it is
// sent, since a session does not change after its end.
//
// What the receiver answers, within ten seconds:
//
//	2xx            taken
//	410            this outcome is not wanted: it is given up at once. Others are still told
//	anything else, or nothing
//	               it comes again, at growing intervals from a second to an hour, for a
//	               day; then it is given up. With Retry-After (seconds or a date) not
//	               before that, which counts for an hour at most
//
// Abandoned outcomes are logged and counted. They can be sent again, on demand
// ([Sender.Again]), as long as the session is kept: under the same webhook-id, and
// for another day.
//
// Only the URL set by the operator is called, and redirects are not followed. At
// most 64 KiB of an answer's header and of its body are read.
//
// # Goroutines
//
// [Sender.Run] sends due outcomes, [atOnce] at a time, counts the waiting ones, and
// returns when its context and these have ended. No other goroutine is started.
// Sender.mu guards the counts, and is not held during I/O.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	minSecret   = 24 // bytes, as in Standard Webhooks
	atOnce      = 16
	lookEvery   = 500 * time.Millisecond
	tryWithin   = 10 * time.Second
	hold        = 15 * time.Second // until another node tries: longer than a try
	countEvery  = 5 * time.Second
	retryFirst  = time.Second
	retryMost   = time.Hour
	giveUpAfter = 24 * time.Hour
	maxAnswer   = 64 << 10 // bytes read of an answer's body, so that the connection can be reused
	maxHeader   = 64 << 10 // bytes of its header
)

// Queue stores which outcomes to send; *sessions.Store is one.
type Queue interface {
	// PutOutcome and RepeatOutcome return false, and store nothing, if too many wait.
	PutOutcome(ctx context.Context, id string) (bool, error)
	RepeatOutcome(ctx context.Context, id string, at time.Time) (bool, error)
	TakeOutcomes(ctx context.Context, limit int, hold time.Duration) ([]service.Taken, error)
	// OutcomeSince returns since when it has been tried: at, if unknown.
	OutcomeSince(ctx context.Context, id string, at time.Time) (time.Time, error)
	RetryOutcome(ctx context.Context, t service.Taken, at time.Time) error
	OutcomeTold(ctx context.Context, t service.Taken) error
	// OutcomesWaiting returns how many are still to be sent, and since when the
	// oldest waits; the zero time for none.
	OutcomesWaiting(ctx context.Context) (int, time.Time, error)
	Load(ctx context.Context, id string) (session.Session, time.Time, error)
}

// Observer counts tries; its methods must return at once.
type Observer interface {
	// Tried is called after each try, with one of Results.
	Tried(result string)
	// GivenUp is called for each abandoned outcome, with one of Reasons.
	GivenUp(reason string)
}

// Words passed to [Observer].
var (
	Results = []string{resultDelivered, resultFailed}
	Reasons = []string{reasonGone, reasonDay, reasonForgotten, reasonFull}
)

const (
	resultDelivered = "delivered"
	resultFailed    = "failed"

	reasonGone      = "gone"      // the receiver has answered 410
	reasonDay       = "day"       // it was tried for a day
	reasonForgotten = "forgotten" // the session was deleted before
	reasonFull      = "full"      // too many wait
)

type unobserved struct{}

func (unobserved) Tried(string)   {}
func (unobserved) GivenUp(string) {}

// Config configures a Sender. URL, Secrets and Queue are required.
type Config struct {
	URL     string   // http or https
	Secrets [][]byte // each signs; at least 24 bytes
	Queue   Queue
	Agent   string           // User-Agent
	Now     func() time.Time // by Redis's clock, for the age of waiting outcomes; nil means time.Now
	Observe Observer         // nil disables it
	Log     *zerolog.Logger  // nil disables logging
}

// Sender sends outcomes. It is safe for concurrent use.
type Sender struct {
	cfg   Config
	log   zerolog.Logger
	http  *http.Client
	nudge chan struct{}

	mu      sync.Mutex
	waiting int
	oldest  time.Time // zero for none
}

// Check returns the fault of a URL and its secrets, which may both be missing.
func Check(text string, secrets [][]byte) error {
	if text == "" {
		if len(secrets) > 0 {
			return errors.New("webhook: a secret is set, but no URL")
		}
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" { // the text may hold a password
		return errors.New("webhook: want a URL like https://host/path")
	}
	if len(secrets) == 0 {
		return errors.New("webhook: a secret to sign with is required, in --webhook-secret-file; for example: (printf whsec_; openssl rand -base64 32)")
	}
	for _, s := range secrets {
		if len(s) < minSecret {
			return fmt.Errorf("webhook: a secret has %d bytes, it needs at least %d", len(s), minSecret)
		}
	}
	return nil
}

// New returns a Sender. It starts nothing; see [Sender.Run].
func New(cfg Config) (*Sender, error) {
	if cfg.URL == "" || cfg.Queue == nil {
		return nil, errors.New("webhook: a URL and a queue are required")
	}
	if err := Check(cfg.URL, cfg.Secrets); err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = atOnce
	transport.MaxResponseHeaderBytes = maxHeader
	transport.DisableCompression = true // an answer's body is not used
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = unobserved{}
	}
	s := &Sender{cfg: cfg, log: zerolog.Nop(), nudge: make(chan struct{}, 1), http: &http.Client{
		Transport: transport, Timeout: tryWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.Log != nil {
		s.log = *cfg.Log
	}
	return s, nil
}

// Ended implements service.Outcomes.
func (s *Sender) Ended(ctx context.Context, ses session.Session) error {
	ok, err := s.cfg.Queue.PutOutcome(ctx, ses.ID)
	if err != nil {
		return err
	}
	if !ok {
		s.cfg.Observe.GivenUp(reasonFull)
		s.log.Error().Str("session", ses.ID).Msg("webhook queue full, outcome not sent")
	}
	s.wake()
	return nil
}

// errBehind is Again's error if too many outcomes wait.
var errBehind = &wire.Error{Code: wire.CodeUnavailable, Message: "too many outcomes are queued for the webhook; try again later", Temporary: true}

// Again implements service.Outcomes.
func (s *Sender) Again(ctx context.Context, ses session.Session, now time.Time) error {
	ok, err := s.cfg.Queue.RepeatOutcome(ctx, ses.ID, now)
	if err == nil && !ok {
		err = errBehind
	}
	s.wake()
	return err
}

func (s *Sender) wake() {
	select {
	case s.nudge <- struct{}{}:
	default:
	}
}

// Waiting returns how many outcomes are still to be sent, by any node, and how long
// the oldest of them has waited, as of a few seconds ago.
func (s *Sender) Waiting() (n int, oldest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.oldest.IsZero() {
		oldest = max(0, s.cfg.Now().Sub(s.oldest))
	}
	return s.waiting, oldest
}

// count counts the waiting outcomes. If that fails the counts stay unchanged:
// Redis's own metrics show that it does not answer.
func (s *Sender) count(ctx context.Context) {
	n, oldest, err := s.cfg.Queue.OutcomesWaiting(ctx)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting, s.oldest = n, oldest
}

// Run sends due outcomes until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer s.http.CloseIdleConnections()
	var counted time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.nudge:
		}
		for more := true; more && ctx.Err() == nil; {
			if time.Since(counted) >= countEvery {
				s.count(ctx)
				counted = time.Now()
			}
			more = s.batch(ctx) == atOnce
		}
	}
}

// batch tries some of the due outcomes and returns how many.
func (s *Sender) batch(ctx context.Context) int {
	begun := time.Now()
	due, err := s.cfg.Queue.TakeOutcomes(ctx, atOnce, hold)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("webhook: outcomes not read")
		}
		return 0
	}
	var tries sync.WaitGroup
	for _, t := range due {
		tries.Go(func() {
			// By the store's clock: the time of taking it plus the time passed since.
			now := func() time.Time { return t.Until.Add(time.Since(begun) - hold) }
			if err := s.try(ctx, t, now); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Str("session", t.ID).Msg("webhook: delivery not recorded, outcome may be sent again")
			}
		})
	}
	tries.Wait()
	return len(due)
}
