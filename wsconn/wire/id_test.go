package wire_test

import (
	"path"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// goodIDs may become names, formerIDs could before and may still be read, and
// badIDs never could.
var (
	goodIDs = []string{
		"a", "Z9", "alice@example.com", "key_1.a-b", "_", "@", "a.", "a-", "a..b", "参与方1", "用户ID", "ÅÄÖ", "٣", "ключ-1", "עדי",
		"サーバー1", "東京office", "かぎ東京カギ", "ㄅㄆ注音a", "서울key", "서울漢字", strings.Repeat("x", 128), "ß", "〆切",
	}
	formerIDs = []string{
		".", "..", "...", ".ssh", "-", "--", "-rf", "--help", // a path, a hidden file, a flag
		"alice\u3164", "\u1160", "\u115f", "al\uffa0ice", // invisible letters
		"\u0430lice", "alic\u0435", "\u03bfmega", "ключs", "\u13aa\u13aa", "\ua4ee\ua4f0", // Cyrillic, Greek, Cherokee, Lisu that look Latin
		"カタ\u0430", "漢字ключ", "서울かな", "ㄅかな", // scripts that no language writes together
		"ａｌｉｃｅ", "key１", "\ufb01n", "\u212b", "x\u2071", "𝒶𝓁𝒾𝒸ℯ", // compatibility forms of others
		"1\u0663", "\u0661\u06f1", "a\u0663", // digits of two systems, or of another script
		"a\u02b9", "a\u0640", // letters of no script, or of several
	}
	badIDs = []string{
		"", strings.Repeat("x", 129), strings.Repeat("x", 200), strings.Repeat("参", 43), "a b", "a:b", "{a}", "a{", "a}", "a*", "a?", "[a]", "a/b", `a\b`,
		"a\x00b", "a\nb", "a\tb", "\u007f", "\u0085", "a\u00a0b", "a\u200bb", "a\u202eb", "a\ufeff", "\ufffd", "a\xff", "😀", "a'b", `a"b`, "a,b", "a;b", "a|b", "a%b", "a$b", "a+b",
		"A\u030a", "a\ufe0f", "a\u034f", "\u17b4", "#a", "~a", "ⅷ", "½", "\U000e0061",
	}
)

func TestValidID(t *testing.T) {
	for _, s := range goodIDs {
		if !wire.ValidID(s) || !wire.StoredID(s) {
			t.Errorf("%q: ValidID is %v, StoredID is %v", s, wire.ValidID(s), wire.StoredID(s))
		}
	}
	for _, s := range formerIDs {
		if wire.ValidID(s) || !wire.StoredID(s) {
			t.Errorf("%q, from before: ValidID is %v, StoredID is %v", s, wire.ValidID(s), wire.StoredID(s))
		}
	}
	for _, s := range badIDs {
		if wire.ValidID(s) || wire.StoredID(s) {
			t.Errorf("%q: ValidID is %v, StoredID is %v", s, wire.ValidID(s), wire.StoredID(s))
		}
	}
}

// TestNewNames checks where something new would get a name that people could take
// for another, in a request and in the invitation that shows it.
func TestNewNames(t *testing.T) {
	for _, bad := range formerIDs {
		for name, p := range map[string]wire.Payload{
			"key_id of a request":          &wire.KeygenRequest{KeyID: bad, Threshold: 2, TotalParts: 2, Participants: []string{"bob", "carol"}},
			"participants of a request":    &wire.KeygenRequest{KeyID: "k", Threshold: 2, TotalParts: 2, Participants: []string{"bob", bad}},
			"key_id of an invitation":      &wire.KeygenInvite{KeyID: bad, Threshold: 2, TotalParts: 2, PartIndex: 1, Participants: []string{"bob", "carol"}},
			"participants of an invite":    &wire.KeygenInvite{KeyID: "k", Threshold: 2, TotalParts: 2, PartIndex: 1, Participants: []string{"bob", bad}},
			"session_id of a sign_request": &wire.SignRequest{KeyID: "k", Data: "pay bob", SessionID: bad},
		} {
			if err := p.Validate(); codeOf(err) != wire.CodeBadRequest {
				t.Errorf("%s %q: got %v, want bad_request", name, bad, err)
			}
		}
		// An existing key can still be used for signing, by its holders.
		if err := (&wire.SignRequest{KeyID: bad, Data: "pay bob", Participants: []string{bad}}).Validate(); err != nil {
			t.Errorf("signing with %q, a key from before: %v", bad, err)
		}
	}
}

func TestDescribeName(t *testing.T) {
	for name, want := range map[string]string{
		"alice":                    "alice",
		"a-b@c":                    "a-b@c",
		"алиса":                    "алиса (U+0430 Cyrillic, U+043B Cyrillic, U+0438 Cyrillic, U+0441 Cyrillic)",
		"用户ID":                     "用户ID (U+7528 Han, U+6237 Han)",
		"サー":                       "サー (U+30B5 Katakana, U+30FC Katakana)",
		"абвгдежзик":               "абвгдежзик (U+0430 Cyrillic, U+0431 Cyrillic, U+0432 Cyrillic, U+0433 Cyrillic, U+0434 Cyrillic, U+0435 Cyrillic, U+0436 Cyrillic, U+0437 Cyrillic, …)",
		"\u0430lice":               `"\u0430lice" (an unusual name: look closely)`,
		"alice\u3164":              `"alice\u3164" (an unusual name: look closely)`,
		"..":                       `".." (an unusual name: look closely)`,
		"a\x1b[2Jb\n\u202e":        `"a\x1b[2Jb\n\u202e" (an unusual name: look closely)`,
		strings.Repeat("a b", 100): `"` + strings.Repeat("a b", 42) + `a "… of 300 bytes (an unusual name: look closely)`,
	} {
		if got := wire.DescribeName(name); got != want {
			t.Errorf("DescribeName(%q) = %s\nwant %s", name, got, want)
		}
	}
}

func TestInvisible(t *testing.T) {
	for _, r := range "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b\u180e\u200b\u200d\u200e\u202e\u2060\u2064\u2066\u206f\u2800\u3164\ufe0f\ufeff\uffa0\U0001d173\U000e0001\U000e0061\U000e01ef" {
		if !wire.Invisible(r) {
			t.Errorf("%U is visible", r)
		}
	}
	for _, r := range "aZ09 é参ー한ا\u0301😀" {
		if wire.Invisible(r) {
			t.Errorf("%U is invisible", r)
		}
	}
}

// FuzzValidID: a valid name cannot be taken for a flag, a path, a hidden file, or
// for another name through invisible characters.
func FuzzValidID(f *testing.F) {
	for _, list := range [][]string{goodIDs, formerIDs, badIDs} {
		for _, s := range list {
			f.Add(s)
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		if wire.DescribeName(s) == "" && s != "" || strings.ContainsFunc(wire.DescribeName(s), func(r rune) bool { return !unicode.IsPrint(r) || wire.Invisible(r) }) {
			t.Fatalf("%q is described as %q", s, wire.DescribeName(s))
		}
		if !wire.ValidID(s) {
			return
		}
		switch {
		case !wire.StoredID(s):
			t.Error("it may become a name and not be read")
		case len(s) > wire.MaxIDBytes, !utf8.ValidString(s):
			t.Error("it is too long, or not UTF-8")
		case s[0] == '-' || s[0] == '.' || path.Clean("/"+s) != "/"+s || strings.ContainsAny(s, "/\\:*?\"<>|{}[]%#&+ "):
			t.Error("it is no plain file name")
		case norm.NFC.String(s) != s || norm.NFKC.String(s) != s:
			t.Error("it has another form")
		case strings.ContainsFunc(s, func(r rune) bool { return wire.Invisible(r) || !unicode.IsPrint(r) || unicode.IsSpace(r) }):
			t.Error("not all of it is seen")
		}
		var latin, cyrillic, greek bool
		for _, r := range s {
			latin, cyrillic, greek = latin || unicode.Is(unicode.Latin, r), cyrillic || unicode.Is(unicode.Cyrillic, r), greek || unicode.Is(unicode.Greek, r)
		}
		if latin && cyrillic || latin && greek || cyrillic && greek {
			t.Error("it mixes scripts whose letters look the same")
		}
	})
}
