package participant

import (
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// Invitation is what a participant is asked to take part in. When an [Approver]
// sees it, its form has been checked, the digest is the one that this client
// computed, and if the client holds a share of the key, key, part and committee
// are the share's.
type Invitation struct {
	Kind         request.Kind `json:"kind"`
	SessionID    string       `json:"session_id"`
	KeyID        string       `json:"key_id"`
	Coordinator  string       `json:"coordinator"`  // user id of who asks
	Curve        pubkey.Curve `json:"curve"`        // of a signing: as its account address, or the share, says
	Threshold    int          `json:"threshold"`    // of a signing: 0 without a share in the store
	PartIndex    int          `json:"part_index"`   // the own
	Participants []string     `json:"participants"` // user ids: of a keygen the committee, of a signing the invited
	Deadline     time.Time    `json:"deadline,omitzero"`

	// Of a signing.
	Data        string `json:"data,omitempty"`   // 0x hex, else text
	Hash        string `json:"hash,omitempty"`   // what is done to data; see pubkey.Digest
	Digest      string `json:"digest,omitempty"` // 0x hex, what is signed
	AccountAddr string `json:"account_addr,omitempty"`

	// SignedRequest is the coordinator's signature over all of the above but the
	// own part and the deadline, which are the server's; in a keygen so is the
	// session, in a signing the threshold is the key's.
	SignedRequest string `json:"signed_request,omitempty"`
	// Signer is who has signed it. Nil means that the request is not signed, so
	// that only the server says who asks.
	Signer *Signer `json:"signer,omitempty"`
}

// Signer is the identity that has signed a request that an invitation shows.
type Signer struct {
	// Fingerprint is that of the coordinator's identity.
	Fingerprint string `json:"fingerprint"`
	// Pinned says that the identity was pinned by hand. Otherwise it is the one of
	// the coordinator's earlier requests, or, if First, this is the first one and
	// nobody but the server says whose it is.
	Pinned bool `json:"pinned"`
	First  bool `json:"first"`
	// IssuedAt and ExpiresAt are signed too.
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Nonce     string    `json:"nonce"` // hex

	identity identity.Public
}
