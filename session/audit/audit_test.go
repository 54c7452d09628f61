package audit_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/conclave-mpc/conclave/session/audit"
)

// full is a decision with every field set.
func full(i int) audit.Decision {
	d := audit.Decision{}
	v := reflect.ValueOf(&d).Elem()
	for f := range v.NumField() {
		if v.Field(f).Kind() == reflect.String {
			v.Field(f).SetString(fmt.Sprintf("%s %d", strings.ToLower(v.Type().Field(f).Name), i))
		}
	}
	return d
}

// chain returns n consecutive entries after a head.
func chain(after audit.Head, n int) []audit.Entry {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	var all []audit.Entry
	for i := range n {
		e := audit.New(full(i), "n1", at.Add(time.Duration(i)*time.Second))
		after = e.Follow(after)
		all = append(all, e)
	}
	return all
}

func fieldsOf(entries []audit.Entry) []audit.Fields {
	var all []audit.Fields
	for i := range entries {
		all = append(all, entries[i].Fields())
	}
	return all
}

// verify returns the place where a chain is broken, or the error of its end.
func verify(t *testing.T, anchor string, entries []audit.Fields) (place int, head audit.Head, err error) {
	t.Helper()
	v, err := audit.NewVerifier(anchor)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range entries {
		if err := v.Add(f); err != nil {
			var broken *audit.BreakError
			if !errors.As(err, &broken) {
				t.Fatalf("got error %T", err)
			}
			return broken.Place, audit.Head{}, err
		}
	}
	head, err = v.End()
	return 0, head, err
}

func TestWholeChain(t *testing.T) {
	t.Parallel()
	entries := chain(audit.Start, 5)
	last := entries[4]
	for _, anchor := range []string{"", entries[0].Hash, entries[2].Hash, last.Hash, audit.Genesis} {
		place, head, err := verify(t, anchor, fieldsOf(entries))
		if place != 0 || err != nil || head != (audit.Head{N: 5, Hash: last.Hash}) {
			t.Errorf("anchor %.6s: place %d, %+v, %v", anchor, place, head, err)
		}
	}
	// The rest of a chain whose beginning was archived.
	if place, head, err := verify(t, entries[2].Hash, fieldsOf(entries[3:])); place != 0 || err != nil || head.N != 5 {
		t.Errorf("from the anchor on: place %d, %+v, %v", place, head, err)
	}
	if place, _, err := verify(t, entries[4].Hash, fieldsOf(entries[3:])); place != 0 || err != nil {
		t.Errorf("up to the anchor: place %d, %v", place, err)
	}
	if _, err := audit.NewVerifier("abc"); err == nil {
		t.Error("abc is taken as an anchor")
	}
}

// TestEveryFieldIsHashed takes the fields from the types themselves, so that a new one
// cannot be forgotten in the hash, in storage, or in an entry made from a decision.
func TestEveryFieldIsHashed(t *testing.T) {
	t.Parallel()
	decision := full(7)
	e := audit.New(decision, "n1", time.Now())
	e.Follow(audit.Head{N: 6, Hash: strings.Repeat("a", 64)})
	kept, parsed := e.Fields(), reflect.ValueOf(e)
	for i := range parsed.NumField() {
		name := strings.ToLower(parsed.Type().Field(i).Name)
		if kept[name] == "" || kept[name] != fmt.Sprint(parsed.Field(i).Interface()) {
			t.Errorf("Entry.%s is kept as %q", parsed.Type().Field(i).Name, kept[name])
		}
	}
	if len(kept) != parsed.NumField() {
		t.Errorf("%d fields are kept, Entry has %d", len(kept), parsed.NumField())
	}
	d := reflect.ValueOf(decision)
	for i := range d.NumField() {
		if name := d.Type().Field(i).Name; name != "Time" && kept[strings.ToLower(name)] != d.Field(i).String() {
			t.Errorf("Decision.%s becomes %q", name, kept[strings.ToLower(name)])
		}
	}
	if again, err := audit.Parse(kept); err != nil || again != e {
		t.Errorf("parsed again: %v\n%s", err, cmp.Diff(e, again))
	}
}

// tampering is a change to entries 1 to 5; the third is the victim.
type tampering struct {
	name  string
	do    func(f []audit.Fields) []audit.Fields
	place int // where it is detected
}

func tamperings() []tampering {
	all := []tampering{
		{"the third removed", func(f []audit.Fields) []audit.Fields { return append(f[:2:2], f[3:]...) }, 3},
		{"the first removed", func(f []audit.Fields) []audit.Fields { return f[1:] }, 1},
		{"two removed", func(f []audit.Fields) []audit.Fields { return append(f[:1:1], f[3:]...) }, 2},
		{"the third and fourth exchanged", func(f []audit.Fields) []audit.Fields { f[2], f[3] = f[3], f[2]; return f }, 3},
		{"the third twice", func(f []audit.Fields) []audit.Fields { return append(f[:3:3], f[2:]...) }, 4},
		{"an older one again at the end", func(f []audit.Fields) []audit.Fields { return append(f, f[1]) }, 6},
		{"a stranger inserted", func(f []audit.Fields) []audit.Fields {
			return append(f[:2:2], append([]audit.Fields{{"hello": "world"}}, f[2:]...)...)
		}, 3},
		{"a well-made entry inserted", func(f []audit.Fields) []audit.Fields {
			e := audit.New(full(99), "n1", time.Now())
			e.Follow(audit.Head{N: 2, Hash: f[1]["hash"]})
			return append(f[:2:2], append([]audit.Fields{e.Fields()}, f[2:]...)...)
		}, 4},
		{"the third replaced by a well-made one", func(f []audit.Fields) []audit.Fields {
			e := audit.New(full(99), "n1", time.Now())
			e.Follow(audit.Head{N: 2, Hash: f[1]["hash"]})
			f[2] = e.Fields()
			return f
		}, 4},
		{"a field added to the third", func(f []audit.Fields) []audit.Fields { f[2]["by"] = "eve"; return f }, 3},
		{"an empty field added", func(f []audit.Fields) []audit.Fields { f[2]["detail"] = ""; return f }, 3},
		{"nothing instead of the third", func(f []audit.Fields) []audit.Fields { f[2] = nil; return f }, 3},
		{"an entry without a number", func(f []audit.Fields) []audit.Fields { f[2]["n"] = "03"; return f }, 3},
	}
	e := chain(audit.Start, 1)[0]
	for name := range e.Fields() {
		all = append(all, tampering{name + " of the third altered", func(f []audit.Fields) []audit.Fields {
			text := []byte(f[2][name])
			text[len(text)-1] ^= 1
			f[2][name] = string(text)
			return f
		}, 3}, tampering{name + " of the third removed", func(f []audit.Fields) []audit.Fields { delete(f[2], name); return f }, 3})
	}
	// The end of one field's text moved to the beginning of the next.
	for i, name := range []string{"who", "what", "outcome", "account"} {
		next := []string{"what", "outcome", "account", "session"}[i]
		all = append(all, tampering{name + " moved into " + next, func(f []audit.Fields) []audit.Fields {
			f[2][next] = f[2][name] + f[2][next]
			delete(f[2], name)
			return f
		}, 3})
	}
	return all
}

func TestTamperingIsFound(t *testing.T) {
	t.Parallel()
	for _, tc := range tamperings() {
		place, _, err := verify(t, "", tc.do(fieldsOf(chain(audit.Start, 5))))
		if place != tc.place {
			t.Errorf("%s: found at place %d (%v), want %d", tc.name, place, err, tc.place)
		}
	}
}

// TestOnlyAnAnchorShows has the changes that leave a valid chain: the end removed, and
// everything rewritten.
func TestOnlyAnAnchorShows(t *testing.T) {
	t.Parallel()
	entries := chain(audit.Start, 5)
	noted := entries[3].Hash
	forged := chain(audit.Start, 5)
	for i, head := 0, audit.Start; i < 5; i++ {
		forged[i].Who = "eve"
		head = forged[i].Follow(head)
	}
	replaced := append(entries[:4:4], forged[4])
	replaced[4].Follow(audit.Head{N: 4, Hash: entries[3].Hash})
	for _, tc := range []struct {
		name    string
		entries []audit.Entry
		anchor  string
	}{
		{"the end cut off", entries[:3], noted},
		{"all written anew", forged, noted},
		{"the head replaced", replaced, entries[4].Hash},
	} {
		if place, _, err := verify(t, "", fieldsOf(tc.entries)); place != 0 || err != nil {
			t.Errorf("%s: found without an anchor, at place %d: %v", tc.name, place, err)
		}
		if _, _, err := verify(t, tc.anchor, fieldsOf(tc.entries)); !errors.Is(err, audit.ErrAnchor) {
			t.Errorf("%s: got %v, want %v", tc.name, err, audit.ErrAnchor)
		}
	}
	if _, _, err := verify(t, noted, nil); !errors.Is(err, audit.ErrEmpty) {
		t.Errorf("nothing at all: got %v, want %v", err, audit.ErrEmpty)
	}
	if place, _, err := verify(t, "", fieldsOf(entries[3:])); place != 1 || !strings.Contains(err.Error(), "entry 3 as the anchor") {
		t.Errorf("the beginning missing: place %d, %v", place, err)
	}
	if place, _, _ := verify(t, entries[1].Hash, fieldsOf(entries[3:])); place != 0 {
		t.Errorf("an anchor before the beginning breaks at place %d, want the end", place)
	}
}

func TestTextsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é\x00\n\x1b[31m\u2028\xff", 1000)
	d := reflect.New(reflect.TypeFor[audit.Decision]()).Elem()
	for i := range d.NumField() {
		if d.Field(i).Kind() == reflect.String {
			d.Field(i).SetString(long)
		}
	}
	e := audit.New(d.Interface().(audit.Decision), "n1", time.Now())
	e.Follow(audit.Start)
	for name, text := range e.Fields() {
		limit := 160
		if name == "detail" {
			limit = 512
		}
		if len(text) > limit || strings.ContainsAny(text, "\x00\n\x1b\u2028") || text != strings.ToValidUTF8(text, "?") {
			t.Errorf("%s has %d bytes: %q", name, len(text), text)
		}
	}
	if place, _, err := verify(t, "", []audit.Fields{e.Fields()}); place != 0 || err != nil {
		t.Errorf("place %d, %v", place, err)
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	e := audit.New(audit.Decision{Who: "a<b>&", What: "login", Detail: `"quoted" \ é`}, "n1", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	e.Follow(audit.Start)
	line, err := e.Fields().Line()
	want := `{"n":"1","time":"2026-01-02T03:04:05.000000Z","node":"n1","who":"a<b>&","what":"login","detail":"\"quoted\" \\ é","prev":"` +
		audit.Genesis + `","hash":"` + e.Hash + "\"}\n"
	if err != nil || string(line) != want {
		t.Fatalf("got %s, %v, want %s", line, err, want)
	}
	// Computed by another program from the package comment.
	if e.Hash != "2ba092df3769902a8e5d13cd0b2b8275df1a0abf6e9ae5ecfeab3a47f372c742" {
		t.Errorf("the hash of a known entry is %s: those who verify old exports would find them broken", e.Hash)
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	if f, err := audit.ParseLine(line); err != nil || cmp.Diff(f, e.Fields()) != "" {
		t.Errorf("got %v, %v", f, err)
	}
	for _, bad := range []string{
		"", "null", "[]", "{", `{"n":1}`, " " + string(line), string(line) + " ", strings.Replace(string(line), `","who`, `", "who`, 1),
		strings.Replace(string(line), `{"n":"1",`, `{"n":"2","n":"1",`, 1), strings.Replace(string(line), "<", `\u003c`, 1),
	} {
		if f, err := audit.ParseLine([]byte(bad)); err == nil {
			t.Errorf("%s is taken for a line: %v", bad, f)
		}
	}
	twice := audit.NewFields([]string{"n", "1", "who", "alice", "who", "eve", "who", "eve"})
	if len(twice) != 4 || twice["who"] != "alice" {
		t.Errorf("what comes twice is passed over: %v", twice)
	}
}

// FuzzLine: every line accepted as an entry is written as the same bytes again, so that
// every byte of an exported file is verified.
func FuzzLine(f *testing.F) {
	for _, e := range chain(audit.Start, 2) {
		line, err := e.Fields().Line()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.TrimSuffix(line, []byte("\n")))
	}
	f.Add([]byte(`{"n":"1","who":"\ud800"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		fields, err := audit.ParseLine(line)
		if err != nil {
			return
		}
		again, err := fields.Line()
		if err != nil || !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), line) {
			t.Errorf("%q becomes %q, %v", line, again, err)
		}
		e, err := audit.Parse(fields)
		if err == nil && cmp.Diff(e.Fields(), fields) != "" {
			t.Errorf("%q becomes %v", line, e.Fields())
		}
	})
}

func BenchmarkFollow(b *testing.B) {
	e, head := chain(audit.Start, 1)[0], audit.Start
	b.ReportAllocs()
	for b.Loop() {
		head = e.Follow(head)
	}
}
