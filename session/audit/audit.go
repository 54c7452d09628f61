// Package audit defines the audit's entries, how they are chained, and how a chain is
// verified. It does no I/O and does not use Redis: callers make a [Decision]; package
// cluster/store/audit numbers, chains and stores it; an auditor later gives the stored
// entries to a [Verifier], which recomputes everything and trusts no one.
//
//	v := audit.NewVerifier("")
//	for each entry { if err := v.Add(fields); err != nil { … } }
//	head, err := v.End()
//
// # An entry
//
// An entry is a set of named texts ([Fields]), in Redis and in exported files; empty
// ones are left out:
//
//	n         its number; the first is 1
//	time      when it was decided, by Redis's clock, RFC 3339 with microseconds
//	node      which node wrote it; "cli" is the operator's conclaved user …
//	who       the user id that acted, as a verified token says (at a login: the account asked for, if there is one)
//	what      the message's type, or one of the other words below
//	outcome   what was decided
//	account   the user id that it is about, if another
//	session, key
//	code      of the error, where something was refused
//	digest    of the data to be signed, 0x hex; the data itself is never here
//	culprits  part indexes, 1,3
//	detail    for people
//	prev      the hash of the entry before it
//	hash      SHA-256 of all of the above
//
// The texts are bounded and have no control characters. They never contain a token, a
// password, a share, a round message or the data to be signed. Reasons are quoted from
// users.
//
// The hash covers the line "conclave audit entry 1", and then, in the order above, for
// each field that is not empty its name, its length in bytes and its text: "who 5
// alice
// ". No two entries have the same input, and a field added in a later version does not
// change the hash of entries without it.
//
// # What the chain proves, and what it does not
//
// Each entry has the hash of the one before it, so that verification finds any entry
// that was altered, removed, inserted or moved. The chain alone cannot show that its
// end is missing, or that an attacker who controls Redis rewrote all of it: such a
// chain is valid too. Against both, note a head (number and hash of the last entry)
// where the attacker cannot change it: every later chain must contain it
// ([NewVerifier]'s anchor). After the last noted head, entries are only as trustworthy
// as Redis and the nodes; note heads as often as that matters.
//
// Nor does it show that a node wrote the truth, or everything: a compromised node can
// write false entries, and can omit entries.
//
// The package starts no goroutines; its functions are safe for concurrent use, a
// Verifier is for one goroutine.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Values of Decision.What besides the types of messages, which requests over HTTP use
// too.
const (
	NodeStart   = "node_start"
	NodeStop    = "node_stop"
	Login       = "login"
	KeyReserve  = "key_reserve" // a key_id handed out by the web API
	Ended       = "outcome"     // of a session; its outcome is the final phase
	Gap         = "gap"         // decisions that could not be written, counted in detail
	Cut         = "cut"         // a node had seen later entries than now exist
	AuditRead   = "audit_read"
	Resend      = "webhook_resend" // of a session's outcome, on demand
	UserAdd     = "user_add"
	UserReplace = "user_replace" // password and roles of an account replaced

	UserPassword = "user_password" // of an account, changed; its tokens are revoked
	UserDisable  = "user_disable"  // likewise
	UserEnable   = "user_enable"   // likewise
	UserRoles    = "user_roles"    // likewise
	UserRemove   = "user_remove"   // likewise
	TokenRevoke  = "token_revoke"  // one token, or all of a user
	TokenRefresh = "token_refresh" // a login renewed by its refresh token
	Logout       = "logout"
	TokenCheck   = "token_check" // of a request over HTTP; recorded if refused, but not each time
)

// Values of Decision.Outcome besides a session's phases.
const (
	OK        = "ok"
	Accepted  = "accepted"
	Declined  = "declined"
	Stored    = "stored"
	Refused   = "refused"
	Throttled = "throttled"
	Reported  = "reported" // a party's claim about itself or others
	Lost      = "lost"
)

// Decision is a decision to be recorded. Empty fields do not apply.
type Decision struct {
	Time     time.Time // by Redis's clock, if known; the zero time: now
	Who      string
	What     string
	Outcome  string
	Account  string
	Session  string
	Key      string
	Code     string
	Digest   string
	Culprits string
	Detail   string
}

// Limits of an entry's texts, in bytes.
const (
	maxText   = 160 // ids have at most 128
	maxDetail = 512
)

// TimeFormat is the format of an entry's time; always in UTC.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// Genesis is the prev of the first entry.
const Genesis = "0000000000000000000000000000000000000000000000000000000000000000"

const domain = "conclave audit entry 1\n"

// Head is the end of a chain. The zero Head is invalid.
type Head struct {
	N    uint64
	Hash string // 64 digits of lower-case hex
}

// Start is the head of a chain without entries.
var Start = Head{Hash: Genesis}

// Entry is a decision with its place in the chain.
type Entry struct {
	N        uint64
	Time     string
	Node     string
	Who      string
	What     string
	Outcome  string
	Account  string
	Session  string
	Key      string
	Code     string
	Digest   string
	Culprits string
	Detail   string
	Prev     string
	Hash     string
}

// New returns the entry of a decision that node made at that time, with its texts
// bounded and cleaned. It has no position yet; see [Entry.Follow].
func New(d Decision, node string, at time.Time) Entry {
	e := Entry{
		Time: at.UTC().Format(TimeFormat), Node: node, Who: d.Who, What: d.What, Outcome: d.Outcome, Account: d.Account,
		Session: d.Session, Key: d.Key, Code: d.Code, Digest: d.Digest, Culprits: d.Culprits, Detail: d.Detail,
	}
	for _, f := range e.texts() {
		limit := maxText
		if f.text == &e.Detail {
			limit = maxDetail
		}
		*f.text = clean(*f.text, limit)
	}
	return e
}

// Follow puts e after h, and returns the new head.
func (e *Entry) Follow(h Head) Head {
	e.N, e.Prev = h.N+1, h.Hash
	e.Hash = e.sum()
	return Head{N: e.N, Hash: e.Hash}
}

// field is one text of an entry.
type field struct {
	name string
	text *string
}

// texts lists e's fields except n and hash, in the order of the package comment.
func (e *Entry) texts() []field {
	return []field{
		{"time", &e.Time}, {"node", &e.Node}, {"who", &e.Who}, {"what", &e.What}, {"outcome", &e.Outcome},
		{"account", &e.Account}, {"session", &e.Session}, {"key", &e.Key}, {"code", &e.Code}, {"digest", &e.Digest},
		{"culprits", &e.Culprits}, {"detail", &e.Detail}, {"prev", &e.Prev},
	}
}

// order has the names of all fields in the order of writing.
var order = func() []string {
	names := []string{"n"}
	for _, f := range new(Entry).texts() {
		names = append(names, f.name)
	}
	return append(names, "hash")
}()

// sum computes e's hash.
func (e *Entry) sum() string {
	b := make([]byte, 0, 1<<10)
	b = append(b, domain...)
	add := func(name, text string) {
		if text == "" {
			return
		}
		b = append(b, name...)
		b = append(b, ' ')
		b = strconv.AppendInt(b, int64(len(text)), 10)
		b = append(b, '\n')
		b = append(b, text...)
		b = append(b, '\n')
	}
	add("n", strconv.FormatUint(e.N, 10))
	for _, f := range e.texts() {
		add(f.name, *f.text)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Pairs returns e as alternating names and texts, for Redis.
func (e *Entry) Pairs() []string {
	pairs := append(make([]string, 0, 2*len(order)), "n", strconv.FormatUint(e.N, 10))
	for _, f := range e.texts() {
		if *f.text != "" {
			pairs = append(pairs, f.name, *f.text)
		}
	}
	return append(pairs, "hash", e.Hash)
}

// Fields returns e in the form for storage and export.
func (e *Entry) Fields() Fields { return NewFields(e.Pairs()) }

// Fields is an entry in the form for storage and export, not yet checked.
type Fields map[string]string

// NewFields makes Fields of alternating names and texts. A repeated name is stored
// under another, which no entry has, so that nothing is ignored.
func NewFields(pairs []string) Fields {
	f := make(Fields, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		name := pairs[i]
		for _, taken := f[name]; taken; _, taken = f[name] {
			name += " (again)"
		}
		f[name] = pairs[i+1]
	}
	return f
}

// Page is part of the audit, oldest first, as returned by the web API. Next is the
// ?after= of the following page; a page without items is the last.
type Page struct {
	Items []Fields `json:"items"`
	Next  string   `json:"next"`
}

// MarshalJSON writes the fields in the order of the package comment, and after them any
// unknown ones.
func (f Fields) MarshalJSON() ([]byte, error) {
	names := slices.DeleteFunc(slices.Clone(order), func(name string) bool { _, ok := f[name]; return !ok })
	for _, name := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(order, name) {
			names = append(names, name)
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, name := range names {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, text := range []string{name, f[name]} {
			if j == 1 {
				b.WriteByte(':')
			}
			if err := enc.Encode(text); err != nil {
				return nil, err
			}
			b.Truncate(b.Len() - 1) // the encoder's line break
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Line returns f as a line of an exported file, with its line break.
func (f Fields) Line() ([]byte, error) {
	line, err := f.MarshalJSON()
	return append(line, '\n'), err
}

// ParseLine reads a line of an exported file, without its line break. It accepts
// exactly the form of [Fields.Line], with no other spacing, order or spelling, so that
// every byte of a file is verified.
func ParseLine(line []byte) (Fields, error) {
	var f Fields
	if err := json.Unmarshal(line, &f); err != nil || f == nil {
		return nil, errors.New("it is not a JSON object of texts")
	}
	again, err := f.Line()
	if err != nil || !bytes.Equal(again[:len(again)-1], line) {
		return nil, errors.New("it is not written as an exported entry is")
	}
	return f, nil
}

// Parse reads an entry. Missing and additional fields are errors, and so is any other
// form than New's.
func Parse(f Fields) (Entry, error) {
	var e Entry
	for _, t := range e.texts() {
		*t.text = f[t.name]
	}
	e.Hash = f["hash"]
	var err error
	if e.N, err = strconv.ParseUint(f["n"], 10, 64); err != nil || e.N == 0 {
		return Entry{}, errors.New("it has no number")
	}
	for name := range f {
		if !slices.Contains(order, name) {
			return Entry{}, fmt.Errorf("it has the field %q, which no entry has", clean(name, maxText))
		}
	}
	if !maps.Equal(e.Fields(), f) {
		return Entry{}, errors.New("a field is not written as it would have been")
	}
	for _, t := range []string{e.Prev, e.Hash} {
		if !validHash(t) {
			return Entry{}, errors.New("prev or hash is not 64 digits of hex")
		}
	}
	return e, nil
}

// validHash reports whether s has the form of an entry's hash.
func validHash(s string) bool {
	return len(s) == len(Genesis) && strings.Trim(s, "0123456789abcdef") == ""
}

// clean bounds a text and replaces unprintable characters by spaces.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut := limit - len(ellipsis)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
