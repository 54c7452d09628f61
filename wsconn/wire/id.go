package wire

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// IDRule states the rule of [ValidID], for use after a field's name.
const IDRule = "must be 1 to 128 bytes of letters of one script, digits and _ . @ -, not begin with . or -, and be in Unicode form NFKC"

const storedIDRule = "must be 1 to 128 bytes of letters, digits and _ . @ -"

// ValidID reports whether s may become the name of a user, a key, a session or a
// node:
//
//   - 1 to [MaxIDBytes] bytes of UTF-8: letters (Unicode's category L), decimal
//     digits (Nd) and the signs _ . @ -
//   - the first character is neither . nor -, so that no name is taken for a flag,
//     a hidden file or a relative path
//   - no character is invisible (Default_Ignorable_Code_Point)
//   - it is in Unicode's form NFKC, which no other sequence of code points with the
//     same meaning is
//   - its letters and digits are of one script, or of Latin with Han, Hiragana and
//     Katakana, with Han and Bopomofo, or with Han and Hangul. That is the level
//     "highly restrictive" of Unicode TS 39, for the scripts that Unicode Annex 31
//     recommends. ASCII digits go with all scripts, but not with other digits.
//
// Names made before this rule are [StoredID]s.
func ValidID(s string) bool {
	if s == "" || len(s) > MaxIDBytes || s[0] == '.' || s[0] == '-' {
		return false
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case asciiAlphanumeric(c), isSign(rune(c)):
		case c >= utf8.RuneSelf:
			ascii = false
		default:
			return false
		}
	}
	return ascii || plainUnicode(s)
}

// StoredID reports whether s may stand in a Redis key, a path of the web API and a
// log line: 1 to [MaxIDBytes] bytes of Unicode letters, digits and the signs _ . @
// -. That was once the whole rule for names. Existing names of this form can still
// be read and used; new ones must be a ValidID.
func StoredID(s string) bool {
	if s == "" || len(s) > MaxIDBytes || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && (asciiAlphanumeric(byte(r)) || isSign(r)):
		case r >= utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
		default:
			return false
		}
	}
	return true
}

func asciiAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isSign(r rune) bool { return r == '_' || r == '.' || r == '@' || r == '-' }

// plainUnicode holds the rules of ValidID that no ASCII text can break. The ASCII
// characters of s are known to be good.
func plainUnicode(s string) bool {
	if !utf8.ValidString(s) || !norm.NFKC.IsNormalString(s) {
		return false
	}
	var scripts scriptSet
	zero := rune(-1) // of the digit system in use
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && isSign(r):
			continue
		case !unicode.IsLetter(r) && !unicode.IsDigit(r), Invisible(r):
			return false
		}
		if unicode.IsDigit(r) {
			if zero >= 0 && zero != zeroOf(r) {
				return false
			}
			zero = zeroOf(r)
		}
		if r < utf8.RuneSelf && unicode.IsDigit(r) {
			continue
		}
		script, ok := scriptOf(r)
		if !ok {
			return false
		}
		scripts |= script
	}
	return scripts.single()
}

// zeroOf returns the zero of the decimal digits to which r belongs. Unicode has
// them in blocks of ten, from 0 to 9.
func zeroOf(r rune) rune {
	for _, block := range unicode.Nd.R16 {
		if lo, hi := rune(block.Lo), rune(block.Hi); lo <= r && r <= hi {
			return r - (r-lo)%10
		}
	}
	for _, block := range unicode.Nd.R32 {
		if lo, hi := rune(block.Lo), rune(block.Hi); lo <= r && r <= hi {
			return r - (r-lo)%10
		}
	}
	return r
}

// scriptSet is a set of entries of recommendedScripts.
type scriptSet uint64

// recommendedScripts are those of Unicode Annex 31, table 5. Others are in
// limited use or historic, and some of their letters look like Latin ones
// (Cherokee, Lisu, Coptic).
var recommendedScripts = []struct {
	name  string
	table *unicode.RangeTable
}{
	{"Latin", unicode.Latin}, {"Han", unicode.Han}, {"Hiragana", unicode.Hiragana}, {"Katakana", unicode.Katakana},
	{"Bopomofo", unicode.Bopomofo}, {"Hangul", unicode.Hangul}, {"Cyrillic", unicode.Cyrillic}, {"Greek", unicode.Greek},
	{"Arabic", unicode.Arabic}, {"Armenian", unicode.Armenian}, {"Bengali", unicode.Bengali}, {"Devanagari", unicode.Devanagari},
	{"Ethiopic", unicode.Ethiopic}, {"Georgian", unicode.Georgian}, {"Gujarati", unicode.Gujarati}, {"Gurmukhi", unicode.Gurmukhi},
	{"Hebrew", unicode.Hebrew}, {"Kannada", unicode.Kannada}, {"Khmer", unicode.Khmer}, {"Lao", unicode.Lao},
	{"Malayalam", unicode.Malayalam}, {"Myanmar", unicode.Myanmar}, {"Oriya", unicode.Oriya}, {"Sinhala", unicode.Sinhala},
	{"Tamil", unicode.Tamil}, {"Telugu", unicode.Telugu}, {"Thaana", unicode.Thaana}, {"Thai", unicode.Thai}, {"Tibetan", unicode.Tibetan},
}

const (
	latin scriptSet = 1 << iota
	han
	hiragana
	katakana
	bopomofo
	hangul
)

// single reports whether the scripts may stand in one name: Unicode TS 39,
// section 5.2, "highly restrictive".
func (s scriptSet) single() bool {
	for _, together := range []scriptSet{latin | han | hiragana | katakana, latin | han | bopomofo, latin | han | hangul} {
		if s&^together == 0 {
			return true
		}
	}
	return s&(s-1) == 0
}

// scriptOf returns the script of a letter or digit, or false if it has none of the
// recommended ones. Letters of several scripts (Unicode's Common) are found by
// their Script_Extensions where names need them.
func scriptOf(r rune) (scriptSet, bool) {
	switch {
	case r == 0x30fc: // the long vowel of Hiragana and Katakana
		return katakana, true
	case r == 0x3006: // of Han
		return han, true
	case r >= 0x660 && r <= 0x669: // digits
		return scriptNamed("Arabic"), true
	}
	for i, script := range recommendedScripts {
		if unicode.Is(script.table, r) {
			return 1 << i, true
		}
	}
	return 0, false
}

func scriptNamed(name string) scriptSet {
	for i, script := range recommendedScripts {
		if script.name == name {
			return 1 << i
		}
	}
	return 0
}

// Invisible reports whether r is displayed as nothing, or as a blank other than a
// space: Unicode's Default_Ignorable_Code_Point, other format characters, and the
// empty Braille pattern. Text with such a character can look like other text.
func Invisible(r rune) bool {
	return r == 0x2800 || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Cf)
}

// maxDescribed is how many code points DescribeName shows.
const maxDescribed = 8

// DescribeName returns a name to show to a person who has not seen it before:
// unchanged if it is ASCII, and otherwise with the code points of its other
// characters and their scripts, since letters of two scripts can look the same:
// "аlisа (U+0430 Cyrillic)". A name that is not a [ValidID] is quoted, spelled out
// in ASCII, and marked as unusual. The result is one line of printable text.
func DescribeName(name string) string {
	if !ValidID(name) {
		shown := strconv.QuoteToASCII(name)
		if len(name) > MaxIDBytes {
			shown = fmt.Sprintf("%s… of %d bytes", strconv.QuoteToASCII(name[:MaxIDBytes]), len(name))
		}
		return shown + " (an unusual name: look closely)"
	}
	var points []string
	seen := map[rune]bool{}
	for _, r := range name {
		if r < utf8.RuneSelf || seen[r] {
			continue
		}
		seen[r] = true
		if len(points) == maxDescribed {
			points = append(points, "…")
			break
		}
		points = append(points, fmt.Sprintf("U+%04X %s", r, scriptName(r)))
	}
	if len(points) == 0 {
		return name
	}
	return name + " (" + strings.Join(points, ", ") + ")"
}

func scriptName(r rune) string {
	set, _ := scriptOf(r)
	for i, script := range recommendedScripts {
		if set == 1<<i {
			return script.name
		}
	}
	return "unknown"
}
