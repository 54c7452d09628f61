package pubkey

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// shortTransaction sends one wei with EIP-155's chain 1, in 32 bytes.
const shortTransaction = "0xdf80018252089435353535353535353535353535353535353535350180018080"

// transactionOf makes a transaction of 32 bytes from its fields; the field that is nil
// is filled to that size.
func transactionOf(typ byte, fields ...[]byte) []byte {
	var prefix []byte
	if typ > 0 {
		prefix = []byte{typ}
	}
	room := 32 - len(prefix) - 1
	for _, f := range fields {
		room -= len(f)
	}
	body := append(prefix, byte(0xc0+32-len(prefix)-1))
	for _, f := range fields {
		if f == nil {
			f = append([]byte{byte(0x80 + room - 1)}, []byte(strings.Repeat("\x96", room-1))...)
		}
		body = append(body, f...)
	}
	return body
}

func TestTransactionNeedsAHash(t *testing.T) {
	to := append([]byte{0x94}, []byte(strings.Repeat("5", 20))...)
	one, none, list := []byte{1}, []byte{0x80}, []byte{0xc0}
	for name, raw := range map[string][]byte{
		"legacy, as reported":        unhexed(t, shortTransaction),
		"legacy, before EIP-155":     transactionOf(0, one, one, one, to, nil, none),
		"legacy, makes a contract":   transactionOf(0, one, one, one, none, one, nil),
		"type 1":                     transactionOf(1, one, none, nil, one, to, one, none, list),
		"type 2":                     transactionOf(2, one, nil, one, one, one, to, one, none, list),
		"type 2, makes a contract":   transactionOf(2, one, one, one, one, one, none, one, nil, list),
		"type 3":                     transactionOf(3, one, none, none, none, one, none, one, nil, list, one, list),
		"type 4":                     transactionOf(4, one, none, none, none, one, none, one, nil, list, list),
		"type 2 with a signature":    transactionOf(2, one, one, one, one, one, none, one, nil, list, one, one, one),
		"type 1 with an access list": transactionOf(1, one, none, one, one, none, one, nil, []byte{0xc3, 0xc2, 0x80, 0xc0}),
	} {
		data := Encode(raw)
		if len(raw) != 32 {
			t.Fatalf("%s: %d bytes", name, len(raw))
		}
		if _, _, err := Digest(Secp256k1, data, ""); !errors.Is(err, ErrTransaction) {
			t.Errorf("%s %s, without a hash: got %v, want ErrTransaction", name, data, err)
		}
		for _, hash := range []Hash{HashNone, HashKeccak256, HashSHA256, HashEIP191} {
			if _, used, err := Digest(Secp256k1, data, string(hash)); err != nil || used != hash {
				t.Errorf("%s with %s: %s, %v", name, hash, used, err)
			}
		}
		if digest, _, err := Digest(Ed25519, data, ""); err != nil || hex.EncodeToString(digest) != data[2:] {
			t.Errorf("%s on ed25519: %x, %v", name, digest, err)
		}
	}
	for name, raw := range map[string][]byte{
		"a list of other fields":        transactionOf(0, one, nil),
		"five fields":                   transactionOf(0, one, one, one, to, nil),
		"a recipient of other length":   transactionOf(0, one, one, one, one, one, nil),
		"a list where a number must be": transactionOf(0, one, list, one, to, nil, none),
		"type 5":                        transactionOf(5, one, nil, one, one, one, to, one, none, list),
		"type 0":                        append([]byte{0}, transactionOf(0, one, one, one, to, nil, none)[:31]...),
		"a byte too many":               append([]byte{0xde}, transactionOf(0, one, one, one, to, nil, none)[1:]...),
		"zeros":                         make([]byte, 32),
	} {
		if _, used, err := Digest(Secp256k1, Encode(raw), ""); err != nil || used != HashNone {
			t.Errorf("%s: %s, %v", name, used, err)
		}
	}
}

// TestDigestsAreNoTransactions: digests that programs sign are still accepted as such,
// except a few in a hundred thousand of those that begin like a list of 31 bytes.
func TestDigestsAreNoTransactions(t *testing.T) {
	taken := 0
	for i := range uint64(100_000) {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		sum[0] = 0xdf
		if IsTransaction(sum[:]) {
			taken++
		}
	}
	if taken > 10 {
		t.Errorf("%d digests of 100,000 are taken for transactions", taken)
	}
}

// TestNoGuessing: text that looks like hex but is not is refused, or is signed as text.
func TestNoGuessing(t *testing.T) {
	for data, want := range map[string]error{
		"0XDF":                          ErrHexForm,
		"0X" + strings.Repeat("ab", 32): ErrHexForm,
		"0x1":                           ErrHex,
		"0x12 ":                         ErrHex,
		"0x12\n":                        ErrHex,
		"0x 12":                         ErrHex,
		"0x":                            ErrNoData,
		"pay \xff\xfe bob":              ErrText,
		"\xed\xa0\x80":                  ErrText, // a surrogate in supposed UTF-8
		"0X":                            nil,
		"0Xyz":                          nil,
		" 0x12":                         nil,
		strings.Repeat("ab", 32):        nil,
		strings.Repeat("a", 32):         nil, // 32 bytes of text are not a digest
		"\ufffd":                        nil,
		"a\x00b":                        nil,
	} {
		for _, curve := range []Curve{Secp256k1, Ed25519} {
			_, hash, err := Digest(curve, data, "")
			if !errors.Is(err, want) || want == nil && curve == Secp256k1 && hash != HashEIP191 {
				t.Errorf("%s %q: hash %q, %v; want %v", curve, data, hash, err, want)
			}
		}
	}
}

func unhexed(t *testing.T, data string) []byte {
	t.Helper()
	raw, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
