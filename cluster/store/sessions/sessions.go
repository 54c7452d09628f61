// Package sessions is service.Store on Redis: sessions as readable hashes
// with their outbox streams, key records with their shares, and the list of sessions
// that are due.
//
// Start here: [New] makes the [Store] that package session/service works on.
//
// It stores and compares; it decides nothing. A write that depends on a read is one
// script, with all its dependencies in one slot, so that it is safe from any number
// of nodes and on Redis Cluster. Related data in another slot (lists, the time when
// a session is next due) is written by the same script where one server has all
// keys, else before it.
//
// # Keys
//
// All begin with the configured prefix.
//
//	session:{id}           hash    one session; expires a while after its end
//	session:{id}:outbox    stream  committed messages not yet delivered
//	session:{id}:watch     set     nodes to notify of its commits; lives while they renew it
//	lock:{id}              string  read only, to fence commits; package cluster takes it
//	key:{id}               hash    one key record, with open:<session> for each open signing
//	key:{id}:shares        hash    <part index> -> the share of epoch 1 as stored, attestation:<part index>; <epoch>:<part index> -> of later ones
//	key:{id}:epochs        hash    epoch number -> its committee and threshold, JSON; from the first reshare on
//	key:{id}:lineage       hash    epoch number -> its certificate; from the first reshare on
//	sessions:due           zset    session ids by when to look at them, ms
//	webhooks               zset    session ids whose outcomes are to be delivered, by the next try, ms; negative ms once delivered
//	webhooks:since         zset    session ids whose outcomes failed at the first try, or are requested again, by since when, ms
//	index:{user}:sessions  zset    session ids by creation, ms; expires like its newest session
//	index:{user}:brief     zset    the same of sessions that are kept briefly; entries go with those
//	index:{user}:keys      zset    key ids by creation, ms
//	index:sessions         zset    all session ids by creation, ms; expires like its newest session
//	index:brief            zset    the same of sessions that are kept briefly
//	index:keys             zset    all key ids by creation, ms
//	request:{id}           string  the request under an idempotency key; id is a hash of it and the user
//
//	quota:{user}           hash    an account's use, as coordinator, by open and by ended sessions; see quota.lua
//	quota:{user}:open      hash    session id -> its reservation while it is open
//	quota:{user}:keys      hash    how many keys the account has made, and their bytes; for ever
//
// Times are those of Redis. The package starts no goroutines; a Store is safe
// for concurrent use.
package sessions

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

// Config configures New.
type Config struct {
	Redis     redis.UniversalClient
	Pipeline  *redisx.Client // to the same Redis, to share round trips with others; nil for the store's own
	Prefix    string         // of every key
	Retention time.Duration  // how long a session is kept after its end; zero means 72 hours
	Quota     session.Quota  // per account
}

// Store implements service.Store.
type Store struct {
	rdb       redis.UniversalClient // for long replies
	line      *redisx.Client
	keys      keys
	retention time.Duration
	quota     session.Quota
}

const (
	defaultRetention = 72 * time.Hour
	reservedFor      = session.ReservedFor // lifetime of a key_id without a key: reserved, or after a failed keygen
	longestSession   = 14 * 24 * time.Hour // maximum time a session is open
	outboxBatch      = 64                  // entries, each up to a frame
)

// New returns a Store.
func New(cfg Config) *Store {
	if cfg.Retention == 0 {
		cfg.Retention = defaultRetention
	}
	if cfg.Pipeline == nil {
		cfg.Pipeline = redisx.New(cfg.Redis)
	}
	return &Store{rdb: cfg.Redis, line: cfg.Pipeline, keys: keys(cfg.Prefix), retention: cfg.Retention, quota: cfg.Quota.Complete()}
}

// Scripts. Each file's header states its purpose, keys, arguments and results.
var (
	//go:embed load.lua
	loadSource string
	//go:embed create.lua
	createSource string
	//go:embed commit.lua
	commitSource string

	loadScript   = redisx.NewScript(loadSource)
	createScript = redisx.NewScript(indexSource, createSource)
	commitScript = redisx.NewScript(commitSource)
)

// Now implements service.Sessions.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	now := redis.NewTimeCmd(ctx, "time")
	if err := s.do(ctx, "read the time", now); err != nil {
		return time.Time{}, err
	}
	return now.Val().UTC(), nil
}

// do carries out cmds; doing describes them in the error.
func (s *Store) do(ctx context.Context, doing string, cmds ...redis.Cmder) error {
	if err := s.line.Do(ctx, cmds...); err != nil {
		return unavailable(doing, err)
	}
	return nil
}

// Load implements service.Sessions.
func (s *Store) Load(ctx context.Context, id string) (session.Session, time.Time, error) {
	call := loadScript.Call([]string{s.keys.session(id)})
	if err := s.do(ctx, "load session "+id, call); err != nil {
		return session.Session{}, time.Time{}, err
	}
	reply, err := call.Slice()
	if err != nil {
		return session.Session{}, time.Time{}, unavailable("load session "+id, err)
	}
	return s.Loaded(id, reply)
}

// SessionKey returns the key of a session's hash, for callers that load it together
// with other data.
func (s *Store) SessionKey(id string) string { return s.keys.session(id) }

// Loaded returns Load's result, where reply is the time (seconds and microseconds)
// and then the fields and values of the session's hash.
func (s *Store) Loaded(id string, reply []any) (session.Session, time.Time, error) {
	if len(reply) < 2 {
		return session.Session{}, time.Time{}, fmt.Errorf("load session %s: unexpected reply", id)
	}
	now, err := scriptTime(reply[0], reply[1])
	if err != nil {
		return session.Session{}, time.Time{}, fmt.Errorf("load session %s: %w", id, err)
	}
	if len(reply) == 2 {
		return session.Session{}, now, service.ErrNotFound
	}
	fields := make(map[string]string, len(reply)/2)
	for i := 2; i+1 < len(reply); i += 2 {
		name, _ := reply[i].(string)
		fields[name], _ = reply[i+1].(string)
	}
	loaded, err := parseSession(id, fields)
	if err != nil {
		return session.Session{}, now, fmt.Errorf("load session %s: %w", id, err)
	}
	return loaded, now, nil
}

// Create implements service.Sessions. If the users' lists are on other servers they
// are written first: readers skip an entry without its session.
func (s *Store) Create(ctx context.Context, ses session.Session, out []service.Entry, m service.Mark) (service.Receipt, bool, error) {
	doing := "create session " + ses.ID
	ses.Version = 1
	due, listed := scoreText(score(m.Due)), s.listed(ses)
	args := append([]any{m.By.UnixMilli(), ses.ID, due, listed.score, listed.life, listed.oldest}, encodeEntries(out)...)
	args = append(args, encodeSession(ses)...)
	made, err := s.write(ctx, doing, createScript, writing{
		keys: s.sessionKeys(ses.ID)[:2], more: append([]string{s.keys.due()}, listed.lists...), args: args,
		first: func() []redis.Cmder { return append(listed.calls(), s.schedule(ses.ID, due)) },
	})
	if err != nil {
		return service.Receipt{}, false, err
	}
	reply, err := made.Slice()
	if err != nil {
		return service.Receipt{}, false, unavailable(doing, err)
	}
	if len(reply) == 0 {
		return service.Receipt{}, false, nil
	}
	if made, _ := reply[0].(int64); made == 0 {
		return service.Receipt{}, false, service.ErrStale
	}
	ids, err := texts(reply[1:])
	return service.Receipt{IDs: ids}, true, err
}

// Commit implements service.Sessions.
func (s *Store) Commit(ctx context.Context, ses session.Session, token string, out []service.Entry, m service.Mark) (service.Receipt, error) {
	doing := "commit session " + ses.ID
	var keep int64
	if ses.Phase.Final() {
		keep = s.kept(ses.Brief).Milliseconds()
	}
	w := writing{keys: s.sessionKeys(ses.ID)}
	due, by := "", ""
	if !m.Due.IsZero() {
		due, by = scoreText(score(m.Due)), strconv.FormatInt(m.By.UnixMilli(), 10)
		w.more = []string{s.keys.due()}
		w.first = func() []redis.Cmder { return []redis.Cmder{s.schedule(ses.ID, due)} }
	}
	expected := ses.Version
	ses.Version++
	w.args = append([]any{expected, token, keep, by, ses.ID, due}, encodeEntries(out)...)
	w.args = append(w.args, encodeSession(ses)...)
	call, err := s.write(ctx, doing, commitScript, w)
	if err != nil {
		return service.Receipt{}, err
	}
	reply, err := call.Slice()
	if err != nil {
		return service.Receipt{}, unavailable(doing, err)
	}
	if len(reply) == 0 {
		return service.Receipt{}, service.ErrStale
	}
	backlog, _ := reply[0].(int64)
	ids, err := texts(reply[1:])
	if err == nil && len(ids) < len(out) {
		err = fmt.Errorf("%s: unexpected reply", doing)
	}
	if err != nil {
		return service.Receipt{}, err
	}
	return service.Receipt{IDs: ids[:len(out)], Backlog: backlog > 0, Watchers: ids[len(out):]}, nil
}

// kept is how long a session is kept after its end.
func (s *Store) kept(briefly bool) time.Duration {
	if briefly {
		return s.briefly()
	}
	return s.retention
}

// idKept is how long a key_id without a key is kept.
func (s *Store) idKept(briefly bool) time.Duration {
	if briefly {
		return s.briefly()
	}
	return reservedFor
}

// writing is a script's writes for a session.
type writing struct {
	keys []string // in its slot
	more []string // in other slots, for the script if they are on the same server
	args []any
	// First, if there is more, returns the writes to other servers that must
	// precede the script.
	first func() []redis.Cmder
	// Before, if not nil, replaces first.
	before func() error
}

func (s *Store) write(ctx context.Context, doing string, script *redisx.Script, w writing) (*redisx.Call, error) {
	if len(w.more) > 0 && s.line.Whole() {
		call := script.Call(slices.Concat(w.keys, w.more), w.args...)
		if err := s.do(ctx, doing, call); err == nil || s.line.Whole() {
			return call, err
		}
	}
	if len(w.more) > 0 {
		before := w.before
		if before == nil {
			before = func() error { return s.do(ctx, doing, w.first()...) }
		}
		if err := before(); err != nil {
			return nil, err
		}
	}
	call := script.Call(w.keys, w.args...)
	return call, s.do(ctx, doing, call)
}

// Settle implements service.Sessions. Its parts may be on different servers, and
// are independent.
func (s *Store) Settle(ctx context.Context, id string, r service.Settlement) error {
	var cmds []redis.Cmder
	if len(r.Delivered) > 0 {
		args := make([]any, 2, 2+len(r.Delivered))
		args[0], args[1] = "xdel", s.keys.outbox(id)
		for _, entry := range r.Delivered {
			args = append(args, entry)
		}
		cmds = append(cmds, redis.NewIntCmd(ctx, args...))
	}
	if r.ClosedOn != "" {
		cmds = append(cmds, closeOnKeyScript.Call([]string{s.keys.key(r.ClosedOn), s.keys.shares(r.ClosedOn)}, id))
	}
	if !r.From.IsZero() {
		cmds = append(cmds, s.postpone(id, r.From, r.To))
	}
	if r.Release != nil {
		cmds = append(cmds, s.release(*r.Release))
	}
	if len(cmds) == 0 {
		return nil
	}
	return s.do(ctx, "settle session "+id, cmds...)
}

// Outbox implements service.Sessions.
func (s *Store) Outbox(ctx context.Context, id, after string) ([]service.Entry, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	stored, err := s.rdb.XRangeN(ctx, s.keys.outbox(id), from, "+", outboxBatch).Result()
	if err != nil {
		return nil, unavailable("read outbox of session "+id, err)
	}
	entries := make([]service.Entry, 0, len(stored))
	for _, e := range stored {
		to, _ := e.Values["to"].(string)
		frame, _ := e.Values["message"].(string)
		entries = append(entries, service.Entry{ID: e.ID, To: to, Frame: []byte(frame)})
	}
	return entries, nil
}

func (s *Store) sessionKeys(id string) []string {
	return []string{s.keys.session(id), s.keys.outbox(id), s.keys.lock(id), s.keys.watch(id)}
}

// encodeEntries encodes outbox entries for the scripts: their number, then
// recipient and frame of each.
func encodeEntries(out []service.Entry) []any {
	args := make([]any, 0, 1+2*len(out))
	args = append(args, len(out))
	for _, e := range out {
		args = append(args, e.To, e.Frame)
	}
	return args
}

// unavailable maps an error of Redis to the client's error, and keeps the cause for
// the log.
func unavailable(doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	case redis.HasErrorPrefix(err, "OOM"):
		return fmt.Errorf("%s: %w: %w", doing, service.ErrStorageFull, err)
	}
	return fmt.Errorf("%s: %w: %w", doing, service.ErrUnavailable, err)
}

func texts(reply []any) ([]string, error) {
	list := make([]string, len(reply))
	for i, r := range reply {
		text, ok := r.(string)
		if !ok {
			return nil, fmt.Errorf("sessions: a script returned %T for a string", r)
		}
		list[i] = text
	}
	return list, nil
}

// score converts a time for the sorted sets: ms, with the microseconds as decimals,
// so that two of a user's sessions, or two writes to the due list, differ.
func score(t time.Time) float64 { return float64(t.UnixMicro()) / 1000 }

func scoreText(ms float64) string { return strconv.FormatFloat(ms, 'f', 3, 64) }

// scriptTime parses the result of TIME in a script: seconds and microseconds.
func scriptTime(seconds, micros any) (time.Time, error) {
	sec, err1 := strconv.ParseInt(fmt.Sprint(seconds), 10, 64)
	usec, err2 := strconv.ParseInt(fmt.Sprint(micros), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return time.Time{}, fmt.Errorf("time of redis: %w", err)
	}
	return time.UnixMicro(sec*1e6 + usec).UTC(), nil
}

// keys builds key names on a prefix. Ids have been validated: none holds a brace.
type keys string

func (k keys) session(id string) string      { return string(k) + "session:{" + id + "}" }
func (k keys) outbox(id string) string       { return k.session(id) + ":outbox" }
func (k keys) watch(id string) string        { return k.session(id) + ":watch" }
func (k keys) request(id string) string      { return string(k) + "request:{" + id + "}" }
func (k keys) lock(id string) string         { return string(k) + "lock:{" + id + "}" }
func (k keys) key(id string) string          { return string(k) + "key:{" + id + "}" }
func (k keys) shares(id string) string       { return k.key(id) + ":shares" }
func (k keys) epochs(id string) string       { return k.key(id) + ":epochs" }
func (k keys) lineage(id string) string      { return k.key(id) + ":lineage" }
func (k keys) quota(user string) string      { return string(k) + "quota:{" + user + "}" }
func (k keys) quotaOpen(user string) string  { return k.quota(user) + ":open" }
func (k keys) quotaKeys(user string) string  { return k.quota(user) + ":keys" }
func (k keys) due() string                   { return string(k) + "sessions:due" }
func (k keys) webhooks() string              { return string(k) + "webhooks" }
func (k keys) webhooksSince() string         { return k.webhooks() + ":since" }
func (k keys) sessionsOf(user string) string { return k.index(user, "sessions") }
func (k keys) briefOf(user string) string    { return k.index(user, "brief") }
func (k keys) keysOf(user string) string     { return k.index(user, "keys") }

// index names a user's list or, for the user "", the list of all users.
func (k keys) index(user, of string) string {
	if user == "" {
		return string(k) + "index:" + of
	}
	return string(k) + "index:{" + user + "}:" + of
}

// joined joins ids, none of which holds a comma.
func joined(list []string) string { return strings.Join(list, ",") }

func split(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
