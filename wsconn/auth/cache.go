package auth

import (
	"crypto/sha256"
	"sync"
)

// maxCachedTokens bounds the cache of verified tokens; about 5 MB when full.
const maxCachedTokens = 16 << 10

// tokenCache remembers verified tokens by their hash, never the tokens. It has two
// generations: when the young one is full it becomes the old one and the former old
// one is dropped, which bounds it in constant time. Expired tokens are not removed
// early but never accepted: Verify checks the clock.
type tokenCache struct {
	half int // most entries of one generation

	mu    sync.Mutex
	young map[[sha256.Size]byte]Claims
	old   map[[sha256.Size]byte]Claims
}

func newTokenCache(most int) *tokenCache {
	return &tokenCache{half: max(1, most/2), young: make(map[[sha256.Size]byte]Claims)}
}

func (t *tokenCache) get(sum [sha256.Size]byte) (Claims, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.young[sum]; ok {
		return c, true
	}
	c, ok := t.old[sum]
	if ok {
		t.add(sum, c) // still in use: it survives the next turn
	}
	return c, ok
}

func (t *tokenCache) put(sum [sha256.Size]byte, c Claims) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(sum, c)
}

func (t *tokenCache) add(sum [sha256.Size]byte, c Claims) {
	if len(t.young) >= t.half {
		t.old = t.young
		t.young = make(map[[sha256.Size]byte]Claims)
	}
	t.young[sum] = c
}
