package wire_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// twoReadings are payloads of a sign_request that two programs may read as two
// requests, with the text that the error must contain.
var twoReadings = map[string][2]string{
	"half of a pair":            {`{"key_id":"k","data":"pay \ud83d bob"}`, "field data has half of a surrogate pair"},
	"the halves the wrong way":  {`{"key_id":"k","data":"pay \udd25\ud83d bob"}`, "field data has half of a surrogate pair"},
	"a half at the end":         {`{"key_id":"k","data":"\ud83d"}`, "field data has half"},
	"a half before an escape":   {`{"key_id":"k","data":"\ud83d\n"}`, "field data has half"},
	"a half before a letter":    {`{"key_id":"k","data":"\ud83du"}`, "field data has half"},
	"a half in a list":          {`{"key_id":"k","data":"x","participants":["bob","\udfff"]}`, "field participants[1] has half"},
	"a half in an unknown one":  {`{"key_id":"k","data":"x","note":{"a":["\ud800"]}}`, "field note.a[0] has half"},
	"a half in a name":          {`{"key_id":"k","data":"x","\ud800":1}`, "the name of a member has half"},
	"bytes that are not UTF-8":  {"{\"key_id\":\"k\",\"data\":\"pay \xff\xfe bob\"}", "data is not UTF-8"},
	"a surrogate in UTF-8":      {"{\"key_id\":\"k\",\"data\":\"\xed\xa0\x80\"}", "data is not UTF-8"},
	"a name that is not UTF-8":  {"{\"key_id\":\"k\",\"data\":\"x\",\"a\xff\":1}", "the name of a member is not UTF-8"},
	"a member twice":            {`{"key_id":"k","data":"pay bob","data":"pay eve"}`, "field data is there twice"},
	"twice, once with escapes":  {`{"key_id":"k","data":"pay bob","\u0064ata":"pay eve"}`, "field data is there twice"},
	"twice in other case":       {`{"key_id":"k","data":"pay bob","DATA":"pay eve"}`, "field DATA is there twice"},
	"other case alone":          {`{"key_id":"k","Data":"pay eve"}`, "field Data must be written data"},
	"another letter of one":     {`{"\u212aey_id":"k","data":"x"}`, `field "\u212aey_id" must be written key_id`},
	"a long s":                  {`{"key_id":"k","data":"x","ha\u017fh":"none"}`, `field "ha\u017fh" must be written hash`},
	"twice, of nobody's":        {`{"key_id":"k","data":"x","note":{"a":1,"a":2}}`, "field note.a is there twice"},
	"a byte order mark":         {"\ufeff{\"key_id\":\"k\",\"data\":\"x\"}", "malformed JSON"},
	"something behind it":       {`{"key_id":"k","data":"x"} {}`, "malformed JSON"},
	"a number beyond all":       {`{"key_id":"k","data":"x","expires_in":1e999}`, "expires_in must be a whole number"},
	"a number of many digits":   {`{"key_id":"k","data":"x","expires_in":18446744073709551617}`, "expires_in must be a whole number"},
	"a number that is not JSON": {`{"key_id":"k","data":"x","expires_in":NaN}`, "malformed JSON"},
}

func TestTwoReadings(t *testing.T) {
	for name, tc := range twoReadings {
		frame := []byte(`{"type":"sign_request","token":"t","payload":` + tc[0] + `,"request_id":"r-1"}`)
		m, err := wire.Decode(frame, wire.DefaultMaxMessageBytes)
		if err == nil {
			if m.RequestID != "r-1" {
				t.Errorf("%s: the envelope is read as %+v", name, m)
			}
			_, err = m.DecodePayload()
		}
		// A fault of the frame's JSON names no field, or none of the payload.
		if codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), tc[1]) && !strings.Contains(tc[1], "malformed") {
			t.Errorf("%s: got %v, want bad_request, %q", name, err, tc[1])
		}
		var p wire.SignRequest
		if err := wire.Unmarshal([]byte(tc[0]), &p); codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), tc[1]) {
			t.Errorf("%s: Unmarshal: got %v, want bad_request, %q", name, err, tc[1])
		}
	}
	for name, frame := range map[string]string{
		"type twice":             `{"type":"ping","type":"pong"}`,
		"type in other case":     `{"Type":"ping"}`,
		"type twice, other case": `{"type":"ping","TYPE":"pong"}`,
		"payload twice":          `{"type":"ack","payload":{"seq":1},"payload":{"seq":2}}`,
		"token twice":            `{"type":"ping","token":"a","token":"b"}`,
		"user_id twice":          `{"type":"ping","user_id":"alice","User_id":"bob"}`,
		"half of a pair":         `{"type":"ping","request_id":"\ud83d"}`,
		"an unknown one twice":   `{"type":"ping","x":1,"x":2}`,
		"not UTF-8":              "{\"type\":\"ping\",\"request_id\":\"\xff\"}",
	} {
		if m, err := wire.Decode([]byte(frame), wire.DefaultMaxMessageBytes); codeOf(err) != wire.CodeBadRequest {
			t.Errorf("envelope with %s: %+v, %v; want bad_request", name, m, err)
		}
	}
}

func TestOneReading(t *testing.T) {
	for raw, want := range map[string]string{
		`{"key_id":"k","data":"\ud83d\udd25"}`:                                              "\U0001f525",
		`{"key_id":"k","data":"\uD83D\uDD25 \\ud83d \\\ud83d\udd25"}`:                       "\U0001f525 \\ud83d \\\U0001f525",
		`{"key_id":"k","data":"a\u0000b\ufffd"}`:                                            "a\x00b\ufffd",
		`{"key_id":"k","d\u0061ta":"x"}`:                                                    "x",
		` { "key_id" : "k" , "data" : "x" , "x" : [ 1 , [ ] , { } , -0.5e-3 , null ] } `:    "x",
		`{"key_id":"k","data":"x","Note":1,"note2":{"data":1},"list":[{"a":1},{"a":2}]}`:    "x",
		`{"key_id":"k","data":"x","other":{"Data":"y","nested":{"data":"z","Key_id":"q"}}}`: "x",
	} {
		var p wire.SignRequest
		if err := wire.Unmarshal([]byte(raw), &p); err != nil || p.Data != want {
			t.Errorf("%s: got %q, %v; want %q", raw, p.Data, err, want)
		}
	}
}

// TestNothingUnsaidIsSent: values that our program would encode as something else
// are refused before they are sent.
func TestNothingUnsaidIsSent(t *testing.T) {
	const bad = "pay \xff bob"
	no := true
	for name, p := range map[string]wire.Payload{
		"data":           &wire.SignRequest{KeyID: "k", Data: bad},
		"signed_request": &wire.SignRequest{KeyID: "k", Data: "x", SignedRequest: bad},
		"hash":           &wire.SignRequest{KeyID: "k", Data: "x", Hash: bad},
		"share_json":     &wire.KeygenComplete{KeyID: "k", PartIndex: 1, AccountAddr: "0x", ShareJSON: bad},
		"reason":         &wire.SignResponse{KeyID: "k", PartIndex: 1, Response: &no, Reason: bad},
		"body":           &wire.TSSMessage{SessionID: "s", Attempt: 1, From: 1, To: 2, Body: bad},
	} {
		if err := p.Validate(); codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v, want bad_request that names it", name, err)
		}
	}
}

// FuzzUnmarshal: the result equals encoding/json's, and text that is encoded again
// has the same result.
func FuzzUnmarshal(f *testing.F) {
	for _, tc := range twoReadings {
		f.Add([]byte(tc[0]))
	}
	f.Add([]byte(`{"key_id":"k","data":"\ud83d\udd25","participants":["bob"],"expires_in":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want wire.SignRequest
		err := wire.Unmarshal(text, &got)
		fault := json.Unmarshal(text, &want)
		if err != nil {
			var e *wire.Error
			if !errors.As(err, &e) || e.Code != wire.CodeBadRequest || !utf8.ValidString(e.Message) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if fault != nil || !utf8.Valid(text) {
			t.Fatalf("%q is read, encoding/json says %v", text, fault)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		if strings.Count(got.Data, "\ufffd") > strings.Count(string(text), "\ufffd")+strings.Count(strings.ToLower(string(text)), `\ufffd`) {
			t.Fatalf("%q has %q", text, got.Data)
		}
	})
}
