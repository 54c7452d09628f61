package redisstore

import (
	"context"
	_ "embed"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/session"
)

// maxOpenSignings bounds the signings open on one key at a time.
const maxOpenSignings = 256

var (
	//go:embed put_key.lua
	putKeySource string
	//go:embed put_share.lua
	putShareSource string
	//go:embed open_signing.lua
	openSigningSource string
	//go:embed close_signing.lua
	closeSigningSource string
	//go:embed take.lua
	takeSource string
	//go:embed postpone.lua
	postponeSource string

	putKeyScript       = redis.NewScript(putKeySource)
	putShareScript     = redis.NewScript(putShareSource)
	openSigningScript  = redis.NewScript(openSigningSource)
	closeSigningScript = redis.NewScript(closeSigningSource)
	takeScript         = redis.NewScript(takeSource)
	postponeScript     = redis.NewScript(postponeSource)
)

// Fields of a key's hash beside the record's own.
const (
	openPrefix = "open:"        // open:<session id> -> fingerprint, coordinator, ms
	lastField  = "last_signing" // session id of the signing that ended last
)

// Key implements session.Keys.
func (s *Store) Key(ctx context.Context, id string) (session.Key, error) {
	k, _, err := s.loadKey(ctx, id)
	return k, err
}

// loadKey returns a key record and the whole of its hash.
func (s *Store) loadKey(ctx context.Context, id string) (session.Key, map[string]string, error) {
	fields, err := s.rdb.HGetAll(ctx, s.keys.key(id)).Result()
	if err != nil {
		return session.Key{}, nil, unavailable("load key "+id, err)
	}
	if len(fields) == 0 {
		return session.Key{}, nil, session.ErrNotFound
	}
	k, err := parseKey(id, fields)
	if err != nil {
		return session.Key{}, nil, fmt.Errorf("load key %s: %w", id, err)
	}
	return k, fields, nil
}

// PutKey implements session.Keys. A new keygen's key is first listed with
// everyone involved: an entry without its key is skipped by readers. A reserved
// key is not listed: most that are never used would crowd out the others.
func (s *Store) PutKey(ctx context.Context, k session.Key) error {
	if k.Status == session.KeyGenerating {
		if err := s.indexKey(ctx, k); err != nil {
			return err
		}
	}
	var keep int64
	if k.Status == session.KeyReserved {
		keep = reservedFor.Milliseconds()
	}
	dropShares := 0
	if k.Status == session.KeyGenerating {
		dropShares = 1
	}
	expected := k.Version
	k.Version++
	args := append([]any{expected, keep, dropShares}, encodeKey(k)...)
	ok, err := putKeyScript.Run(ctx, s.rdb, []string{s.keys.key(k.ID), s.keys.shares(k.ID)}, args...).Bool()
	if err != nil {
		return unavailable("write key "+k.ID, err)
	}
	if !ok {
		return session.ErrStale
	}
	return nil
}

// PutShare implements session.Keys.
func (s *Store) PutShare(ctx context.Context, key, keygen string, part int, share, attestation string) error {
	ok, err := putShareScript.Run(ctx, s.rdb, []string{s.keys.key(key), s.keys.shares(key)}, keygen, part, share, attestation).Bool()
	if err != nil {
		return unavailable("store share of key "+key, err)
	}
	if !ok {
		return session.ErrStale
	}
	return nil
}

// Share implements session.Keys.
func (s *Store) Share(ctx context.Context, key string, part int) (string, error) {
	share, err := s.rdb.HGet(ctx, s.keys.shares(key), fmt.Sprint(part)).Result()
	if err != nil && err != redis.Nil {
		return "", unavailable("load share of key "+key, err)
	}
	return share, nil
}

// attestedPrefix begins the fields of attestations in a key's hash of shares.
const attestedPrefix = "attestation:" // attestation:<part> -> text

// Attestations implements session.Keys.
func (s *Store) Attestations(ctx context.Context, key string, parts int) ([]string, error) {
	fields := make([]string, parts)
	for i := range fields {
		fields[i] = attestedPrefix + strconv.Itoa(i+1)
	}
	list := make([]string, parts)
	if parts == 0 {
		return list, nil
	}
	values, err := s.rdb.HMGet(ctx, s.keys.shares(key), fields...).Result()
	if err != nil {
		return nil, unavailable("load attestations of key "+key, err)
	}
	for i, v := range values {
		list[i], _ = v.(string) // nil where there is none
	}
	return list, nil
}

// OpenSigning implements session.Keys.
func (s *Store) OpenSigning(ctx context.Context, key string, sig session.Signing, match bool) (string, error) {
	matching := 0
	if match {
		matching = 1
	}
	note := sig.Fingerprint + " " + sig.Coordinator
	reply, err := openSigningScript.Run(ctx, s.rdb, []string{s.keys.key(key)},
		sig.SessionID, note, matching, maxOpenSignings, longestSession.Milliseconds()).Result()
	if err != nil {
		return "", unavailable("open signing on key "+key, err)
	}
	switch reply := reply.(type) {
	case string:
		return reply, nil
	case int64:
		if reply == 1 {
			return "", session.ErrTooMany
		}
	}
	return "", session.ErrStale
}

// Signings implements session.Keys.
func (s *Store) Signings(ctx context.Context, key string) (session.Key, []session.Signing, string, error) {
	k, fields, err := s.loadKey(ctx, key)
	if err != nil {
		return session.Key{}, nil, "", err
	}
	var open []session.Signing
	for name, note := range fields {
		if id, ok := strings.CutPrefix(name, openPrefix); ok {
			print, rest, _ := strings.Cut(note, " ")
			coordinator, _, _ := strings.Cut(rest, " ")
			open = append(open, session.Signing{SessionID: id, Fingerprint: print, Coordinator: coordinator})
		}
	}
	return k, open, fields[lastField], nil
}

// CloseSigning implements session.Keys.
func (s *Store) CloseSigning(ctx context.Context, key, id string) error {
	if err := closeSigningScript.Run(ctx, s.rdb, []string{s.keys.key(key)}, id).Err(); err != nil {
		return unavailable("close signing on key "+key, err)
	}
	return nil
}

// Schedule implements session.Due.
func (s *Store) Schedule(ctx context.Context, id string, at time.Time) error {
	err := s.rdb.ZAdd(ctx, s.keys.due(), redis.Z{Score: score(at), Member: id}).Err()
	if err != nil {
		return unavailable("schedule session "+id, err)
	}
	return nil
}

// Postpone implements session.Due.
func (s *Store) Postpone(ctx context.Context, id string, from, to time.Time) error {
	next := ""
	if !to.IsZero() {
		next = scoreText(score(to))
	}
	if err := postponeScript.Run(ctx, s.rdb, []string{s.keys.due()}, id, scoreText(score(from)), next).Err(); err != nil {
		return unavailable("postpone session "+id, err)
	}
	return nil
}

// Unschedule implements session.Due.
func (s *Store) Unschedule(ctx context.Context, ids ...string) error {
	members := make([]any, len(ids))
	for i, id := range ids {
		members[i] = id
	}
	if err := s.rdb.ZRem(ctx, s.keys.due(), members...).Err(); err != nil {
		return unavailable("unschedule sessions", err)
	}
	return nil
}

// TakeDue implements session.Due.
func (s *Store) TakeDue(ctx context.Context, limit int, hold time.Duration) ([]session.Taken, error) {
	list, err := s.take(ctx, s.keys.due(), limit, hold, "")
	if err != nil {
		return nil, unavailable("read due list", err)
	}
	return list, nil
}

// take runs the script of what is due. Remembered is its third argument.
func (s *Store) take(ctx context.Context, key string, limit int, hold time.Duration, remembered any) ([]session.Taken, error) {
	reply, err := takeScript.Run(ctx, s.rdb, []string{key}, limit, hold.Milliseconds(), remembered).StringSlice()
	if err != nil || len(reply) == 0 {
		return nil, err
	}
	ms, err := strconv.ParseFloat(reply[0], 64)
	if err != nil {
		return nil, err
	}
	until := time.UnixMicro(int64(math.Round(ms * 1000))).UTC()
	list := make([]session.Taken, len(reply)-1)
	for i, id := range reply[1:] {
		list[i] = session.Taken{ID: id, Until: until}
	}
	return list, nil
}
