package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func codeOf(err error) wire.Code {
	var e *wire.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err == nil {
		return "none"
	}
	return "not a *wire.Error"
}

func TestDecodeRefuses(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name, frame string
		want        wire.Code
		says        string
	}{
		{"empty", ``, wire.CodeBadRequest, "malformed JSON"},
		{"not JSON", `hello`, wire.CodeBadRequest, "malformed JSON at byte 1"},
		{"cut short", `{"type":"ping"`, wire.CodeBadRequest, "malformed JSON"},
		{"two objects", `{"type":"ping"}{"type":"ping"}`, wire.CodeBadRequest, "malformed JSON"},
		{"list", `[]`, wire.CodeBadRequest, "a JSON array where an object is needed"},
		{"string", `"ping"`, wire.CodeBadRequest, "a JSON string where an object is needed"},
		{"null", `null`, wire.CodeBadRequest, "type is missing"},
		{"no type", `{"payload":{}}`, wire.CodeBadRequest, "type is missing"},
		{"type is a number", `{"type":7}`, wire.CodeBadRequest, "field type must be a string, got number"},
		{"type too long", `{"type":"` + long(65) + `"}`, wire.CodeBadRequest, "type is longer"},
		{"user_id is a list", `{"type":"ping","user_id":["a"]}`, wire.CodeBadRequest, "field user_id must be a string, got array"},
		{"user_id with a colon", `{"type":"ping","user_id":"a:b"}`, wire.CodeBadRequest, "user_id must be"},
		{"user_id with a lone surrogate", `{"type":"ping","user_id":"a\ud800"}`, wire.CodeBadRequest, "field user_id has half of a surrogate pair"},
		{"request_id too long", `{"type":"ping","request_id":"` + long(129) + `"}`, wire.CodeBadRequest, "request_id must be"},
		{"request_id with a newline", `{"type":"ping","request_id":"a\nb"}`, wire.CodeBadRequest, "request_id must be"},
		{"seq negative", `{"type":"ping","seq":-1}`, wire.CodeBadRequest, "field seq must be a whole number, got number"},
		{"token too long", `{"type":"ping","token":"` + long(wire.MaxTokenBytes+1) + `"}`, wire.CodeTooLarge, "token is longer"},
		{"not UTF-8", "{\"type\":\"ping\xff\"}", wire.CodeBadRequest, "not UTF-8"},
		{"nested beyond reason", `{"payload":` + strings.Repeat(`[`, 100_000) + strings.Repeat(`]`, 100_000) + `}`, wire.CodeBadRequest, "malformed JSON"},
		{"too large", `{"type":"ping","x":"` + long(wire.DefaultMaxMessageBytes) + `"}`, wire.CodeTooLarge, "the limit is"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.Decode([]byte(tt.frame), wire.DefaultMaxMessageBytes)
			if got := codeOf(err); got != tt.want {
				t.Fatalf("got %s (%v), want %s", got, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %q, want it to say %q", err, tt.says)
			}
		})
	}
}

func TestDecodeDoesNotShareMemory(t *testing.T) {
	frame := []byte(`{"type":"ping","user_id":"alice","token":"tok","payload":{"a":1},"request_id":"r"}`)
	m, err := wire.Decode(frame, 1024)
	if err != nil {
		t.Fatal(err)
	}
	clear(frame)
	if m.Type != "ping" || m.UserID != "alice" || m.Token != "tok" || string(m.Payload) != `{"a":1}` || m.RequestID != "r" {
		t.Errorf("got %+v", m)
	}
}

// TestErrorsDoNotQuote: an error goes back to its sender and into logs, and
// malformed input may be a secret in the wrong place.
func TestErrorsDoNotQuote(t *testing.T) {
	const secret = "8675309"
	for _, frame := range []string{
		`{"type":"ping","token":` + secret + `.5}`,
		`{"type":"ping","seq":` + secret + `.5}`,
		`{"type":"ping","seq":-` + secret + `}`,
		`{"type":"tss_message","payload":{"session_id":"s","attempt":` + secret + `.25}}`,
		`{"type":"keygen_complete","payload":{"share_json":` + secret + `}}`,
		`{"type":"keygen_complete","payload":{"share_json":{"` + secret + `":1}}}`,
		`{"type":"register","payload":"` + secret + `"}`,
		secret + secret + `x`,
	} {
		m, err := wire.Decode([]byte(frame), 1024)
		if err == nil {
			_, err = m.DecodePayload()
		}
		if err == nil {
			t.Errorf("%s: no error", frame)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes it: %v", frame, err)
		}
	}
}

func TestDecodePayloadRefuses(t *testing.T) {
	tests := []struct {
		name, typ, payload string
		want               wire.Code
	}{
		{"unknown type", "nonsense", `{}`, wire.CodeUnknownType},
		{"type with control characters", "a\nb", `{}`, wire.CodeUnknownType},
		{"no payload", "register", ``, wire.CodeBadRequest},
		{"null payload", "register", `null`, wire.CodeBadRequest},
		{"null payload with blanks", "register", ` null `, wire.CodeBadRequest},
		{"payload is a list", "register", `[]`, wire.CodeBadRequest},
		{"payload is a string", "register", `"{}"`, wire.CodeBadRequest},
		{"ping with a list", "ping", `[]`, wire.CodeBadRequest},
		{"threshold is a string", "keygen_request", `{"key_id":"k","threshold":"2"}`, wire.CodeBadRequest},
		{"threshold is not whole", "keygen_request", `{"key_id":"k","threshold":2.5}`, wire.CodeBadRequest},
		{"threshold is beyond int", "keygen_request", `{"key_id":"k","threshold":1e40}`, wire.CodeBadRequest},
		{"participants is a string", "keygen_request", `{"key_id":"k","participants":"alice"}`, wire.CodeBadRequest},
		{"response is a string", "sign_response", `{"key_id":"k","part_index":1,"response":"true"}`, wire.CodeBadRequest},
		{"deadline is not a time", "sign_invite", `{"key_id":"k","deadline":"tomorrow"}`, wire.CodeBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := wire.Message{Type: wire.Type(tt.typ), Payload: json.RawMessage(tt.payload)}.DecodePayload()
			if got := codeOf(err); got != tt.want {
				t.Fatalf("got %s (%v), want %s", got, err, tt.want)
			}
			if strings.ContainsAny(err.Error(), "\n\t") {
				t.Errorf("the message has control characters: %q", err)
			}
		})
	}
	for _, payload := range []string{``, `null`, `{}`, `{"unknown":1}`} {
		if _, err := (wire.Message{Type: "ping", Payload: json.RawMessage(payload)}).DecodePayload(); err != nil {
			t.Errorf("ping with payload %q: %v", payload, err)
		}
	}
}

func TestAppendSeq(t *testing.T) {
	for _, p := range goldens {
		frame, err := goldenMessage(t, p).Encode()
		if err != nil {
			t.Fatal(err)
		}
		before := string(frame)
		for _, seq := range []uint64{1, 42, 1<<64 - 1} {
			got := wire.AppendSeq([]byte("prefix"), frame, seq)
			m, err := wire.Decode(got[len("prefix"):], wire.DefaultMaxMessageBytes)
			if err != nil {
				t.Fatalf("%s: %v", got, err)
			}
			if m.Seq != seq || m.Type != p.Type() || m.RequestID != "r-1" {
				t.Errorf("got %s, want seq %d", got, seq)
			}
			m.Seq = 0
			if back, _ := m.Encode(); string(back) != before {
				t.Errorf("got %s without its seq, want %s", back, before)
			}
			if string(got[:6]) != "prefix" || string(frame) != before {
				t.Errorf("dst or frame was changed")
			}
		}
	}
}

func TestParts(t *testing.T) {
	for _, parts := range [][]int{{1}, {1, 3}, {2, 3, 16}, {128}} {
		s := wire.FormatParts(parts)
		got, err := wire.ParseParts(s)
		if err != nil || !slices.Equal(got, parts) {
			t.Errorf("ParseParts(%q) = %v, %v", s, got, err)
		}
	}
	if got := wire.FormatParts([]int{1, 2, 3}); got != "1,2,3" {
		t.Errorf("got %q", got)
	}
	many := make([]int, 300)
	for i := range many {
		many[i] = i + 1
	}
	for _, s := range []string{
		"", ",", "1,", ",1", "0", "-1", "+1", "01", "1, 3", "1 ,3", "3,1", "1,1", "a", "1.0", "257", "1,99999999999999999999",
		"１", wire.FormatParts(many), strings.Repeat(",", 1<<20),
	} {
		if got, err := wire.ParseParts(s); codeOf(err) != wire.CodeBadRequest {
			t.Errorf("ParseParts(%.20q) = %v, %v", s, got, err)
		}
	}
}

func TestErrorIs(t *testing.T) {
	err := fmt.Errorf("load key k: %w", wire.Errorf(wire.CodeNotFound, "no key %s", "k"))
	if !errors.Is(err, wire.ErrNotFound) || errors.Is(err, wire.ErrForbidden) {
		t.Errorf("errors.Is does not compare codes")
	}
	for code, want := range map[wire.Code]bool{
		wire.CodeUnavailable: true, wire.CodeRateLimited: true, wire.CodeMailboxFull: true, wire.CodeNotFound: false, wire.CodeInternal: false,
	} {
		if got := wire.Errorf(code, "x").Temporary; got != want {
			t.Errorf("%s is temporary: %v, want %v", code, got, want)
		}
	}
}

// FuzzDecode: no input panics, and accepted messages keep the limits and their
// meaning when encoded again.
func FuzzDecode(f *testing.F) {
	for _, p := range goldens {
		frame, err := goldenMessage(f, p).Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	for _, typ := range seedTypes {
		f.Add(seedExample(f, typ))
	}
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, frame []byte) {
		m, err := wire.Decode(frame, limit)
		if err != nil {
			if c := codeOf(err); c != wire.CodeBadRequest && c != wire.CodeTooLarge {
				t.Fatalf("Decode: %s: %v", c, err)
			}
			return
		}
		if len(frame) > limit || m.Type == "" || len(m.Type) > wire.MaxTypeBytes || len(m.Token) > wire.MaxTokenBytes ||
			len(m.RequestID) > wire.MaxIDBytes || m.UserID != "" && !wire.StoredID(m.UserID) {
			t.Fatalf("beyond the limits: %+v", m)
		}
		p, err := m.DecodePayload()
		if err != nil {
			switch c := codeOf(err); c {
			case wire.CodeBadRequest, wire.CodeTooLarge, wire.CodeUnknownType:
			default:
				t.Fatalf("DecodePayload: %s: %v", c, err)
			}
			return
		}
		if p.Type() != m.Type {
			t.Fatalf("payload %s in %s", p.Type(), m.Type)
		}
		once := reencode(t, m, p)
		m2, err := wire.Decode(once, 8*limit) // escapes may make it longer
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, once)
		}
		p2, err := m2.DecodePayload()
		if err != nil {
			t.Fatalf("decode payload that was encoded: %v\n%s", err, once)
		}
		if twice := reencode(t, m2, p2); string(twice) != string(once) {
			t.Fatalf("encoded once:\n%s\ntwice:\n%s", once, twice)
		}
	})
}

func reencode(t *testing.T, m wire.Message, p wire.Payload) []byte {
	back, err := wire.New(m.UserID, p)
	if err != nil {
		t.Fatal(err)
	}
	back.Token, back.RequestID, back.Seq = m.Token, m.RequestID, m.Seq
	frame, err := back.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{0, 1 << 10, 16 << 10} {
		p := &wire.TSSMessage{SessionID: "s-2", Attempt: 1, From: 1, To: 3, Body: strings.Repeat("A", size+4), Sig: strings.Repeat("B", 88)}
		m := goldenMessage(b, p)
		m.Token = strings.Repeat("t", 300)
		frame, err := m.Encode()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				m, err := wire.Decode(frame, wire.DefaultMaxMessageBytes)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := m.DecodePayload(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
