package wire

import _ "embed"

//go:embed asyncapi.json
var asyncAPI string

// AsyncAPI returns the protocol as an AsyncAPI 3.0 document in JSON: every
// message with its direction, its fields and their form as JSON Schema (draft
// 7), and an example. A test writes it from this package's types.
func AsyncAPI() string { return asyncAPI }
