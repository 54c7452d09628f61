package wire

import (
	"fmt"
	"strings"
)

// SubjectPrefix begins the user ids of subjects that are not valid names here. No
// account has such a name.
const SubjectPrefix = "_x_"

// UserOf returns the user id of a subject as another issuer names it, such as
// auth0|5f7c8ec7, bob+keys@example.org, system:serviceaccount:prod:bob or
// spiffe://example.org/bob. A [ValidID] that does not begin with SubjectPrefix is
// its own user id. For every other subject, of printable ASCII, it is SubjectPrefix
// and the subject, with _ and two hex digits in place of each byte other than
// letters, digits, . @ and -. So no two subjects have the same user id. It reports
// false for a subject without one: with other characters, or too long.
func UserOf(subject string) (user string, ok bool) {
	if ValidID(subject) && !strings.HasPrefix(subject, SubjectPrefix) {
		return subject, true
	}
	if subject == "" || len(subject) > MaxIDBytes {
		return "", false
	}
	var b strings.Builder
	b.WriteString(SubjectPrefix)
	for i := range len(subject) {
		switch c := subject[i]; {
		case c <= ' ' || c > '~':
			return "", false
		case asciiAlphanumeric(c), c == '.', c == '@', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String(), b.Len() <= MaxIDBytes
}
