package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var plainRound = &TSSMessage{SessionID: "sg-1", Attempt: 1, From: 1, To: 3, Body: strings.Repeat("A", 64), Sig: "c2ln"}

// Plain frames must be read by the scanner: a frame of an honest client that needs
// encoding/json would go unnoticed otherwise.
func TestPlainFormIsScanned(t *testing.T) {
	frames := []string{
		`{"type":"ack","user_id":"bob","token":"t","payload":{"seq":7},"request_id":"r-1","seq":5}`,
		`{ "type": "ping", "payload": {"a": [1, -2, true, false, null, "x", {}], "b": []} }`,
	}
	for _, frame := range frames {
		m, ok := scanMessage([]byte(frame))
		var want Message
		if err := json.Unmarshal([]byte(frame), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, m); !ok || diff != "" {
			t.Errorf("%s: scanned: %v (-want +got)\n%s", frame, ok, diff)
		}
	}
	var p TSSMessage
	if !scanTSSMessage(appendTSSMessage(nil, plainRound), &p) {
		t.Error("a round message in its plain form is not scanned")
	}
	if diff := cmp.Diff(*plainRound, p); diff != "" {
		t.Error(diff)
	}
}

// Unusual frames are left to encoding/json.
func TestUnusualFormIsNotScanned(t *testing.T) {
	for _, frame := range []string{
		``, `{`, `{}x`, `[]`, `null`, `{"type":"a"`, `{"type":"a",}`, `{"type" "a"}`, `{"type":"a""seq":1}`,
		`{"Type":"ping"}`, `{"type":"pi\u006eg"}`, `{"type":"ping","type":"pong"}`, `{"type":"ping","other":1}`, `{"type":7}`,
		`{"type":"ping","seq":-1}`, `{"type":"ping","seq":-0}`, `{"type":"ping","seq":01}`, `{"type":"ping","seq":1.5}`, `{"type":"ping","seq":1e2}`,
		`{"type":"ping","seq":18446744073709551615}`, `{"type":"ping","payload":{"x":1.5}}`, `{"type":"ping","payload":nul}`, `{"type":"ping","payload":[1,]}`,
		`{"type":"ping","payload":[1 2]}`, `{"type":"ping","payload":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "{\"type\":\"a\nb\"}",
	} {
		if _, ok := scanMessage([]byte(frame)); ok {
			t.Errorf("%s was scanned", frame)
		}
	}
	for _, raw := range []string{
		`{"From":1}`, `{"from":1,"from":2}`, `{"from":"1"}`, `{"body":"\u0041"}`, `{"body":null}`, `{"unknown":1}`, `{"from":1}{}`,
	} {
		if scanTSSMessage([]byte(raw), new(TSSMessage)) {
			t.Errorf("%s was scanned", raw)
		}
	}
}

// FuzzScan: encoding/json accepts all that the scanner accepts, with equal results.
func FuzzScan(f *testing.F) {
	f.Add([]byte(`{"type":"ack","user_id":"bob","token":"t","payload":{"seq":7},"request_id":"r","seq":5}`))
	f.Add(mustFrame(plainRound))
	f.Add(appendTSSMessage(nil, plainRound))
	f.Add([]byte(` { "session_id" : "s" , "attempt" : -12 , "from" : 1 , "to" : 0 , "body" : "é" } `))
	f.Fuzz(func(t *testing.T, text []byte) {
		if !utf8.Valid(text) {
			return // Decode has refused it
		}
		if got, ok := scanMessage(text); ok {
			var want Message
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatalf("encoding/json refuses what was scanned: %v", err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("envelope (-json +scan)\n%s", diff)
			}
		}
		var got, want TSSMessage
		if scanTSSMessage(text, &got) {
			if err := json.Unmarshal(text, &want); err != nil {
				t.Fatalf("encoding/json refuses what was scanned: %v", err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("round message (-json +scan)\n%s", diff)
			}
		}
	})
}

func mustFrame(p Payload) []byte {
	frame, err := Frame("bob", p, "r-1")
	if err != nil {
		panic(err)
	}
	return frame
}

// FuzzFrame: the hand-written encoding equals encoding/json's.
func FuzzFrame(f *testing.F) {
	f.Add("bob", "sg-1", 1, 1, 2, "QUFB", "c2ln", "r-1")
	f.Add("参与方1", "<s&>", -1, 0, 0, "a\"b\\\x00\u2028\x7f", "", "")
	f.Fuzz(func(t *testing.T, user, session string, attempt, from, to int, body, sig, requestID string) {
		for _, p := range []Payload{
			&TSSMessage{SessionID: session, Attempt: attempt, From: from, To: to, Body: body, Sig: sig},
			&Ack{KeyID: user, SessionID: session},
		} {
			m, err := New(user, p)
			if err != nil {
				t.Fatal(err)
			}
			m.RequestID = requestID
			want, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Frame(user, p, requestID)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("got %s (%v), want %s", got, err, want)
			}
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	p := &TSSMessage{SessionID: "sg-1", Attempt: 1, From: 1, To: 3, Body: strings.Repeat("A", 1<<10), Sig: strings.Repeat("B", 88)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Frame("bob", p, ""); err != nil {
			b.Fatal(err)
		}
	}
}

// Characters that need an escape are found at any position, and no others.
func TestUnescaped(t *testing.T) {
	for c := range 256 {
		for size := range 20 {
			for at := range size {
				text := bytes.Repeat([]byte("é")[:1], size)
				text[at] = byte(c)
				want := c != '\\' && c >= ' '
				if got := unescaped(text); got != want {
					t.Fatalf("byte %#x at %d of %d: got %t", c, at, size, got)
				}
			}
		}
	}
}
