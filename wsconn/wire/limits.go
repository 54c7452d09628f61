package wire

import (
	"unicode"
	"unicode/utf8"
)

// Limits on what a message may hold. A frame's own limit is the server's
// configuration, [DefaultMaxMessageBytes] unless told otherwise.
const (
	DefaultMaxMessageBytes = 1 << 20 // one frame
	DefaultMaxParties      = 16      // parties of one key

	MaxTypeBytes          = 64
	MaxIDBytes            = 128       // user, key, session and request ids
	MaxTokenBytes         = 8 << 10   // a JWT
	MaxDataBytes          = 128 << 10 // data of a sign_request, as text
	MaxReasonBytes        = 512
	MaxShareBytes         = 512 << 10 // share_json
	MaxIdentityBytes      = 8 << 10
	MaxSignedRequestBytes = 256 << 10
	MaxAttestationBytes   = 4 << 10
	MaxBodyBytes          = 700 << 10 // body of a tss_message in base64: 512 KiB of content and its sealing
	MaxSigBytes           = 8 << 10   // sig of a tss_message in base64
	MaxSignatureBytes     = 256       // a signature as text
	MaxAddressBytes       = 128
	MaxPublicKeyBytes     = 256
	MaxExpiresInSeconds   = 7 * 24 * 3600
	MaxParties            = 128 // beyond any configuration; bounds lists while decoding
)

// validRequestID reports whether s can be echoed safely; it is never part of a key.
func validRequestID(s string) bool {
	if len(s) > MaxIDBytes {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}
