package wire

import (
	"unicode"
	"unicode/utf8"
)

// Limits on the content of a message. A frame's own limit is the server's
// configuration, [DefaultMaxMessageBytes] by default.
const (
	DefaultMaxMessageBytes = 1 << 20 // one frame
	DefaultMaxParties      = 16      // parties of one key

	MaxTypeBytes          = 64
	MaxIDBytes            = 128       // user, key, session and request ids
	MaxTokenBytes         = 8 << 10   // a JWT
	MaxDataBytes          = 128 << 10 // data of a sign_request, as text
	MaxDataJSONBytes      = 256 << 10 // the same with its escapes; data that needs more is shorter as hex
	MaxReasonBytes        = 512
	MaxShareBytes         = 512 << 10 // share_json of the largest committee; see ShareLimit
	MaxIdentityBytes      = 2 << 10   // an identity's text has 1,763 bytes
	MaxAttestationBytes   = 2560      // an attestation's text has 1,852 bytes; the rest is for an epoch
	MaxBatchItems         = 64        // of one signing
	MaxPathBytes          = 128       // a derivation path
	MaxSignedRequestBytes = signedRequestBytes + DefaultMaxParties*MaxIdentityBytes + MaxBatchItems*signedItemBytes
	MaxBodyBytes          = 700 << 10 // body of a tss_message in base64: 512 KiB of content and its sealing
	MaxSigBytes           = 128       // sig of a tss_message in base64: 64 bytes
	MaxSignatureBytes     = 256       // a signature as text
	MaxAddressBytes       = 128
	MaxPublicKeyBytes     = 256
	MaxExpiresInSeconds   = 7 * 24 * 3600
	MaxParties            = 128            // above any configuration; bounds lists while decoding
	MaxPlaces             = 2 * MaxParties // of a reshare's two committees
	MaxEpoch              = 1<<31 - 1

	MaxStatementBytes   = statementBytes + MaxParties*statementMemberBytes                         // of the largest committee; see StatementLimit
	MaxCertificateBytes = MaxStatementBytes + certificateBytes + 2*MaxParties*certificatePartBytes // of the two largest; see CertificateLimit
)

// Parts of a signed_request. Today it has only the first of them: identity, times,
// nonce and signature, 1,893 bytes of text. A reshare adds the whole identities of
// the new committee, a batch each item's digest, path and document digest.
// TestLargestSignedRequest builds the largest.
const (
	signedRequestBytes = 2 << 10
	signedItemBytes    = MaxPathBytes + 2*maxDigestText + 16 // and separators
	maxDigestText      = 2 + 64                              // 0x and 32 bytes in hex
)

// ShareLimit returns how many bytes share_json may have in a committee of n: a
// share holds n public moduli and points. A sealed secp256k1 share of one of 16
// has about 70 KB; twice that is for other clients' forms.
func ShareLimit(n int) int { return min(MaxShareBytes, (16+8*n)<<10) }

// Parts of an epoch's statement and certificate, in JSON.
const (
	statementBytes       = 2 << 10                                       // ids, account, hashes and field names
	statementMemberBytes = MaxIdentityBytes + MaxIDBytes + 64 + 2*33 + 8 // a member with its name and its public point
	certificateBytes     = 128
	certificatePartBytes = MaxAttestationBytes + 64 // an attestation or a consent
)

// StatementLimit returns how many bytes the statement of an epoch with n members may
// have.
func StatementLimit(n int) int { return min(MaxStatementBytes, statementBytes+n*statementMemberBytes) }

// CertificateLimit returns how many bytes the certificate of an epoch with n members may
// have, if the epoch before it has old members.
func CertificateLimit(n, old int) int {
	return min(MaxCertificateBytes, StatementLimit(n)+certificateBytes+(n+old)*certificatePartBytes)
}

// JSONBytes returns how long s is as a JSON string, as this package writes it.
func JSONBytes(s string) int {
	n := 2
	for _, r := range s {
		switch {
		case r == '"' || r == '\\' || r == '\n' || r == '\r' || r == '\t' || r == '\b' || r == '\f':
			n += 2
		case r < ' ' || r == '<' || r == '>' || r == '&' || r == '\u2028' || r == '\u2029' || r == utf8.RuneError:
			n += 6
		default:
			n += utf8.RuneLen(r)
		}
	}
	return n
}

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
