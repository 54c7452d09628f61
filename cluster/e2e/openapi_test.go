package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract is the OpenAPI document that a node serves, and checks calls against it.
type contract struct {
	t        *testing.T
	doc      map[string]any
	compiler *jsonschema.Compiler
	seen     map[string]map[int]bool // by operation, "GET /v1/keys": which statuses
	refresh  string                  // a refresh token of alice's
}

// call is one call of an operation.
type call struct {
	op, token, body string
	path            map[string]string
	query           url.Values
	header          map[string]string
	bad             bool // the request deliberately violates the document
}

// contractOf reads a node's document. Its schemas allow additional fields, for later
// extensions; here undocumented fields are an error.
func contractOf(t *testing.T, n *process) *contract {
	t.Helper()
	resp, err := http.Get(n.base + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	doc, err := jsonschema.UnmarshalJSON(resp.Body)
	if err != nil {
		t.Fatalf("the document: %v", err)
	}
	s := &contract{t: t, doc: doc.(map[string]any), compiler: jsonschema.NewCompiler(), seen: map[string]map[int]bool{}}
	if v := s.doc["openapi"]; v != "3.1.0" {
		t.Fatalf("the document is of OpenAPI %v", v)
	}
	for name, schema := range s.at(s.doc, "components", "schemas") {
		if schema := schema.(map[string]any); schema["properties"] != nil && !strings.HasSuffix(name, "Request") {
			schema["additionalProperties"] = false
		}
	}
	s.compiler.DefaultDraft(jsonschema.Draft2020)
	s.compiler.AssertFormat()
	if err := s.compiler.AddResource("openapi.json", s.doc); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *contract) at(from map[string]any, names ...string) map[string]any {
	for _, name := range names {
		from, _ = from[name].(map[string]any)
	}
	return from
}

// operations lists the document's operations with the statuses of each.
func (s *contract) operations() map[string][]int {
	all := map[string][]int{}
	for path, item := range s.at(s.doc, "paths") {
		for method, op := range item.(map[string]any) {
			name := strings.ToUpper(method) + " " + path
			for status := range s.at(op.(map[string]any), "responses") {
				code, err := strconv.Atoi(status)
				if err != nil {
					s.t.Errorf("%s: response %q", name, status)
				}
				all[name] = append(all[name], code)
			}
		}
	}
	return all
}

// schema compiles the one at a place of the document.
func (s *contract) schema(place ...string) *jsonschema.Schema {
	s.t.Helper()
	pointer := ""
	for _, name := range place {
		pointer += "/" + strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
	}
	schema, err := s.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		s.t.Fatalf("schema at %s: %v", pointer, err)
	}
	return schema
}

func (s *contract) holds(what string, schema *jsonschema.Schema, text []byte) {
	s.t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err == nil {
		err = schema.Validate(v)
	}
	if err != nil {
		s.t.Errorf("%s is not as documented: %v\n%s", what, err, text)
	}
}

// do makes a call, and checks it and its answer against the document.
func (s *contract) do(n *process, c call) (int, []byte) {
	s.t.Helper()
	method, path, _ := strings.Cut(c.op, " ")
	place := []string{"paths", path, strings.ToLower(method)}
	op := s.at(s.doc, place...)
	if op == nil {
		s.t.Fatalf("%s is not documented", c.op)
	}
	if !c.bad {
		s.request(c, op, place)
	}
	for name, value := range c.path {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	target := n.base + path
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, target, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if c.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", c.op, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatalf("%s: %v", c.op, err)
	}
	s.response(c.op, op, place, resp, text)
	return resp.StatusCode, text
}

// request checks a request against the document.
func (s *contract) request(c call, op map[string]any, place []string) {
	s.t.Helper()
	named := map[string]bool{}
	params, _ := op["parameters"].([]any)
	for i, param := range params {
		p := param.(map[string]any)
		name := p["name"].(string)
		value, given := "", false
		switch p["in"] {
		case "path":
			value, given = c.path[name], true
		case "query":
			value, given = c.query.Get(name), c.query.Has(name)
		case "header":
			value, given = c.header[name]
		}
		named[name] = true
		if !given {
			continue
		}
		text, _ := json.Marshal(value)
		if s.at(p, "schema")["type"] == "integer" {
			text = []byte(value)
		}
		s.holds(c.op+": parameter "+name, s.schema(append(slices.Clone(place), "parameters", strconv.Itoa(i), "schema")...), text)
	}
	for _, name := range slices.Concat(slices.Collect(maps.Keys(c.path)), slices.Collect(maps.Keys(c.query)), slices.Collect(maps.Keys(c.header))) {
		if !named[name] {
			s.t.Errorf("%s: parameter %s is not documented", c.op, name)
		}
	}
	if (op["requestBody"] != nil) != (c.body != "") {
		s.t.Errorf("%s: body %.40q, documented is %v", c.op, c.body, op["requestBody"])
	}
	if c.body != "" {
		s.holds(c.op+": body", s.schema(append(slices.Clone(place), "requestBody", "content", "application/json", "schema")...), []byte(c.body))
	}
}

// response checks a response against it.
func (s *contract) response(name string, op map[string]any, place []string, resp *http.Response, text []byte) {
	s.t.Helper()
	status := strconv.Itoa(resp.StatusCode)
	response := s.at(op, "responses", status)
	if response == nil {
		s.t.Errorf("%s: status %s is not documented\n%s", name, status, text)
		return
	}
	if s.seen[name] == nil {
		s.seen[name] = map[int]bool{}
	}
	s.seen[name][resp.StatusCode] = true
	content := s.at(response, "content")
	if len(content) == 0 {
		if len(text) > 0 {
			s.t.Errorf("%s: %s has a body: %s", name, status, text)
		}
		return
	}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if content[kind] == nil {
		s.t.Errorf("%s: %s is %q, documented are %v", name, status, kind, slices.Collect(maps.Keys(content)))
		return
	}
	schema := s.schema(append(slices.Clone(place), "responses", status, "content", kind, "schema")...)
	switch {
	case kind == "text/event-stream":
		for _, e := range parseEvents(s.t, string(text)) {
			s.event(e)
		}
		return
	case resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "":
		s.t.Errorf("%s: 401 does not say how to authenticate", name)
	case resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "":
		s.t.Errorf("%s: 429 does not say when to come again", name)
	}
	s.holds(fmt.Sprintf("%s: answer %s", name, status), schema, text)
}

// event checks one event of a stream against the document.
func (s *contract) event(e sentEvent) {
	s.t.Helper()
	kind := map[string]string{"session": "SessionInfo", "outcome": "SessionInfo", "rounds": "Rounds", "problem": "Problem"}[e.name]
	if kind == "" {
		s.t.Errorf("event %q is not documented", e.name)
		return
	}
	s.holds("event "+e.name, s.schema("components", "schemas", kind), []byte(e.data))
}

// sentEvent is one server-sent event.
type sentEvent struct{ id, name, data string }

// parseEvents reads a stream that has ended.
func parseEvents(t *testing.T, text string) []sentEvent {
	t.Helper()
	var all []sentEvent
	for _, block := range strings.Split(text, "\n\n") {
		var e sentEvent
		for _, line := range strings.Split(block, "\n") {
			name, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data += value
			case "", "retry":
			default:
				t.Errorf("line %q in a stream of events", line)
			}
		}
		if e.name != "" {
			all = append(all, e)
		}
	}
	return all
}
