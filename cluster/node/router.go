package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster"
	"github.com/conclave-mpc/conclave/cluster/node/tracing"
	"github.com/conclave-mpc/conclave/cluster/store/sessions"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn"
	"github.com/conclave-mpc/conclave/wsconn/auth"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// router joins sockets, cluster and sessions: it implements wsconn.Handler.
type router struct {
	node       string
	cluster    *cluster.Node
	sessions   *service.Service
	identities interface {
		SetIdentity(ctx context.Context, user, identity string) error
	}
	shares  *service.ShareKeeper
	limits  limits
	tracing *tracing.Tracing // nil if disabled
	log     zerolog.Logger

	members sync.Map // *wsconn.Conn -> *cluster.Membership, from Connected to Disconnected
}

// Connected implements wsconn.Handler.
func (r *router) Connected(ctx context.Context, c *wsconn.Conn, reg *wire.Register) (*wire.RegisterConfirm, error) {
	if reg.Identity != "" {
		if err := r.identities.SetIdentity(ctx, reg.UserID, reg.Identity); err != nil {
			return nil, err
		}
	}
	var after uint64
	if reg.Resume != nil {
		after = reg.Resume.LastSeq
	}
	m, err := r.cluster.Join(ctx, reg.UserID, string(reg.Role), after, c)
	switch {
	case errors.Is(err, cluster.ErrBadSeq):
		return nil, wire.Errorf(wire.CodeBadRequest, "resume.last_seq is not a sequence number of this server")
	case err != nil:
		return nil, fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	}
	r.members.Store(c, m)
	return &wire.RegisterConfirm{Status: wire.StatusSuccess, Node: r.node, LastSeq: m.LastSeq(), RolledBack: m.RolledBack()}, nil
}

func (r *router) member(c *wsconn.Conn) *cluster.Membership {
	m, _ := r.members.Load(c)
	member, _ := m.(*cluster.Membership)
	return member
}

// Started implements wsconn.Handler.
func (r *router) Started(c *wsconn.Conn) {
	if m := r.member(c); m != nil {
		m.Start()
	}
}

// Receive implements wsconn.Handler.
func (r *router) Receive(ctx context.Context, c *wsconn.Conn, m wire.Message, p wire.Payload) (wire.Payload, wsconn.Pending, error) {
	if r.tracing == nil {
		return r.receive(ctx, c, m, p)
	}
	ctx, done := r.tracing.Message(ctx, m.Type)
	reply, pending, err := r.receive(ctx, c, m, p)
	if err == nil && pending != nil {
		return nil, tracedPending{pending, done}, nil
	}
	done(err)
	return reply, nil, err
}

func (r *router) receive(ctx context.Context, c *wsconn.Conn, m wire.Message, p wire.Payload) (wire.Payload, wsconn.Pending, error) {
	if ack, ok := p.(*wire.Ack); ok {
		r.Acked(ctx, c, ack.Seq)
		return nil, nil, nil
	}
	claims, _ := auth.FromContext(ctx)
	caller := service.Caller{User: claims.Subject, Roles: claims.Roles, Identity: c.Identity()}
	if m := r.member(c); m != nil {
		caller.Has = m.Acknowledged()
	}
	switch p := p.(type) {
	case *wire.TSSMessage:
		return r.relay(ctx, caller, m, p)
	case *wire.KeygenRequest, *wire.SignRequest, *wire.ReshareRequest:
		if err := r.limits.requestCharge(claims.Subject); err != nil {
			return nil, nil, err
		}
	}
	reply, err := r.sessions.Handle(ctx, caller, m, p)
	return reply, nil, err
}

// relay passes a round message on. While it is in flight the next may follow,
// unless it has already arrived.
func (r *router) relay(ctx context.Context, caller service.Caller, m wire.Message, p *wire.TSSMessage) (wire.Payload, wsconn.Pending, error) {
	on, err := r.sessions.Relay(ctx, caller, m, p)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-on.Done():
		reply, err := on.Answer()
		return reply, nil, err
	default:
		return nil, on, nil
	}
}

// tracedPending ends a message's span when it is answered.
type tracedPending struct {
	wsconn.Pending
	done func(error)
}

// Answer implements wsconn.Pending.
func (t tracedPending) Answer() (wire.Payload, error) {
	reply, err := t.Pending.Answer()
	t.done(err)
	return reply, err
}

// Acked implements wsconn.Handler. It is asynchronous: a failed ack only causes a
// repetition.
func (r *router) Acked(_ context.Context, c *wsconn.Conn, seq uint64) {
	if m := r.member(c); m != nil {
		m.AckLater(seq)
	}
}

// Disconnected implements wsconn.Handler.
func (r *router) Disconnected(ctx context.Context, c *wsconn.Conn) {
	m, ok := r.members.LoadAndDelete(c)
	if !ok {
		return
	}
	if err := m.(*cluster.Membership).Leave(ctx); err != nil {
		r.log.Debug().Err(err).Str("conn", c.ID()).Msg("presence not removed, it expires with its lease")
	}
}

// reveal decrypts a share that this cluster encrypted, just before it goes to its
// owner.
func (r *router) reveal(user string, frame []byte) []byte {
	plain, err := r.shares.Reveal(frame)
	if err != nil {
		r.log.Error().Err(err).Str("account", user).Msg("share not decrypted; was it stored with another CONCLAVE_SHARE_KEK?")
		return nil
	}
	return plain
}

// sender implements service.Sender on the cluster's mailboxes.
type sender struct{ cluster *cluster.Node }

// Send implements service.Sender.
func (s sender) Send(ctx context.Context, deliveries ...service.Delivery) []error {
	return errorsOf(len(deliveries), s.cluster.Send(ctx, messages(deliveries)...))
}

// Begin implements service.Sender.
func (s sender) Begin(ctx context.Context, deliveries ...service.Delivery) service.Sending {
	return sending{s.cluster.Begin(ctx, messages(deliveries)...), len(deliveries)}
}

// sending implements service.Sending.
type sending struct {
	*cluster.Sending
	messages int
}

// Errs implements service.Sending.
func (s sending) Errs() []error { return errorsOf(s.messages, s.Err()) }

func messages(deliveries []service.Delivery) []cluster.Message {
	msgs := make([]cluster.Message, len(deliveries))
	for i, d := range deliveries {
		msgs[i] = cluster.Message{To: d.To, ID: d.ID, Payload: d.Frame, Payer: d.Payer, Group: d.Group, Ends: d.Ends}
	}
	return msgs
}

// errorsOf returns the error of each of n messages of a Send, in session's terms.
func errorsOf(n int, err error) []error {
	failed := make([]error, n)
	for _, e := range sendErrors(err) {
		failed[e.Index] = fmt.Errorf("%w: %w", service.ErrUnavailable, e.Err)
		switch {
		case errors.Is(e.Err, cluster.ErrMailboxFull):
			failed[e.Index] = service.ErrMailboxFull
		case redis.HasErrorPrefix(e.Err, "OOM"):
			failed[e.Index] = fmt.Errorf("%w: %w", service.ErrStorageFull, e.Err)
		case errors.Is(e.Err, cluster.ErrShareUsed), errors.Is(e.Err, cluster.ErrGroupFull):
			failed[e.Index] = service.ErrShareUsed
		}
	}
	return failed
}

// sendErrors splits the errors of a Send.
func sendErrors(err error) []*cluster.SendError {
	var list []*cluster.SendError
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			list = append(list, sendErrors(e)...)
		}
		return list
	}
	var e *cluster.SendError
	if errors.As(err, &e) {
		list = append(list, e)
	}
	return list
}

// locker implements service.Locker on the cluster's locks.
type locker struct {
	cluster *cluster.Node
	store   *sessions.Store
	// Together says that the session is loaded in the step that takes its lock. It
	// is false where reads wait for replicas: a lock need not be on enough of them.
	together bool
}

// Lock implements service.Locker.
func (l locker) Lock(ctx context.Context, id string) (service.Lock, service.Loaded, error) {
	if !l.together {
		lock, err := l.cluster.Lock(ctx, id)
		if err != nil {
			return nil, service.Loaded{}, err
		}
		loaded := service.Loaded{Asked: time.Now()}
		loaded.Session, loaded.Now, err = l.store.Load(ctx, id)
		return lock, loaded, err
	}
	lock, guarded, err := l.cluster.LockAndLoad(ctx, id, l.store.SessionKey(id))
	if err != nil {
		return nil, service.Loaded{}, err
	}
	loaded := service.Loaded{Asked: guarded.Asked}
	loaded.Session, loaded.Now, err = l.store.Loaded(id, guarded.Reply)
	return lock, loaded, err
}

// presence implements service.Presence on the cluster's.
type presence struct{ cluster *cluster.Node }

// Online implements service.Presence.
func (p presence) Online(ctx context.Context, users ...string) (map[string]bool, error) {
	present, err := p.cluster.Present(ctx, users...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", service.ErrUnavailable, err)
	}
	online := make(map[string]bool, len(present))
	for user := range present {
		online[user] = true
	}
	return online, nil
}

// LastSeen implements service.Presence. While Redis was unreachable a user with a
// socket could not be seen, so absence counts only from the new contact on.
func (p presence) LastSeen(ctx context.Context, users ...string) (map[string]time.Time, error) {
	seen, err := p.cluster.LastSeen(ctx, users...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", service.ErrUnavailable, err)
	}
	since := p.cluster.Contact()
	for _, user := range users {
		if since.After(seen[user]) {
			seen[user] = since
		}
	}
	return seen, nil
}

// waiting implements service.Waiting on the cluster's mailboxes.
type waiting struct{ cluster *cluster.Node }

// Waiting implements service.Waiting.
func (w waiting) Waiting(ctx context.Context, user string, after uint64, most int) ([][]byte, error) {
	frames, err := w.cluster.Waiting(ctx, user, after, most)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", service.ErrUnavailable, err)
	}
	return frames, nil
}
