package wire

import "time"

// The tags doc, enum, minimum and the like say for the OpenAPI document what a
// field's type does not.

// KeyInfo is a key's public record, as the web API shows it.
type KeyInfo struct {
	KeyID        string    `json:"key_id"`
	Status       string    `json:"status" enum:"reserved,generating,active,failed"`
	Curve        string    `json:"curve" enum:"secp256k1,ed25519"`
	AccountAddr  string    `json:"account_addr" doc:"empty until the key is active: secp256k1 an EIP-55 Ethereum address, ed25519 the public key in base58"`
	PublicKey    string    `json:"public_key" doc:"0x hex; empty until the key is active, and where no participant reported it"`
	Threshold    int       `json:"threshold" minimum:"2" doc:"how many must sign"`
	TotalParts   int       `json:"total_parts" minimum:"2"`
	Participants []string  `json:"participants" doc:"user ids, by part index less one"`
	Coordinator  string    `json:"coordinator"`
	CreatedAt    time.Time `json:"created_at"`
	SessionID    string    `json:"session_id,omitempty" doc:"of its newest keygen"`
	Attestations []string  `json:"attestations,omitempty" doc:"what its parties have signed about it, by part index less one, empty for who sent none; left out if nobody did, and in lists"`
}

// PartInfo is one party's part in a session.
type PartInfo struct {
	PartIndex int    `json:"part_index" minimum:"1"`
	UserID    string `json:"user_id"`
	Invited   bool   `json:"invited"`
	Response  string `json:"response" enum:"accepted,declined," doc:"to its invitation; empty before it has answered"`
	Result    string `json:"result,omitempty" doc:"keygen: the account address that it reported; sign: verified or invalid"`
}

// SessionInfo is a session as it stands, as the web API shows it.
type SessionInfo struct {
	SessionID    string     `json:"session_id"`
	Kind         string     `json:"kind" enum:"keygen,sign"`
	Phase        string     `json:"phase" enum:"inviting,running,completed,rejected,expired,failed,cancelled" doc:"the last five are final"`
	Attempt      int        `json:"attempt" minimum:"0" doc:"1 for the first run; a signing begins another with other signers when one leaves or fails"`
	KeyID        string     `json:"key_id"`
	Coordinator  string     `json:"coordinator"`
	Curve        string     `json:"curve" enum:"secp256k1,ed25519"`
	Threshold    int        `json:"threshold" minimum:"2"`
	Participants []string   `json:"participants" doc:"the key's committee, by part index less one"`
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
	Culprits     []int      `json:"culprits,omitempty" doc:"part indexes of those who are at fault"`
	Attestations []string   `json:"attestations,omitempty" doc:"of a keygen, at its end: what the parties have signed about the key, as in its own resource; left out in lists"`
}

// List is a page of keys or sessions, newest first.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"the cursor of the page that follows; a page with a filter may be short, even empty, and have one"`
}

// Task answers the requests that reserve or start a keygen or a signing.
type Task struct {
	KeyID     string       `json:"key_id"`
	SessionID string       `json:"session_id,omitempty"`
	Session   *SessionInfo `json:"session,omitempty" doc:"with ?wait=: the session at its end, or as it is when the time is up"`
}

// OutcomeEvent is what a webhook is told.
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
	Draining    bool      `json:"draining" doc:"it takes no new clients"`
	Address     string    `json:"address,omitempty" doc:"for admins"`
	Connections *int      `json:"connections,omitempty" minimum:"0" doc:"sockets of registered users; for admins"`
	SeenAt      time.Time `json:"seen_at,omitzero" doc:"its last heartbeat, by its own clock; for admins"`
}

// PresenceInfo says whether a user has a socket on any node.
type PresenceInfo struct {
	UserID string    `json:"user_id"`
	Online bool      `json:"online"`
	Since  time.Time `json:"since,omitzero"`
	Node   string    `json:"node,omitempty" doc:"for admins"`
}
