package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	// refreshPrefix begins every refresh token, so that people and programs do not
	// take one for a JWT.
	refreshPrefix = "cr1."
	// maxRefreshBytes exceeds a refresh token for the longest user id.
	maxRefreshBytes = 1024
)

// Refresh is a refresh token's content: which login it renews, and until when.
type Refresh struct {
	User       string `json:"user"`
	Login      string `json:"login"`  // id of the login that it renews
	Number     int64  `json:"number"` // its number within the login, from 1
	Generation int64  `json:"generation"`
	Began      int64  `json:"began"` // when the login began, ms
	Until      int64  `json:"until"` // the token is valid before then, ms
}

// refreshCode returns the code of a refresh token under one of the secrets, with a
// key of its own, so that no other token of this cluster passes as one.
func (h *HS256) refreshCode(secret []byte, body string) []byte {
	key := hmac.New(sha256.New, secret)
	key.Write([]byte("conclave refresh token"))
	code := hmac.New(sha256.New, key.Sum(nil))
	for _, part := range []string{h.issuer, h.audience, body} {
		code.Write([]byte(part))
		code.Write([]byte{0})
	}
	return code.Sum(nil)
}

// IssueRefresh issues a refresh token.
func (h *HS256) IssueRefresh(c Refresh) (string, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	body := refreshPrefix + base64.RawURLEncoding.EncodeToString(raw)
	return body + "." + base64.RawURLEncoding.EncodeToString(h.refreshCode(h.current, body)), nil
}

// ReadRefresh returns the content of a refresh token of this cluster, even if it
// has expired. Its error is a *wire.Error with wire.CodeUnauthenticated.
func (h *HS256) ReadRefresh(token string) (c Refresh, err error) {
	at := strings.LastIndexByte(token, '.')
	if len(token) > maxRefreshBytes || !strings.HasPrefix(token, refreshPrefix) || at <= len(refreshPrefix) {
		return c, errBadRefresh()
	}
	body := token[:at]
	code, err := base64.RawURLEncoding.Strict().DecodeString(token[at+1:])
	if err != nil {
		return c, errBadRefresh()
	}
	good := false
	for _, secret := range h.keys.Keys {
		good = hmac.Equal(code, h.refreshCode(secret.([]byte), body)) || good
	}
	if !good {
		return c, errBadRefresh()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimPrefix(body, refreshPrefix))
	if err != nil || json.Unmarshal(raw, &c) != nil || !wire.StoredID(c.User) || c.Login == "" || c.Number < 1 {
		return Refresh{}, errBadRefresh()
	}
	return c, nil
}

func errBadRefresh() *wire.Error {
	return wire.Errorf(wire.CodeUnauthenticated, "refresh token is not valid: log in again")
}

// Expired returns the error for an expired refresh token.
func (c Refresh) Expired(now time.Time) error {
	if now.UnixMilli() < c.Until {
		return nil
	}
	return wire.Errorf(wire.CodeTokenExpired, "the login has not been renewed in time: log in again")
}
