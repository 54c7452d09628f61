package sessions

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

var (
	//go:embed open_reshare.lua
	openReshareSource string
	//go:embed number.lua
	numberSource string
	//go:embed put_epoch_share.lua
	putEpochShareSource string
	//go:embed certify.lua
	certifySource string

	openReshareScript   = redisx.NewScript(quotaSource, openReshareSource)
	numberScript        = redisx.NewScript(numberSource)
	putEpochShareScript = redisx.NewScript(putEpochShareSource)
	certifyScript       = redisx.NewScript(certifySource)
)

// OpenReshare implements service.Epochs. If the account's quota is on another server it
// is reserved first.
func (s *Store) OpenReshare(ctx context.Context, key string, epoch int, r service.Reservation) (service.OpenedReshare, error) {
	doing := "open reshare of key " + key
	var grant service.Grant
	call, err := s.write(ctx, doing, openReshareScript, writing{
		keys: []string{s.keys.key(key)}, more: s.quotaKeys(r.User), args: append([]any{epoch}, s.reserveArgs(r)...),
		before: func() (err error) {
			grant, err = s.Reserve(ctx, r)
			return err
		},
	})
	if err != nil {
		return service.OpenedReshare{}, err
	}
	opened, err := openedReshare(doing, call.Val())
	if grant.Fresh && (err != nil || opened.SessionID != r.SessionID) {
		never := service.Release{User: r.User, SessionID: r.SessionID, Reason: service.ReleaseNever}
		if released := s.Release(ctx, never); err == nil {
			err = released
		}
		return opened, err
	}
	if grant != (service.Grant{}) && opened.SessionID == r.SessionID {
		opened.Grant = grant
	}
	return opened, err
}

// openedReshare parses open_reshare.lua's reply.
func openedReshare(doing string, reply any) (o service.OpenedReshare, err error) {
	list, _ := reply.([]any)
	switch {
	case reply == int64(0):
		return o, service.ErrStale
	case len(list) >= 3 && list[0] == refused:
		return o, quotaError(list)
	case len(list) != 6:
		return o, fmt.Errorf("%s: unexpected reply", doing)
	}
	if o.Now, err = scriptTime(list[0], list[1]); err != nil {
		return o, err
	}
	since, err := strconv.ParseInt(fmt.Sprint(list[3]), 10, 64)
	if err != nil {
		return o, fmt.Errorf("%s: time of the note: %w", doing, err)
	}
	o.SessionID, _ = list[2].(string)
	o.Since, o.Grant = time.UnixMilli(since).UTC(), grantOf(list[4], list[5])
	return o, nil
}

// Number implements service.Epochs.
func (s *Store) Number(ctx context.Context, key, reshare string, above int) (int, error) {
	doing, call := "number an epoch of key "+key, numberScript.Call([]string{s.keys.key(key)}, reshare, above)
	if err := s.do(ctx, doing, call); err != nil {
		return 0, err
	}
	n, err := call.Int64()
	switch {
	case err != nil:
		return 0, unavailable(doing, err)
	case n == 0:
		return 0, service.ErrStale
	}
	return int(n), nil
}

// PutEpochShare implements service.Epochs.
func (s *Store) PutEpochShare(ctx context.Context, key, reshare string, epoch, part int, share string) error {
	return s.accepted(ctx, "store share of key "+key,
		putEpochShareScript.Call([]string{s.keys.key(key), s.keys.shares(key)}, reshare, epoch, part, share))
}

// Certify implements service.Epochs. The key is first listed for the members of the new
// committee, and at last no longer for those who left: readers skip an entry whose key
// does not involve the user.
func (s *Store) Certify(ctx context.Context, c service.Certification) error {
	k := c.Key
	old, err := s.Key(ctx, k.ID)
	switch {
	case err != nil:
		return err
	case old.Version != k.Version:
		return service.ErrStale
	}
	if err := s.indexKey(ctx, k, true); err != nil {
		return err
	}
	expected := k.Version
	k.Version++
	args := []any{expected, c.Session, k.Epoch, len(k.Participants), len(c.Epochs)}
	for _, e := range c.Epochs {
		text, err := encodeEpoch(e)
		if err != nil {
			return err
		}
		args = append(args, e.Number, text)
	}
	args = append(args, len(c.Certificates))
	for _, certificate := range c.Certificates {
		args = append(args, certificate.Number, certificate.Text)
	}
	keys := []string{s.keys.key(k.ID), s.keys.shares(k.ID), s.keys.epochs(k.ID), s.keys.lineage(k.ID)}
	if err := s.accepted(ctx, "certify an epoch of key "+k.ID, certifyScript.Call(keys, append(args, encodeKey(k)...)...)); err != nil {
		return err
	}
	left := slices.DeleteFunc(append([]string{old.Coordinator}, old.Participants...), k.Involves)
	if len(left) == 0 {
		return nil
	}
	var calls []redis.Cmder
	for _, user := range left {
		calls = append(calls, redis.NewIntCmd(ctx, "zrem", s.keys.keysOf(user), k.ID))
	}
	_ = s.do(ctx, "index key "+k.ID, calls...) // an entry that stays is skipped
	return nil
}

// EpochsOf implements service.Epochs.
func (s *Store) EpochsOf(ctx context.Context, key string) ([]session.Epoch, error) {
	cmd := redis.NewMapStringStringCmd(ctx, "hgetall", s.keys.epochs(key))
	if err := s.do(ctx, "load epochs of key "+key, cmd); err != nil {
		return nil, err
	}
	list := make([]session.Epoch, 0, len(cmd.Val()))
	for number, text := range cmd.Val() {
		e, err := parseEpoch(number, text)
		if err != nil {
			return nil, fmt.Errorf("load epochs of key %s: %w", key, err)
		}
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b session.Epoch) int { return a.Number - b.Number })
	return list, nil
}

// Lineage implements service.Epochs.
func (s *Store) Lineage(ctx context.Context, key string, after, limit int) ([]service.Certificate, error) {
	doing, name := "load lineage of key "+key, s.keys.lineage(key)
	stored := redis.NewMapStringStringCmd(ctx, "hgetall", name)
	if err := s.do(ctx, doing, stored); err != nil {
		return nil, err
	}
	var numbers []int
	for field := range stored.Val() {
		n, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		if n > after {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	numbers = numbers[:min(len(numbers), max(limit, 0))]
	var list []service.Certificate
	for _, n := range numbers {
		list = append(list, service.Certificate{Number: n, Text: stored.Val()[strconv.Itoa(n)]})
	}
	return list, nil
}

// storedEpoch is the form of an epoch in its key's hash of epochs.
type storedEpoch struct {
	Parent       int       `json:"parent,omitempty"`
	Threshold    int       `json:"threshold"`
	Participants []string  `json:"participants"`
	Session      string    `json:"session,omitempty"`
	Certificate  string    `json:"certificate_hash,omitempty"`
	Bytes        int64     `json:"bytes,omitempty"`
	CertifiedAt  time.Time `json:"certified_at"`
}

func encodeEpoch(e session.Epoch) (string, error) {
	text, err := json.Marshal(storedEpoch{
		Parent: e.Parent, Threshold: e.Threshold, Participants: e.Participants, Session: e.Session,
		Certificate: e.Certificate, Bytes: e.Bytes, CertifiedAt: e.CertifiedAt.UTC(),
	})
	if err != nil {
		return "", fmt.Errorf("encode epoch %d: %w", e.Number, err)
	}
	return string(text), nil
}

func parseEpoch(number, text string) (session.Epoch, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return session.Epoch{}, fmt.Errorf("epoch number: %w", err)
	}
	var e storedEpoch
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return session.Epoch{}, fmt.Errorf("epoch %d: %w", n, err)
	}
	return session.Epoch{
		Number: n, Parent: e.Parent, Threshold: e.Threshold, Participants: e.Participants, Session: e.Session,
		Certificate: e.Certificate, Bytes: e.Bytes, CertifiedAt: e.CertifiedAt,
	}, nil
}
