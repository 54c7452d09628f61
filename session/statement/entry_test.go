package statement

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// entry returns a certificate of an entry that follows a lineage of g's committee, with
// the consents of those members.
func (g generation) entry(t testing.TB, l *Lineage, change Entry, consenting ...int) *Certificate {
	t.Helper()
	e := change
	e.KeyID, e.AccountAddr = l.Head().Key()
	if e.Number == 0 {
		e.Number = l.Head().Number() + 1
	}
	e.SessionID, e.Parent, e.Coordinator = "en-1", l.Head().Link(), "alice"
	c := &Certificate{Entry: &e}
	for _, part := range consenting {
		text, err := e.Consent(g.ids[part-1], g.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		c.Consents = append(c.Consents, PartConsent{part, text})
	}
	return c
}

func next(t testing.TB, l *Lineage, c *Certificate) *Lineage {
	t.Helper()
	again, err := ParseAnyCertificate(c.String())
	if err != nil {
		t.Fatal(err)
	}
	l, err = l.Next(again)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestEntries follows a key from its archive to its end.
func TestEntries(t *testing.T) {
	t.Parallel()
	g := firstGeneration(t)
	l := next(t, nil, g.Certificate)
	if l.Archived() || l.Destroyed() || !slices.Equal(l.Coordinators(), []string{"alice"}) || l.Current() != l.Head() {
		t.Errorf("a new key: archived %t, destroyed %t, coordinators %v", l.Archived(), l.Destroyed(), l.Coordinators())
	}
	l = next(t, l, g.entry(t, l, Entry{Type: Archive}, 1, 2))
	if !l.Archived() || l.Epoch().Number != 1 || l.Head().Number() != 2 {
		t.Error("the key is not archived")
	}
	l = next(t, l, g.entry(t, l, Entry{Type: AddCoordinator, User: "zoe"}, 2, 3))
	l = next(t, l, g.entry(t, l, Entry{Type: RemoveCoordinator, User: "alice", Number: 9}, 1, 3))
	l = next(t, l, g.entry(t, l, Entry{Type: Unarchive}, 1, 2, 3))
	if l.Archived() || !slices.Equal(l.Coordinators(), []string{"zoe"}) {
		t.Errorf("archived %t, coordinators %v", l.Archived(), l.Coordinators())
	}
	// An epoch after entries follows the last of them, with the committee's consent.
	e := g.after(t, 12, nil)
	link := l.Head().Link()
	e.Parent = &link
	g = g.certify(t, e, g.ids, 1, 2)
	if err := g.Verify(l.Head()); err == nil {
		t.Error("verified without the committee")
	}
	l = next(t, l, g.Certificate)
	if l.Epoch().Number != 12 || !slices.Equal(l.Coordinators(), []string{"zoe"}) {
		t.Errorf("epoch %d, coordinators %v", l.Epoch().Number, l.Coordinators())
	}
	end := g.entry(t, l, Entry{Type: Destroy}, 1, 2, 3)
	for _, part := range []int{1, 3} {
		text, err := end.Entry.Delete(g.ids[part-1], l.Epoch())
		if err != nil {
			t.Fatal(err)
		}
		end.Deletions = append(end.Deletions, PartDeletion{part, text})
	}
	ended := next(t, l, end)
	if !ended.Destroyed() || ended.Epoch().Number != 12 || len(ended.Certificates()) != 7 {
		t.Error("the key is not destroyed")
	}
	after := g.after(t, 20, nil)
	link = end.Link()
	after.Parent = &link
	for name, c := range map[string]*Certificate{"an epoch": g.certify(t, after, g.ids, 1, 2).Certificate, "an entry": g.entry(t, ended, Entry{Type: Archive}, 1, 2)} {
		if _, err := ended.Next(c); err == nil || !strings.Contains(err.Error(), "destroyed") {
			t.Errorf("%s follows the end: %v", name, err)
		}
	}
	if _, err := VerifyLineage(ended.Certificates()); err != nil {
		t.Error(err)
	}
}

func TestEntryIsRefused(t *testing.T) {
	t.Parallel()
	g, stranger := firstGeneration(t), firstGeneration(t)
	first := next(t, nil, g.Certificate)
	archived := next(t, first, g.entry(t, first, Entry{Type: Archive}, 1, 2))
	destroyed := func(change func(c *Certificate)) *Certificate {
		c := g.entry(t, first, Entry{Type: Destroy}, 1, 2, 3)
		text, err := c.Entry.Delete(g.ids[1], g.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		c.Deletions = []PartDeletion{{2, text}}
		change(c)
		return c
	}
	changed := func(change func(e *Entry)) *Certificate { // after it is signed
		c := g.entry(t, first, Entry{Type: AddCoordinator, User: "zoe"}, 1, 2)
		change(c.Entry)
		return c
	}
	both := g.entry(t, first, Entry{Type: Archive}, 1, 2)
	both.Epoch = g.Epoch
	attested := g.entry(t, first, Entry{Type: Archive}, 1, 2)
	attested.Attestations = g.Attestations
	foreign := g.entry(t, first, Entry{Type: Archive}, 1)
	text, err := foreign.Entry.Consent(stranger.ids[1], stranger.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	foreign.Consents = append(foreign.Consents, PartConsent{2, text})
	for name, tc := range map[string]struct {
		l    *Lineage
		c    *Certificate
		want string
	}{
		"too few consents":           {first, g.entry(t, first, Entry{Type: Archive}, 2), "1 members have consented"},
		"one consent twice":          {first, g.entry(t, first, Entry{Type: Archive}, 2, 2), "twice"},
		"a foreign consent":          {first, foreign, "signed by carol"},
		"destroyed by the threshold": {first, g.entry(t, first, Entry{Type: Destroy}, 1, 2), "3 are needed"},
		"archived twice":             {archived, g.entry(t, archived, Entry{Type: Archive}, 1, 2), "cannot be changed"},
		"unarchived without archive": {first, g.entry(t, first, Entry{Type: Unarchive}, 1, 2), "cannot be changed"},
		"a coordinator added twice":  {first, g.entry(t, first, Entry{Type: AddCoordinator, User: "alice"}, 1, 2), "already"},
		"a stranger removed":         {first, g.entry(t, first, Entry{Type: RemoveCoordinator, User: "zoe"}, 1, 2), "is not a coordinator"},
		"the last one removed":       {first, g.entry(t, first, Entry{Type: RemoveCoordinator, User: "alice"}, 1, 2), "only coordinator"},
		"after another":              {archived, g.entry(t, first, Entry{Type: Archive, Number: 3}, 1, 2), "it follows number 1"},
		"as the first":               {nil, g.entry(t, first, Entry{Type: Archive}, 1, 2), "the first certificate"},
		"another user":               {first, changed(func(e *Entry) { e.User = "eve" }), "signed by bob"},
		"another type":               {first, changed(func(e *Entry) { e.Type = RemoveCoordinator }), "signed by bob"},
		"another session":            {first, changed(func(e *Entry) { e.SessionID = "en-2" }), "signed by bob"},
		"another requester":          {first, changed(func(e *Entry) { e.Coordinator = "eve" }), "signed by bob"},
		"another number":             {first, changed(func(e *Entry) { e.Number++ }), "signed by bob"},
		"another key":                {first, changed(func(e *Entry) { e.KeyID = "key-2" }), "about the key"},
		"another address":            {first, changed(func(e *Entry) { e.AccountAddr += "x" }), "about the key"},
		"an unknown type":            {first, changed(func(e *Entry) { e.Type = "rename" }), "not known"},
		"no user":                    {first, changed(func(e *Entry) { e.User = "" }), "an id"},
		"a user too many":            {first, changed(func(e *Entry) { e.Type = Archive }), "names one"},
		"a lower number":             {first, changed(func(e *Entry) { e.Number = 1 }), "cannot follow"},
		"an epoch too":               {first, both, "either"},
		"attestations":               {first, attested, "attests"},
		"a deletion of another part": {first, destroyed(func(c *Certificate) { c.Deletions[0].Part = 1 }), "signed by bob"},
		"a deletion twice":           {first, destroyed(func(c *Certificate) { c.Deletions = append(c.Deletions, c.Deletions[0]) }), "twice"},
		"a consent for a deletion":   {first, destroyed(func(c *Certificate) { c.Deletions[0].Deletion = c.Consents[1].Consent }), "conclave-del1."},
	} {
		if _, err := tc.l.Next(tc.c); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, tc.want)
		}
	}
	if _, err := ParseCertificate(archived.Head().String()); err == nil {
		t.Error("the certificate of an entry passes for that of an epoch")
	}
	for name, do := range map[string]func() error{
		"a deletion of an archived key": func() error { _, err := archived.Head().Entry.Delete(g.ids[0], g.Epoch); return err },
		"a stranger's deletion": func() error {
			_, err := destroyed(func(*Certificate) {}).Entry.Delete(stranger.ids[0], g.Epoch)
			return err
		},
		"a stranger's consent": func() error { _, err := archived.Head().Entry.Consent(stranger.ids[0], g.Epoch); return err },
	} {
		if do() == nil {
			t.Errorf("%s is signed", name)
		}
	}
}

// TestEveryFieldOfEntryIsSigned changes each field of an entry.
func TestEveryFieldOfEntryIsSigned(t *testing.T) {
	t.Parallel()
	good := Entry{KeyID: "k", AccountAddr: "a", SessionID: "s", Number: 3, Parent: Parent{Number: 2}, Type: AddCoordinator, User: "u", Coordinator: "c"}
	for i := range reflect.TypeFor[Entry]().NumField() {
		e := good
		switch f := reflect.ValueOf(&e).Elem().Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "x")
		case reflect.Int:
			f.SetInt(f.Int() + 1)
		default:
			f.Set(reflect.ValueOf(Parent{Number: 2, Hash: Hash{1}}))
		}
		if e.Hash() == good.Hash() {
			t.Errorf("%s: another value has the same hash", reflect.TypeFor[Entry]().Field(i).Name)
		}
	}
}

// TestEntriesDecideNoEpoch: an entry of an epoch that lost against another does not
// bring it back, whatever its number.
func TestEntriesDecideNoEpoch(t *testing.T) {
	t.Parallel()
	g := firstGeneration(t)
	low, high := g.refreshed(t, 2, 1, 2), g.refreshed(t, 3, 2, 3)
	onLow, err := VerifyLineage([]*Certificate{g.Certificate, low.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	late := low.entry(t, onLow, Entry{Type: Archive, Number: 9}, 1, 2)
	l, err := Head([]*Certificate{g.Certificate, low.Certificate, late, high.Certificate})
	if err != nil || l.Head() != high.Certificate {
		t.Errorf("the head is number %d: %v", l.Head().Number(), err)
	}
	first := next(t, nil, g.Certificate)
	a, b := g.entry(t, first, Entry{Type: Archive, Number: 5}, 1, 2), g.entry(t, first, Entry{Type: AddCoordinator, User: "zoe", Number: 6}, 1, 2)
	if l, err = Head([]*Certificate{b, a, g.Certificate}); err != nil || l.Head() != b {
		t.Errorf("of two entries, the lower counts: %v", err)
	}
}
