package auth

import (
	"crypto/sha256"
	"fmt"
	"testing"
)

func TestTokenCacheIsBounded(t *testing.T) {
	const most = 100
	c := newTokenCache(most)
	sum := func(i int) [sha256.Size]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	c.put(sum(-1), Claims{Subject: "busy"})
	for i := range 10 * most {
		c.put(sum(i), Claims{Subject: fmt.Sprint(i)})
		if n := c.len(); n > most {
			t.Fatalf("%d entries, at most %d", n, most)
		}
		// Used entries stay, whatever others arrive.
		if got, ok := c.get(sum(-1)); !ok || got.Subject != "busy" {
			t.Fatalf("forgotten after %d others", i)
		}
		if got, ok := c.get(sum(i)); !ok || got.Subject != fmt.Sprint(i) {
			t.Fatalf("got %v, %v for %d", got, ok, i)
		}
	}
	if _, ok := c.get(sum(0)); ok {
		t.Error("what was not used since is still there")
	}
}
