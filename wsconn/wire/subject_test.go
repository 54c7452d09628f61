package wire

import "testing"

// FuzzUserOf: no two subjects have the same user id, and each user id is a valid name.
func FuzzUserOf(f *testing.F) {
	for _, s := range []string{"bob", "auth0|1", "_x_auth0_7c1", "a:b", "_x_", "x_7c", "_x__5fx_5f", "bob+1@example.org", "-", ".", "ä", "a b"} {
		f.Add(s, s+"_7c")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		x, ok := UserOf(a)
		y, also := UserOf(b)
		if ok && !ValidID(x) {
			t.Errorf("%q becomes %q, which is no name", a, x)
		}
		if ok && also && a != b && x == y {
			t.Errorf("%q and %q are both %q", a, b, x)
		}
		// A subject's user id, used as a subject, is not the first's.
		if again, fine := UserOf(x); ok && fine && again == x && a != x {
			t.Errorf("%q becomes %q, which the subject %q is too", a, x, x)
		}
	})
}
