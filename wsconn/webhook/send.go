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
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// refusal is an answer other than 2xx.
type refusal struct {
	status int
	after  time.Duration // delay that the receiver asks for; 0 for none
}

// Error omits the receiver's own words.
func (r *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("it answers %d %s", r.status, http.StatusText(r.status)))
}

// try delivers one outcome, or schedules the next try.
func (s *Sender) try(ctx context.Context, t service.Taken, now func() time.Time) error {
	ses, _, err := s.cfg.Queue.Load(ctx, t.ID)
	switch {
	case errors.Is(err, service.ErrNotFound):
		s.cfg.Observe.GivenUp(reasonForgotten)
		s.log.Error().Str("session", t.ID).Msg("webhook: session deleted before its outcome was sent")
		return s.cfg.Queue.OutcomeTold(ctx, t)
	case err != nil:
		return err
	}
	err = s.send(ctx, ses, now())
	switch {
	case err == nil:
		s.cfg.Observe.Tried(resultDelivered)
		return s.cfg.Queue.OutcomeTold(ctx, t)
	case ctx.Err() != nil:
		return nil // another node tries, after hold
	}
	s.cfg.Observe.Tried(resultFailed)
	return s.retry(ctx, ses, t, err, now)
}

// retry returns when to retry an outcome that failed for that reason, if at all.
func (s *Sender) retry(ctx context.Context, ses session.Session, t service.Taken, why error, now func() time.Time) error {
	var refused *refusal
	if errors.As(why, &refused) && refused.status == http.StatusGone {
		s.cfg.Observe.GivenUp(reasonGone)
		s.log.Error().Err(why).Str("session", t.ID).Msg("webhook: outcome refused by the receiver, not sent again")
		return s.cfg.Queue.OutcomeTold(ctx, t)
	}
	since, err := s.cfg.Queue.OutcomeSince(ctx, t.ID, ses.EndedAt)
	if err != nil {
		return err
	}
	age := now().Sub(since)
	if age > giveUpAfter {
		s.cfg.Observe.GivenUp(reasonDay)
		s.log.Error().Err(why).Str("session", t.ID).Dur("dur", age).Msg("webhook: given up, outcome not sent")
		return s.cfg.Queue.OutcomeTold(ctx, t)
	}
	least := time.Duration(0)
	if refused != nil {
		least = refused.after
	}
	pause := retryIn(age, least)
	s.log.Warn().Err(why).Str("session", t.ID).Dur("dur", pause).Msg("webhook: outcome not accepted, will be tried again")
	return s.cfg.Queue.RetryOutcome(ctx, t, now().Add(pause))
}

// retryIn returns how long to wait after a failed try of an outcome of that age:
// half of it, so that the intervals grow by half each time, and spread over
// outcomes that failed together; but not less than the receiver asks for.
func retryIn(age, least time.Duration) time.Duration {
	pause := min(max(age/2, least, retryFirst), retryMost)
	return pause + rand.N(pause/5)
}

// send makes one try.
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
	// Spelled in lower case as Standard Webhooks does; HTTP ignores case.
	req.Header["webhook-id"], req.Header["webhook-timestamp"] = []string{id}, []string{at}
	req.Header["webhook-signature"] = []string{s.signature(id, at, body)}
	resp, err := s.http.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // within the client's time limit
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return &refusal{resp.StatusCode, retryAfter(resp.Header, now)}
	}
	return nil
}

// retryAfter returns the delay that a receiver asks for (RFC 9110, section 10.2.3),
// at most retryMost; 0 for none or an unknown form. A date is read by the
// receiver's own clock, where its answer shows it.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	if strings.Trim(text, "0123456789") == "" {
		seconds, err := strconv.ParseUint(text, 10, 64)
		if err != nil || seconds > uint64(retryMost/time.Second) {
			return retryMost
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), retryMost)
}

// withoutURL removes the URL, which may hold a secret, from an error of net/http.
func withoutURL(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// eventID names an outcome, the same for every try. It has no full stop, the
// separator in the signed text.
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
