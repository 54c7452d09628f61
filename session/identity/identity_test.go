package identity

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func fresh(t testing.TB) *Identity {
	t.Helper()
	id, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestIdentityText(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	secret, err := id.Secret()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	if again.Public() != id.Public() || again.Recipient().String() != id.Recipient().String() {
		t.Error("reading the private text gives another identity")
	}
	lines := strings.SplitAfter(secret, "\n")
	other, err := fresh(t).Secret()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"nothing":           "",
		"no end":            strings.TrimSuffix(secret, "\n"),
		"more":              secret + "\n",
		"another version":   strings.Replace(secret, "-v1", "-v2", 1),
		"another order":     lines[0] + lines[2] + lines[1] + lines[3],
		"a line less":       lines[0] + lines[1] + lines[2],
		"line ends of DOS":  strings.ReplaceAll(secret, "\n", "\r\n"),
		"lower-case age":    strings.Replace(secret, "AGE-SECRET", "age-secret", 1),
		"spaces":            strings.Replace(secret, "sign ", "sign  ", 1),
		"a shorter key":     strings.Replace(secret, lines[1], "sign AAAA\n", 1),
		"no age key":        strings.Replace(secret, lines[3], "age \n", 1),
		"an age key broken": strings.Replace(secret, lines[3], lines[3][:len(lines[3])-2]+"\n", 1),
		"too long":          secret + strings.Repeat(" ", 4096),
	} {
		_, err := Parse(bad)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, line := range lines[1:4] {
			if _, key, _ := strings.Cut(strings.TrimSpace(line), " "); strings.Contains(err.Error(), key[:8]) {
				t.Errorf("%s: the error quotes the key: %v", name, err)
			}
		}
	}
	if secret == other {
		t.Error("two identities are the same")
	}
}

func TestPublicIdentityText(t *testing.T) {
	t.Parallel()
	id, other := fresh(t).Public(), fresh(t).Public()
	text := id.String()
	if len(text) > 8<<10 || !regexp.MustCompile(`^conclave-id1\.[A-Za-z0-9_-]+$`).MatchString(text) {
		t.Errorf("text of %d bytes is not one printable line", len(text))
	}
	again, err := ParsePublic(text)
	if err != nil || again != id {
		t.Fatalf("reading it back: %v", err)
	}
	if id == other || id.Fingerprint() == other.Fingerprint() {
		t.Error("two identities are the same")
	}
	if !regexp.MustCompile(`^([A-Z2-7]{5}-){7}[A-Z2-7]{5}$`).MatchString(id.Fingerprint()) {
		t.Errorf("fingerprint %q is not eight groups of five", id.Fingerprint())
	}

	mixed := id
	mixed.seal = other.seal
	borrowed := mixed
	borrowed.proof = other.proof
	invalid := id
	invalid.seal = [sealKeySize]byte{}
	for name, bad := range map[string]string{
		"nothing":                    "",
		"another version":            strings.Replace(text, "id1.", "id2.", 1),
		"cut off":                    text[:len(text)-1],
		"more":                       text + "A",
		"a line break":               text[:100] + "\n" + text[100:],
		"another's sealing key":      mixed.String(),
		"another's key and proof":    borrowed.String(),
		"no sealing key":             invalid.String(),
		"stray bits at the end":      text[:len(text)-1] + "B",
		"standard base64's alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(text),
	} {
		if bad == text {
			continue // the key does not contain the replaced text
		}
		if p, err := ParsePublic(bad); err == nil || p != (Public{}) {
			t.Errorf("%s: accepted", name)
		}
	}

	var decoded struct{ A, B Public }
	data, err := json.Marshal(map[string]any{"A": id, "B": Public{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &decoded); err != nil || decoded.A != id || !decoded.B.IsZero() {
		t.Errorf("by way of JSON: %v", err)
	}
}

const (
	pinnedIdentity = `conclave-identity-v1
sign xfEGRqF2Ak5/JavPv5WcWUXkLBXk7EqIztmlQhJhe4g=
seal BSNImL2pZlvu3P7pFnu0uJnLO+KCsb42J6wpjS51W2Y=
age AGE-SECRET-KEY-PQ-1LP5WF9L5P4MJQQ5WR075L98A5KQ3MJGD02WMK6P0PZ5X6XFTSTCQDW9T6H
`
	pinnedFingerprint = "FETRP-LQUH3-HBGOH-YLPCI-RLDNY-QW6S7-NSEJF-RO3VI"
)

// TestFormatsArePinned reads an identity in the format of the first version; its keys
// are public here and insecure.
func TestFormatsArePinned(t *testing.T) {
	t.Parallel()
	id, err := Parse(pinnedIdentity)
	if err != nil {
		t.Fatal(err)
	}
	if got := id.Public().Fingerprint(); got != pinnedFingerprint {
		t.Errorf("got fingerprint %s, want %s", got, pinnedFingerprint)
	}
}

var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"}

// formats returns the forms in which a value may get into a log.
func formats(v any) string {
	data, err := json.Marshal(map[string]any{"v": v, "list": []any{v}})
	out := fmt.Sprintf("%s %v", data, err)
	for _, verb := range verbs {
		out += fmt.Sprintf(" "+verb, v) + fmt.Sprintf(" "+verb, []any{v}) + fmt.Sprintf(" "+verb, struct{ V any }{v})
	}
	return out
}

func TestIdentityIsRedacted(t *testing.T) {
	t.Parallel()
	id := fresh(t)
	text := formats(id) + formats(*id)
	for _, verb := range verbs { // in fields that fmt prints without calling methods
		text += fmt.Sprintf(verb, struct{ id Identity }{*id}) + fmt.Sprintf(verb, struct{ id *Identity }{id})
	}
	secret, err := id.Secret()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(secret), "\n")[1:] {
		_, key, _ := strings.Cut(line, " ")
		if strings.Contains(text, key[:10]) {
			t.Errorf("the %.5s key is shown", line)
		}
	}
	for _, form := range []string{"%x", "%d", "%v"} {
		if strings.Contains(text, strings.Trim(fmt.Sprintf(form, id.keys().sign.Seed()), "[]")) {
			t.Errorf("the seed is shown as %s", form)
		}
	}
	if !strings.Contains(text, id.Public().Fingerprint()) {
		t.Error("the fingerprint is not shown")
	}
}
