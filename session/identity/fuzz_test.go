package identity

import "testing"

// FuzzParse: text that parses is written again byte for byte.
func FuzzParse(f *testing.F) {
	id := fresh(f)
	secret, err := id.Secret()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Add(id.Public().String())
	f.Add("conclave-identity-v1\nsign \nseal \nage \n")
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := ParsePublic(text); err == nil && p.String() != text {
			t.Errorf("read %q, wrote %q", text, p)
		}
		id, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := id.Secret(); err != nil || again != text {
			t.Error("the private text is not written as it was read")
		}
	})
}

// FuzzOpen gives Open copied or damaged files: it opens the identity that was
// protected, or nothing.
func FuzzOpen(f *testing.F) {
	id := fresh(f)
	secret, err := id.Secret()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(protect(f, id, "correct horse")), "correct horse")
	f.Add([]byte(protect(f, id, "correct horse")), "battery staple")
	f.Add([]byte(secret), "")
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----\n"), "x")
	f.Fuzz(func(t *testing.T, text []byte, passphrase string) {
		opened, err := Open(text, []byte(passphrase))
		if err != nil {
			return
		}
		again, err := opened.Secret()
		if err != nil || !IsProtected(text) && again != string(text) {
			t.Errorf("opened something else: %v", err)
		}
	})
}
