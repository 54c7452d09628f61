package cluster

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// A node with another secret, or of a non-adjacent version, is not ready beside an
// earlier one, which stays ready. Adjacent versions, a secret in rotation, and a
// node that reports nothing agree.
func TestDisagreement(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secret   []string
		protocol int
		agrees   bool
	}{
		"the same":                   {[]string{"a"}, 5, true},
		"a new secret, the old kept": {[]string{"b", "a"}, 5, true},
		"another secret":             {[]string{"b"}, 5, false},
		"no secret":                  {nil, 5, true},
		"one version later":          {[]string{"a"}, 6, true},
		"one version earlier":        {[]string{"a"}, 4, true},
		"two versions later":         {[]string{"a"}, 7, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, redistest.Mini(t), redistest.Prefix())
			first := w.node("n1", func(cfg *Config) { cfg.Agree, cfg.protocol = map[string][]string{"secret": {"a"}}, 5 })
			second := w.unready("n2", func(cfg *Config) { cfg.Agree, cfg.protocol = map[string][]string{"secret": c.secret}, c.protocol })
			ctx := context.Background()
			if c.agrees {
				w.eventually("both are ready", func() bool { return second.Ready(ctx) == nil && first.Ready(ctx) == nil })
			} else {
				w.eventually("the second is not ready, and says why", func() bool { return errors.Is(second.Ready(ctx), ErrDiffers) })
				w.eventually("the first knows", func() bool { return first.differs.Load() != nil })
				if err := first.Ready(ctx); err != nil {
					t.Errorf("the first: %v", err)
				}
			}
			_, s := w.join(first, "bob", 0, 4)
			w.send(second, "bob", "one") // regardless of their agreement
			s.want("one")
		})
	}
}

// Of two processes with one id the later keeps it, and the earlier reports ErrIDTaken.
func TestSameNodeIDTwice(t *testing.T) {
	t.Parallel()
	redistest.Best(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		first := w.node("n1")
		second := w.node("n1")
		ctx := context.Background()
		w.eventually("the first is out", func() bool { return errors.Is(first.Ready(ctx), ErrIDTaken) })
		if err := second.Ready(ctx); err != nil {
			t.Errorf("the second: %v", err)
		}
	})
}
