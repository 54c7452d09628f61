package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/conclave-mpc/conclave/wsconn/wire"
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

// Cost is the cost of one argon2id hash (RFC 9106).
type Cost struct {
	MemoryKiB uint32
	Time      uint32 // passes
	Threads   uint8
}

// DefaultCost is RFC 9106's recommendation for machines short of memory, with
// the threads of a small node.
var DefaultCost = Cost{MemoryKiB: 64 << 10, Time: 3, Threads: 2}

// Valid reports whether hashes of that cost can be computed here.
func (c Cost) Valid() bool {
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
	fields := strings.Split(s, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return hash{}, ErrBadHash
	}
	var h hash
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.cost.MemoryKiB, &h.cost.Time, &h.cost.Threads); err != nil || !h.cost.Valid() {
		return hash{}, ErrBadHash
	}
	var err error
	if h.salt, err = phcBase64.DecodeString(fields[4]); err != nil || len(h.salt) < 8 || len(h.salt) > 64 {
		return hash{}, ErrBadHash
	}
	if h.sum, err = phcBase64.DecodeString(fields[5]); err != nil || len(h.sum) < 16 || len(h.sum) > 64 {
		return hash{}, ErrBadHash
	}
	// Only one spelling is valid, since Sscanf accepts others.
	if h.String() != s {
		return hash{}, ErrBadHash
	}
	return h, nil
}

// ErrBadHash is returned by [Hasher.Check] for a stored hash that cannot be read.
var ErrBadHash = errors.New("stored password hash is not argon2id in PHC format")

// Hasher computes password hashes, a bounded number at a time: each takes
// Cost.MemoryKiB, and many logins at once must neither take all memory nor, from
// one network, all the slots. It is safe for concurrent use.
type Hasher struct {
	cost  Cost
	turns turns
	decoy hash // compared with if there is no stored hash
}

// NewHasher returns a Hasher whose new hashes have that cost, which must be Valid.
// Concurrency is how many hashes are computed at the same time.
func NewHasher(cost Cost, concurrency int) *Hasher {
	h := &Hasher{cost: cost, turns: turns{slots: concurrency, most: waitersPerSlot * concurrency}}
	h.decoy = hash{cost: cost, salt: make([]byte, saltBytes), sum: make([]byte, hashBytes)}
	rand.Read(h.decoy.salt)
	rand.Read(h.decoy.sum)
	return h
}

// Hash hashes a new password for storage. Its errors are those of Check, except
// ErrBadHash.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	if err := h.turns.acquire(ctx, Turn{}); err != nil {
		return "", err
	}
	defer h.turns.release()
	p := hash{cost: h.cost, salt: make([]byte, saltBytes)}
	rand.Read(p.salt)
	p.sum = p.cost.sum(password, p.salt, hashBytes)
	return p.String(), nil
}

// Check reports whether password matches the stored hash. An empty stored matches no
// password, takes as long to compare and returns false. Its errors are ErrBadHash, a
// *wire.Error with wire.CodeRateLimited when too many wait, and ctx's.
func (h *Hasher) Check(ctx context.Context, stored, password string, t Turn) (bool, error) {
	p, broken := h.decoy, error(nil)
	if stored != "" {
		if p, broken = parseHash(stored); broken != nil {
			p = h.decoy
		}
	}
	if len(password) > MaxPasswordBytes {
		password = "" // never a password, and costs the same
	}
	if err := h.turns.acquire(ctx, t); err != nil {
		return false, err
	}
	defer h.turns.release()
	sum := p.cost.sum(password, p.salt, uint32(len(p.sum)))
	match := subtle.ConstantTimeCompare(sum, p.sum) == 1
	return match && stored != "" && broken == nil, broken
}

// CheckPassword returns a *wire.Error with wire.CodeBadRequest for an unacceptable
// new password.
func CheckPassword(password string) error {
	if n := len(password); n < MinPasswordBytes || n > MaxPasswordBytes {
		return wire.Errorf(wire.CodeBadRequest, "password must have from %d to %d bytes", MinPasswordBytes, MaxPasswordBytes)
	}
	if !utf8.ValidString(password) { // a login over JSON could not send it
		return wire.Errorf(wire.CodeBadRequest, "password is not UTF-8")
	}
	return nil
}

func (c Cost) sum(password string, salt []byte, n uint32) []byte {
	return argon2.IDKey([]byte(password), salt, c.Time, c.MemoryKiB, c.Threads, n)
}
