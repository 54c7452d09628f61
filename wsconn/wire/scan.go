package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strconv"
)

// Round messages are nearly all that a node reads and writes, and encoding/json
// would pass over each of their bytes a dozen times. This code reads and writes, in
// one pass, frames in the plain form that JSON encoders make; anything else (an
// escape, an unknown or repeated field, a number that is not whole) it leaves to
// encoding/json, so it never decides what is an error. A fuzz test compares the
// two.

// scanner reads JSON text. Its methods report false where they give up.
type scanner struct {
	text []byte
	at   int
}

// maxScanDepth bounds nesting; deeper values are left to encoding/json.
const maxScanDepth = 32

func (s *scanner) blanks() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// next consumes c and preceding blanks.
func (s *scanner) next(c byte) bool {
	s.blanks()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// end reports whether only blanks are left.
func (s *scanner) end() bool {
	s.blanks()
	return s.at == len(s.text)
}

// object reads an object and passes each member's key, as written between its
// quotes, to member, which reads the value.
func (s *scanner) object(member func(key []byte) bool) bool {
	if !s.next('{') {
		return false
	}
	if s.next('}') {
		return true
	}
	for {
		key, ok := s.plain()
		if !ok || !s.next(':') || !member(key) {
			return false
		}
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

// plain reads a string without escapes and returns the text between its quotes.
func (s *scanner) plain() ([]byte, bool) {
	if !s.next('"') {
		return nil, false
	}
	n := bytes.IndexByte(s.text[s.at:], '"')
	if n < 0 {
		return nil, false
	}
	text := s.text[s.at : s.at+n]
	if !unescaped(text) {
		return nil, false
	}
	s.at += n + 1
	return text, true
}

// unescaped reports whether text, up to the first quote in a frame, has neither
// escapes nor characters that need them. It checks eight bytes at a time, since
// bodies are long.
func unescaped(text []byte) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for len(text) >= 8 {
		w := binary.LittleEndian.Uint64(text)
		control := (w - ones*' ') &^ w // top bit of the lowest byte that is < ' '
		slash := w ^ ones*'\\'
		slash = (slash - ones) &^ slash // the same of the lowest that is a backslash
		if (control|slash)&tops != 0 {
			return false
		}
		text = text[8:]
	}
	for _, c := range text {
		if c == '\\' || c < ' ' {
			return false
		}
	}
	return true
}

// number reads a whole number of at most 18 digits, except -0.
func (s *scanner) number() (n int64, ok bool) {
	s.blanks()
	from := s.at
	if s.at < len(s.text) && s.text[s.at] == '-' {
		s.at++
	}
	digits := s.at
	for s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		n = n*10 + int64(s.text[s.at]-'0')
		if s.at++; s.at-digits > 18 {
			return 0, false
		}
	}
	switch {
	case s.at == digits, s.text[digits] == '0' && s.at-digits > 1:
		return 0, false
	case s.at < len(s.text) && (s.text[s.at] == '.' || s.text[s.at]|0x20 == 'e'):
		return 0, false
	case digits > from:
		return -n, n > 0
	}
	return n, true
}

// value reads any value in plain form, and returns its text.
func (s *scanner) value(depth int) ([]byte, bool) {
	s.blanks()
	from := s.at
	if s.at == len(s.text) || depth > maxScanDepth {
		return nil, false
	}
	ok := false
	switch c := s.text[s.at]; c {
	case '"':
		_, ok = s.plain()
	case '{':
		ok = s.object(func([]byte) bool {
			_, ok := s.value(depth + 1)
			return ok
		})
	case '[':
		ok = s.array(depth)
	case 't':
		ok = s.word("true")
	case 'f':
		ok = s.word("false")
	case 'n':
		ok = s.word("null")
	default:
		_, ok = s.number()
	}
	return s.text[from:s.at], ok
}

func (s *scanner) array(depth int) bool {
	s.at++
	if s.next(']') {
		return true
	}
	for {
		if _, ok := s.value(depth + 1); !ok {
			return false
		}
		if s.next(']') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

func (s *scanner) word(word string) bool {
	ok := len(s.text)-s.at >= len(word) && string(s.text[s.at:s.at+len(word)]) == word
	s.at += len(word)
	return ok
}

// scanMessage reads an envelope in its plain form. Its Payload shares memory
// with frame.
func scanMessage(frame []byte) (m Message, ok bool) {
	s := scanner{text: frame}
	var had [6]bool
	first := func(field int) bool {
		again := had[field]
		had[field] = true
		return !again
	}
	text := func(field int, to *string) bool {
		b, ok := s.plain()
		*to = string(b)
		return ok && first(field)
	}
	ok = s.object(func(key []byte) (ok bool) {
		switch string(key) {
		case "type":
			var b []byte
			if b, ok = s.plain(); ok {
				m.Type = typeOf(b)
			}
			return ok && first(0)
		case "user_id":
			return text(1, &m.UserID)
		case "token":
			return text(2, &m.Token)
		case "payload":
			m.Payload, ok = s.value(0)
			return ok && first(3)
		case "request_id":
			return text(4, &m.RequestID)
		case "seq":
			var n int64
			n, ok = s.number()
			m.Seq = uint64(n)
			return ok && n >= 0 && first(5)
		}
		return false
	})
	return m, ok && s.end()
}

// typeOf returns a type without allocating a string if it is known.
func typeOf(name []byte) Type {
	if t, ok := names[string(name)]; ok {
		return t
	}
	return Type(name)
}

// names maps names to types.
var names = func() map[string]Type {
	all := make(map[string]Type, len(payloads))
	for t := range payloads {
		all[string(t)] = t
	}
	return all
}()

// scanTSSMessage reads a round message in its plain form.
func scanTSSMessage(raw []byte, p *TSSMessage) bool {
	s := scanner{text: raw}
	var had [6]bool
	first := func(field int) bool {
		again := had[field]
		had[field] = true
		return !again
	}
	text := func(field int, to *string) bool {
		b, ok := s.plain()
		*to = string(b)
		return ok && first(field)
	}
	number := func(field int, to *int) bool {
		n, ok := s.number()
		*to = int(n)
		return ok && int64(*to) == n && first(field)
	}
	ok := s.object(func(key []byte) bool {
		switch string(key) {
		case "session_id":
			return text(0, &p.SessionID)
		case "attempt":
			return number(1, &p.Attempt)
		case "from":
			return number(2, &p.From)
		case "to":
			return number(3, &p.To)
		case "body":
			return text(4, &p.Body)
		case "sig":
			return text(5, &p.Sig)
		}
		return false
	})
	return ok && s.end()
}

// Encoded is a payload that has been encoded, once for all its recipients.
type Encoded struct {
	kind Type
	raw  []byte
}

// EncodePayload encodes p.
func EncodePayload(p Payload) (Encoded, error) {
	if t, ok := p.(*TSSMessage); ok {
		return Encoded{TypeTSSMessage, appendTSSMessage(make([]byte, 0, tssMessageSize(t)), t)}, nil
	}
	m, err := New("", p)
	return Encoded{p.Type(), m.Payload}, err
}

// Frame returns the frame that brings the payload to user: what [New] and
// [Message.Encode] would make of it. An empty request id is left out.
func (e Encoded) Frame(user, requestID string) []byte {
	b := openFrame(e.kind, user, requestID, len(e.raw))
	return closeFrame(append(b, e.raw...), requestID)
}

// Frame returns p as a frame to user, in answer to requestID if that is not empty.
func Frame(user string, p Payload, requestID string) ([]byte, error) {
	if t, ok := p.(*TSSMessage); ok {
		return closeFrame(appendTSSMessage(openFrame(TypeTSSMessage, user, requestID, tssMessageSize(t)), t), requestID), nil
	}
	e, err := EncodePayload(p)
	if err != nil {
		return nil, err
	}
	return e.Frame(user, requestID), nil
}

// FrameType returns the type of a frame that [Frame] or [Encoded.Frame] has made,
// without decoding it; empty for any other.
func FrameType(frame []byte) Type {
	rest, ok := bytes.CutPrefix(frame, []byte(`{"type":"`))
	end := bytes.IndexByte(rest[:min(len(rest), MaxTypeBytes+1)], '"')
	if !ok || end < 0 {
		return ""
	}
	return Type(rest[:end])
}

// openFrame starts a frame up to its payload, with room for a payload of size
// bytes.
func openFrame(kind Type, user, requestID string, size int) []byte {
	b := make([]byte, 0, size+len(kind)+len(user)+len(requestID)+64)
	b = append(b, `{"type":`...)
	b = appendText(b, string(kind))
	if user != "" {
		b = append(b, `,"user_id":`...)
		b = appendText(b, user)
	}
	return append(b, `,"payload":`...)
}

// closeFrame ends a frame after its payload.
func closeFrame(b []byte, requestID string) []byte {
	if requestID != "" {
		b = append(b, `,"request_id":`...)
		b = appendText(b, requestID)
	}
	return append(b, '}')
}

// tssMessageSize is enough room for p if nothing needs escaping.
func tssMessageSize(p *TSSMessage) int { return len(p.SessionID) + len(p.Body) + len(p.Sig) + 96 }

func appendTSSMessage(b []byte, p *TSSMessage) []byte {
	b = append(b, `{"session_id":`...)
	b = appendText(b, p.SessionID)
	b = append(b, `,"attempt":`...)
	b = strconv.AppendInt(b, int64(p.Attempt), 10)
	b = append(b, `,"from":`...)
	b = strconv.AppendInt(b, int64(p.From), 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendInt(b, int64(p.To), 10)
	b = append(b, `,"body":`...)
	b = appendText(b, p.Body)
	if p.Sig != "" {
		b = append(b, `,"sig":`...)
		b = appendText(b, p.Sig)
	}
	return append(b, '}')
}

// appendText appends s as a JSON string, as encoding/json writes it.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !asItIs[s[i]] {
			quoted, _ := json.Marshal(s) // cannot fail for a string
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// asItIs are the bytes that encoding/json never escapes.
var asItIs = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		switch c {
		case '"', '\\', '<', '>', '&':
		default:
			table[c] = true
		}
	}
	return table
}()
