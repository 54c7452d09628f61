package auth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var (
	errNotObject = errors.New("not a JSON object")
	errTwice     = errors.New("a member is named twice")
)

// decodeObject decodes a JSON object and refuses ambiguous text: a member named
// twice, at any depth, and text that is not UTF-8. Names are compared exactly,
// which encoding/json does not do for struct fields.
func decodeObject(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) || !json.Valid(b) {
		return nil, errNotObject
	}
	v, err := decodeValue(json.NewDecoder(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	object, ok := v.(map[string]any)
	if !ok {
		return nil, errNotObject
	}
	return object, nil
}

// decodeValue reads the next value of valid JSON.
func decodeValue(dec *json.Decoder) (any, error) {
	t, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		object := make(map[string]any)
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key := name.(string) // in an object the decoder yields only this here
			if _, twice := object[key]; twice {
				return nil, errTwice
			}
			if object[key], err = decodeValue(dec); err != nil {
				return nil, err
			}
		}
		_, err = dec.Token()
		return object, err
	case json.Delim('['):
		list := []any{}
		for dec.More() {
			v, err := decodeValue(dec)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = dec.Token()
		return list, err
	}
	return t, nil
}

// header is a token's header, not yet verified.
type header struct {
	alg string
	kid string // "" if there is none
}

// refusedMembers are header members by which a token would name the key to verify
// it with; crit and b64 change what is signed, and are not supported here (RFC 7515
// section 4.1.11 then demands a refusal).
var refusedMembers = []string{"jwk", "jku", "x5u", "x5c", "crit", "b64"}

// tokenTypes are the values of typ allowed in a token to log in with. Others
// (logout+jwt, secevent+jwt, dpop+jwt …) are statements of another kind by issuers
// that sign them all with the same key (RFC 8725 section 3.11).
var tokenTypes = []string{"jwt", "at+jwt", "application/jwt", "application/at+jwt"}

// parseHeader refuses a token that is too long, or not in the form in which its
// issuer would have written it, and returns its header.
func parseHeader(token string) (header, error) {
	switch {
	case token == "":
		return header{}, wire.Errorf(wire.CodeUnauthenticated, missing)
	case len(token) > wire.MaxTokenBytes:
		return header{}, errTokenTooLong()
	}
	malformed := badToken(whatMalformed)
	parts := strings.SplitN(token, ".", 4)
	if len(parts) != 3 {
		return header{}, malformed
	}
	var raw []byte
	for i, part := range parts {
		b, err := canonical(part)
		if err != nil {
			return header{}, malformed
		}
		if i == 0 {
			raw = b
		}
	}
	members, err := decodeObject(raw)
	if err != nil {
		return header{}, malformed
	}
	for _, name := range refusedMembers {
		if _, ok := members[name]; ok {
			return header{}, badToken("header has " + name)
		}
	}
	var h header
	var ok bool
	if h.alg, ok = members["alg"].(string); !ok {
		return header{}, badToken("header has no alg")
	}
	if kid, present := members["kid"]; present {
		if h.kid, ok = kid.(string); !ok {
			return header{}, badToken("kid is not a string")
		}
	}
	if typ, present := members["typ"]; present {
		name, ok := typ.(string)
		if !ok || !slices.Contains(tokenTypes, strings.ToLower(name)) {
			return header{}, badToken("it is of another type")
		}
	}
	return h, nil
}

// canonical decodes unpadded base64url and accepts one spelling only: the standard
// decoder, strict or not, skips line breaks.
func canonical(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("not base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}
