package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// maxDataFile is how many bytes fit into a request as 0x and hex.
const maxDataFile = (wire.MaxDataBytes - len("0x")) / 2

// dataHelp describes --data in the help of each command that has it.
const dataHelp = "text, 0x and hex, @`FILE` for the bytes of a file, or - for stdin"

// data reads the data to sign or to verify from an argument: text and 0x and hex
// stand for themselves, @FILE and - for all bytes of a file and of stdin, which
// become 0x and hex. Ambiguous data needs a hash.
func (c *cli) data(arg, hash string) (string, error) {
	var raw []byte
	var err error
	name, isFile := strings.CutPrefix(arg, "@")
	switch {
	case arg == "-":
		name = "stdin"
		raw, err = readAtMost(c.stdin)
	case isFile:
		raw, err = readDataFile(name)
	default:
		return arg, c.textual(arg)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("read data: %w", err)
	case len(raw) == 0:
		return "", misuse("%s is empty: there is nothing to sign", name)
	case len(raw) > maxDataFile:
		return "", misuse("%s is longer than %d bytes, the maximum of a request; sign a hash of it: --data 0x… --hash none", name, maxDataFile)
	case hash == "" && len(raw) == 32:
		return "", misuse("%s has 32 bytes, like a digest: give --hash none to sign it unhashed, or the hash to apply", name)
	case hash == "" && looksHex(bytes.TrimSpace(raw)):
		return "", misuse("%s contains hex as text: to sign the bytes that it encodes, give --data \"$(cat FILE)\"; to sign the text itself, give --hash", name)
	}
	return pubkey.Encode(raw), nil
}

// textual refuses an argument that is not text, and notes text that looks like hex.
func (c *cli) textual(arg string) error {
	switch trimmed := strings.TrimSpace(arg); {
	case !utf8.ValidString(arg):
		return misuse("--data is not UTF-8: give binary data as 0x and hex, or as @FILE")
	case trimmed != arg && strings.HasPrefix(trimmed, "0x"):
		return misuse("--data has spaces around 0x and hex: remove them, or give text that contains them from a file, with --hash")
	case len(arg) >= 64 && len(arg)%2 == 0 && looksHex([]byte("0x"+arg)):
		c.console.say("note: --data is treated as text, since hex begins with 0x")
	}
	return nil
}

// looksHex reports whether text is 0x and hex, as a person may write it.
func looksHex(text []byte) bool {
	lower := bytes.ToLower(text)
	digits, ok := bytes.CutPrefix(lower, []byte("0x"))
	return ok && len(digits) > 0 && len(bytes.Trim(digits, "0123456789abcdef")) == 0
}

func readDataFile(name string) ([]byte, error) {
	if name == "" {
		return nil, misuse("--data @ must be followed by the name of a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f)
}

// readAtMost reads at most one byte more than may be signed.
func readAtMost(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, int64(maxDataFile)+1))
}
