package party

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

const (
	maxParties    = 256
	maxNameBytes  = 256     // ids and user names
	maxDigestSize = 1 << 20 // what an ed25519 key signs in one go
)

// Member is one party of a key.
type Member struct {
	// Index is the party's part_index: 1-based, the same for the key's whole life.
	Index int `json:"part_index"`
	// User is its user id.
	User string `json:"user_id"`
	// Identity is who the user is to the others.
	Identity PublicIdentity `json:"identity"`
}

// Binding says which run this is. Every message is signed, and every
// point-to-point body sealed, together with all of it, so that parties whose
// views differ in anything cannot exchange a single message.
type Binding struct {
	// SessionID and Attempt name the run; no two runs may have both in common.
	SessionID string
	Attempt   int
	// KeyID names the key.
	KeyID string
	Curve pubkey.Curve
	// Threshold is how many parties must sign: 2 <= Threshold <= TotalParts.
	Threshold  int
	TotalParts int
	// Parties are those of this run, ascending by Index: for keygen all
	// TotalParts, for signing at least Threshold of them.
	Parties []Member
	// Self is the own Index.
	Self int
}

// kind is the first thing a run is bound to.
type kind string

const (
	kindKeygen kind = "keygen"
	kindSign   kind = "sign"
)

// check refuses bindings no run can have. The identity is the own one.
func (b *Binding) check(k kind, identity *Identity) error {
	if identity == nil || identity.private == nil {
		return errors.New("the identity is missing")
	}
	if err := b.checkRun(k); err != nil {
		return err
	}
	self := b.member(b.Self)
	if self == nil {
		return fmt.Errorf("own part %d is not among the parties", b.Self)
	}
	if self.Identity != identity.public {
		return fmt.Errorf("part %d is listed with another identity than the own one", b.Self)
	}
	return nil
}

// checkRun checks all but what is the own party's.
func (b *Binding) checkRun(k kind) error {
	for _, id := range []string{b.SessionID, b.KeyID} {
		if id == "" || len(id) > maxNameBytes {
			return fmt.Errorf("session id and key id must be 1 to %d bytes", maxNameBytes)
		}
	}
	if b.Curve != pubkey.Secp256k1 && b.Curve != pubkey.Ed25519 {
		return pubkey.ErrCurve
	}
	if b.Attempt < 0 {
		return errors.New("attempt must not be negative")
	}
	if err := checkThreshold(b.Threshold, b.TotalParts); err != nil {
		return err
	}
	if k == kindKeygen && len(b.Parties) != b.TotalParts {
		return fmt.Errorf("key generation needs all %d parties, not %d", b.TotalParts, len(b.Parties))
	}
	if len(b.Parties) < b.Threshold {
		return fmt.Errorf("%d parties are fewer than the threshold %d", len(b.Parties), b.Threshold)
	}
	return checkMembers(b.Parties, b.TotalParts)
}

// member returns the party with a part index, nil if there is none in the run.
func (b *Binding) member(part int) *Member {
	for i := range b.Parties {
		if b.Parties[i].Index == part {
			return &b.Parties[i]
		}
	}
	return nil
}

func checkThreshold(threshold, total int) error {
	if threshold < 2 || threshold > total || total > maxParties {
		return fmt.Errorf("threshold %d of %d parts is not possible", threshold, total)
	}
	return nil
}

// checkMembers wants ascending indexes within 1..total, and no user and no key
// twice: a client in two places could be told its own messages as another's.
func checkMembers(members []Member, total int) error {
	users, keys := map[string]bool{}, map[[32]byte]bool{}
	last := 0
	for _, m := range members {
		if m.Index <= last || m.Index > total {
			return fmt.Errorf("part %d is out of order or range", m.Index)
		}
		last = m.Index
		if m.User == "" || len(m.User) > maxNameBytes {
			return fmt.Errorf("user of part %d must be 1 to %d bytes", m.Index, maxNameBytes)
		}
		if err := m.Identity.check(); err != nil {
			return fmt.Errorf("identity of part %d: %w", m.Index, err)
		}
		if users[m.User] || keys[m.Identity.sign] {
			return fmt.Errorf("part %d repeats a user or an identity", m.Index)
		}
		users[m.User], keys[m.Identity.sign] = true, true
	}
	return nil
}

// context is the hash that stands for the whole binding in signatures and
// seals. Digest and public key are empty in keygen.
func (b *Binding) context(k kind, digest, publicKey []byte) [sha256.Size]byte {
	var t transcript
	t.text("conclave/party/run/v1")
	t.text(string(k))
	t.text(b.SessionID)
	t.number(b.Attempt)
	t.text(b.KeyID)
	t.text(string(b.Curve))
	t.number(b.Threshold)
	t.number(b.TotalParts)
	t.number(len(b.Parties))
	for _, m := range b.Parties {
		t.number(m.Index)
		t.text(m.User)
		t.bytes(m.Identity.sign[:])
		t.bytes(m.Identity.seal[:])
	}
	t.bytes(digest)
	t.bytes(publicKey)
	return sha256.Sum256(t.buf)
}

// transcript encodes a list of values so that no other list has the same
// encoding: byte strings carry their length, numbers have a fixed size, and the
// first value names the purpose.
type transcript struct{ buf []byte }

func (t *transcript) bytes(b []byte) {
	t.buf = binary.BigEndian.AppendUint32(t.buf, uint32(len(b)))
	t.buf = append(t.buf, b...)
}

func (t *transcript) text(s string) { t.bytes([]byte(s)) }

func (t *transcript) number(n int) { t.buf = binary.BigEndian.AppendUint64(t.buf, uint64(n)) }
