// Package wire is Conclave's WebSocket protocol: the envelope, every message
// and its limits, the error codes and the close codes, as Go types.
//
// A frame is one JSON object. A client sends
//
//	{"type": "...", "user_id": "...", "token": "...", "payload": {...}, "request_id": "..."}
//
// and a server sends
//
//	{"type": "...", "user_id": "...", "payload": {...}, "seq": 7, "request_id": "..."}
//
// where seq numbers the recipient's mailbox and is absent from direct replies, and
// request_id is echoed in the answer. Unknown fields are ignored, an unknown type
// is an error, and a message is either valid in every field or refused whole with
// an [*Error].
//
// The package only encodes, decodes and checks form. Package session decides who
// may send which message to whom, and when; package auth whether a token is valid.
// Beside the standard library it depends only on Unicode's normal forms, so that
// servers, clients and tests share it at no cost.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type names a message.
type Type string

// Message is the envelope of every frame, in both directions.
type Message struct {
	Type      Type            `json:"type"`
	UserID    string          `json:"user_id,omitempty"` // sender to the server, recipient from it
	Token     string          `json:"token,omitempty"`   // JWT, compact form; clients only
	Payload   json.RawMessage `json:"payload,omitempty"`
	RequestID string          `json:"request_id,omitempty"` // chosen by the client, echoed by the server
	Seq       uint64          `json:"seq,omitempty"`        // place in the recipient's mailbox, from 1
}

// Payload is the typed content of a message.
type Payload interface {
	// Type returns the message type that carries this payload.
	Type() Type
	// Validate reports the first fault of form as an *Error with CodeBadRequest.
	Validate() error
}

// Decode parses one frame's envelope and checks its form, but not its payload: a
// token must be verified before anything deeper is parsed. It returns an *Error
// with CodeTooLarge or CodeBadRequest. The result does not share memory with frame.
func Decode(frame []byte, maxBytes int) (Message, error) {
	m, err := View(frame, maxBytes)
	m.Payload = slices.Clone(m.Payload)
	return m, err
}

// View is Decode without a copy of the payload: the result shares memory with
// frame.
func View(frame []byte, maxBytes int) (Message, error) {
	if len(frame) > maxBytes {
		return Message{}, Errorf(CodeTooLarge, "message of %d bytes, the limit is %d", len(frame), maxBytes)
	}
	var m Message
	plain := false
	if utf8.Valid(frame) {
		m, plain = scanMessage(frame)
	}
	if !plain {
		m = Message{}
		if err := unmarshalEnvelope(frame, &m); err != nil {
			return Message{}, Errorf(CodeBadRequest, "message is not a JSON envelope: %s", err)
		}
	}
	switch {
	case m.Type == "":
		return Message{}, Errorf(CodeBadRequest, "type is missing")
	case len(m.Type) > MaxTypeBytes:
		return Message{}, Errorf(CodeBadRequest, "type is longer than %d bytes", MaxTypeBytes)
	case len(m.Token) > MaxTokenBytes:
		return Message{}, Errorf(CodeTooLarge, "token is longer than %d bytes", MaxTokenBytes)
	case !validRequestID(m.RequestID):
		return Message{}, Errorf(CodeBadRequest, "request_id must be at most %d bytes without control characters", MaxIDBytes)
	case m.UserID != "" && !StoredID(m.UserID):
		return Message{}, Errorf(CodeBadRequest, "user_id %s", storedIDRule)
	}
	return m, nil
}

// DecodePayload parses and validates m's payload as the type that m names, and
// returns a pointer to one of this package's payload structs. It returns an *Error
// with CodeUnknownType or CodeBadRequest.
func (m Message) DecodePayload() (Payload, error) {
	make, ok := payloads[m.Type]
	if !ok {
		return nil, Errorf(CodeUnknownType, "unknown message type %s", strconv.QuoteToASCII(string(m.Type)))
	}
	p := make()
	raw := bytes.TrimSpace(m.Payload)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		switch m.Type {
		case TypePing, TypePong:
			return p, nil
		}
		return nil, Errorf(CodeBadRequest, "%s: payload is missing", m.Type)
	}
	if t, ok := p.(*TSSMessage); !ok || !scanTSSMessage(raw, t) {
		p = make() // without the scanner's leftovers
		if err := Unmarshal(raw, p); err != nil {
			if raw[0] != '{' && json.Valid(raw) {
				return nil, Errorf(CodeBadRequest, "%s: payload must be an object", m.Type)
			}
			return nil, Errorf(CodeBadRequest, "%s: %s", m.Type, err)
		}
	}
	if err := p.Validate(); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, Errorf(e.Code, "%s: %s", m.Type, e.Message)
		}
		return nil, err
	}
	return p, nil
}

// New returns the envelope of p for (or from) user.
func New(user string, p Payload) (Message, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return Message{}, fmt.Errorf("encode %s: %w", p.Type(), err)
	}
	return Message{Type: p.Type(), UserID: user, Payload: raw}, nil
}

// Encode returns m as one frame.
func (m Message) Encode() ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type, err)
	}
	return b, nil
}

// AppendSeq appends frame to dst with seq set in its envelope, without parsing it:
// a mailbox keeps encoded frames and assigns their numbers only when it stores
// them. The frame must come from [Message.Encode] with Seq zero.
func AppendSeq(dst, frame []byte, seq uint64) []byte {
	dst = append(dst, frame[:len(frame)-1]...)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	return append(dst, '}')
}

// jsonFault describes a decoding error without Go's vocabulary and without quoting
// the input, which may hold a secret.
func jsonFault(err error) string {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		got, _, _ := strings.Cut(typ.Value, " ") // for a number, Value includes the digits
		if typ.Field == "" {
			return fmt.Sprintf("a JSON %s where an object is needed", got)
		}
		return fmt.Sprintf("field %s must be %s, got %s", typ.Field, jsonName(typ.Type.Kind().String()), got)
	}
	var syn *json.SyntaxError
	if errors.As(err, &syn) {
		return fmt.Sprintf("malformed JSON at byte %d", syn.Offset)
	}
	return "malformed JSON"
}

func jsonName(kind string) string {
	switch kind {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice", "array":
		return "a list"
	case "struct", "map", "ptr":
		return "an object"
	default:
		return "a whole number"
	}
}
