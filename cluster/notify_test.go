package cluster

import (
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// TestNotify notifies two of three nodes, one of them without Notified, and a node
// that does not exist.
func TestNotify(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		var mu sync.Mutex
		var heard []string
		hears := func(id string) func(*Config) {
			return func(c *Config) {
				c.Notified = func(text string) {
					mu.Lock()
					defer mu.Unlock()
					heard = append(heard, id+": "+text)
				}
			}
		}
		n1 := w.node("n1", hears("n1"))
		w.node("n2", hears("n2"))
		w.node("n3")
		n1.Notify(t.Context(), "first word", "n2", "n3", "gone")
		n1.Notify(t.Context(), "second", "n2")
		w.eventually("n2 has heard both", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(heard, []string{"n2: first word", "n2: second"})
		})
		n1.Notify(t.Context(), "to nobody")
	})
}
