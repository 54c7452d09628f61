// Package webhook tells a URL of the operator's how sessions end, signed as
// Standard Webhooks (standardwebhooks.com) says, so that its owner can verify with
// any library for that.
//
//	POST the URL
//	webhook-id: out_…          the same for every try at one outcome
//	webhook-timestamp: …       seconds; of this try
//	webhook-signature: v1,…    HMAC-SHA256 over "id.timestamp.body", one for each secret
//
//	{"type":"sign.completed","timestamp":"…","data":{a session as the web API shows it}}
//
// What is to be told is a list in Redis, of sessions by when to try next, which
// all nodes work through: an outcome that a node was about to tell when it died is
// told by another. It is told at least once. An answer other than 2xx, and none
// within ten seconds, makes it come again, at growing intervals from a second to
// an hour, for a day; then it is given up and logged. The content is made from the
// session when it is sent, since after its end a session does not change.
//
// Only the URL that the operator has set is asked, and no redirect is followed.
//
// # Goroutines
//
// [Sender.Run] tries what is due, [atOnce] at a time, and returns when its context
// ends and these have. Nothing else is started.
package webhook

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	minSecret   = 24 // bytes, as Standard Webhooks has it
	atOnce      = 16
	lookEvery   = 500 * time.Millisecond
	tryWithin   = 10 * time.Second
	hold        = 15 * time.Second // until another node tries: longer than a try
	retryFirst  = time.Second
	retryMost   = time.Hour
	giveUpAfter = 24 * time.Hour
	maxAnswer   = 64 << 10 // bytes of an answer that are read, so that the connection can be used again
)

// Queue remembers which outcomes are to be told; *redisstore.Store is one.
type Queue interface {
	PutOutcome(ctx context.Context, id string) (bool, error)
	TakeOutcomes(ctx context.Context, limit int, hold time.Duration) ([]session.Taken, error)
	RetryOutcome(ctx context.Context, t session.Taken, at time.Time) error
	OutcomeTold(ctx context.Context, t session.Taken) error
	Load(ctx context.Context, id string) (session.Session, time.Time, error)
}

// Config says who is told. URL, Secrets and Queue are required.
type Config struct {
	URL     string   // http or https
	Secrets [][]byte // each signs; at least 24 bytes
	Queue   Queue
	Agent   string          // User-Agent
	Log     *zerolog.Logger // nil means none
}

// Sender tells outcomes. It is safe for concurrent use.
type Sender struct {
	cfg   Config
	log   zerolog.Logger
	http  *http.Client
	nudge chan struct{}
}

// Check says what is wrong with a URL and its secrets, which may both be missing.
func Check(text string, secrets [][]byte) error {
	if text == "" {
		if len(secrets) > 0 {
			return errors.New("webhook: there is a secret, and no URL")
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
	s := &Sender{cfg: cfg, log: zerolog.Nop(), nudge: make(chan struct{}, 1), http: &http.Client{
		Transport: transport, Timeout: tryWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if cfg.Log != nil {
		s.log = *cfg.Log
	}
	return s, nil
}

// Ended implements session.Outcomes.
func (s *Sender) Ended(ctx context.Context, ses session.Session) error {
	ok, err := s.cfg.Queue.PutOutcome(ctx, ses.ID)
	if err != nil {
		return err
	}
	if !ok {
		s.log.Error().Str("session", ses.ID).Msg("webhook is too far behind, this outcome is not told")
	}
	select {
	case s.nudge <- struct{}{}:
	default:
	}
	return nil
}

// Run tells what is due until ctx ends.
func (s *Sender) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer s.http.CloseIdleConnections()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.nudge:
		}
		for s.batch(ctx) == atOnce && ctx.Err() == nil {
			// more is due
		}
	}
}

// batch tries some of what is due and returns how many.
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
			// The store's clock: when it was taken, and the time that has passed since.
			now := func() time.Time { return t.Until.Add(time.Since(begun) - hold) }
			if err := s.try(ctx, t, now); err != nil && ctx.Err() == nil {
				s.log.Warn().Err(err).Str("session", t.ID).Msg("webhook: outcome not noted as told, it may come again")
			}
		})
	}
	tries.Wait()
	return len(due)
}

// try tells one outcome, or says when to try again.
func (s *Sender) try(ctx context.Context, t session.Taken, now func() time.Time) error {
	ses, _, err := s.cfg.Queue.Load(ctx, t.ID)
	switch {
	case errors.Is(err, session.ErrNotFound):
		s.log.Error().Str("session", t.ID).Msg("webhook: the session was forgotten before its outcome was told")
		return s.cfg.Queue.OutcomeTold(ctx, t)
	case err != nil:
		return err
	}
	err = s.send(ctx, ses, now())
	age := now().Sub(ses.EndedAt)
	switch {
	case err == nil:
		return s.cfg.Queue.OutcomeTold(ctx, t)
	case ctx.Err() != nil:
		return nil // another node tries, after hold
	case age > giveUpAfter:
		s.log.Error().Err(err).Str("session", t.ID).Dur("dur", age).Msg("webhook: given up, this outcome is not told")
		return s.cfg.Queue.OutcomeTold(ctx, t)
	}
	pause := retryIn(age)
	s.log.Warn().Err(err).Str("session", t.ID).Dur("dur", pause).Msg("webhook: outcome not taken, will be tried again")
	return s.cfg.Queue.RetryOutcome(ctx, t, now().Add(pause))
}

// retryIn is how long to wait after a try that has failed, for an outcome of that
// age: half of it, so that the intervals grow by half each time, and not the same
// for all that have failed together.
func retryIn(age time.Duration) time.Duration {
	pause := min(max(age/2, retryFirst), retryMost)
	return pause + rand.N(pause/5)
}

// send is one try.
func (s *Sender) send(ctx context.Context, ses session.Session, now time.Time) error {
	body, err := json.Marshal(wire.OutcomeEvent{
		Type: string(ses.Kind) + "." + string(ses.Phase), Timestamp: ses.EndedAt, Data: ses.Info(),
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	id, at := eventID(ses), strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", s.cfg.Agent)
	// Written as Standard Webhooks does, in lower case; HTTP does not care.
	req.Header["webhook-id"], req.Header["webhook-timestamp"] = []string{id}, []string{at}
	req.Header["webhook-signature"] = []string{s.signature(id, at, body)}
	resp, err := s.http.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// withoutURL takes from an error of net/http the URL, which may hold a secret.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// eventID names an outcome, the same for every try. It has no full stop, which
// separates what is signed.
func eventID(ses session.Session) string {
	sum := sha256.Sum256([]byte("conclave outcome " + ses.ID + " " + string(ses.Phase)))
	return "out_" + hex.EncodeToString(sum[:16])
}

// signature signs under every secret.
func (s *Sender) signature(id, at string, body []byte) string {
	all := make([]string, len(s.cfg.Secrets))
	for i, secret := range s.cfg.Secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		all[i] = "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	}
	return strings.Join(all, " ")
}
