package sessions

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

const (
	defaultPage  = 50
	mostPage     = 500
	rememberedIn = reservedFor // lifetime of a request under an idempotency key
)

var (
	//go:embed index.lua
	indexSource string
	//go:embed list.lua
	listSource string
	//go:embed watch.lua
	watchSource string
	//go:embed remember.lua
	rememberSource string
	//go:embed index_key.lua
	indexKeySource string

	listScript     = redisx.NewScript(indexSource, listSource)
	watchScript    = redisx.NewScript(watchSource)
	rememberScript = redisx.NewScript(rememberSource)
	indexKeyScript = redisx.NewScript(indexKeySource)
)

// SessionsOf implements service.Sessions. Briefly kept sessions have their own
// list.
func (s *Store) SessionsOf(ctx context.Context, user string, p service.Page) ([]service.Place, error) {
	long, err := s.page(ctx, s.keys.sessionsOf(user), p)
	if err != nil {
		return nil, err
	}
	brief, err := s.page(ctx, s.keys.briefOf(user), p)
	if err != nil {
		return nil, err
	}
	all := append(long, brief...)
	slices.SortFunc(all, func(a, b service.Place) int {
		switch {
		case a == b:
			return 0
		case b.Follows(a):
			return -1
		}
		return 1
	})
	all = slices.Compact(all)
	return all[:min(len(all), pageLimit(p))], nil
}

// KeysOf implements service.Keys.
func (s *Store) KeysOf(ctx context.Context, user string, p service.Page) ([]service.Place, error) {
	return s.page(ctx, s.keys.keysOf(user), p)
}

// ListedKeys implements service.Keys.
func (s *Store) ListedKeys(ctx context.Context, user string, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	// Not rdb.ZMScore, which returns 0 for a missing member.
	args := make([]any, 2, 2+len(ids))
	args[0], args[1] = "zmscore", s.keys.keysOf(user)
	for _, id := range ids {
		args = append(args, id)
	}
	scores, err := s.rdb.Do(ctx, args...).Slice()
	if err != nil {
		return nil, unavailable("read index", err)
	}
	var listed []string
	for i, score := range scores {
		if score != nil && i < len(ids) {
			listed = append(listed, ids[i])
		}
	}
	return listed, nil
}

// listing is a session's place in the lists of everyone involved and of all sessions.
type listing struct {
	id, score string
	life      int64  // remaining lifetime of a list, ms
	oldest    string // every session listed below this score has expired
	lists     []string
}

func (s *Store) listed(ses session.Session) listing {
	life, list := s.kept(ses.Brief)+openFor(ses.Terms), s.keys.sessionsOf
	if ses.Brief {
		list = s.keys.briefOf
	}
	l := listing{
		id: ses.ID, score: scoreText(score(ses.CreatedAt)),
		life: life.Milliseconds(), oldest: scoreText(score(ses.CreatedAt.Add(-life))),
	}
	for _, user := range append(ses.InvitedUsers(), ses.Coordinator, "") {
		l.lists = append(l.lists, list(user))
	}
	return l
}

// openFor is longer than a session under these terms stays open.
func openFor(t session.Terms) time.Duration {
	return min(t.Invite+session.MaxAttempts*t.Run+10*time.Minute, longestSession)
}

// calls writes it to each list separately.
func (l listing) calls() []redis.Cmder {
	calls := make([]redis.Cmder, 0, len(l.lists)+1)
	for _, list := range l.lists {
		calls = append(calls, listScript.Call([]string{list}, l.id, l.score, l.life, l.oldest))
	}
	return calls
}

// indexKey lists a key for everyone involved; ends says that this ends a session, which
// must not fail when Redis is full.
func (s *Store) indexKey(ctx context.Context, k session.Key, ends bool) error {
	always := 0
	if ends {
		always = 1
	}
	return s.listKey(ctx, k, func(list string) redis.Cmder {
		return indexKeyScript.Call([]string{list}, k.ID, scoreText(score(k.CreatedAt)), always)
	})
}

func (s *Store) unindexKey(ctx context.Context, k session.Key) error {
	return s.listKey(ctx, k, func(list string) redis.Cmder { return redis.NewIntCmd(ctx, "zrem", list, k.ID) })
}

// listKey applies do to each list that a key may be in.
func (s *Store) listKey(ctx context.Context, k session.Key, do func(list string) redis.Cmder) error {
	var calls []redis.Cmder
	for _, user := range append([]string{k.Coordinator, ""}, k.Participants...) {
		calls = append(calls, do(s.keys.keysOf(user)))
	}
	return s.do(ctx, "index key "+k.ID, calls...)
}

func pageLimit(p service.Page) int {
	if p.Limit <= 0 {
		return defaultPage
	}
	return min(p.Limit, mostPage)
}

// page reads an index, newest first: p.Limit entries, 50 if that is not set, 500 at
// most. Entries with the very time at which the page begins are read too, and
// skipped up to the page's place; usually one entry.
func (s *Store) page(ctx context.Context, key string, p service.Page) ([]service.Place, error) {
	limit := pageLimit(p)
	from := "+inf"
	if !p.After.At.IsZero() {
		from = scoreText(score(p.After.At))
	}
	places := make([]service.Place, 0, limit)
	for offset, count := 0, limit+1; ; offset += count {
		entries, err := s.rdb.ZRevRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{
			Min: "-inf", Max: from, Offset: int64(offset), Count: int64(count),
		}).Result()
		if err != nil {
			return nil, unavailable("read index", err)
		}
		for _, e := range entries {
			place := service.Place{At: time.UnixMicro(int64(math.Round(e.Score * 1000))).UTC()}
			place.ID, _ = e.Member.(string)
			if place.Follows(p.After) && len(places) < limit {
				places = append(places, place)
			}
		}
		if len(places) == limit || len(entries) < count {
			return places, nil
		}
	}
}

// LoadAll implements service.Sessions.
func (s *Store) LoadAll(ctx context.Context, ids []string) ([]session.Session, error) {
	return all(ctx, s, ids, s.keys.session, parseSession)
}

// KeyRecords implements service.Keys.
func (s *Store) KeyRecords(ctx context.Context, ids []string) ([]session.Key, error) {
	return all(ctx, s, ids, s.keys.key, parseKey)
}

// all reads the existing hashes of ids, in one pipeline.
func all[T any](ctx context.Context, s *Store, ids []string, key func(string) string, parse func(string, map[string]string) (T, error)) ([]T, error) {
	found := make([]*redis.MapStringStringCmd, len(ids))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			found[i] = p.HGetAll(ctx, key(id))
		}
		return nil
	})
	if err != nil {
		return nil, unavailable("read a list", err)
	}
	list := make([]T, 0, len(ids))
	for i, id := range ids {
		fields := found[i].Val()
		if len(fields) == 0 {
			continue
		}
		item, err := parse(id, fields)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", id, err)
		}
		list = append(list, item)
	}
	return list, nil
}

// Watch implements service.Sessions.
func (s *Store) Watch(ctx context.Context, id, node string, ttl time.Duration) (int64, error) {
	call := watchScript.Call([]string{s.keys.session(id), s.keys.watch(id)}, node, ttl.Milliseconds())
	if err := s.do(ctx, "watch session "+id, call); err != nil {
		return 0, err
	}
	version, err := call.Text()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, service.ErrNotFound
	case err != nil:
		return 0, fmt.Errorf("watch session %s: %w", id, err)
	}
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("watch session %s: %w", id, err)
	}
	return n, nil
}

// Remember implements service.Sessions.
func (s *Store) Remember(ctx context.Context, name, request string, brief bool) (string, error) {
	const doing = "remember a request"
	life := rememberedIn
	if brief {
		life = s.briefly()
	}
	call := rememberScript.Call([]string{s.keys.request(name)}, request, life.Milliseconds())
	if err := s.do(ctx, doing, call); err != nil {
		return "", err
	}
	kept, err := call.Text()
	if err != nil {
		return "", unavailable(doing, err)
	}
	return kept, nil
}

// Remembered implements service.Sessions.
func (s *Store) Remembered(ctx context.Context, name string) (string, error) {
	get := redis.NewStringCmd(ctx, "get", s.keys.request(name))
	if err := s.do(ctx, "look for a request", get); err != nil {
		return "", err
	}
	return get.Val(), nil
}

// Forget implements service.Sessions.
func (s *Store) Forget(ctx context.Context, name string) error {
	return s.do(ctx, "forget a request", redis.NewIntCmd(ctx, "del", s.keys.request(name)))
}
