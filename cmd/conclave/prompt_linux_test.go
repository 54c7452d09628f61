package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestTypedAhead: bob has typed a lot before he is asked, and in the end half an
// answer. None of it answers or interferes.
func TestTypedAhead(t *testing.T) {
	t.Parallel()
	url, err := realNode(t)
	if err != nil {
		t.Fatal(err)
	}
	users := seats(t, url, "alice", "bob", "carol")
	bob := onTerminal(t, 80, users["bob"].command("participant", "--preparams", "0"))
	carol := onTerminal(t, 80, users["carol"].command("participant", "--preparams", "0", "--no-color"))
	bob.expect("connected to n1")
	carol.expect("connected to n1")
	bob.types("y\ny\ny\nn ")

	keygen := onTerminal(t, 100, users["alice"].command("keygen", "--curve", "ed25519", "--key-id", "treasury", "bob", "carol"))
	carol.types("y " + carol.question(1) + "\n")
	keygen.expect("carol accepted")
	first := bob.question(1)
	if text := bob.text(); strings.Contains(text, "accepted") || strings.Contains(text, "declined") {
		t.Fatalf("what was typed before answers: %q", text)
	}
	bob.types("y " + first + "\n")
	keygen.expect("public key  0x")
	if strings.Contains(bob.text(), "not answered yet") {
		t.Fatal("what was typed before is in the way of the answer")
	}

	// The request expires while bob types; he continues typing at the next.
	short := onTerminal(t, 100, users["alice"].command("sign", "treasury", "--data", "pay bob", "--participants", "bob,carol", "--expires-in", "3s"))
	old := bob.question(2)
	bob.types("y ")
	data := strings.Repeat("pay bob ", 750)
	bob.expect("conclave: question " + old + " expired without an answer: sign ")
	bob.expect("with key treasury for alice: expired: the request's time is over without a word from bob (part 1) and carol (part 2)\r\n")
	short.expect("sign expired: the request's time is over")
	sign := onTerminal(t, 100, users["alice"].command("sign", "treasury", "--data", data, "--participants", "bob,carol"))
	next := bob.question(3)
	bob.types(old + "\n")
	last := bob.question(4)
	if strings.Count(bob.text(), "accepted") != 1 || strings.Contains(bob.text(), "declined") {
		t.Fatalf("question %s was answered with %q", next, old)
	}
	bob.expect("not answered yet: type y or n with the code")

	// 6,000 bytes leave the requester and the key on the screen.
	_, asked, _ := strings.Cut(bob.text(), "pay bob pay bob")
	asked, _, _ = strings.Cut(asked, "[y "+next)
	if lines := strings.Count(asked, "\r\n"); lines > maxShown {
		t.Errorf("the question is %d lines long: %q", lines, asked)
	}
	for _, want := range []string{"of 6,000 bytes; answer show to see them", "key        treasury\r\n", "asked by   alice\r\n", "\r\nconclave: sign with treasury for alice? "} {
		if !strings.Contains(asked, want) {
			t.Errorf("the question has no %q: %q", want, asked)
		}
	}
	bob.types("y " + last + "\n")
	carol.types("y " + carol.question(3) + "\n")
	sign.expect("signature   0x")
	bob.until("the second success", func(screen string) bool { return strings.Count(screen, "success") == 2 })
}

// TestHiddenQuestions: passphrases are read without echo, and not answered by
// earlier input.
func TestHiddenQuestions(t *testing.T) {
	t.Parallel()
	u := seat{t: t, home: filepath.Join(t.TempDir(), "home")}
	p := onTerminal(t, 80, u.command("identity", "--protect"))
	p.expect("new passphrase: ")
	p.types("a new passphrase\n")
	p.expect("repeat the new passphrase: ")
	p.types("a new passphrase\n")
	p.expect("fingerprint ")
	fingerprint, _, _ := strings.Cut(p.text()[strings.Index(p.text(), "fingerprint "):], "\r")

	again := onTerminal(t, 80, u.command("identity"))
	again.expect("passphrase of ")
	again.types("a new passphrase\n")
	again.expect(fingerprint)

	other := seat{t: t, home: filepath.Join(t.TempDir(), "other")}
	differ := onTerminal(t, 80, other.command("identity", "--protect"))
	differ.expect("new passphrase: ")
	differ.types("a new passphrase\n")
	differ.expect("repeat the new passphrase: ")
	differ.types("a new passphrasf\n")
	differ.expect("the two passphrases differ; nothing was changed")
	if _, err := os.Stat(filepath.Join(other.home, "identity")); err == nil {
		t.Error("it was changed")
	}
	for _, p := range []*pty{p, again, differ} {
		if strings.Contains(p.text(), "a new pass") {
			t.Errorf("a passphrase is echoed: %q", p.text())
		}
	}
}

// TestRecoveryIsConfirmed: with words and a code that is new each time, so that no
// pasted or earlier input confirms it.
func TestRecoveryIsConfirmed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	e := &testscript.Env{WorkDir: dir}
	if err := backups(t, e); err != nil {
		t.Fatal(err)
	}
	start := func(to string) (*pty, string) {
		cmd := seat{t: t, home: dir}.command("recover", "ed-1.json", "ed-2.json", "--identity", "ed-1.identity", "--identity", "ed-2.identity", "--to", to)
		cmd.Dir = dir
		p := onTerminal(t, 120, cmd)
		p.expect("conclave: the private key of " + e.Getenv("ED") + " (key treasury) will exist in one place")
		p.expect("to continue, type: " + confirmation + " ")
		_, code, _ := strings.Cut(p.text(), confirmation+" ")
		p.until("the code", func(screen string) bool {
			_, code, _ = strings.Cut(screen, confirmation+" ")
			return len(code) >= codeLength
		})
		return p, code[:codeLength]
	}
	for i, typed := range []string{"y", confirmation, confirmation + " 2222"} {
		p, _ := start("key")
		p.types(typed + "\n")
		p.expect("not confirmed; nothing was rebuilt")
		if _, err := os.Stat(filepath.Join(dir, "key")); err == nil {
			t.Fatalf("case %d: it was rebuilt", i)
		}
	}
	p, code := start("key")
	p.types(confirmation + " " + code + "\n")
	p.expect("the private key is in key")
	if _, err := os.Stat(filepath.Join(dir, "key")); err != nil {
		t.Error(err)
	}
}
