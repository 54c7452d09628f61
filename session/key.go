package session

import (
	"strconv"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// KeyStatus is the state of a key record.
type KeyStatus string

// The states of a key.
const (
	KeyReserved   KeyStatus = "reserved"   // a key_id handed out by the web API
	KeyGenerating KeyStatus = "generating" // its keygen is under way
	KeyActive     KeyStatus = "active"     // it can sign
	KeyFailed     KeyStatus = "failed"     // its keygen failed; its coordinator may try again
)

// Key is the public record of a key.
type Key struct {
	ID           string
	Status       KeyStatus
	Curve        pubkey.Curve
	AccountAddr  string   // empty until active
	PublicKey    string   // 0x hex; empty until active, and if no party reported it
	Epoch        int      // the certified one that signs: 1 from its keygen on
	Highest      int      // the greatest epoch number that was ever used for the key, certified or not; at least Epoch
	Threshold    int      // of the epoch
	Participants []string // of the epoch: user ids by part index less one
	Coordinator  string
	Session      string // its newest keygen session
	Certificate  string // hash of the epoch's certificate, 0x hex; empty for an epoch 1 of which none was made yet
	Origin       string // "generated" or "imported"; empty for a key older than epochs, which was generated

	// Reshare is the id of the key's open reshare, empty if it has none, and ReshareSince
	// the time at which Store.OpenReshare has noted it.
	Reshare      string
	ReshareSince time.Time

	ShareBytes int64 // of all parties' shares, as stored; 0 until active, and for keys older than this count
	Brief      bool  // a reserved or failed key: forgotten after BriefRetention; not stored
	CreatedAt  time.Time
	Version    int64 // bumped by the store with every write; 0 for a key that does not exist
}

// Epoch is one certified epoch of a key, of those that the store keeps a record of.
type Epoch struct {
	Number       int
	Parent       int // number of the epoch that it was made from; 0 for epoch 1
	Threshold    int
	Participants []string // user ids by part index less one
	Session      string   // that made it; empty if its certificate came from a member
	Certificate  string   // hash of its certificate, 0x hex
	Bytes        int64    // what it has added to the key's permanent size ([Key.KeyBytes]); may be negative
	CertifiedAt  time.Time
}

// PartIndex returns user's part index in the key's committee, 0 if it has none.
func (k Key) PartIndex(user string) int {
	for i, p := range k.Participants {
		if p == user {
			return i + 1
		}
	}
	return 0
}

// Involves reports whether user requested the key or holds a share of it.
func (k Key) Involves(user string) bool { return k.Coordinator == user || k.PartIndex(user) != 0 }

// Fingerprint identifies the content of a keygen request: equal for equal requests of
// one coordinator, 32 hex digits.
func (k Key) Fingerprint() string {
	return wire.Fingerprint("keygen", append([]string{k.Coordinator, k.ID, string(k.Curve), strconv.Itoa(k.Threshold)}, k.Participants...)...)
}

// Committee returns the parties of users, by part index less one, all uninvited.
func Committee(users []string) []Party {
	parties := make([]Party, len(users))
	for i, u := range users {
		parties[i].User = u
	}
	return parties
}
