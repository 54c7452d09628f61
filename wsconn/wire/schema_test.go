package wire_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// schemas compiles the schema of each message in asyncapi.json.
func schemas(t *testing.T) map[wire.Type]*jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(wire.AsyncAPI()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	if err := c.AddResource("asyncapi.json", doc); err != nil {
		t.Fatal(err)
	}
	all := map[wire.Type]*jsonschema.Schema{}
	for _, typ := range wire.Types() {
		s, err := c.Compile("asyncapi.json#/components/messages/" + string(typ) + "/payload")
		if err != nil {
			t.Fatalf("schema of %s: %v", typ, err)
		}
		all[typ] = s
	}
	return all
}

func valid(t *testing.T, s *jsonschema.Schema, frame []byte) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(frame))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

// TestSchemasTakeSamples checks every golden message, and every client message of
// the seed document's examples, against its schema.
func TestSchemasTakeSamples(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	for _, typ := range wire.Types() {
		frame, err := os.ReadFile(filepath.Join("testdata", "golden", string(typ)+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(t, all[typ], frame); err != nil {
			t.Errorf("golden %s: %v", typ, err)
		}
	}
	for _, typ := range seedTypes {
		if err := valid(t, all[typ], seedExample(t, typ)); err != nil && typ.FromClient() {
			t.Errorf("the seed's %s: %v", typ, err)
		}
	}
}

// spoiled are replacement values for a field.
var spoiled = map[string]any{
	"missing": nil, "text": "x", "empty text": "", "a space": "a b", "a control character": "a\x07b", "Chinese": "参与方",
	"long": strings.Repeat("a", 130), "longer": strings.Repeat("a", 513), "very long": strings.Repeat("a", 750<<10),
	"zero": 0, "one": 1, "two": 2, "minus one": -1, "a hundred": 100, "a thousand": 1000, "a million": 1000000, "a half": 0.5, "true": true,
	"list": []any{}, "list of text": []any{"a", "b"}, "list twice the same": []any{"a", "a", "b"}, "list of numbers": []any{1, 2}, "list of zeros": []any{0},
	"object": object{}, "hex": "0xab",
}

// beyondSchemas are rules that JSON Schema cannot express, or that are not about
// form: a combination of fields, or the meaning of a text.
func beyondSchemas(message string) bool {
	for _, rule := range []string{
		"total_parts is ", "participants has ", "threshold must be", "does not send to itself", "user_id must be the",
		"places must be one or two", "participants must be in the order",
	} {
		if strings.Contains(message, rule) {
			return true
		}
	}
	return false
}

// TestSchemasSayWhatDecodeSays spoils each field of each client message, and has
// both the schema and Decode check it.
func TestSchemasSayWhatDecodeSays(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	judged := map[bool]int{}
	for _, p := range goldens {
		if !p.Type().FromClient() {
			continue
		}
		frame, err := goldenMessage(t, p).Encode()
		if err != nil {
			t.Fatal(err)
		}
		var payload object
		if err := json.Unmarshal(goldenMessage(t, p).Payload, &payload); err != nil {
			t.Fatal(err)
		}
		for field := range payload {
			for what, value := range spoiled {
				if what == "very long" && !slices.Contains([]string{"data", "share_json", "body", "sig", "signed_request", "identity", "attestation", "statement", "certificate"}, field) {
					continue // to save time
				}
				changed := maps.Clone(payload)
				if changed[field] = value; value == nil {
					delete(changed, field)
				}
				var envelope object
				if err := json.Unmarshal(frame, &envelope); err != nil {
					t.Fatal(err)
				}
				envelope["payload"] = changed
				raw, err := json.Marshal(envelope)
				if err != nil {
					t.Fatal(err)
				}
				bySchema, byDecode := valid(t, all[p.Type()], raw), decode(raw)
				judged[byDecode == nil]++
				if (bySchema == nil) != (byDecode == nil) && (byDecode == nil || !beyondSchemas(byDecode.Error())) {
					t.Errorf("%s.%s, %s: Decode says %v, the schema %v", p.Type(), field, what, byDecode, bySchema)
				}
			}
		}
	}
	if judged[true] < 100 || judged[false] < 500 {
		t.Errorf("judged %v", judged)
	}
}

func decode(frame []byte) error {
	m, err := wire.Decode(frame, 10*wire.DefaultMaxMessageBytes)
	if err == nil {
		_, err = m.DecodePayload()
	}
	return err
}

// TestSchemasRefuseEnvelopes spoils the envelope of a payload.
func TestSchemasRefuseEnvelopes(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	for _, tc := range []struct {
		field string
		value any
	}{
		{"type", "keygen_confirm"}, {"type", nil}, {"payload", nil}, {"payload", "text"}, {"token", nil}, {"token", strings.Repeat("t", 9<<10)},
		{"user_id", "a:b"}, {"request_id", "a\x00"}, {"request_id", strings.Repeat("r", 129)},
	} {
		frame, err := goldenMessage(t, goldens[slices.IndexFunc(goldens, func(p wire.Payload) bool { return p.Type() == wire.TypeSignRequest })]).Encode()
		if err != nil {
			t.Fatal(err)
		}
		var envelope object
		if err := json.Unmarshal(frame, &envelope); err != nil {
			t.Fatal(err)
		}
		if envelope[tc.field] = tc.value; tc.value == nil {
			delete(envelope, tc.field)
		}
		raw, err := json.Marshal(envelope)
		if err != nil {
			t.Fatal(err)
		}
		if valid(t, all[wire.TypeSignRequest], raw) == nil {
			t.Errorf("the schema takes %s = %.20v", tc.field, tc.value)
		}
	}
}

// TestAsyncAPIIsComplete checks for all that a reader of the document needs.
func TestAsyncAPIIsComplete(t *testing.T) {
	t.Parallel()
	var doc struct {
		Operations map[string]struct{ Action, Summary string }
		Components struct {
			Messages map[string]struct {
				Summary  string
				Examples []struct{ Payload json.RawMessage }
			}
			Schemas map[string]struct{ Properties map[string]object }
		}
	}
	if err := json.Unmarshal([]byte(wire.AsyncAPI()), &doc); err != nil {
		t.Fatal(err)
	}
	for _, typ := range wire.Types() {
		name := string(typ)
		m := doc.Components.Messages[name]
		if m.Summary == "" || len(m.Examples) != 1 {
			t.Errorf("%s: summary %q, %d examples", name, m.Summary, len(m.Examples))
		}
		received, sent := doc.Operations["receive_"+name].Action, doc.Operations["send_"+name].Action
		if (received == "receive") != typ.FromClient() || received == "" && sent != "send" {
			t.Errorf("%s: received %q, sent %q", name, received, sent)
		}
	}
	// A field without a form would allow any length.
	for name, s := range doc.Components.Schemas {
		for field, schema := range s.Properties {
			_, known := forms[field]
			_, own := forms[name+"."+field]
			if schema["type"] == "string" && schema["enum"] == nil && schema["format"] == nil && !known && !own {
				if field != "error" && field != "code" && field != "request_type" {
					t.Errorf("%s.%s has no form", name, field)
				}
			}
		}
	}
}
