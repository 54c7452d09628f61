package sessions

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

// maxOpenSignings limits concurrent signings on one key.
const maxOpenSignings = 256

var (
	//go:embed put_key.lua
	putKeySource string
	//go:embed share_bytes.lua
	shareBytesSource string
	//go:embed put_share.lua
	putShareSource string
	//go:embed open_signing.lua
	openSigningSource string
	//go:embed close_on_key.lua
	closeOnKeySource string
	//go:embed take.lua
	takeSource string
	//go:embed postpone.lua
	postponeSource string
	//go:embed schedule.lua
	scheduleSource string

	putKeyScript      = redisx.NewScript(putKeySource)
	shareBytesScript  = redisx.NewScript(shareBytesSource)
	putShareScript    = redisx.NewScript(putShareSource)
	openSigningScript = redisx.NewScript(quotaSource, openSigningSource)
	closeOnKeyScript  = redisx.NewScript(closeOnKeySource)
	takeScript        = redisx.NewScript(takeSource)
	postponeScript    = redisx.NewScript(postponeSource)
	scheduleScript    = redisx.NewScript(scheduleSource)
)

// Fields of a key's hash beside the record's own.
const (
	openPrefix = "open:"        // open:<session id> -> fingerprint, coordinator, ms
	lastField  = "last_signing" // session id of the last signing to end
)

// Key implements service.Keys.
func (s *Store) Key(ctx context.Context, id string) (session.Key, error) {
	k, _, err := s.loadKey(ctx, id)
	return k, err
}

// loadKey returns a key record and its whole hash.
func (s *Store) loadKey(ctx context.Context, id string) (session.Key, map[string]string, error) {
	cmd := redis.NewMapStringStringCmd(ctx, "hgetall", s.keys.key(id))
	if err := s.do(ctx, "load key "+id, cmd); err != nil {
		return session.Key{}, nil, err
	}
	fields := cmd.Val()
	if len(fields) == 0 {
		return session.Key{}, nil, service.ErrNotFound
	}
	k, err := parseKey(id, fields)
	if err != nil {
		return session.Key{}, nil, fmt.Errorf("load key %s: %w", id, err)
	}
	return k, fields, nil
}

// PutKey implements service.Keys. A key in keygen, or active, is first listed for
// everyone involved: readers skip an entry without its key. A reserved key is not
// listed, since many are never used and would crowd out the others, and one whose
// keygen failed is removed. The record of a failed keygen stays its coordinator's
// for as long as a reserved one; then the key_id is free again, or failing keygens
// could block names for ever.
func (s *Store) PutKey(ctx context.Context, k session.Key) error {
	if k.Status == session.KeyGenerating || k.Status == session.KeyActive {
		if err := s.indexKey(ctx, k, k.Status == session.KeyActive); err != nil {
			return err
		}
	}
	var keep int64
	dropShares := 0
	switch k.Status {
	case session.KeyReserved:
		keep = s.idKept(k.Brief).Milliseconds()
	case session.KeyFailed:
		keep, dropShares = s.idKept(k.Brief).Milliseconds(), 1
	case session.KeyGenerating:
		dropShares = 1
	}
	// Ending a keygen must not fail when Redis is full; beginning one does.
	ends := 0
	if k.Status == session.KeyActive || k.Status == session.KeyFailed {
		ends = 1
	}
	expected := k.Version
	k.Version++
	args := append([]any{expected, keep, dropShares, ends}, encodeKey(k)...)
	err := s.accepted(ctx, "write key "+k.ID, putKeyScript.Call([]string{s.keys.key(k.ID), s.keys.shares(k.ID)}, args...))
	if err == nil && k.Status == session.KeyFailed {
		err = s.unindexKey(ctx, k)
	}
	return err
}

// PutShare implements service.Keys.
func (s *Store) PutShare(ctx context.Context, key, keygen string, part int, share, attestation string) error {
	return s.accepted(ctx, "store share of key "+key,
		putShareScript.Call([]string{s.keys.key(key), s.keys.shares(key)}, keygen, part, share, attestation))
}

// accepted runs a script that reports whether its preconditions still hold.
func (s *Store) accepted(ctx context.Context, doing string, call *redisx.Call) error {
	if err := s.do(ctx, doing, call); err != nil {
		return err
	}
	ok, err := call.Bool()
	if err != nil {
		return unavailable(doing, err)
	}
	if !ok {
		return service.ErrStale
	}
	return nil
}

// Shares implements service.Keys.
func (s *Store) Shares(ctx context.Context, key string, epoch int, parts ...int) ([]string, error) {
	fields := make([]string, len(parts))
	for i, part := range parts {
		fields[i] = shareField(epoch, part)
	}
	return s.shareFields(ctx, "load shares of key "+key, key, fields)
}

// ShareBytes implements service.Keys.
func (s *Store) ShareBytes(ctx context.Context, key string, epoch, parts int) (int64, error) {
	doing, args := "measure shares of key "+key, make([]any, parts)
	for i := range args {
		args[i] = shareField(epoch, i+1)
	}
	call := shareBytesScript.Call([]string{s.keys.shares(key)}, args...)
	if err := s.do(ctx, doing, call); err != nil {
		return 0, err
	}
	sum, err := call.Int64()
	if err != nil {
		return 0, unavailable(doing, err)
	}
	return sum, nil
}

// shareField names a share in a key's hash of shares. Those of epoch 1 have no epoch in
// their names, as before there were epochs.
func shareField(epoch, part int) string {
	if epoch <= 1 {
		return strconv.Itoa(part)
	}
	return strconv.Itoa(epoch) + ":" + strconv.Itoa(part)
}

// attestedPrefix prefixes the attestation fields in a key's hash of shares.
const attestedPrefix = "attestation:" // attestation:<part> -> text

// Attestations implements service.Keys.
func (s *Store) Attestations(ctx context.Context, key string, parts int) ([]string, error) {
	fields := make([]string, parts)
	for i := range fields {
		fields[i] = attestedPrefix + strconv.Itoa(i+1)
	}
	return s.shareFields(ctx, "load attestations of key "+key, key, fields)
}

// shareFields reads fields of a key's hash of shares, empty if missing.
func (s *Store) shareFields(ctx context.Context, doing, key string, fields []string) ([]string, error) {
	list := make([]string, len(fields))
	if len(fields) == 0 {
		return list, nil
	}
	args := make([]any, 2, 2+len(fields))
	args[0], args[1] = "hmget", s.keys.shares(key)
	for _, field := range fields {
		args = append(args, field)
	}
	cmd := redis.NewSliceCmd(ctx, args...)
	if err := s.do(ctx, doing, cmd); err != nil {
		return nil, err
	}
	for i, v := range cmd.Val() {
		list[i], _ = v.(string) // nil if missing
	}
	return list, nil
}

// OpenSigning implements service.Keys. If the account's quota is on another server
// it is reserved first.
func (s *Store) OpenSigning(ctx context.Context, key string, sig service.Signing, r service.Reservation, match bool) (service.Opened, error) {
	matching := 0
	if match {
		matching = 1
	}
	doing, note := "open signing on key "+key, sig.Fingerprint+" "+sig.Coordinator
	args := append([]any{note, matching, maxOpenSignings, longestSession.Milliseconds()}, s.reserveArgs(r)...)
	var grant service.Grant
	call, err := s.write(ctx, doing, openSigningScript, writing{
		keys: []string{s.keys.key(key)}, more: s.quotaKeys(r.User), args: args,
		before: func() (err error) {
			grant, err = s.Reserve(ctx, r)
			return err
		},
	})
	if err != nil {
		return service.Opened{}, err
	}
	opened, err := s.opened(doing, call.Val())
	if grant.Fresh && (err != nil || opened.SessionID != r.SessionID) {
		never := service.Release{User: r.User, SessionID: r.SessionID, Reason: service.ReleaseNever}
		return opened, errors.Join(err, s.Release(ctx, never))
	}
	if grant != (service.Grant{}) && opened.SessionID == r.SessionID {
		opened.Grant = grant
	}
	return opened, err
}

// opened parses open_signing.lua's reply.
func (s *Store) opened(doing string, reply any) (o service.Opened, err error) {
	switch reply := reply.(type) {
	case []any:
		if len(reply) >= 3 && reply[0] == refused {
			return o, quotaError(reply)
		}
		if len(reply) != 5 {
			break
		}
		o.SessionID, _ = reply[2].(string)
		o.Grant = grantOf(reply[3], reply[4])
		if s.line.Whole() {
			o.Now, err = scriptTime(reply[0], reply[1])
		}
		return o, err
	case int64:
		if reply == 1 {
			return o, service.ErrTooMany
		}
		return o, service.ErrStale
	}
	return o, fmt.Errorf("%s: unexpected reply", doing)
}

// Signings implements service.Keys.
func (s *Store) Signings(ctx context.Context, key string) (session.Key, []service.Signing, string, error) {
	k, fields, err := s.loadKey(ctx, key)
	if err != nil {
		return session.Key{}, nil, "", err
	}
	var open []service.Signing
	for name, note := range fields {
		if id, ok := strings.CutPrefix(name, openPrefix); ok {
			print, rest, _ := strings.Cut(note, " ")
			coordinator, _, _ := strings.Cut(rest, " ")
			open = append(open, service.Signing{SessionID: id, Fingerprint: print, Coordinator: coordinator})
		}
	}
	return k, open, fields[lastField], nil
}

// Schedule implements service.Due.
func (s *Store) Schedule(ctx context.Context, id string, at time.Time) error {
	return s.do(ctx, "schedule session "+id, s.schedule(id, scoreText(score(at))))
}

func (s *Store) schedule(id, due string) redis.Cmder {
	return scheduleScript.Call([]string{s.keys.due()}, id, due)
}

// Postpone implements service.Due.
func (s *Store) Postpone(ctx context.Context, id string, from, to time.Time) error {
	return s.do(ctx, "postpone session "+id, s.postpone(id, from, to))
}

func (s *Store) postpone(id string, from, to time.Time) redis.Cmder {
	next := ""
	if !to.IsZero() {
		next = scoreText(score(to))
	}
	return postponeScript.Call([]string{s.keys.due()}, id, scoreText(score(from)), next)
}

// Unschedule implements service.Due.
func (s *Store) Unschedule(ctx context.Context, ids ...string) error {
	args := make([]any, 2, 2+len(ids))
	args[0], args[1] = "zrem", s.keys.due()
	for _, id := range ids {
		args = append(args, id)
	}
	return s.do(ctx, "unschedule sessions", redis.NewIntCmd(ctx, args...))
}

// TakeDue implements service.Due.
func (s *Store) TakeDue(ctx context.Context, limit int, hold time.Duration) ([]service.Taken, error) {
	list, err := s.take(ctx, s.keys.due(), limit, hold, "")
	if err != nil {
		return nil, unavailable("read due list", err)
	}
	return list, nil
}

// take runs the script that takes due entries. Remembered is its third argument.
func (s *Store) take(ctx context.Context, key string, limit int, hold time.Duration, remembered any) ([]service.Taken, error) {
	call := takeScript.Call([]string{key}, limit, hold.Milliseconds(), remembered)
	if err := s.line.Do(ctx, call); err != nil {
		return nil, err
	}
	reply, err := call.StringSlice()
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	ms, err := strconv.ParseFloat(reply[0], 64)
	if err != nil {
		return nil, err
	}
	until := timeOf(ms)
	list := make([]service.Taken, len(reply)-1)
	for i, id := range reply[1:] {
		list[i] = service.Taken{ID: id, Until: until}
	}
	return list, nil
}
