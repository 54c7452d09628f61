package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const (
	idPattern   = `^[\p{L}\p{Nd}_.@-]+$` // same as wire.StoredID
	onceHeader  = "Idempotency-Key"
	onceMax     = 128
	aboutErrors = "Errors are problem documents (RFC 9457). Their code is the one of the WebSocket's error message, for programs to act on; a status of 500, " +
		"with the code internal, is a server error."
)

// The parameters.
var (
	keyIDParam        = pathParam("key_id")
	sessionIDParam    = pathParam("session_id")
	userParam         = pathParam("user")
	fingerprintParam  = queryParam("fingerprint", "fingerprint of an identity: the answer has the user's registered identity if it is that one", &huma.Schema{Type: huma.TypeString})
	startParam        = queryParam("start", "true starts the keygen or signing", &huma.Schema{Type: huma.TypeString, Enum: []any{"true", "false"}})
	waitParam         = queryParam("wait", fmt.Sprintf("how long to wait for the session to end, like 10s; at most %s. Requires start=true on requests that can start a session", maxWait), &huma.Schema{Type: huma.TypeString, Pattern: `^[0-9.]+(ms|s)$`, Examples: []any{"30s"}})
	waitEpochParam    = queryParam("wait", fmt.Sprintf("how long to wait for the session to end, like 10s; at most %s", maxWait), &huma.Schema{Type: huma.TypeString, Pattern: `^[0-9.]+(ms|s)$`, Examples: []any{"30s"}})
	cursorParam       = queryParam("cursor", "next of the previous page; send it with the same filters", &huma.Schema{Type: huma.TypeString})
	beforeParam       = deprecated(queryParam("before", "only items older than this time, RFC 3339; use cursor instead", &huma.Schema{Type: huma.TypeString}))
	keyStateParam     = queryParam("state", "only keys in one of these states", states(keyStates))
	sessionStateParam = queryParam("state", "only sessions in one of these phases", states(phases))
	kindParam         = queryParam("kind", "only sessions of this kind", &huma.Schema{Type: huma.TypeString, Enum: enum(kindNames()...)})
	ofKeyParam        = queryParam("key_id", "only sessions of this key", idSchema())
	reasonParam       = queryParam("reason", "reason, shown to the participants", &huma.Schema{Type: huma.TypeString, MaxLength: ptr(wire.MaxReasonBytes)})
	afterParam        = queryParam("after", "next of the previous page", &huma.Schema{Type: huma.TypeString})
	afterEpochParam   = queryParam("after", "only epochs with greater numbers: next of the previous page", &huma.Schema{Type: huma.TypeInteger, Minimum: ptr(0.0), Maximum: ptr(float64(1<<31 - 1))})
	onceParam         = headerParam(onceHeader, "A repeated request with the same value, through any node, returns the same task; a different request with it is a conflict. "+
		"Valid for 7 days. It is also the request_id of the request.", &huma.Schema{Type: huma.TypeString, Pattern: "^[!-~]+$", MinLength: ptr(1), MaxLength: ptr(onceMax)})
	lastEventParam = headerParam("Last-Event-ID", "id of the last event that the client read: the session is sent only if it has changed since; the answer is 204 if that event was the last", &huma.Schema{Type: huma.TypeString})
)

func ptr[T any](v T) *T { return &v }

func idSchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Pattern: idPattern, MinLength: ptr(1), MaxLength: ptr(wire.MaxIDBytes)}
}

func pathParam(name string) *huma.Param {
	return &huma.Param{Name: name, In: "path", Required: true, Schema: idSchema()}
}

func queryParam(name, about string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "query", Description: about, Schema: schema}
}

func headerParam(name, about string, schema *huma.Schema) *huma.Param {
	return &huma.Param{Name: name, In: "header", Description: about, Schema: schema}
}

func deprecated(p *huma.Param) *huma.Param {
	p.Deprecated = true
	return p
}

func limitParam(most, preset int) *huma.Param {
	return queryParam("limit", fmt.Sprintf("most items of a page, %d if not given", preset), &huma.Schema{
		Type: huma.TypeInteger, Minimum: ptr(1.0), Maximum: ptr(float64(most)), Default: preset,
	})
}

// states returns the schema of a list, separated by commas.
func states[T ~string](all []T) *huma.Schema {
	one := ""
	for i, s := range all {
		if i > 0 {
			one += "|"
		}
		one += string(s)
	}
	return &huma.Schema{Type: huma.TypeString, Pattern: "^(" + one + ")(,(" + one + "))*$"}
}

// openAPI writes the operations' document.
func openAPI(operations []operation, version string) []byte {
	registry := huma.NewMapRegistry("#/components/schemas/", schemaName)
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info:    &huma.Info{Title: "Conclave", Version: version, Description: "The web API of a cluster for threshold signing. " + aboutErrors},
		Components: &huma.Components{Schemas: registry, SecuritySchemes: map[string]*huma.SecurityScheme{
			"token": {Type: "http", Scheme: "bearer", BearerFormat: "JWT", Description: "a token from POST /v1/login, or from an issuer that the cluster trusts"},
		}},
		Paths: map[string]*huma.PathItem{},
	}
	schema := func(v any) *huma.Schema { return registry.Schema(reflect.TypeOf(v), true, "") }
	problem := schema(auth.Problem{})
	for _, op := range operations {
		o := &huma.Operation{
			Method: op.method, Path: op.path, OperationID: op.id, Summary: op.summary, Description: op.about, Parameters: op.params,
			Responses: map[string]*huma.Response{},
		}
		if op.body != nil {
			o.RequestBody = &huma.RequestBody{Required: true, Content: jsonContent("application/json", schema(op.body))}
		}
		fails := op.fails
		if !op.open {
			o.Security = []map[string][]string{{"token": {}}}
			fails = append([]int{noToken, tooMany, notNow}, fails...)
		}
		for _, status := range fails {
			o.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: jsonContent("application/problem+json", problem)}
		}
		if op.stream {
			schema(wire.SessionInfo{})
			o.Responses["204"] = &huma.Response{Description: "the session has ended, and by Last-Event-ID the client has read its outcome"}
			o.Responses[strconv.Itoa(op.ok)] = &huma.Response{Description: "a stream of events; the data of session and outcome is a SessionInfo, that of problem a Problem",
				Content: jsonContent("text/event-stream", &huma.Schema{Type: huma.TypeString})}
		} else {
			o.Responses[strconv.Itoa(op.ok)] = &huma.Response{Description: http.StatusText(op.ok), Content: jsonContent("application/json", schema(op.answer))}
		}
		doc.AddOperation(o)
	}
	doc.Webhooks = map[string]*huma.PathItem{"outcome": {Post: &huma.Operation{
		OperationID: "outcome", Summary: "A session has ended",
		Description: "Sent to the URL of --webhook, if set, according to Standard Webhooks: webhook-id is the same for every try, and webhook-signature covers id, timestamp and body. " +
			"It may arrive more than once, and again on demand (resend-outcome). 410 stops automatic retries. Any other answer outside 2xx is retried for a day, not before Retry-After, which is honoured up to an hour.",
		RequestBody: &huma.RequestBody{Required: true, Content: jsonContent("application/json", schema(wire.OutcomeEvent{}))},
		Responses:   map[string]*huma.Response{"2XX": {Description: "accepted"}, "410": {Description: "not wanted: do not retry"}},
	}}}
	for _, s := range registry.Map() {
		loosen(s)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err) // it consists of constants; every test of the package runs this
	}
	return text
}

// schemaName is huma's, except for a type whose name is unclear outside its package.
func schemaName(t reflect.Type, hint string) string {
	if t == reflect.TypeFor[audit.Page]() {
		return "AuditPage"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

func jsonContent(mediaType string, s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaType: {Schema: s}}
}

// loosen applies to all of Conclave's documents: unknown fields are ignored, so
// that fields can be added, and no list is null.
func loosen(s *huma.Schema) {
	if s.Properties != nil {
		s.AdditionalProperties = nil
	}
	for _, p := range s.Properties {
		p.Nullable = false
	}
}

// enum lists a parameter's values.
func enum(values ...string) []any {
	list := make([]any, len(values))
	for i, v := range values {
		list[i] = v
	}
	return list
}
