package wire

import "time"

// KeyInfo is a key's public record, as the web API shows it.
type KeyInfo struct {
	KeyID        string    `json:"key_id"`
	Status       string    `json:"status"` // reserved, generating, active or failed
	Curve        string    `json:"curve"`
	AccountAddr  string    `json:"account_addr"`
	PublicKey    string    `json:"public_key"`
	Threshold    int       `json:"threshold"`
	TotalParts   int       `json:"total_parts"`
	Participants []string  `json:"participants"` // user ids, by part index less one
	Coordinator  string    `json:"coordinator"`
	CreatedAt    time.Time `json:"created_at"`
	SessionID    string    `json:"session_id,omitempty"` // of its keygen
}

// PartInfo is one party's part in a session.
type PartInfo struct {
	PartIndex int    `json:"part_index"`
	UserID    string `json:"user_id"`
	Invited   bool   `json:"invited"`
	Response  string `json:"response"` // accepted, declined or empty
	Result    string `json:"result,omitempty"`
}

// SessionInfo is a session as it stands, as the web API shows it.
type SessionInfo struct {
	SessionID    string     `json:"session_id"`
	Kind         string     `json:"kind"`  // keygen or sign
	Phase        string     `json:"phase"` // inviting, running, completed, rejected, expired, failed or cancelled
	Attempt      int        `json:"attempt"`
	KeyID        string     `json:"key_id"`
	Coordinator  string     `json:"coordinator"`
	Curve        string     `json:"curve"`
	Threshold    int        `json:"threshold"`
	Participants []string   `json:"participants"` // the key's committee, by part index less one
	Invited      []string   `json:"invited"`
	Responses    []PartInfo `json:"responses"`
	Signers      []int      `json:"signers,omitempty"` // part indexes of the running attempt
	Data         string     `json:"data,omitempty"`
	Hash         string     `json:"hash,omitempty"`
	Digest       string     `json:"digest,omitempty"`
	AccountAddr  string     `json:"account_addr,omitempty"`
	PublicKey    string     `json:"public_key,omitempty"`
	Signature    string     `json:"signature,omitempty"`
	CreatedAt    time.Time  `json:"created_at"`
	Deadline     time.Time  `json:"deadline,omitzero"`
	EndedAt      time.Time  `json:"ended_at,omitzero"`
	Reason       string     `json:"reason,omitempty"`
	Culprits     []int      `json:"culprits,omitempty"` // part indexes
}

// List is a page of keys or sessions, newest first. Next, where present, is the
// ?before= of the page that follows.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// Task answers the requests that reserve a key or a signing.
type Task struct {
	KeyID     string `json:"key_id"`
	SessionID string `json:"session_id,omitempty"`
}
