package servers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// ParseBase reads a base URL.
func ParseBase(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return nil, errors.New("client: the server URL cannot be parsed")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("client: the server URL is not http://host or https://host") // any other URL may hold a password
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("client: the URL of %s must not hold a password, a query or a fragment", u.Host)
	}
	return u, nil
}

// ErrNotConclave is returned when the answering server is not Conclave.
var ErrNotConclave = errors.New("the answer is not what Conclave would say")

// Problem reads a problem document. Any other body comes from a proxy on the way.
func Problem(resp *http.Response, body []byte) error {
	var doc struct {
		Detail    string    `json:"detail"`
		Code      wire.Code `json:"code"`
		Temporary bool      `json:"temporary"`
		KeyID     string    `json:"key_id"`
		SessionID string    `json:"session_id"`
	}
	if json.Unmarshal(body, &doc) == nil && doc.Code != "" && doc.Detail != "" {
		return &wire.Error{Code: doc.Code, Message: doc.Detail, Temporary: doc.Temporary, KeyID: doc.KeyID, SessionID: doc.SessionID}
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return wire.Errorf(wire.CodeUnavailable, "%s answers %s", resp.Request.URL.Redacted(), resp.Status)
	}
	return fmt.Errorf("%s answers %s: %w; is this its URL?", resp.Request.URL.Redacted(), resp.Status, ErrNotConclave)
}
