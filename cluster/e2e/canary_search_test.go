package e2e_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// canary is a secret that must not be found outside its place, in any of the
// encodings in which it might leak.
type canary struct {
	name  string
	forms map[string]string
}

// plant makes a canary of a secret's bytes. A truncated secret, or a logged prefix,
// is a leak too: its first and last 16 bytes are searched for separately.
func plant(name string, secret []byte) canary {
	if len(secret) < 12 {
		panic("canary " + name + " is too short to be told from chance")
	}
	c := canary{name: name, forms: map[string]string{}}
	c.add("", secret)
	if len(secret) > 16 {
		c.add("the beginning ", secret[:16])
		c.add("the end ", secret[len(secret)-16:])
	}
	return c
}

// plantNumber also looks for it in decimal.
func plantNumber(name string, n *big.Int) canary {
	c := plant(name, n.FillBytes(make([]byte, 32)))
	text := n.String()
	c.forms["decimal"] = text
	c.forms["the beginning in decimal"] = text[:24]
	return c
}

func (c canary) add(part string, secret []byte) {
	c.forms[part+"as it is"] = string(secret)
	c.forms[part+"in hex"] = hex.EncodeToString(secret)
	c.forms[part+"in upper-case hex"] = strings.ToUpper(hex.EncodeToString(secret))
	c.forms[part+"as a list of bytes"] = strings.Trim(fmt.Sprint(secret), "[]")
	c.forms[part+"as Go's hex"] = strings.Trim(fmt.Sprintf("%#v", secret), "[]byte{}")
	c.forms[part+"as Go quotes it"] = strings.Trim(fmt.Sprintf("%q", secret), `"`)
	quoted, err := json.Marshal(string(secret))
	if err != nil {
		panic(err)
	}
	c.forms[part+"in JSON"] = strings.Trim(string(quoted), `"`)
	for alphabet, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "URL's base64": base64.RawURLEncoding} {
		for before := range 3 { // bytes that may stand before it
			text := encoding.EncodeToString(append(make([]byte, before), secret...))
			// Only characters all of whose bits belong to the secret.
			from, to := (before*8+5)/6, (before+len(secret))*8/6
			c.forms[fmt.Sprintf("%sin %s after %d bytes", part, alphabet, before)] = text[from:to]
		}
	}
}

// search returns the canaries found in a text, and their encodings.
func search(canaries []canary, text string) []string {
	var found []string
	for _, c := range canaries {
		for form, needle := range c.forms {
			if i := strings.Index(text, needle); i >= 0 {
				found = append(found, fmt.Sprintf("%s, %s, at byte %d of %d", c.name, form, i, len(text)))
				break
			}
		}
	}
	return found
}

// TestCanarySearch checks that the search finds every canary, in every encoding, and
// nothing else.
func TestCanarySearch(t *testing.T) {
	t.Parallel()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	raw[0] |= 0x80 // of the full length as a number
	text := []byte("c4n4ry \"pässwörd\" of\na line")
	number := new(big.Int).SetBytes(raw)
	canaries := []canary{plant("raw", raw), plant("text", text), plantNumber("number", number)}
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	if found := search(canaries, string(noise)+hex.EncodeToString(noise)+base64.StdEncoding.EncodeToString(noise)); found != nil {
		t.Errorf("found what is not there: %v", found)
	}
	for name, secret := range map[string][]byte{"raw": raw, "text": text} {
		inJSON, _ := json.Marshal(map[string]any{"bytes": secret, "text": string(secret)})
		leaks := map[string]string{
			"itself": string(secret), "hex": fmt.Sprintf("%x", secret), "HEX": fmt.Sprintf("%X", secret), "quoted": fmt.Sprintf("%q", secret),
			"bytes": fmt.Sprint(secret), "Go": fmt.Sprintf("%#v", secret), "JSON": string(inJSON), "cut short": string(secret[:20]),
			"its end in hex": hex.EncodeToString(secret[len(secret)-18:]), "a log line": fmt.Sprintf(`{"level":"debug","frame":%q}`, secret),
		}
		for before := range 4 {
			for after := range 4 {
				wrapped := bytes.Join([][]byte{noise[:before], secret, noise[:after]}, nil)
				leaks[fmt.Sprintf("base64 between %d and %d bytes", before, after)] = base64.StdEncoding.EncodeToString(wrapped)
				leaks[fmt.Sprintf("URL's base64 between %d and %d bytes", before, after)] = base64.URLEncoding.EncodeToString(wrapped)
			}
		}
		for what, leak := range leaks {
			found := search(canaries, "before"+leak+"after")
			if len(found) == 0 || !strings.Contains(strings.Join(found, " "), name+",") {
				t.Errorf("%s as %s is not found (%v)", name, what, found)
			}
		}
	}
	for what, leak := range map[string]string{"decimal": number.String(), "decimal, cut short": number.String()[:30], "hex": number.Text(16)} {
		if found := search(canaries[2:], "x"+leak+"y"); len(found) != 1 {
			t.Errorf("the number in %s: found %v", what, found)
		}
	}
}
