package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// stored reads the final content of Redis, for the checker.
func (a *arena) stored() storedState {
	ctx := context.Background()
	s := storedState{sessions: map[string]storedSession{}, keys: map[string]storedKey{}, mailboxes: a.mailboxes()}
	for _, key := range a.keys("session:*") {
		if strings.HasSuffix(key, ":outbox") {
			if n := a.rdb.XLen(ctx, key).Val(); n > 0 {
				s.leftovers = append(s.leftovers, fmt.Sprintf("%s holds %d messages", key, n))
			}
			continue
		}
		s.sessions[inBraces(key)] = parseStored(a.rdb.HGetAll(ctx, key).Val())
	}
	for _, key := range a.keys("key:*") {
		if strings.HasSuffix(key, "}") { // the record itself
			s.keys[inBraces(key)] = a.storedKey(ctx, key)
		}
	}
	for user, box := range s.mailboxes {
		if box.left > 0 {
			s.leftovers = append(s.leftovers, fmt.Sprintf("%d messages for %s", box.left, user))
		}
	}
	for _, id := range a.rdb.ZRange(ctx, a.c.prefix+"sessions:due", 0, -1).Val() {
		s.leftovers = append(s.leftovers, "due: "+id)
	}
	for _, kind := range []string{"lock:*", "presence:*"} {
		s.leftovers = append(s.leftovers, a.keys(kind)...)
	}
	return s
}

func (a *arena) keys(pattern string) []string {
	ctx := context.Background()
	var all []string
	for it := a.rdb.Scan(ctx, 0, a.c.prefix+pattern, 1000).Iterator(); it.Next(ctx); {
		all = append(all, it.Val())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func inBraces(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	id, _, _ := strings.Cut(rest, "}")
	return id
}

func parseStored(f map[string]string) storedSession {
	s := storedSession{kind: f["kind"], phase: f["phase"], coordinator: f["coordinator"], request: f["request_id"], value: f["account_addr"], answers: map[int]string{}}
	if s.kind == "sign" {
		s.value = f["signature"]
	}
	for i, user := range strings.Split(f["participants"], ",") {
		if f["invited:"+strconv.Itoa(i+1)] == "yes" {
			s.invited = append(s.invited, user)
		}
		s.answers[i+1] = f["response:"+strconv.Itoa(i+1)]
	}
	return s
}

func (a *arena) storedKey(ctx context.Context, key string) storedKey {
	f := a.rdb.HGetAll(ctx, key).Val()
	k := storedKey{status: f["status"], session: f["session"], address: f["account_addr"], shares: map[int]string{}}
	k.parts, _ = strconv.Atoi(f["total_parts"])
	for name := range f {
		if id, ok := strings.CutPrefix(name, "open:"); ok {
			k.open = append(k.open, id)
		}
	}
	for field, value := range a.rdb.HGetAll(ctx, key+":shares").Val() {
		if !strings.HasPrefix(field, "attestation:") { // those of real parties
			i, _ := strconv.Atoi(field)
			k.shares[i] = value
		}
	}
	return k
}

func (a *arena) mailboxes() map[string]storedMailbox {
	ctx := context.Background()
	boxes := map[string]storedMailbox{}
	for _, key := range a.keys("mailbox:*") {
		info, err := a.rdb.XInfoStream(ctx, key).Result()
		if err != nil {
			continue
		}
		boxes[inBraces(key)] = parseMailbox(info)
	}
	return boxes
}

// parseMailbox counts the messages ever appended. (If a Redis does not report its
// name, the first entry of a mailbox only sets where its numbers begin.)
func parseMailbox(info *redis.XInfoStream) storedMailbox {
	_, seq, _ := strings.Cut(info.LastGeneratedID, "-")
	box := storedMailbox{left: int(info.Length)}
	box.newest, _ = strconv.ParseUint(seq, 10, 64)
	if info.EntriesAdded > 0 {
		box.appended = uint64(info.EntriesAdded) - 1
	}
	return box
}
