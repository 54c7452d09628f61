package service_test

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/redistest"
	auditstore "github.com/conclave-mpc/conclave/cluster/store/audit"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is one Redis with mailboxes, for any number of nodes.
type world struct {
	*testing.T
	ctx    context.Context
	rdb    redis.UniversalClient
	prefix string
	store  *sessions.Store
	mail   *mailboxes
	away   *presence
	audit  *auditstore.Log // of every node made by node; nil for none
}

// each runs a test on miniredis and on a real Redis.
func each(t *testing.T, test func(w *world)) {
	t.Parallel()
	redistest.Each(t, inWorld(test))
}

// best is each for a slow test.
func best(t *testing.T, test func(w *world)) {
	t.Parallel()
	redistest.Best(t, inWorld(test))
}

func inWorld(test func(w *world)) func(t *testing.T, rdb redis.UniversalClient, prefix string) {
	return func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		test(&world{
			T: t, ctx: context.Background(), rdb: rdb, prefix: prefix,
			store: sessions.New(sessions.Config{Redis: rdb, Prefix: prefix}),
			mail:  &mailboxes{taken: map[string]bool{}, boxes: map[string][]wire.Message{}}, away: &presence{},
		})
	}
}

func (w *world) storeAt(prefix string) *sessions.Store {
	return sessions.New(sessions.Config{Redis: w.rdb, Prefix: prefix})
}

// node returns a new Service on the world's Redis. Change may be nil.
func (w *world) node(change func(*service.Config)) *service.Service {
	w.Helper()
	kek := make([]byte, 32)
	shares, err := service.NewShareKeeper(kek)
	if err != nil {
		w.Fatal(err)
	}
	cfg := service.Config{
		Store: w.store, Locker: locks{w.store, w.rdb, w.prefix, time.Second}, Sender: w.mail, Presence: w.away, Shares: shares,
	}
	if w.audit != nil {
		cfg.Audit = w.audit
	}
	if change != nil {
		change(&cfg)
	}
	v, err := service.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	return v
}

// openAudit makes an audit's Log whose writer does not run.
func (w *world) openAudit(node string) *auditstore.Log {
	w.Helper()
	l, err := auditstore.New(auditstore.Config{Redis: w.rdb, Prefix: w.prefix, NodeID: node, Linger: time.Millisecond})
	if err != nil {
		w.Fatal(err)
	}
	return l
}

// run sweeps with v until the test ends.
func (w *world) run(v *service.Service) {
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = v.Run(ctx)
	}()
	w.Cleanup(func() { cancel(); <-done })
}

// eventually polls until ok or a deadline that no test should reach.
func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	deadline := time.After(20 * time.Second)
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		select {
		case <-poll.C:
		case <-deadline:
			w.Fatalf("never: %s", what)
		}
	}
}

// sweepAll makes everything due now and sweeps it with v.
func (w *world) sweepAll(v *service.Service) {
	w.Helper()
	due := w.prefix + "sessions:due"
	ids, err := w.rdb.ZRange(w.ctx, due, 0, -1).Result()
	if err != nil {
		w.Fatal(err)
	}
	for _, id := range ids {
		if err := w.rdb.ZAddXX(w.ctx, due, redis.Z{Score: 1, Member: id}).Err(); err != nil {
			w.Fatal(err)
		}
	}
	v.Sweep(w.ctx)
}

// say sends a message as its user's client would, with encoding and checks.
func (w *world) say(v *service.Service, user string, p wire.Payload, requestID string) (wire.Payload, error) {
	w.Helper()
	m, err := wire.New(user, p)
	if err != nil {
		w.Fatal(err)
	}
	m.RequestID = requestID
	q, err := m.DecodePayload()
	if err != nil {
		return nil, err
	}
	round, ok := q.(*wire.TSSMessage)
	if !ok {
		return v.Handle(w.ctx, caller(user), m, q)
	}
	r, err := v.Relay(w.ctx, caller(user), m, round)
	if err != nil {
		return nil, err
	}
	<-r.Done()
	return r.Answer()
}

// must sends a message that may not be refused.
func (w *world) must(v *service.Service, user string, p wire.Payload) wire.Payload {
	w.Helper()
	reply, err := w.say(v, user, p, "")
	if err != nil {
		w.Fatalf("%s: %s: %v", user, p.Type(), err)
	}
	return reply
}

// refused sends a message that must be refused with that code.
func (w *world) refused(v *service.Service, user string, p wire.Payload, code wire.Code) {
	w.Helper()
	_, err := w.say(v, user, p, "")
	var e *wire.Error
	if !errors.As(err, &e) || e.Code != code {
		w.Errorf("%s: %s: got error %v, want %s", user, p.Type(), err, code)
	}
}

// caller returns a user's Caller, with the role of its name.
func caller(user string) service.Caller {
	c := service.Caller{User: user, Identity: "id-" + user}
	switch user {
	case "boss", "other-boss":
		c.Roles = []wire.Role{wire.RoleCoordinator}
	case "admin":
		c.Roles = []wire.Role{wire.RoleAdmin}
	default:
		c.Roles = []wire.Role{wire.RoleParticipant}
	}
	return c
}

// mailboxes is a Sender that stores its deliveries, each ID once.
type mailboxes struct {
	mu    sync.Mutex
	taken map[string]bool
	boxes map[string][]wire.Message
	fail  func(d service.Delivery) error // nil for none
}

var errNotSent = errors.New("an earlier message to this user failed")

func (b *mailboxes) Send(_ context.Context, deliveries ...service.Delivery) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(deliveries))
	broken := map[string]bool{}
	for i, d := range deliveries {
		if broken[d.To] {
			errs[i] = errNotSent
			continue
		}
		if b.fail != nil {
			if errs[i] = b.fail(d); errs[i] != nil {
				broken[d.To] = true
				continue
			}
		}
		if id := d.To + " " + d.ID; d.ID == "" || !b.taken[id] {
			b.taken[id] = true
			m, err := wire.Decode(d.Frame, len(d.Frame))
			if err != nil {
				panic(err)
			}
			b.boxes[d.To] = append(b.boxes[d.To], m)
		}
	}
	return errs
}

func (b *mailboxes) Begin(ctx context.Context, deliveries ...service.Delivery) service.Sending {
	return sent(b.Send(ctx, deliveries...))
}

// sent is a Sending that is done at once.
type sent []error

func (s sent) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

func (s sent) Errs() []error { return s }

func (b *mailboxes) setFail(f func(d service.Delivery) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = f
}

// of returns a user's messages so far.
func (b *mailboxes) of(user string) []wire.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.boxes[user])
}

// types lists the types of a user's messages.
func (b *mailboxes) types(user string) []wire.Type {
	var list []wire.Type
	for _, m := range b.of(user) {
		list = append(list, m.Type)
	}
	return list
}

// presence reports everyone online except those away.
type presence struct {
	mu    sync.Mutex
	users []string
	seen  map[string]time.Time
}

func (p *presence) LastSeen(context.Context, ...string) (map[string]time.Time, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.seen), nil
}

func (p *presence) Online(_ context.Context, users ...string) (map[string]bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	online := map[string]bool{}
	for _, u := range users {
		online[u] = !slices.Contains(p.users, u)
	}
	return online, nil
}

func (p *presence) leave(users ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users = append(p.users, users...)
}

// locks is a Locker on the key that fences commits.
type locks struct {
	store  service.Store
	rdb    redis.UniversalClient
	prefix string
	ttl    time.Duration
}

type lock struct {
	locks
	key, token string
}

func (l locks) Lock(ctx context.Context, id string) (service.Lock, service.Loaded, error) {
	k := lock{l, l.prefix + "lock:{" + id + "}", rand.Text()}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		ok, err := l.rdb.SetNX(ctx, k.key, k.token, l.ttl).Result()
		if err != nil {
			return nil, service.Loaded{}, err
		}
		if ok {
			loaded := service.Loaded{Asked: time.Now()}
			loaded.Session, loaded.Now, err = l.store.Load(ctx, id)
			return k, loaded, err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, service.Loaded{}, ctx.Err()
		}
	}
}

func (k lock) Token() string { return k.token }

var release = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

func (k lock) Release(ctx context.Context) error {
	return release.Run(ctx, k.rdb, []string{k.key}, k.token).Err()
}
