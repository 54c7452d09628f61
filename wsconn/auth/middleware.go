package auth

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/limit"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// Middleware passes requests that carry a valid token as "Authorization: Bearer …",
// with its claims in their context ([FromContext]), and answers all others with a
// problem document. Tokens elsewhere in a request are ignored. A non-nil report
// gets the reason of each refusal.
func Middleware(v Verifier, report func(*http.Request, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := Bearer(r, v)
			if err != nil {
				if report != nil {
					report(r, err)
				}
				WriteProblem(w, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), c)))
		})
	}
}

// Bearer returns the claims of the token that a request carries as "Authorization:
// Bearer …".
func Bearer(r *http.Request, v Verifier) (Claims, error) {
	token, err := bearer(r.Header)
	if err != nil {
		return Claims{}, err
	}
	return v.Verify(r.Context(), token)
}

func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", wire.Errorf(wire.CodeUnauthenticated, "the Authorization header is missing; it must be Bearer and a token")
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", wire.Errorf(wire.CodeUnauthenticated, "there must be exactly one Authorization header, Bearer and a token")
	}
	return strings.TrimSpace(token), nil
}

// Problem is a problem document (RFC 9457), the web API's form of an error. Its
// type is about:blank, so the title is the status's own; Code gives the fault to
// programs, Detail to people.
type Problem struct {
	Type      string    `json:"type"`
	Title     string    `json:"title"`
	Status    int       `json:"status"`
	Detail    string    `json:"detail"`
	Code      wire.Code `json:"code"`
	Temporary bool      `json:"temporary,omitempty" doc:"the same request may succeed later"`
	KeyID     string    `json:"key_id,omitempty"`
	SessionID string    `json:"session_id,omitempty"`
}

// WriteProblem answers a request with err as a problem document. An error that
// neither is nor wraps a *wire.Error becomes internal without details; the caller
// logs it.
func WriteProblem(w http.ResponseWriter, err error) {
	e, p := wire.AsError(err), ProblemOf(err)
	status := p.Status
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="conclave"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		if e.Code == wire.CodeQuotaExceeded && e.RetryAfter == 0 {
			break // it lasts until something ends, at an unknown time
		}
		h.Set("Retry-After", strconv.Itoa(retrySeconds(e.RetryAfter)))
	}
	w.WriteHeader(status)
	// A client that has left cannot be told.
	_ = json.NewEncoder(w).Encode(p)
}

// ProblemOf returns the problem document of err, as WriteProblem writes it.
func ProblemOf(err error) Problem {
	e := wire.AsError(err)
	status := Status(e.Code)
	return Problem{
		Type:      "about:blank",
		Title:     http.StatusText(status),
		Status:    status,
		Detail:    e.Message,
		Code:      e.Code,
		Temporary: e.Temporary,
		KeyID:     e.KeyID,
		SessionID: e.SessionID,
	}
}

// retrySeconds returns a wait in whole seconds, rounded up, at least 1.
func retrySeconds(wait time.Duration) int {
	return max(1, int((wait+time.Second-1)/time.Second))
}

// Status returns the HTTP status of a code.
func Status(code wire.Code) int {
	switch code {
	case wire.CodeBadRequest, wire.CodeUnknownType, wire.CodeNotRegistered:
		return http.StatusBadRequest
	case wire.CodeUnauthenticated, wire.CodeTokenExpired:
		return http.StatusUnauthorized
	case wire.CodeForbidden:
		return http.StatusForbidden
	case wire.CodeNotFound:
		return http.StatusNotFound
	case wire.CodeConflict, wire.CodeAmbiguous, wire.CodeSessionEnded:
		return http.StatusConflict
	case wire.CodeTooLarge:
		return http.StatusRequestEntityTooLarge
	case wire.CodeInvalidSignature, wire.CodeShareNotSealed, wire.CodeUnknownUser:
		return http.StatusUnprocessableEntity
	case wire.CodeRateLimited, wire.CodeQuotaExceeded:
		return http.StatusTooManyRequests
	case wire.CodeUnavailable, wire.CodeMailboxFull:
		return http.StatusServiceUnavailable
	case wire.CodeStorageFull:
		return http.StatusInsufficientStorage
	}
	return http.StatusInternalServerError
}

// Charge takes the price of cost events from key's share of t. If that exceeds the
// rate, its error is a *wire.Error with wire.CodeRateLimited that begins with
// tooMany and says when to try again. A nil t limits nothing.
func Charge(t *limit.Throttle, key string, cost int, tooMany string) error {
	wait := t.Take(key, cost)
	if wait <= 0 {
		return nil
	}
	e := wire.Errorf(wire.CodeRateLimited, "%s; try again later", tooMany)
	e.RetryAfter = wait
	return e
}
