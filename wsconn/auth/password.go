package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
)

const (
	// MinPasswordBytes and MaxPasswordBytes bound a new password's length.
	MinPasswordBytes = 8
	MaxPasswordBytes = 1024

	saltBytes = 16
	hashBytes = 32

	// waitersPerSlot is how many logins may wait for each slot.
	waitersPerSlot = 32

	// A stored hash that asks for more is damaged or planted, and not computed.
	maxMemoryKiB = 1 << 20
	maxTime      = 16
	maxThreads   = 16
)

// Cost is what one argon2id hash costs (RFC 9106).
type Cost struct {
	MemoryKiB uint32
	Time      uint32 // passes
	Threads   uint8
}

// DefaultCost is RFC 9106's recommendation for machines short of memory, with
// the threads of a small node.
var DefaultCost = Cost{MemoryKiB: 64 << 10, Time: 3, Threads: 2}

func (c Cost) valid() bool {
	return c.Time >= 1 && c.Time <= maxTime && c.Threads >= 1 && c.Threads <= maxThreads &&
		c.MemoryKiB >= 8*uint32(c.Threads) && c.MemoryKiB <= maxMemoryKiB
}

// hash is a stored password hash.
type hash struct {
	cost Cost
	salt []byte
	sum  []byte
}

var phcBase64 = base64.RawStdEncoding.Strict()

// String returns h in the PHC format: $argon2id$v=19$m=65536,t=3,p=2$salt$hash.
func (h hash) String() string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.cost.MemoryKiB, h.cost.Time, h.cost.Threads,
		phcBase64.EncodeToString(h.salt), phcBase64.EncodeToString(h.sum))
}

func parseHash(s string) (hash, error) {
	bad := errors.New("stored password hash is not argon2id in PHC format")
	fields := strings.Split(s, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return hash{}, bad
	}
	var h hash
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.cost.MemoryKiB, &h.cost.Time, &h.cost.Threads); err != nil || !h.cost.valid() {
		return hash{}, bad
	}
	var err error
	if h.salt, err = phcBase64.DecodeString(fields[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return hash{}, bad
	}
	if h.sum, err = phcBase64.DecodeString(fields[5]); err != nil || len(h.sum) < 16 || len(h.sum) > 64 {
		return hash{}, bad
	}
	// One spelling only, so that nothing hides behind what Sscanf forgives.
	if h.String() != s {
		return hash{}, bad
	}
	return h, nil
}

// hasher computes password hashes, a bounded number at a time: each takes
// Cost.MemoryKiB, and a flood of logins must not take them all at once, nor all
// the turns.
type hasher struct {
	cost  Cost
	turns turns
	decoy hash // compared with when there is nothing to compare with
}

func newHasher(cost Cost, concurrency int) *hasher {
	h := &hasher{cost: cost, turns: turns{slots: concurrency, most: waitersPerSlot * concurrency}}
	h.decoy = hash{cost: cost, salt: make([]byte, saltBytes), sum: make([]byte, hashBytes)}
	rand.Read(h.decoy.salt)
	rand.Read(h.decoy.sum)
	return h
}

// make hashes a new password.
func (h *hasher) make(ctx context.Context, password string) (hash, error) {
	if err := h.turns.acquire(ctx, Turn{}); err != nil {
		return hash{}, err
	}
	defer h.turns.release()
	p := hash{cost: h.cost, salt: make([]byte, saltBytes)}
	rand.Read(p.salt)
	p.sum = p.cost.sum(password, p.salt, hashBytes)
	return p, nil
}

// check reports whether password is the one that made p.
func (h *hasher) check(ctx context.Context, p hash, password string, t Turn) (bool, error) {
	if err := h.turns.acquire(ctx, t); err != nil {
		return false, err
	}
	defer h.turns.release()
	sum := p.cost.sum(password, p.salt, uint32(len(p.sum)))
	return subtle.ConstantTimeCompare(sum, p.sum) == 1, nil
}

func (c Cost) sum(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.Time, c.MemoryKiB, c.Threads, n)
}
