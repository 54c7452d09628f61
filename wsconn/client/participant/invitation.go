package participant

import (
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

// Invitation is a request to take part in a session. When an [Approver] sees it,
// its form has been checked, the digest is the one that this client computed, and
// if the client holds a share of the key, key, part and committee are the share's.
type Invitation struct {
	Kind         request.Kind `json:"kind"`
	SessionID    string       `json:"session_id"`
	KeyID        string       `json:"key_id"`
	Coordinator  string       `json:"coordinator"`  // user id of the requester
	Curve        pubkey.Curve `json:"curve"`        // of a signing: by its account address, or the share
	Threshold    int          `json:"threshold"`    // of a signing: 0 without a share in the store
	PartIndex    int          `json:"part_index"`   // this party's
	Participants []string     `json:"participants"` // user ids: of a keygen or reshare the committee, of a signing the invited
	Deadline     time.Time    `json:"deadline,omitzero"`

	// Of a signing.
	Data        string `json:"data,omitempty"`   // 0x hex, else text
	Hash        string `json:"hash,omitempty"`   // how data is hashed; see pubkey.Digest
	Digest      string `json:"digest,omitempty"` // 0x hex, the signed value
	AccountAddr string `json:"account_addr,omitempty"`
	Epoch       int    `json:"epoch,omitempty"`     // of the shares that are to sign; 0 from servers without epochs
	MinEpoch    int    `json:"min_epoch,omitempty"` // the signing is valid under this epoch and later ones; 0 for every epoch

	// Reshare is for a reshare, nil otherwise. There Threshold and Participants are those
	// of the new committee, and PartIndex is the first of this party's places.
	Reshare *Reshare `json:"reshare,omitempty"`

	// SignedRequest is the coordinator's signature over all of the above except the
	// part index and the deadline, which are the server's; in a keygen so is the
	// session, in a signing the threshold is the key's.
	SignedRequest string `json:"signed_request,omitempty"`
	// Signer is the signer of the request. Nil means that the request is not
	// signed, so that the coordinator is only the server's claim.
	Signer *Signer `json:"signer,omitempty"`
}

// Signer is the identity that has signed an invitation's request.
type Signer struct {
	// Fingerprint is that of the coordinator's identity.
	Fingerprint string `json:"fingerprint"`
	// Pinned says that the identity was pinned by hand. Otherwise it is the one of
	// the coordinator's earlier requests, or, if First, this is the first one and
	// only the server says whose it is.
	Pinned bool `json:"pinned"`
	First  bool `json:"first"`
	// IssuedAt and ExpiresAt are signed too.
	IssuedAt  time.Time `json:"issued_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Nonce     string    `json:"nonce"` // hex

	identity identity.Public
}
