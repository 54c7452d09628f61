package wire_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// secretWord stands for a secret that a client put into the wrong field.
const secretWord = "hunter2-0xdeadbeef"

// wrongValue is a value of the wrong type for a field, and its position in it.
type wrongValue struct{ path, text string }

// wrongFor lists values that a t cannot be decoded from.
func wrongFor(t *testing.T, of reflect.Type) (wrong []wrongValue) {
	t.Helper()
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	word, number, truth, list, object := fmt.Sprintf("%q", secretWord), "12345", "true", `["`+secretWord+`"]`, `{"`+secretWord+`":1}`
	add := func(path string, values ...string) {
		for _, v := range values {
			wrong = append(wrong, wrongValue{path, v})
		}
	}
	if of == reflect.TypeFor[time.Time]() {
		add("", word, number, truth, list, object)
		return wrong
	}
	switch of.Kind() {
	case reflect.String:
		add("", number, truth, list, object)
	case reflect.Bool:
		add("", word, number, list, object)
	case reflect.Int, reflect.Int64, reflect.Uint64:
		add("", word, truth, list, object, "1.5", "1e999", "99999999999999999999999")
	case reflect.Slice:
		add("", word, number, truth, object)
		for _, w := range wrongFor(t, of.Elem()) {
			good := "{}"
			if of.Elem().Kind() != reflect.Struct {
				good = "null"
			}
			add("[1]"+w.path, "["+good+","+w.text+"]")
		}
	case reflect.Struct:
		add("", word, number, truth, list)
		for _, f := range reflect.VisibleFields(of) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			for _, w := range wrongFor(t, f.Type) {
				add("."+name+w.path, fmt.Sprintf(`{%q:%s}`, name, w.text))
			}
		}
	default:
		t.Fatalf("no wrong values are known for a %s", of)
	}
	return wrong
}

// TestWrongTypes puts a value of every wrong type into each field of every message,
// and into its elements: the error names the field, in a list which of it, and
// omits the value.
func TestWrongTypes(t *testing.T) {
	t.Parallel()
	tried := 0
	for _, kind := range wire.Types() {
		m := wire.Message{Type: kind, Payload: json.RawMessage(`{}`)}
		p := wire.NewPayload(kind)
		for _, w := range wrongFor(t, reflect.TypeOf(p)) {
			tried++
			m.Payload = json.RawMessage(w.text)
			_, err := m.DecodePayload()
			want := string(kind) + ": field " + strings.TrimPrefix(w.path, ".") + " must be "
			if w.path == "" {
				want = string(kind) + ": payload must be an object"
			}
			if codeOf(err) != wire.CodeBadRequest || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("%s %s: got %v, want %q", kind, w.text, err, want)
				continue
			}
			for _, value := range []string{secretWord, "hunter2", "12345", "99999", "1e999"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("%s %s: the error holds the value: %v", kind, w.text, err)
				}
			}
		}
	}
	if tried < 500 {
		t.Errorf("tried only %d values", tried)
	}
	for _, field := range []string{"type", "user_id", "token", "request_id", "seq"} {
		for _, value := range []string{`{"` + secretWord + `":1}`, `["` + secretWord + `"]`, "true"} {
			_, err := wire.Decode(fmt.Appendf(nil, `{"payload":{},%q:%s}`, field, value), wire.DefaultMaxMessageBytes)
			if codeOf(err) != wire.CodeBadRequest || !strings.Contains(err.Error(), "field "+field+" must be ") || strings.Contains(err.Error(), secretWord) {
				t.Errorf("envelope with %s %s: %v", field, value, err)
			}
		}
	}
}
