package cluster

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest"
)

// Every key of a scenario is a row of the table in the package comment, of the type
// stated there, with a TTL if one is stated.
func TestKeysDocumented(t *testing.T) {
	t.Parallel()
	rows := keyTable(t)
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		w := newWorld(t, rdb, prefix)
		a := w.node("a")
		ctx := context.Background()
		m, s := w.join(a, "alice", 0, 10)
		if err := a.Send(ctx, Message{To: "alice", Payload: []byte("one"), ID: "id"}, Message{To: "alice", Payload: []byte("two")}); err != nil {
			t.Fatal(err)
		}
		if err := m.Ack(ctx, s.want("one")); err != nil {
			t.Fatal(err)
		}
		var many []any // simulates as many earlier messages
		for i := range seenKeep {
			many = append(many, fmt.Sprint(i))
		}
		if err := rdb.SAdd(ctx, w.keys().seen("alice"), many...).Err(); err != nil {
			t.Fatal(err)
		}
		for i := range 65 { // one of them has a number that triggers counting in the script
			if err := a.Send(ctx, Message{To: "alice", Payload: []byte("x"), ID: fmt.Sprint("x", i)}); err != nil {
				t.Fatal(err)
			}
		}
		w.send(a, "bob", "who is away")
		lock, err := a.Lock(ctx, "s1")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for it := rdb.Scan(ctx, 0, prefix+"*", 100).Iterator(); it.Next(ctx); {
			checkKey(t, rdb, strings.TrimPrefix(it.Val(), prefix), it.Val(), rows, seen)
		}
		for _, row := range rows {
			if !seen[row.name] {
				t.Errorf("no key like %s in the scenario", row.name)
			}
		}
		if err := lock.Release(ctx); err != nil {
			t.Logf("release: %v", err) // it expires on slow machines
		}
		if got := rdb.HGetAll(ctx, w.keys().presence("alice")).Val(); len(got) != 7 {
			t.Errorf("presence has %v, want node, conn, role, since, seq, at, acked", got)
		}
	})
}

type keyRow struct {
	name, kind string
	pattern    *regexp.Regexp
	ttl        bool
}

func keyTable(t *testing.T) []keyRow {
	src, err := os.ReadFile("cluster.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows []keyRow
	for _, line := range strings.Split(string(src), "\n") {
		f := strings.Fields(strings.TrimPrefix(line, "//\t"))
		if !strings.HasPrefix(line, "//\t") || len(f) < 2 {
			continue
		}
		kind := map[string]string{"hash": "hash", "zset": "zset", "stream": "stream", "string": "string", "set": "set"}[f[1]]
		if kind == "" {
			continue
		}
		pattern := regexp.QuoteMeta(f[0])
		pattern = regexp.MustCompile(`<\w+>`).ReplaceAllString(pattern, `[^{}]+`)
		rows = append(rows, keyRow{f[0], kind, regexp.MustCompile("^" + pattern + "$"), strings.Contains(line, "TTL")})
	}
	if len(rows) != 10 {
		t.Fatalf("found %d rows in the key table, want 10", len(rows))
	}
	return rows
}

func checkKey(t *testing.T, rdb redis.UniversalClient, name, key string, rows []keyRow, seen map[string]bool) {
	t.Helper()
	ctx := context.Background()
	for _, row := range rows {
		if !row.pattern.MatchString(name) {
			continue
		}
		seen[row.name] = true
		if kind := rdb.Type(ctx, key).Val(); kind != row.kind && kind != "none" {
			t.Errorf("%s is a %s, documented as %s", name, kind, row.kind)
		}
		if ttl := rdb.PTTL(ctx, key).Val(); (ttl > 0) != row.ttl && ttl != -2 {
			t.Errorf("%s lives %v, documented with TTL: %v", name, ttl, row.ttl)
		}
		return
	}
	t.Errorf("key %s is not documented", name)
}
