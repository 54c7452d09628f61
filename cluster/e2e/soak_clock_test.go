package e2e_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// TestOnlyRedisTellsTheTime has nodes whose clocks are a day before and a day after
// that of Redis. Sessions, presence and mailboxes are not affected, and deadlines
// follow the clock of Redis.
func TestOnlyRedisTellsTheTime(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-26 * time.Hour, 26 * time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			m := redistest.StartMini(t)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			m.SetTime(time.Now().Add(off))
			go func() {
				defer close(done)
				for waitFor(ctx, time.Millisecond) {
					m.SetTime(time.Now().Add(off))
				}
			}()
			t.Cleanup(func() { cancel(); <-done })
			rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
			t.Cleanup(func() { _ = rdb.Close() })
			c := newCluster(t, rdb, redistest.Prefix(), append([]string{"--invite-timeout", "2s"}, withKEK...)...)
			c.run()
			c.run()
			g := gatherParts(t, c)
			g.keygen(t)
			g.sign(t, "whatever the time", 1, 3)
			g.p[2].drop()
			g.p[2].connect(c.nodes[0])
			g.sign(t, "and later", 2, 3)

			begun := time.Now()
			g.keyID = "nobody-answers"
			g.request()
			if got := g.coordinator.expect("keygen_confirm"); got["status"] != "expired" {
				t.Errorf("keygen_confirm = %v, want expired", got)
			}
			if took := time.Since(begun); took < 1900*time.Millisecond || took > 10*time.Second {
				t.Errorf("an invitation of 2s expired after %s", took)
			}
			c.settled()
		})
	}
}

// TestClocksOfNodes lists where the packages that keep state read the clock of their
// own process. Before adding to it, make sure that nothing there depends on nodes
// agreeing: that is the purpose of Redis's TIME.
func TestClocksOfNodes(t *testing.T) {
	t.Parallel()
	known := map[string]int{
		"cluster/apart.go":           2, // for how long a mailbox is left alone, on the monotonic clock
		"cluster/check.go":           1, // duration of a check, on the monotonic clock
		"cluster/cluster.go":         1, // start of the process: reported, and base of the monotonic clock
		"cluster/heartbeat.go":       1, // when a node was seen, for people; whether it is gone is decided by the lease in Redis
		"cluster/presence.go":        1, // duration of the cleanup, on the monotonic clock
		"cluster/send.go":            2, // whether a caller has stopped waiting; time of the last renewal; on the monotonic clock
		"cluster/lock.go":            1, // start of a measurement
		"session/service/lock.go":    1, // how long a lock was waited for, on the monotonic clock
		"session/service/advance.go": 1, // start of a measurement
		"session/service/request.go": 1, // start of a measurement
		"session/service/relay.go":   2, // age of a cache entry, on the monotonic clock
	}
	found := map[string]int{}
	for _, dir := range []string{"cluster", "session", "session/service", "cluster/store/sessions"} {
		files, err := filepath.Glob(filepath.Join("../..", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name := dir + "/" + filepath.Base(file)
			if n := bytes.Count(source, []byte("time.Now()")); n > 0 && !strings.HasSuffix(name, "_test.go") {
				found[name] = n
			}
		}
	}
	var all []string
	for name := range found {
		all = append(all, name)
	}
	slices.Sort(all)
	for _, name := range all {
		if found[name] != known[name] {
			t.Errorf("%s looks at its own clock %d times, known are %d", name, found[name], known[name])
		}
	}
}
