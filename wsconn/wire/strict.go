package wire

import (
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// encoding/json accepts ambiguous texts: bytes that are not UTF-8, and escapes that
// are half of a surrogate pair, become U+FFFD; of a repeated member the last
// counts; and a member Data is taken for data. A signature over the text would
// cover something else for another program, so such texts are refused.

// Unmarshal decodes text, one JSON value, into the value that into points to, as
// encoding/json does, but refuses text that two programs may read differently:
//
//   - bytes that are not UTF-8, and \u escapes that are half of a surrogate pair
//   - a member that an object has twice, in the same or in other case
//   - a member whose name is that of a known field but for the case
//
// It returns an *Error with CodeBadRequest that names the member.
func Unmarshal(text []byte, into any) error { return unmarshal(text, into, false) }

// unmarshalEnvelope is Unmarshal, but leaves the payload's content to
// [Message.DecodePayload], whose errors name the message type.
func unmarshalEnvelope(frame []byte, m *Message) error { return unmarshal(frame, m, true) }

// unmarshal is Unmarshal. With skipRaw the content of a json.RawMessage is not
// checked, unless text is not UTF-8.
func unmarshal(text []byte, into any, skipRaw bool) error {
	valid := utf8.Valid(text)
	if valid {
		if err := json.Unmarshal(text, into); err != nil {
			return Errorf(CodeBadRequest, "%s", typeFault(text, into, err))
		}
	} else if !json.Valid(text) {
		return Errorf(CodeBadRequest, "malformed JSON, and not UTF-8")
	}
	r := reading{text: text, skipRaw: skipRaw && valid}
	if !r.value(reflect.TypeOf(into)) {
		return Errorf(CodeBadRequest, "%s", r.fault())
	}
	return nil
}

// typeFault describes why text cannot be decoded into a type, without quoting it:
// it may hold a secret. It names the field of a value of the wrong type, which
// encoding/json omits for lists.
func typeFault(text []byte, into any, err error) string {
	var malformed *json.SyntaxError
	if !errors.As(err, &malformed) {
		r := reading{text: text, types: true}
		if !r.value(reflect.TypeOf(into)) && len(r.path) > 0 {
			return r.fault()
		}
	}
	return jsonFault(err)
}

// reading checks text that is valid JSON except for its encoding. Its methods
// report false at the first fault.
type reading struct {
	text    []byte
	at      int
	path    []step // of members and entries around at
	what    string // the fault
	skipRaw bool
	types   bool // checks only the types of values
}

// step is a member of an object, or, if it has no name, an entry of a list.
type step struct {
	name  string
	entry int
}

func (r *reading) fault() string {
	if len(r.path) == 0 {
		return r.what
	}
	var b strings.Builder
	for i, s := range r.path {
		switch {
		case s.name == "":
			b.WriteString("[" + strconv.Itoa(s.entry) + "]")
		case i > 0:
			b.WriteString("." + s.name)
		default:
			b.WriteString(s.name)
		}
	}
	return "field " + b.String() + " " + r.what
}

// fits reports whether the value at position at may be decoded into a t.
func (r *reading) fits(t reflect.Type) bool {
	if t == timeType || t != nil && t.Kind() == reflect.Pointer && t.Elem() == timeType {
		return r.isTime()
	}
	if t = pointedTo(t); t == nil || t.Kind() == reflect.Interface {
		return true
	}
	got := r.kind()
	if got == "null" { // it leaves a value unchanged
		return true
	}
	want := map[reflect.Kind]string{
		reflect.Struct: "object", reflect.Map: "object", reflect.Slice: "array", reflect.Array: "array", reflect.String: "string", reflect.Bool: "bool",
	}[t.Kind()]
	switch {
	case want == "" && got == "number":
		if json.Unmarshal(r.number(), reflect.New(t).Interface()) == nil {
			return true
		}
	case want == got:
		return true
	}
	return r.fail("must be " + jsonName(t.Kind().String()) + ", got " + got)
}

// kind returns the kind of the value at position at, in encoding/json's words.
func (r *reading) kind() string {
	switch r.next() {
	case 'n':
		return "null"
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "bool"
	}
	return "number"
}

// isTime reports whether the value at position at may be decoded into a time.
func (r *reading) isTime() bool {
	got := r.kind()
	if got == "null" {
		return true
	}
	if got == "string" {
		there := reading{text: r.text, at: r.at}
		raw, _ := there.str()
		if json.Unmarshal(raw, new(time.Time)) == nil {
			return true
		}
	}
	return r.fail("must be an RFC 3339 time, got " + got)
}

// number returns the text of the number at position at.
func (r *reading) number() []byte {
	end := r.at
	for end < len(r.text) && !strings.ContainsRune(",]} \t\r\n", rune(r.text[end])) {
		end++
	}
	return r.text[r.at:end]
}

func (r *reading) fail(what string) bool {
	r.what = what
	return false
}

// next returns the first byte of the next token and moves to it.
func (r *reading) next() byte {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// value reads a value that is decoded into a t, nil if unknown.
func (r *reading) value(t reflect.Type) bool {
	if r.types && !r.fits(t) {
		return false
	}
	switch r.next() {
	case '{':
		return r.object(t)
	case '[':
		r.at++
		r.path = append(r.path, step{})
		for ; r.next() != ']' && r.at < len(r.text); r.path[len(r.path)-1].entry++ {
			if !r.value(elementOf(t)) {
				return false
			}
		}
		r.path = r.path[:len(r.path)-1]
		r.at++
		return true
	case '"':
		_, ok := r.str()
		return ok
	}
	r.at += len(r.number())
	return true
}

func (r *reading) object(t reflect.Type) bool {
	fields := fieldsOf(t)
	seen := map[string]bool{}
	r.at++
	for r.next() == '"' {
		raw, ok := r.str()
		if !ok {
			r.what = "the name of a member " + r.what
			return false
		}
		var name string
		if json.Unmarshal(raw, &name) != nil {
			return r.fail("has a member without a name")
		}
		r.path = append(r.path, step{name: shownName(name)})
		folded := fold(name)
		field, known := fields[folded]
		switch {
		case r.types:
		case seen[folded]:
			return r.fail("is there twice")
		case known && field.name != name:
			return r.fail("must be written " + field.name)
		}
		seen[folded] = true
		if r.skipRaw && field.typ == rawMessage {
			r.skip()
		} else if !r.value(field.typ) {
			return false
		}
		r.path = r.path[:len(r.path)-1]
	}
	r.at++
	return true
}

// skip moves past a value without checking it.
func (r *reading) skip() {
	depth, inText := 0, false
	for r.next(); r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; {
		case inText && c == '\\':
			r.at++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return // of the object that the value is a member of
			}
			depth--
		case c == ',' && depth == 0:
			return
		}
	}
}

// shownName returns a member's name for an error message.
func shownName(name string) string {
	const most = 64
	if len(name) > most {
		name = name[:most]
	}
	if quoted := strconv.QuoteToASCII(name); quoted != `"`+name+`"` || strings.ContainsAny(name, " .") {
		return quoted
	}
	return name
}

// str reads a string and returns it as written, with its quotes.
func (r *reading) str() (raw []byte, ok bool) {
	from := r.at
	for r.at++; r.at < len(r.text); {
		switch c := r.text[r.at]; {
		case c == '"':
			r.at++
			return r.text[from:r.at], true
		case c == '\\' && r.at+1 < len(r.text) && r.text[r.at+1] == 'u':
			if !r.escape() {
				return nil, r.fail("has half of a surrogate pair, which is no Unicode text")
			}
		case c == '\\':
			r.at += 2
		case c < utf8.RuneSelf:
			r.at++
		default:
			char, size := utf8.DecodeRune(r.text[r.at:])
			if char == utf8.RuneError && size == 1 {
				return nil, r.fail("is not UTF-8")
			}
			r.at += size
		}
	}
	return nil, r.fail("does not end")
}

// escape reads a \u escape, or the two that are a surrogate pair.
func (r *reading) escape() bool {
	switch unit, ok := r.unit(); {
	case !ok || unit >= 0xdc00 && unit <= 0xdfff:
		return false
	case unit >= 0xd800 && unit <= 0xdbff:
		low, ok := r.unit()
		return ok && low >= 0xdc00 && low <= 0xdfff
	}
	return true
}

// unit reads the code unit of one \u escape.
func (r *reading) unit() (uint64, bool) {
	const size = len(`\u0000`)
	if len(r.text)-r.at < size || r.text[r.at] != '\\' || r.text[r.at+1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(r.text[r.at+2:r.at+size]), 16, 16)
	r.at += size
	return unit, err == nil
}

// fold returns the common form of all names that encoding/json treats as one.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}

// field is a member that a struct decodes.
type field struct {
	name string
	typ  reflect.Type
}

var knownFields sync.Map // of map[string]field, by folded names; by reflect.Type

// fieldsOf returns the fields of the struct that t is, or points to.
func fieldsOf(t reflect.Type) map[string]field {
	if t = pointedTo(t); t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	if known, ok := knownFields.Load(t); ok {
		return known.(map[string]field)
	}
	fields := map[string]field{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.PkgPath != "" || f.Anonymous && name == "" || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		fields[fold(name)] = field{name, f.Type}
	}
	knownFields.Store(t, fields)
	return fields
}

func elementOf(t reflect.Type) reflect.Type {
	if t = pointedTo(t); t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		return t.Elem()
	}
	return nil
}

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	rawMessage  = reflect.TypeFor[json.RawMessage]()
	timeType    = reflect.TypeFor[time.Time]()
)

// pointedTo returns the type that is decoded into a t by its fields, or nil for a
// type with its own JSON decoding.
func pointedTo(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Implements(unmarshaler) || reflect.PointerTo(t).Implements(unmarshaler) {
		return nil
	}
	return t
}
