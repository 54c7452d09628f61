package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// TestData: bytes come from files and stdin unchanged, and ambiguous data is
// refused.
func TestData(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	digest := strings.Repeat("d", 32)
	for _, tc := range []struct {
		name, arg, content, hash string // content is of the file behind @, or of stdin
		want, fault, note        string
	}{
		{name: "text", arg: "pay bob", want: "pay bob"},
		{name: "hex", arg: "0x0102", want: "0x0102"},
		{name: "a file", arg: "@", content: "pay bob\r\n\n", want: pubkey.Encode([]byte("pay bob\r\n\n"))},
		{name: "stdin", arg: "-", content: "\xff\x00\n", want: "0xff000a"},
		{name: "as much as fits", arg: "@", content: strings.Repeat("x", maxDataFile), want: pubkey.Encode([]byte(strings.Repeat("x", maxDataFile)))},
		{name: "more", arg: "@", content: strings.Repeat("x", maxDataFile+1), fault: "longer than 65535 bytes"},
		{name: "more on stdin", arg: "-", content: strings.Repeat("x", 1<<20), fault: "stdin is longer than 65535 bytes"},
		{name: "an empty file", arg: "@", fault: "is empty"},
		{name: "32 bytes", arg: "@", content: digest, fault: "give --hash none"},
		{name: "32 bytes, with a hash", arg: "@", content: digest, hash: "none", want: pubkey.Encode([]byte(digest))},
		{name: "hex in a file", arg: "@", content: "0xec09\n", fault: "contains hex as text"},
		{name: "upper-case hex on stdin", arg: "-", content: " 0XEC09", fault: "contains hex as text"},
		{name: "hex in a file, with a hash", arg: "@", content: "0xec09", hash: "eip191", want: pubkey.Encode([]byte("0xec09"))},
		{name: "text that is not UTF-8", arg: "pay \xff bob", fault: "as @FILE"},
		{name: "blanks before hex", arg: " 0x01", fault: "spaces around"},
		{name: "a line's end behind hex", arg: "0x01\n", fault: "spaces around"},
		{name: "hex without 0x", arg: strings.Repeat("ab", 32), want: strings.Repeat("ab", 32), note: "treated as text"},
		{name: "text that is no hex", arg: strings.Repeat("xy", 32), want: strings.Repeat("xy", 32)},
	} {
		var stderr strings.Builder
		c := &cli{stdin: strings.NewReader(tc.content), console: newConsole(&stderr, noEnv)}
		if tc.arg == "@" {
			tc.arg = "@" + filepath.Join(dir, "data")
			if err := os.WriteFile(tc.arg[1:], []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := c.data(tc.arg, tc.hash)
		if got != tc.want && tc.fault == "" || (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%s: got %.40q, %v; want %.40q, %q", tc.name, got, err, tc.want, tc.fault)
		}
		if err == nil && len(got) > wire.MaxDataBytes {
			t.Errorf("%s: %d bytes do not fit into a request", tc.name, len(got))
		}
		if (stderr.String() != "") != (tc.note != "") || !strings.Contains(stderr.String(), tc.note) {
			t.Errorf("%s: said %q, want %q", tc.name, stderr.String(), tc.note)
		}
	}
	c := &cli{stdin: strings.NewReader("")}
	for _, missing := range []string{"@", "@" + filepath.Join(dir, "none"), "@" + dir} {
		if got, err := c.data(missing, ""); err == nil {
			t.Errorf("%s: got %q", missing, got)
		}
	}
}

// TestCautionAboutTransactions: the prompt warns that a signature would not be of
// the transaction that the data is.
func TestCautionAboutTransactions(t *testing.T) {
	c := newConsole(new(strings.Builder), noEnv)
	const short = "0xdf80018252089435353535353535353535353535353535353535350180018080"
	inv := signing()
	inv.Curve = pubkey.Secp256k1
	for hash, want := range map[string]bool{"none": true, "eip191": true, "sha256": true, "keccak256": false} {
		inv.Data, inv.Hash = short, hash
		if text := shownRequest(c, inv, 0, false); strings.Contains(text, "caution") != want {
			t.Errorf("a transaction with %s is shown as\n%s", hash, text)
		}
	}
	inv.Data, inv.Hash = "0x"+strings.Repeat("ab", 32), "none"
	if text := shownRequest(c, inv, 0, false); strings.Contains(text, "caution") {
		t.Errorf("a digest is shown as\n%s", text)
	}
	if statusOf(pubkey.ErrTransaction) != exitUsage {
		t.Error("a request that must say more is no misuse")
	}
}

// TestNamesAsArguments: no valid name is taken for a flag.
func TestNamesAsArguments(t *testing.T) {
	for _, name := range []string{"a", "_", "@", "a-", "a--b", "alice@example.com", "参与方1", "h", "json"} {
		if !wire.ValidID(name) {
			t.Fatalf("%q is no name", name)
		}
		cmd, _, rest, err := resolve(commandTable(), []string{"keys", "show", name})
		if err != nil || cmd.name != "show" || len(rest) != 1 || rest[0] != name {
			t.Errorf("keys show %s: %s %v, %v", name, cmd.name, rest, err)
		}
	}
	for _, flag := range []string{"-rf", "--help", "-", "--"} {
		if wire.ValidID(flag) {
			t.Errorf("%q may become a name", flag)
		}
	}
}
