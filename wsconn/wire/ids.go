package wire

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// Prefixes of the ids that a server makes.
const (
	KeyIDPrefix     = "key-"
	KeygenIDPrefix  = "kg-"
	SignIDPrefix    = "sg-"
	ReshareIDPrefix = "rs-"
)

// TaskKeyID returns the key_id that POST /v1/keys returns for a user and an
// Idempotency-Key: [KeyIDPrefix] and 32 hex digits. The same two give the same id
// on every node. Anyone can compute it, so a server accepts an id of this form only
// from that user.
func TaskKeyID(user, idempotencyKey string) string {
	return KeyIDPrefix + Fingerprint("task", user, idempotencyKey)
}

// HasTaskForm reports whether a key_id has the form of TaskKeyID's.
func HasTaskForm(keyID string) bool {
	digits, ok := strings.CutPrefix(keyID, KeyIDPrefix)
	if !ok || len(digits) != 2*fingerprintBytes {
		return false
	}
	for i := range len(digits) {
		if c := digits[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// SigningID returns the session_id of the signing that a coordinator requests on a
// key under a request_id (an Idempotency-Key over HTTP): [SignIDPrefix] and 32 hex
// digits. Server and client compute it alike: a coordinator that signs its request
// must know the session_id beforehand. A server accepts an id of this form only
// from the coordinator, for the key and the request_id from which it was computed.
func SigningID(user, keyID, requestID string) string {
	return SignIDPrefix + Fingerprint("request", user, keyID, requestID)
}

// oldSigningID is what clients of version 0.1 compute instead of SigningID.
func oldSigningID(user, keyID, requestID string) string {
	// Neither user nor key id can contain a space.
	sum := sha256.Sum256([]byte(user + " " + keyID + " " + requestID))
	return SignIDPrefix + hex.EncodeToString(sum[:fingerprintBytes])
}

// IsSigningID reports whether id is the session_id of the signing that a
// coordinator requests on a key under a request_id, which must not be empty:
// SigningID's, or the one that clients of version 0.1 compute.
func IsSigningID(id, user, keyID, requestID string) bool {
	return requestID != "" && (id == SigningID(user, keyID, requestID) || id == oldSigningID(user, keyID, requestID))
}

// ReshareID returns the session_id of the reshare that a coordinator requests of a key
// under a request_id, as [SigningID] does of a signing: [ReshareIDPrefix] and 32 hex
// digits.
func ReshareID(user, keyID, requestID string) string {
	return ReshareIDPrefix + Fingerprint("reshare-request", user, keyID, requestID)
}

// IsReshareID reports whether id is the session_id of the reshare that a coordinator
// requests of a key under a request_id, which must not be empty.
func IsReshareID(id, user, keyID, requestID string) bool {
	return requestID != "" && id == ReshareID(user, keyID, requestID)
}

// HasSessionForm reports whether a session_id has the prefix of those that servers
// make and clients compute. A client's own choice does not.
func HasSessionForm(id string) bool {
	return strings.HasPrefix(id, SignIDPrefix) || strings.HasPrefix(id, KeygenIDPrefix) || strings.HasPrefix(id, ReshareIDPrefix)
}

const fingerprintBytes = 16

// Fingerprint returns a short name for a list of strings: 32 hex digits, the first
// half of the SHA-256 of domain and parts, each preceded by its length as 8 bytes,
// big-endian. Only a collision gives two lists the same one.
func Fingerprint(domain string, parts ...string) string {
	size := 8 + len(domain)
	for _, p := range parts {
		size += 8 + len(p)
	}
	text := make([]byte, 0, size) // in one buffer: hash.Hash would copy each part
	text = append(binary.BigEndian.AppendUint64(text, uint64(len(domain))), domain...)
	for _, p := range parts {
		text = append(binary.BigEndian.AppendUint64(text, uint64(len(p))), p...)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:fingerprintBytes])
}
