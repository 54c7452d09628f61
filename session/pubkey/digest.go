package pubkey

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Hash names the hashing of data before it is signed on secp256k1.
type Hash string

// The hashes.
const (
	HashNone      Hash = "none"      // data is the digest: exactly 32 bytes
	HashKeccak256 Hash = "keccak256" // Ethereum transactions
	HashSHA256    Hash = "sha256"
	HashSHA256d   Hash = "sha256d" // SHA-256 twice, as Bitcoin
	HashEIP191    Hash = "eip191"  // Ethereum's personal_sign: prefix, length, keccak256
)

// Errors of Digest.
var (
	ErrHash     = errors.New("hash must be none, keccak256, sha256, sha256d or eip191")
	ErrHashNone = errors.New("hash none needs exactly 32 bytes of hex data")
	ErrNoData   = errors.New("there is nothing to sign: the data has no bytes")
	ErrHashEd   = errors.New("ed25519 signs the data as it is: hash must be none or left out")
	ErrText     = errors.New("the text is not UTF-8; give binary data as 0x and hex")

	// ErrTransaction is returned for data with two meanings, if the hash does not say
	// which one is meant.
	ErrTransaction = errors.New("the data is 32 bytes, as a digest is, and an Ethereum transaction: " +
		"set hash to keccak256 to sign the transaction, or to none to sign the bytes as they are")
	// ErrHexForm is returned for data that looks like hex but would be signed as text.
	ErrHexForm = errors.New("hex begins with 0x, not 0X; text that begins so must be given as hex, with hash eip191 if that is meant")
)

// Digest returns the digest that a key of curve c signs for data, and the hash that was
// used. Data that begins with 0x is hex and anything else is UTF-8 text; text that is
// not UTF-8 is ErrText, and 0X with hex digits ErrHexForm. An empty hash means, on
// secp256k1: none for 32 bytes of hex, keccak256 for other hex, eip191 for text. It
// must not be empty for 32 bytes that are also an Ethereum transaction: ErrTransaction.
// On ed25519 the digest is the data's own bytes.
func Digest(c Curve, data, hash string) ([]byte, Hash, error) {
	raw, isHex, err := dataBytes(data)
	if err != nil {
		return nil, "", err
	}
	if len(raw) == 0 {
		return nil, "", ErrNoData
	}
	switch c {
	case Ed25519:
		if hash != "" && Hash(hash) != HashNone {
			return nil, "", ErrHashEd
		}
		return raw, HashNone, nil
	case Secp256k1:
		h := Hash(hash)
		if h == "" {
			if h = defaultHash(isHex, len(raw)); h == HashNone && IsTransaction(raw) {
				return nil, "", ErrTransaction
			}
		}
		digest, err := h.apply(raw)
		return digest, h, err
	}
	return nil, "", ErrCurve
}

func dataBytes(data string) (raw []byte, isHex bool, err error) {
	if !strings.HasPrefix(data, "0x") {
		return []byte(data), false, textual(data)
	}
	raw, err = Decode(data)
	if err != nil {
		return nil, true, fmt.Errorf("data: %w", err)
	}
	return raw, true, nil
}

// textual refuses text that JSON cannot encode unchanged, and text that was meant as
// hex.
func textual(data string) error {
	if !utf8.ValidString(data) {
		return ErrText
	}
	if digits, ok := strings.CutPrefix(data, "0X"); ok && digits != "" && strings.Trim(digits, "0123456789abcdefABCDEF") == "" {
		return ErrHexForm
	}
	return nil
}

func defaultHash(isHex bool, size int) Hash {
	switch {
	case isHex && size == 32:
		return HashNone
	case isHex:
		return HashKeccak256
	default:
		return HashEIP191
	}
}

func (h Hash) apply(raw []byte) ([]byte, error) {
	switch h {
	case HashNone:
		if len(raw) != 32 {
			return nil, ErrHashNone
		}
		return raw, nil
	case HashKeccak256:
		return keccak256(raw), nil
	case HashSHA256:
		sum := sha256.Sum256(raw)
		return sum[:], nil
	case HashSHA256d:
		sum := sha256.Sum256(raw)
		sum = sha256.Sum256(sum[:])
		return sum[:], nil
	case HashEIP191:
		prefix := "\x19Ethereum Signed Message:\n" + strconv.Itoa(len(raw))
		return keccak256([]byte(prefix), raw), nil
	}
	return nil, ErrHash
}
