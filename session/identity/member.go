package identity

import "fmt"

const (
	// MaxParties is the largest number of parties of a key.
	MaxParties = 256
	// MaxNameBytes is the greatest length of a signed session id, key id or user id.
	MaxNameBytes = 256

	maxEpoch = 1<<31 - 1
)

// Member is one party of a key.
type Member struct {
	// Index is the party's part_index: 1-based, fixed for the key's life.
	Index int `json:"part_index"`
	// User is its user id.
	User string `json:"user_id"`
	// Identity is the user's public identity.
	Identity Public `json:"identity"`
}

// CheckEpoch returns an error unless epoch is valid: 1 or more. A key generation makes
// epoch 1; formats without epochs mean epoch 1.
func CheckEpoch(epoch int) error {
	if epoch < 1 || epoch > maxEpoch {
		return fmt.Errorf("epoch %d is not possible", epoch)
	}
	return nil
}

// CheckThreshold returns an error unless threshold of total parties can sign:
// 2 <= threshold <= total <= MaxParties.
func CheckThreshold(threshold, total int) error {
	if threshold < 2 || threshold > total || total > MaxParties {
		return fmt.Errorf("threshold %d of %d parts is not possible", threshold, total)
	}
	return nil
}

// CheckMembers returns an error unless the indexes ascend within 1..total, every
// identity is valid, and no user and no signing key appears twice: a client with two
// parts could be sent its own messages as another's.
func CheckMembers(members []Member, total int) error {
	users, keys := map[string]bool{}, map[[32]byte]bool{}
	last := 0
	for _, m := range members {
		if m.Index <= last || m.Index > total {
			return fmt.Errorf("part %d is out of order or range", m.Index)
		}
		last = m.Index
		if m.User == "" || len(m.User) > MaxNameBytes {
			return fmt.Errorf("user of part %d must be 1 to %d bytes", m.Index, MaxNameBytes)
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
