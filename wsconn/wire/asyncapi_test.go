package wire_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// object is a JSON object of the document; its keys are sorted when it is written.
type object = map[string]any

const (
	idPattern   = `^[\p{L}\p{Nd}_.@-]+$`
	linePattern = "^[^\\p{Cc}\uFFFD]*$"
	hexPattern  = `^(0x([0-9a-fA-F]{2})*)?$`
)

// forms adds to a field's schema what its Go type lacks, by the field's name, or by
// its message and name where needed. TestSchemasSayWhatDecodeSays checks them
// against Validate.
var forms = map[string]object{
	"key_id": idForm(), "session_id": idForm(), "user_id": idForm(), "coordinator": idForm(), "node": idForm(),
	"threshold":      {"minimum": 2, "maximum": wire.MaxParties},
	"total_parts":    {"minimum": 2, "maximum": wire.MaxParties},
	"part_index":     partForm(),
	"participants":   {"items": withType("string", idForm()), "maxItems": wire.MaxParties, "uniqueItems": true},
	"culprits":       {"items": withType("integer", placeForm()), "maxItems": wire.MaxPlaces},
	"places":         {"items": withType("integer", placeForm()), "maxItems": 2, "uniqueItems": true},
	"parties":        {"maxItems": wire.MaxParties},
	"expires_in":     {"minimum": 0, "maximum": wire.MaxExpiresInSeconds},
	"identity":       lineForm(wire.MaxIdentityBytes),
	"reason":         lineForm(wire.MaxReasonBytes),
	"data":           {"minLength": 1, "maxLength": wire.MaxDataBytes},
	"account_addr":   lineForm(wire.MaxAddressBytes),
	"public_key":     lineForm(wire.MaxPublicKeyBytes),
	"share_json":     {"maxLength": wire.MaxShareBytes},
	"output_file":    lineForm(2 * wire.MaxIDBytes),
	"signed_request": {"maxLength": wire.MaxSignedRequestBytes},
	"attestation":    lineForm(wire.MaxAttestationBytes),
	"attestations":   {"items": withType("string", lineForm(wire.MaxAttestationBytes)), "maxItems": wire.MaxParties},
	"curve":          lineForm(wire.MaxTypeBytes),
	"hash":           lineForm(wire.MaxTypeBytes),
	"digest":         lineForm(2*wire.MaxDataBytes + 2),
	"body":           {"minLength": 1, "maxLength": wire.MaxBodyBytes, "contentEncoding": "base64"},
	"sig":            {"maxLength": wire.MaxSigBytes, "contentEncoding": "base64"},
	"attempt":        {"minimum": 1},
	"epoch":          {"minimum": 1, "maximum": wire.MaxEpoch},
	"min_epoch":      {"minimum": 0, "maximum": wire.MaxEpoch},
	"highest":        {"minimum": 0, "maximum": wire.MaxEpoch},
	"statement":      {"minLength": 1, "maxLength": wire.MaxStatementBytes},
	"certificate":    {"maxLength": wire.MaxCertificateBytes},
	"origin":         {"enum": []any{"generated", "imported"}},
	"seq":            {"minimum": 0},
	"last_seq":       {"minimum": 0},
	"kind":           {"enum": []any{"keygen", "sign", "reshare"}},

	"sign_params.participants":     {"pattern": `^[1-9][0-9]{0,2}(,[1-9][0-9]{0,2})*$`},
	"sign_result.signature":        {"minLength": 1, "maxLength": wire.MaxSignatureBytes, "pattern": linePattern},
	"sign_complete.signature":      {"pattern": hexPattern},
	"sign_complete.data":           {}, // as requested
	"keygen_complete.account_addr": {"minLength": 1, "maxLength": wire.MaxAddressBytes, "pattern": linePattern},
	"keygen_complete.share_json":   {"minLength": 1, "maxLength": wire.MaxShareBytes},
	"keygen_params.attempt":        {}, "sign_params.attempt": {},
	"tss_message.from":             placeForm(),
	"tss_message.to":               {"minimum": 0, "maximum": wire.MaxPlaces},
	"party_failed.attempt":         {"minimum": 0},
	"party_failed.part_index":      placeForm(),
	"reshare_request.participants": {"maxItems": wire.MaxParties},
	"reshare_invite.certificate":   hashForm(), "reshare_params.certificate": hashForm(), "sign_params.certificate": hashForm(),
	"reshare_complete.account_addr":     {"minLength": 1, "maxLength": wire.MaxAddressBytes, "pattern": linePattern},
	"reshare_complete.share_json":       {"minLength": 1, "maxLength": wire.MaxShareBytes},
	"reshare_complete.attestation":      {"minLength": 1, "maxLength": wire.MaxAttestationBytes, "pattern": linePattern},
	"reshare_consent.attestations_hash": withoutEmpty(hashForm()),
	"reshare_consent.sig":               {"minLength": 1, "maxLength": wire.MaxAttestationBytes, "pattern": linePattern},
	"certificate_get.epoch":             {"minimum": 0, "maximum": wire.MaxEpoch},
	"committee.epoch":                   {"minimum": 0, "maximum": wire.MaxEpoch},
	"sign_invite.epoch":                 {"minimum": 0, "maximum": wire.MaxEpoch}, "sign_params.epoch": {"minimum": 0, "maximum": wire.MaxEpoch},
	"reshare_confirm.epoch": {"minimum": 0, "maximum": wire.MaxEpoch}, "reshare_confirm.reason": {},
	"sign_complete.reason": {}, "keygen_confirm.reason": {}, "session_ended.reason": {},
	"sign_complete.account_addr": {}, "sign_complete.public_key": {},
}

// optional are fields without omitempty that a client may leave out all the same.
var optional = []string{"tss_message.to", "resume.last_seq"}

func idForm() object {
	return object{"pattern": idPattern, "minLength": 1, "maxLength": wire.MaxIDBytes}
}
func hashForm() object  { return object{"pattern": "^(0x[0-9a-f]{64})?$"} }
func placeForm() object { return object{"minimum": 1, "maximum": wire.MaxPlaces} }
func withoutEmpty(form object) object {
	form["minLength"] = 1
	return form
}
func partForm() object         { return object{"minimum": 1, "maximum": wire.MaxParties} }
func lineForm(most int) object { return object{"pattern": linePattern, "maxLength": most} }
func ref(to string) object     { return object{"$ref": "#/" + to} }
func one(v ...any) []any       { return v }
func isBoth(t wire.Type) bool { // ways
	return slices.Contains([]wire.Type{wire.TypeAck, wire.TypeTSSMessage, wire.TypePing, wire.TypePong}, t)
}

func emptyOr(pattern string) string { return strings.Replace(pattern, "]+$", "]*$", 1) }

func withType(name string, form object) object {
	form["type"] = name
	return form
}

// comments returns the comments of messages.go: a type's by its name, a field's by
// type and field, those of a message's constant by its value.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "messages.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	text := func(groups ...*ast.CommentGroup) string {
		for _, g := range groups {
			if g != nil {
				return strings.Join(strings.Fields(g.Text()), " ")
			}
		}
		return ""
	}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				if value, ok := spec.Values[0].(*ast.BasicLit); ok && len(spec.Values) == 1 {
					said[strings.Trim(value.Value, `"`)] = text(spec.Comment)
				}
			case *ast.TypeSpec:
				said[spec.Name.Name] = text(gen.Doc)
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, f := range s.Fields.List {
						said[spec.Name.Name+"."+f.Names[0].Name] = text(f.Comment)
					}
				}
			}
		}
	}
	return said
}

// enums are the values of the string types with a closed set.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[wire.Role](): {wire.RoleCoordinator, wire.RoleParticipant, wire.RoleAdmin},
	reflect.TypeFor[wire.Status](): {
		wire.StatusSuccess, wire.StatusRejected, wire.StatusExpired, wire.StatusFailed, wire.StatusCancelled,
	},
}

// generator writes schemas from types.
type generator struct {
	said    map[string]string
	schemas object
}

// structure adds a struct's schema; message is the type that carries it.
func (g *generator) structure(name, message string, t reflect.Type) {
	properties, required := object{}, []any{}
	for i := range t.NumField() {
		f := t.Field(i)
		field, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := g.field(f.Type)
		form, ok := forms[message+"."+field]
		if !ok {
			form = forms[field]
		}
		for k, v := range form {
			if schema["type"] == "string" && k == "items" { // sign_params.participants is text
				continue
			}
			schema[k] = v
		}
		if schema["pattern"] == idPattern && options != "" { // empty equals absent
			schema["pattern"] = emptyOr(idPattern)
			delete(schema, "minLength")
		}
		if said := g.said[t.Name()+"."+f.Name]; said != "" {
			schema["description"] = said
		}
		properties[field] = schema
		if options == "" && !slices.Contains(optional, message+"."+field) {
			required = append(required, field)
		}
	}
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	g.schemas[name] = schema
}

func (g *generator) field(t reflect.Type) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case enums[t] != nil:
		return object{"type": "string", "enum": enums[t]}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.field(t.Elem())
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Int, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Slice:
		return object{"type": "array", "items": g.field(t.Elem())}
	case reflect.Struct:
		name := strings.ToLower(t.Name())
		if g.schemas[name] == nil {
			g.structure(name, name, t)
		}
		return ref("components/schemas/" + name)
	}
	panic("no schema for " + t.String())
}

// frame is the schema of a whole message.
func (g *generator) frame(t wire.Type) object {
	properties := object{
		"type":       object{"const": t},
		"user_id":    withType("string", idForm()),
		"payload":    ref("components/schemas/" + string(t)),
		"request_id": object{"type": "string", "pattern": linePattern, "maxLength": wire.MaxIDBytes, "description": g.said["Message.RequestID"]},
	}
	properties["user_id"].(object)["description"] = g.said["Message.UserID"]
	required := one("type")
	if t != wire.TypePing && t != wire.TypePong {
		required = append(required, "payload")
	}
	if t.FromClient() {
		properties["token"] = object{"type": "string", "maxLength": wire.MaxTokenBytes, "description": g.said["Message.Token"]}
		if !isBoth(t) {
			required = append(required, "token")
		}
	}
	if !t.FromClient() || isBoth(t) {
		properties["seq"] = object{"type": "integer", "minimum": 1, "description": g.said["Message.Seq"]}
	}
	return object{"type": "object", "properties": properties, "required": required}
}

// asyncAPI makes the document.
func asyncAPI(t *testing.T) []byte {
	t.Helper()
	g := &generator{said: comments(t), schemas: object{}}
	for name, text := range envelopeComments {
		g.said[name] = text
	}
	messages, onChannel, operations := object{}, object{}, object{}
	for _, p := range goldens {
		typ := p.Type()
		name := string(typ)
		payload := reflect.TypeOf(p).Elem()
		g.structure(name, name, payload)
		g.schemas[name].(object)["description"] = g.said[payload.Name()]
		golden, err := os.ReadFile(filepath.Join("testdata", "golden", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		messages[name] = object{
			"name": name, "title": name, "summary": g.said[payload.Name()], "contentType": "application/json",
			"correlationId": object{"location": "$message.payload#/request_id"},
			"payload":       g.frame(typ), "examples": one(object{"name": name, "payload": json.RawMessage(golden)}),
		}
		onChannel[name] = ref("components/messages/" + name)
		operation := func(action string) object {
			return object{"action": action, "channel": ref("channels/ws"), "messages": one(ref("channels/ws/messages/" + name)), "summary": g.said[name]}
		}
		if typ.FromClient() {
			in := operation("receive")
			if answers := answersTo(typ); answers != nil {
				in["reply"] = object{"channel": ref("channels/ws"), "messages": answers}
			}
			operations["receive_"+name] = in
		}
		if !typ.FromClient() || isBoth(typ) {
			operations["send_"+name] = operation("send")
		}
	}
	doc := object{
		"asyncapi":           "3.0.0",
		"info":               info,
		"defaultContentType": "application/json",
		"servers":            object{"node": object{"host": "conclave.example", "protocol": "wss", "description": "Any node, or the load balancer."}},
		"channels": object{"ws": object{
			"address": "/ws", "title": "The WebSocket", "messages": onChannel, "bindings": object{"ws": object{"method": "GET"}},
			"description": "JSON text frames. A client's first message is register; each of its messages carries its token.",
		}},
		"operations": operations,
		"components": object{"messages": messages, "schemas": g.schemas},
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var info = object{
	"title": "Conclave's WebSocket protocol", "version": "0.1.0", "license": object{"name": "MIT"},
	"description": "Operations are named from the server's side: it receives the messages of clients. Unknown fields are ignored, an unknown type is an error. " +
		"Lengths are in bytes of UTF-8; where a schema says maxLength it counts characters, which are never more.",
}

// envelopeComments are those of wire.Message, which is in another file.
var envelopeComments = map[string]string{
	"Message.UserID":    "sender to the server, recipient from it",
	"Message.Token":     "JWT, compact form",
	"Message.RequestID": "chosen by the client, echoed by the server in the answer",
	"Message.Seq":       "place in the recipient's mailbox, from 1; absent from direct replies",
}

// answersTo are the messages that answer one of that type with a request_id.
func answersTo(t wire.Type) []any {
	to := func(types ...wire.Type) (refs []any) {
		for _, t := range types {
			refs = append(refs, ref("channels/ws/messages/"+string(t)))
		}
		return refs
	}
	switch t {
	case wire.TypeRegister:
		return to(wire.TypeRegisterConfirm, wire.TypeError)
	case wire.TypeKeygenRequest:
		return to(wire.TypeAck, wire.TypeKeygenConfirm, wire.TypeError)
	case wire.TypeSignRequest:
		return to(wire.TypeAck, wire.TypeSignComplete, wire.TypeError)
	case wire.TypeReshareRequest:
		return to(wire.TypeAck, wire.TypeReshareConfirm, wire.TypeError)
	case wire.TypeCertificateGet:
		return to(wire.TypeAck, wire.TypeEpochCertified, wire.TypeError)
	case wire.TypePing:
		return to(wire.TypePong)
	case wire.TypeAck, wire.TypePong:
		return nil
	}
	return to(wire.TypeAck, wire.TypeError)
}

// TestAsyncAPI fails when asyncapi.json differs from the types; -update writes it.
func TestAsyncAPI(t *testing.T) {
	want := asyncAPI(t)
	if *update {
		if err := os.WriteFile("asyncapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), wire.AsyncAPI()); diff != "" {
		t.Errorf("asyncapi.json is stale; run go test ./wsconn/wire -run TestAsyncAPI -update (-types +file):\n%.4000s", diff)
	}
}
