package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

// Whatever a password is compared with, a hash is computed before the answer, and
// without a stored one it has the same cost. The one slot for hashing is taken
// here, so no comparison gets past it.
func TestCheckCostsTheSame(t *testing.T) {
	h := NewHasher(Cost{MemoryKiB: 64, Time: 1, Threads: 1}, 1)
	stored, err := h.Hash(t.Context(), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.turns.acquire(t.Context(), Turn{}); err != nil {
		t.Fatal(err)
	}
	for _, hash := range []string{stored, "", "!", "broken"} {
		for _, password := range []string{"correct horse", "wrong", "", strings.Repeat("x", MaxPasswordBytes+1)} {
			ctx, cancel := context.WithTimeout(t.Context(), 25*time.Millisecond)
			_, err := h.Check(ctx, hash, password, Turn{})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%q with %.20q is answered without a hash: %v", hash, password, err)
			}
		}
	}
	h.turns.release()

	read, err := parseHash(stored)
	if err != nil {
		t.Fatal(err)
	}
	if d := h.decoy; d.cost != read.cost || len(d.salt) != len(read.salt) || len(d.sum) != len(read.sum) {
		t.Errorf("the decoy %v is not like a stored hash %v", d, read)
	}
	for _, c := range []struct {
		hash, password string
		match          bool
		err            error
	}{{stored, "correct horse", true, nil}, {stored, "wrong", false, nil}, {"", "correct horse", false, nil}, {"broken", "correct horse", false, ErrBadHash}} {
		if match, err := h.Check(t.Context(), c.hash, c.password, Turn{}); match != c.match || err != c.err {
			t.Errorf("%q with %q: got %v, %v, want %v, %v", c.hash, c.password, match, err, c.match, c.err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=3,p=2$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=64,t=1,p=1 $AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := parseHash(s)
		if err == nil && (h.String() != s || !h.cost.Valid()) {
			t.Fatalf("%q was read as %q", s, h)
		}
	})
}
