package identity

import (
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/conclave-mpc/conclave/session/internal/testonly"
)

func init() { testonly.Allow() } // scrypt at a low cost

func protect(tb testing.TB, id *Identity, passphrase string) string {
	tb.Helper()
	text, err := id.Protect([]byte(passphrase))
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func TestProtectedIdentity(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	secret, err := id.Secret()
	if err != nil {
		t.Fatal(err)
	}
	text := protect(t, id, "correct horse")
	if !IsProtected([]byte(text)) || IsProtected([]byte(secret)) {
		t.Error("cannot tell a protected identity from one that is not")
	}
	for line := range strings.Lines(secret) {
		if strings.Contains(text, strings.TrimSpace(line)) {
			t.Error("the secret is in the clear")
		}
	}
	for _, form := range []string{text, secret} {
		opened, err := Open([]byte(form), []byte("correct horse"))
		if err != nil {
			t.Fatal(err)
		}
		if again, err := opened.Secret(); err != nil || again != secret {
			t.Errorf("opened another identity: %v", err)
		}
	}
	for _, wrong := range []string{"", "correct horse ", "Correct horse"} {
		if _, err := Open([]byte(text), []byte(wrong)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("passphrase %q: got %v, want ErrPassphrase", wrong, err)
		}
	}
	if _, err := id.Protect(nil); err == nil {
		t.Error("protected with nothing")
	}

	var other strings.Builder
	armored := armor.NewWriter(&other)
	w, err := age.Encrypt(armored, id.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"cut off":               text[:len(text)/2],
		"changed":               strings.Replace(text, text[200:204], "AAAA", 1),
		"sealed to a recipient": other.String(),
		"more work than any":    tooMuchWork(t, text),
		"too large":             text + strings.Repeat("\n", 1<<20),
		"nothing":               "",
	} {
		_, err := Open([]byte(bad), []byte("correct horse"))
		if err == nil || errors.Is(err, ErrPassphrase) || strings.Contains(err.Error(), "correct horse") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// tooMuchWork raises a protected identity's scrypt work factor to 2^21.
func tooMuchWork(t *testing.T, text string) string {
	t.Helper()
	file, err := io.ReadAll(armor.NewReader(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(file), " 8\n", " 21\n", 1)
	if changed == string(file) {
		t.Fatalf("there is no work factor in %.100q", file)
	}
	var out strings.Builder
	w := armor.NewWriter(&out)
	if _, err := io.WriteString(w, changed); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
