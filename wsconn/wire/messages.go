package wire

import (
	"time"
)

// The messages. Seed messages first, then Conclave's extensions. C is a client,
// S the server.
const (
	TypeRegister        Type = "register"         // C→S
	TypeRegisterConfirm Type = "register_confirm" // S→C
	TypeKeygenRequest   Type = "keygen_request"   // coordinator→S
	TypeKeygenInvite    Type = "keygen_invite"    // S→participant
	TypeKeygenResponse  Type = "keygen_response"  // participant→S
	TypeKeygenParams    Type = "keygen_params"    // S→participant
	TypeKeygenComplete  Type = "keygen_complete"  // participant→S
	TypeKeygenConfirm   Type = "keygen_confirm"   // S→coordinator
	TypeSignRequest     Type = "sign_request"     // coordinator→S
	TypeSignInvite      Type = "sign_invite"      // S→participant
	TypeSignResponse    Type = "sign_response"    // participant→S
	TypeSignParams      Type = "sign_params"      // S→participant
	TypeSignResult      Type = "sign_result"      // participant→S
	TypeSignComplete    Type = "sign_complete"    // S→coordinator
	TypeError           Type = "error"            // S→C

	TypeReshareRequest  Type = "reshare_request"  // coordinator→S
	TypeReshareInvite   Type = "reshare_invite"   // S→old and new members
	TypeReshareResponse Type = "reshare_response" // old and new members→S
	TypeReshareParams   Type = "reshare_params"   // S→parties of the attempt
	TypeReshareComplete Type = "reshare_complete" // new member→S
	TypeReshareAttested Type = "reshare_attested" // S→old members that accepted
	TypeReshareConsent  Type = "reshare_consent"  // old member→S
	TypeReshareConfirm  Type = "reshare_confirm"  // S→coordinator
	TypeEpochCertified  Type = "epoch_certified"  // S→old and new members
	TypeCertificateGet  Type = "certificate_get"  // C→S

	TypeAck           Type = "ack"            // C→S: mailbox read up to seq; S→C: request_id took effect durably
	TypeTSSMessage    Type = "tss_message"    // participant→S→participants
	TypePartyFailed   Type = "party_failed"   // participant→S
	TypeSessionCancel Type = "session_cancel" // coordinator→S
	TypeSessionEnded  Type = "session_ended"  // S→participants
	TypePing          Type = "ping"           // either way, for clients without control frames
	TypePong          Type = "pong"
)

// payloads makes an empty payload for each type.
var payloads = map[Type]func() Payload{
	TypeRegister:        func() Payload { return new(Register) },
	TypeRegisterConfirm: func() Payload { return new(RegisterConfirm) },
	TypeKeygenRequest:   func() Payload { return new(KeygenRequest) },
	TypeKeygenInvite:    func() Payload { return new(KeygenInvite) },
	TypeKeygenResponse:  func() Payload { return new(KeygenResponse) },
	TypeKeygenParams:    func() Payload { return new(KeygenParams) },
	TypeKeygenComplete:  func() Payload { return new(KeygenComplete) },
	TypeKeygenConfirm:   func() Payload { return new(KeygenConfirm) },
	TypeSignRequest:     func() Payload { return new(SignRequest) },
	TypeSignInvite:      func() Payload { return new(SignInvite) },
	TypeSignResponse:    func() Payload { return new(SignResponse) },
	TypeSignParams:      func() Payload { return new(SignParams) },
	TypeSignResult:      func() Payload { return new(SignResult) },
	TypeSignComplete:    func() Payload { return new(SignComplete) },
	TypeError:           func() Payload { return new(ErrorPayload) },
	TypeReshareRequest:  func() Payload { return new(ReshareRequest) },
	TypeReshareInvite:   func() Payload { return new(ReshareInvite) },
	TypeReshareResponse: func() Payload { return new(ReshareResponse) },
	TypeReshareParams:   func() Payload { return new(ReshareParams) },
	TypeReshareComplete: func() Payload { return new(ReshareComplete) },
	TypeReshareAttested: func() Payload { return new(ReshareAttested) },
	TypeReshareConsent:  func() Payload { return new(ReshareConsent) },
	TypeReshareConfirm:  func() Payload { return new(ReshareConfirm) },
	TypeEpochCertified:  func() Payload { return new(EpochCertified) },
	TypeCertificateGet:  func() Payload { return new(CertificateGet) },
	TypeAck:             func() Payload { return new(Ack) },
	TypeTSSMessage:      func() Payload { return new(TSSMessage) },
	TypePartyFailed:     func() Payload { return new(PartyFailed) },
	TypeSessionCancel:   func() Payload { return new(SessionCancel) },
	TypeSessionEnded:    func() Payload { return new(SessionEnded) },
	TypePing:            func() Payload { return new(Ping) },
	TypePong:            func() Payload { return new(Pong) },
}

// Types returns every message type, in no particular order.
func Types() []Type {
	all := make([]Type, 0, len(payloads))
	for t := range payloads {
		all = append(all, t)
	}
	return all
}

// FromClient reports whether clients send messages of this type.
func (t Type) FromClient() bool {
	switch t {
	case TypeRegister, TypeKeygenRequest, TypeKeygenResponse, TypeKeygenComplete,
		TypeSignRequest, TypeSignResponse, TypeSignResult, TypeAck, TypeTSSMessage,
		TypePartyFailed, TypeSessionCancel, TypePing, TypePong,
		TypeReshareRequest, TypeReshareResponse, TypeReshareComplete, TypeReshareConsent, TypeCertificateGet:
		return true
	}
	return false
}

// Role is what an account may act as.
type Role string

// The roles. Coordinators ask for keys and signatures, participants hold
// shares, an admin may sign with and cancel what is any coordinator's.
const (
	RoleCoordinator Role = "coordinator"
	RoleParticipant Role = "participant"
	RoleAdmin       Role = "admin"
)

// Valid reports whether r is one of the roles.
func (r Role) Valid() bool {
	return r == RoleCoordinator || r == RoleParticipant || r == RoleAdmin
}

// Status is the outcome of a session.
type Status string

// The outcomes.
const (
	StatusSuccess   Status = "success"
	StatusRejected  Status = "rejected"  // a participant declined and too few remain
	StatusExpired   Status = "expired"   // the deadline passed
	StatusFailed    Status = "failed"    // the MPC failed; reason and culprits have the details
	StatusCancelled Status = "cancelled" // by its coordinator or an admin
)

// Party is a participant's place in a session, as told to the other parties.
type Party struct {
	PartIndex int    `json:"part_index"` // 1-based place in its committee
	UserID    string `json:"user_id"`
	Identity  string `json:"identity,omitempty"` // public identity as its client registered it, opaque here
}

// Register must be a client's first message.
type Register struct {
	UserID   string  `json:"user_id"`
	Role     Role    `json:"role"`
	Identity string  `json:"identity,omitempty"` // public identity, opaque to the server
	Resume   *Resume `json:"resume,omitempty"`   // if present, the client acknowledges messages with ack
}

// Resume tells how far a client has read its mailbox.
type Resume struct {
	LastSeq uint64 `json:"last_seq"` // later messages are sent, possibly again; 0 for all that are kept
}

// RegisterConfirm answers register.
type RegisterConfirm struct {
	Status  Status `json:"status"`
	Node    string `json:"node,omitempty"`
	LastSeq uint64 `json:"last_seq"` // the mailbox's newest seq at this moment
	// RolledBack is set if the servers have lost messages that the client had up to
	// resume.last_seq: the kept messages are sent, possibly again, with higher numbers.
	RolledBack bool `json:"rolled_back,omitempty"`
}

// KeygenRequest requests a new key.
type KeygenRequest struct {
	KeyID         string   `json:"key_id"`
	Threshold     int      `json:"threshold"`    // number of parties that must sign, 2 to total_parts
	TotalParts    int      `json:"total_parts"`  // number of participants
	Participants  []string `json:"participants"` // user ids; place i is part_index i+1
	Curve         string   `json:"curve,omitempty"`
	ExpiresIn     int      `json:"expires_in,omitempty"` // seconds until the session expires; 0 for the server's deadlines
	SignedRequest string   `json:"signed_request,omitempty"`
}

// KeygenInvite asks a participant to take part in a keygen.
type KeygenInvite struct {
	KeyID         string    `json:"key_id"`
	Threshold     int       `json:"threshold"`
	TotalParts    int       `json:"total_parts"`
	PartIndex     int       `json:"part_index"`
	Participants  []string  `json:"participants"`
	SessionID     string    `json:"session_id,omitempty"`
	Coordinator   string    `json:"coordinator,omitempty"`
	Curve         string    `json:"curve,omitempty"`
	Deadline      time.Time `json:"deadline,omitzero"`
	SignedRequest string    `json:"signed_request,omitempty"`
}

// KeygenResponse answers keygen_invite.
type KeygenResponse struct {
	KeyID     string `json:"key_id"`
	PartIndex int    `json:"part_index"`
	Response  *bool  `json:"response"` // required: true accepts, false declines
	SessionID string `json:"session_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// KeygenParams starts a party's keygen.
type KeygenParams struct {
	KeyID       string  `json:"key_id"`
	Threshold   int     `json:"threshold"`
	TotalParts  int     `json:"total_parts"`
	PartIndex   int     `json:"part_index"`
	OutputFile  string  `json:"output_file"`  // a suggested file name without directories
	AccountAddr string  `json:"account_addr"` // empty: not known before keygen
	SessionID   string  `json:"session_id,omitempty"`
	Attempt     int     `json:"attempt,omitempty"` // 1-based
	Curve       string  `json:"curve,omitempty"`
	Parties     []Party `json:"parties,omitempty"`
}

// KeygenComplete reports a party's finished keygen.
type KeygenComplete struct {
	KeyID       string `json:"key_id"`
	PartIndex   int    `json:"part_index"`
	AccountAddr string `json:"account_addr"`
	ShareJSON   string `json:"share_json"` // sealed to its owner, opaque to the server
	SessionID   string `json:"session_id,omitempty"`
	PublicKey   string `json:"public_key,omitempty"`  // 0x hex: compressed SEC1 (33 bytes) or ed25519 (32 bytes)
	Attestation string `json:"attestation,omitempty"` // the party's signature over the key, opaque to the server
}

// KeygenConfirm tells the coordinator the outcome of a keygen.
type KeygenConfirm struct {
	KeyID       string `json:"key_id"`
	Status      Status `json:"status"`
	AccountAddr string `json:"account_addr"`
	SessionID   string `json:"session_id,omitempty"`
	PublicKey   string `json:"public_key,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Culprits    []int  `json:"culprits,omitempty"` // part indexes

	Attestations []string `json:"attestations,omitempty"` // of the parties; place i is that of part index i+1, empty if it sent none; omitted if no party sent one
}

// SignRequest requests a signature.
type SignRequest struct {
	KeyID         string   `json:"key_id"`
	Data          string   `json:"data"`                   // 0x hex, else UTF-8 text
	AccountAddr   string   `json:"account_addr,omitempty"` // if given, it must be the address of the key
	Participants  []string `json:"participants,omitempty"` // user ids to invite; empty for all participants of the key
	SessionID     string   `json:"session_id,omitempty"`   // from POST /v1/keys/{id}/signatures
	Hash          string   `json:"hash,omitempty"`         // none, keccak256, sha256, sha256d, eip191
	ExpiresIn     int      `json:"expires_in,omitempty"`   // seconds until the session expires
	MinEpoch      int      `json:"min_epoch,omitempty"`    // the signing is valid under this epoch of the key and later ones; 0 for every epoch
	SignedRequest string   `json:"signed_request,omitempty"`
}

// SignInvite asks a participant to sign.
type SignInvite struct {
	KeyID         string    `json:"key_id"`
	Data          string    `json:"data"`
	AccountAddr   string    `json:"account_addr"`
	PartIndex     int       `json:"part_index"`
	Participants  []string  `json:"participants"` // user ids invited
	SessionID     string    `json:"session_id,omitempty"`
	Coordinator   string    `json:"coordinator,omitempty"`
	Hash          string    `json:"hash,omitempty"`
	Digest        string    `json:"digest,omitempty"` // 0x hex; a participant computes its own and compares
	Epoch         int       `json:"epoch,omitempty"`  // of the key's shares; absent from servers before epochs
	MinEpoch      int       `json:"min_epoch,omitempty"`
	Deadline      time.Time `json:"deadline,omitzero"`
	SignedRequest string    `json:"signed_request,omitempty"`
}

// SignResponse answers sign_invite.
type SignResponse struct {
	KeyID     string `json:"key_id"`
	PartIndex int    `json:"part_index"`
	Response  *bool  `json:"response"` // required: true accepts, false declines
	SessionID string `json:"session_id,omitempty"`
	Reason    string `json:"reason,omitempty"`

	Certificate string `json:"certificate,omitempty"` // of a later epoch than the invitation's, if the sender has one
}

// SignParams starts a party's signing.
type SignParams struct {
	KeyID        string  `json:"key_id"`
	Data         string  `json:"data"`
	PartIndex    int     `json:"part_index"`
	Participants string  `json:"participants"` // part indexes that sign, ascending: "1,3"
	ShareJSON    string  `json:"share_json"`   // as this party sent it at keygen
	SessionID    string  `json:"session_id,omitempty"`
	Attempt      int     `json:"attempt,omitempty"`
	Hash         string  `json:"hash,omitempty"`
	Digest       string  `json:"digest,omitempty"`
	Parties      []Party `json:"parties,omitempty"`     // the parties that sign
	Epoch        int     `json:"epoch,omitempty"`       // of the shares that sign; absent from servers before epochs
	Certificate  string  `json:"certificate,omitempty"` // 0x hex hash of that epoch's certificate; empty if the servers have none
}

// SignResult reports a party's signature.
type SignResult struct {
	KeyID     string `json:"key_id"`
	PartIndex int    `json:"part_index"`
	Signature string `json:"signature"` // 0x hex; 64 or 65 bytes on secp256k1, 64 on ed25519
	SessionID string `json:"session_id,omitempty"`
}

// SignComplete tells the coordinator the outcome of a signing.
type SignComplete struct {
	KeyID       string `json:"key_id"`
	Status      Status `json:"status"`
	Signature   string `json:"signature"`
	Data        string `json:"data"`
	AccountAddr string `json:"account_addr"`
	SessionID   string `json:"session_id,omitempty"`
	PublicKey   string `json:"public_key,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Culprits    []int  `json:"culprits,omitempty"` // part indexes
}

// ErrorPayload is an [Error] on the wire.
type ErrorPayload struct {
	Error       string `json:"error"`
	Code        Code   `json:"code,omitempty"`
	Temporary   bool   `json:"temporary,omitempty"`
	RequestType Type   `json:"request_type,omitempty"`
	KeyID       string `json:"key_id,omitempty"`
	SessionID   string `json:"session_id,omitempty"`
}

// Ack from a client acknowledges its mailbox up to Seq. From the server it
// confirms that the message with the envelope's request_id took effect durably.
type Ack struct {
	Seq       uint64 `json:"seq,omitempty"`
	KeyID     string `json:"key_id,omitempty"`
	SessionID string `json:"session_id,omitempty"`
}

// TSSMessage is one MPC round message. The server sets From from the sender's
// token and does not read the body.
type TSSMessage struct {
	SessionID string `json:"session_id"`
	Attempt   int    `json:"attempt"`
	From      int    `json:"from"` // part_index; in a reshare, the place
	To        int    `json:"to"`   // part_index; in a reshare, the place; 0 for all other parties
	Body      string `json:"body"` // base64
	Sig       string `json:"sig,omitempty"`
}

// PartyFailed reports that a party's MPC cannot continue.
type PartyFailed struct {
	SessionID string `json:"session_id"`
	Attempt   int    `json:"attempt,omitempty"` // attempt that failed; 0 for the current one
	PartIndex int    `json:"part_index"`        // part_index of the sender; in a reshare, its place
	Reason    string `json:"reason,omitempty"`
	Culprits  []int  `json:"culprits,omitempty"` // part indexes that it blames; empty if the fault is its own

	// Moved says that the key has moved to a later epoch than the attempt's. Nobody is
	// blamed for that.
	Moved       bool   `json:"moved,omitempty"`
	Certificate string `json:"certificate,omitempty"` // with Moved: that epoch's
}

// SessionCancel cancels a session of the sender.
type SessionCancel struct {
	SessionID string `json:"session_id"`
	Reason    string `json:"reason,omitempty"`
}

// SessionEnded tells participants the outcome of a session.
type SessionEnded struct {
	SessionID string `json:"session_id"`
	KeyID     string `json:"key_id"`
	Kind      string `json:"kind"` // keygen, sign or reshare
	Status    Status `json:"status"`
	Reason    string `json:"reason,omitempty"`
	Culprits  []int  `json:"culprits,omitempty"`
}

// Committee is the parties of one epoch of a key.
//
// In a reshare all parties of both committees have a place: a member of the old
// committee its part_index, a member of the new one total_parts of the old committee and
// its part_index. A user in both has two places.
type Committee struct {
	Epoch      int     `json:"epoch,omitempty"` // of a certified epoch
	Threshold  int     `json:"threshold"`
	TotalParts int     `json:"total_parts"` // number of parts; there can be fewer parties here
	Parties    []Party `json:"parties"`     // ascending by part_index
}

// ReshareRequest requests a new epoch of a key: with other members, another threshold,
// or new shares for the same members.
type ReshareRequest struct {
	KeyID         string  `json:"key_id"`
	Threshold     int     `json:"threshold"`            // of the new committee, 2 to total_parts
	TotalParts    int     `json:"total_parts"`          // number of members of the new committee
	Participants  []Party `json:"participants"`         // the new committee with identities; place i has part_index i+1
	SessionID     string  `json:"session_id,omitempty"` // chosen by the coordinator, which signs it
	ExpiresIn     int     `json:"expires_in,omitempty"` // seconds until the session expires
	SignedRequest string  `json:"signed_request,omitempty"`
}

// ReshareInvite asks a user to take part in a reshare, with all its places.
type ReshareInvite struct {
	KeyID         string    `json:"key_id"`
	SessionID     string    `json:"session_id"`
	Epoch         int       `json:"epoch"` // number of the first attempt
	Curve         string    `json:"curve"`
	AccountAddr   string    `json:"account_addr"`
	PublicKey     string    `json:"public_key"`
	From          Committee `json:"from"`   // the certified epoch, without identities
	To            Committee `json:"to"`     // the new committee, with the identities that were requested
	Places        []int     `json:"places"` // of the recipient: of the old committee, of the new one, or of both
	Deadline      time.Time `json:"deadline,omitzero"`
	Coordinator   string    `json:"coordinator"`
	Certificate   string    `json:"certificate,omitempty"` // 0x hex hash of the old epoch's certificate; empty if the servers have none
	Origin        string    `json:"origin,omitempty"`      // of the key: generated or imported
	SignedRequest string    `json:"signed_request,omitempty"`
}

// ReshareResponse answers reshare_invite, for all places of the sender.
type ReshareResponse struct {
	KeyID     string `json:"key_id"`
	SessionID string `json:"session_id"`
	Response  *bool  `json:"response"`          // required: true accepts, false declines
	Places    []int  `json:"places,omitempty"`  // places that the sender accepts; it takes no part with its others
	Highest   int    `json:"highest,omitempty"` // greatest epoch number of this key that the sender has seen
	Reason    string `json:"reason,omitempty"`

	Certificate string `json:"certificate,omitempty"` // of a later epoch than the invitation's, if the sender has one
}

// ReshareParams starts one attempt of a reshare.
type ReshareParams struct {
	KeyID       string    `json:"key_id"`
	SessionID   string    `json:"session_id"`
	Attempt     int       `json:"attempt"`               // 1-based
	Epoch       int       `json:"epoch"`                 // number of this attempt, higher than all before
	From        Committee `json:"from"`                  // its parties are the old members of this attempt, with identities
	To          Committee `json:"to"`                    // all of the new committee, with identities
	Places      []int     `json:"places"`                // of the recipient in this attempt
	Certificate string    `json:"certificate,omitempty"` // 0x hex hash of the old epoch's certificate
}

// ReshareComplete reports a new member's new share and its statement about it.
type ReshareComplete struct {
	KeyID       string `json:"key_id"`
	SessionID   string `json:"session_id"`
	Attempt     int    `json:"attempt"`
	Epoch       int    `json:"epoch"`
	PartIndex   int    `json:"part_index"` // of the new committee
	AccountAddr string `json:"account_addr"`
	ShareJSON   string `json:"share_json"`  // sealed to its owner, opaque to the server
	Statement   string `json:"statement"`   // the new epoch in JSON, equal for all new members
	Attestation string `json:"attestation"` // the sender's signature over the statement
}

// ReshareAttested asks an old member to consent to the new epoch.
type ReshareAttested struct {
	KeyID        string   `json:"key_id"`
	SessionID    string   `json:"session_id"`
	Attempt      int      `json:"attempt"`
	Epoch        int      `json:"epoch"`
	Statement    string   `json:"statement"`
	Attestations []string `json:"attestations"` // of the new members; place i is that of part index i+1
}

// ReshareConsent is an old member's consent to the new epoch.
type ReshareConsent struct {
	KeyID            string `json:"key_id"`
	SessionID        string `json:"session_id"`
	Epoch            int    `json:"epoch"`
	PartIndex        int    `json:"part_index"`        // of the old committee
	AttestationsHash string `json:"attestations_hash"` // 0x hex hash of the statement
	Sig              string `json:"sig"`               // the consent
}

// ReshareConfirm tells the coordinator the outcome of a reshare.
type ReshareConfirm struct {
	KeyID       string `json:"key_id"`
	SessionID   string `json:"session_id"`
	Epoch       int    `json:"epoch,omitempty"` // the new epoch; after a failure, the number of the last attempt
	Status      Status `json:"status"`
	AccountAddr string `json:"account_addr"`
	PublicKey   string `json:"public_key,omitempty"`
	Certificate string `json:"certificate,omitempty"` // of the new epoch
	Reason      string `json:"reason,omitempty"`
	Culprits    []int  `json:"culprits,omitempty"` // places
}

// EpochCertified brings the certificate of an epoch.
type EpochCertified struct {
	KeyID       string `json:"key_id"`
	Epoch       int    `json:"epoch"`
	Certificate string `json:"certificate"`
}

// CertificateGet asks for the certificates of a key's epochs above one. Each comes in an
// epoch_certified, in order.
type CertificateGet struct {
	KeyID string `json:"key_id"`
	Epoch int    `json:"epoch,omitempty"` // 0 for all
}

// Ping asks for a pong.
type Ping struct{}

// Pong answers ping.
type Pong struct{}

// The types of the payloads.
func (*Register) Type() Type        { return TypeRegister }
func (*RegisterConfirm) Type() Type { return TypeRegisterConfirm }
func (*KeygenRequest) Type() Type   { return TypeKeygenRequest }
func (*KeygenInvite) Type() Type    { return TypeKeygenInvite }
func (*KeygenResponse) Type() Type  { return TypeKeygenResponse }
func (*KeygenParams) Type() Type    { return TypeKeygenParams }
func (*KeygenComplete) Type() Type  { return TypeKeygenComplete }
func (*KeygenConfirm) Type() Type   { return TypeKeygenConfirm }
func (*SignRequest) Type() Type     { return TypeSignRequest }
func (*SignInvite) Type() Type      { return TypeSignInvite }
func (*SignResponse) Type() Type    { return TypeSignResponse }
func (*SignParams) Type() Type      { return TypeSignParams }
func (*SignResult) Type() Type      { return TypeSignResult }
func (*SignComplete) Type() Type    { return TypeSignComplete }
func (*ErrorPayload) Type() Type    { return TypeError }
func (*Ack) Type() Type             { return TypeAck }
func (*TSSMessage) Type() Type      { return TypeTSSMessage }
func (*PartyFailed) Type() Type     { return TypePartyFailed }
func (*SessionCancel) Type() Type   { return TypeSessionCancel }
func (*SessionEnded) Type() Type    { return TypeSessionEnded }
func (*Ping) Type() Type            { return TypePing }
func (*Pong) Type() Type            { return TypePong }
func (*ReshareRequest) Type() Type  { return TypeReshareRequest }
func (*ReshareInvite) Type() Type   { return TypeReshareInvite }
func (*ReshareResponse) Type() Type { return TypeReshareResponse }
func (*ReshareParams) Type() Type   { return TypeReshareParams }
func (*ReshareComplete) Type() Type { return TypeReshareComplete }
func (*ReshareAttested) Type() Type { return TypeReshareAttested }
func (*ReshareConsent) Type() Type  { return TypeReshareConsent }
func (*ReshareConfirm) Type() Type  { return TypeReshareConfirm }
func (*EpochCertified) Type() Type  { return TypeEpochCertified }
func (*CertificateGet) Type() Type  { return TypeCertificateGet }
