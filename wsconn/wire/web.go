package wire

import "time"

// The tags doc, enum, minimum and the like tell the OpenAPI document what a field's
// type does not.

// KeyInfo is a key's public record, as the web API shows it.
type KeyInfo struct {
	KeyID        string    `json:"key_id"`
	Status       string    `json:"status" enum:"reserved,generating,active,failed"`
	Curve        string    `json:"curve" enum:"secp256k1,ed25519"`
	AccountAddr  string    `json:"account_addr" doc:"secp256k1: EIP-55 Ethereum address; ed25519: the public key in base58; empty until the key is active"`
	PublicKey    string    `json:"public_key" doc:"0x hex; empty until the key is active, and if no participant reported it"`
	Epoch        int       `json:"epoch,omitempty" minimum:"1" doc:"epoch of the key's shares, 1 from its keygen on; servers before epochs leave it out"`
	Threshold    int       `json:"threshold" minimum:"2" doc:"number of parties that must sign"`
	TotalParts   int       `json:"total_parts" minimum:"2"`
	Participants []string  `json:"participants" doc:"user ids; place i holds part index i+1"`
	Coordinator  string    `json:"coordinator"`
	CreatedAt    time.Time `json:"created_at"`
	SessionID    string    `json:"session_id,omitempty" doc:"session of the newest keygen of this key"`
	Certificate  string    `json:"certificate,omitempty" doc:"hash of the epoch's certificate, 0x hex; empty for a key that was never reshared"`
	Origin       string    `json:"origin,omitempty" enum:"generated,imported" doc:"empty for a key that was never reshared, which was generated"`
	Reshare      string    `json:"reshare,omitempty" doc:"session_id of the reshare that is open on the key"`
	Attestations []string  `json:"attestations,omitempty" doc:"attestations of the keygen's parties; place i is that of part index i+1, empty if it sent none; omitted in lists, if no party sent one, and after a reshare: the lineage has them"`
}

// EpochInfo is a certified epoch of a key, as the web API shows it.
type EpochInfo struct {
	Epoch        int       `json:"epoch" minimum:"1"`
	Parent       int       `json:"parent,omitempty" minimum:"0" doc:"the epoch that it was made from; omitted for the first"`
	Threshold    int       `json:"threshold" minimum:"2" doc:"number of parties that must sign"`
	TotalParts   int       `json:"total_parts" minimum:"2"`
	Participants []string  `json:"participants" doc:"user ids; place i holds part index i+1"`
	Certificate  string    `json:"certificate,omitempty" doc:"hash of its certificate, 0x hex; omitted for a key that was never reshared"`
	SessionID    string    `json:"session_id,omitempty" doc:"session that made it; omitted if its certificate came from a member"`
	CertifiedAt  time.Time `json:"certified_at" doc:"by the server's clock"`
}

// CertificateInfo is an entry of a key's lineage, as the web API shows it.
type CertificateInfo struct {
	Epoch       int    `json:"epoch" minimum:"1"`
	Certificate string `json:"certificate" doc:"the certificate as signed, JSON in one line: verify it, no server's word is needed"`
}

// PartInfo is one party's part in a session.
type PartInfo struct {
	PartIndex int    `json:"part_index" minimum:"1"`
	UserID    string `json:"user_id"`
	Invited   bool   `json:"invited"`
	Response  string `json:"response" enum:"accepted,declined," doc:"answer to the invitation; empty until the party has answered"`
	Result    string `json:"result,omitempty" doc:"keygen: the account address that the party reported; sign: verified or invalid"`
}

// SessionInfo is the current state of a session, as the web API shows it.
type SessionInfo struct {
	SessionID    string     `json:"session_id"`
	Kind         string     `json:"kind" enum:"keygen,sign,reshare"`
	Phase        string     `json:"phase" enum:"inviting,running,completed,rejected,expired,failed,cancelled" doc:"the last five are final"`
	Attempt      int        `json:"attempt" minimum:"0" doc:"number of the current attempt, from 1; a signing or reshare starts another attempt with other signers when one leaves or fails"`
	KeyID        string     `json:"key_id"`
	Coordinator  string     `json:"coordinator"`
	Curve        string     `json:"curve" enum:"secp256k1,ed25519"`
	Threshold    int        `json:"threshold" minimum:"2" doc:"reshare: of the committee before it"`
	Participants []string   `json:"participants" doc:"committee of the key; place i holds part index i+1. Reshare: the old committee, then the new one; part indexes of the session are positions in this list, from 1"`
	Invited      []string   `json:"invited"`
	Responses    []PartInfo `json:"responses"`
	Signers      []int      `json:"signers,omitempty" doc:"part indexes of the running attempt"`
	Data         string     `json:"data,omitempty"`
	Hash         string     `json:"hash,omitempty"`
	Digest       string     `json:"digest,omitempty" doc:"0x hex"`
	AccountAddr  string     `json:"account_addr,omitempty"`
	PublicKey    string     `json:"public_key,omitempty" doc:"0x hex"`
	Signature    string     `json:"signature,omitempty" doc:"0x hex: secp256k1 r, s, v, 65 bytes; ed25519 R, S, 64 bytes"`
	CreatedAt    time.Time  `json:"created_at"`
	Deadline     time.Time  `json:"deadline,omitzero"`
	EndedAt      time.Time  `json:"ended_at,omitzero"`
	Reason       string     `json:"reason,omitempty"`
	Culprits     []int      `json:"culprits,omitempty" doc:"part indexes of the parties at fault"`
	Attestations []string   `json:"attestations,omitempty" doc:"of an ended keygen: attestations of the key, as in the key's own resource; omitted in lists"`

	Epoch        int    `json:"epoch,omitempty" minimum:"0" doc:"sign: the epoch of the key that signs; reshare: the number of its latest attempt, and of the new epoch once completed"`
	FromEpoch    int    `json:"from_epoch,omitempty" minimum:"0" doc:"reshare: the epoch that it began with"`
	OldParts     int    `json:"old_parts,omitempty" minimum:"0" doc:"reshare: how many of participants are the committee before it"`
	NewThreshold int    `json:"new_threshold,omitempty" minimum:"0" doc:"reshare: threshold of the new committee"`
	Certificate  string `json:"certificate,omitempty" doc:"of a completed reshare: the certificate of the new epoch, as in the key's lineage; omitted in lists"`
}

// List is a page of keys or sessions, newest first.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"cursor of the next page; a filtered page may be short or empty and still have one"`
}

// Task answers the requests that reserve or start a keygen, a signing or a reshare.
type Task struct {
	KeyID     string       `json:"key_id"`
	SessionID string       `json:"session_id,omitempty"`
	Session   *SessionInfo `json:"session,omitempty" doc:"with ?wait=: the session when it ended, or when the time had passed"`
}

// OutcomeEvent is the body of a webhook call.
type OutcomeEvent struct {
	Type      string      `json:"type" doc:"kind and final phase, like sign.completed"`
	Timestamp time.Time   `json:"timestamp" doc:"when the session ended"`
	Data      SessionInfo `json:"data"`
}

// NodeInfo is a node of the cluster.
type NodeInfo struct {
	NodeID      string    `json:"node_id"`
	Version     string    `json:"version"`
	StartedAt   time.Time `json:"started_at"`
	Draining    bool      `json:"draining" doc:"the node accepts no new clients"`
	Address     string    `json:"address,omitempty" doc:"for admins"`
	Connections *int      `json:"connections,omitempty" minimum:"0" doc:"sockets of registered users; for admins"`
	SeenAt      time.Time `json:"seen_at,omitzero" doc:"time of the last heartbeat, by the node's own clock; for admins"`
}

// PresenceInfo says whether a user has a socket on any node.
type PresenceInfo struct {
	UserID string    `json:"user_id"`
	Online bool      `json:"online"`
	Since  time.Time `json:"since,omitzero"`
	Node   string    `json:"node,omitempty" doc:"for admins"`
	// Identity is what the user's client registered.
	Identity string `json:"identity,omitempty" doc:"the user's registered identity, if it has the fingerprint in the query"`
}
