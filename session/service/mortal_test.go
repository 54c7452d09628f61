package service_test

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
)

var errDead = errors.New("this node is dead")

// mortal is the environment of a node that dies at its n-th call to it: just before the
// call takes effect, or just after. After that none of its calls has an effect.
type mortal struct {
	service.Store
	sender service.Sender
	locker service.Locker

	diesAt int64
	after  bool
	calls  atomic.Int64
}

func (d *mortal) do(f func() error) error {
	n := d.calls.Add(1)
	if n > d.diesAt || n == d.diesAt && !d.after {
		return errDead
	}
	err := f()
	if n == d.diesAt {
		return errDead
	}
	return err
}

func (d *mortal) dead() bool { return d.calls.Load() >= d.diesAt }

// node returns a Service in that environment.
func (d *mortal) node(w *world) *service.Service {
	return w.node(func(c *service.Config) {
		d.Store, d.sender, d.locker = c.Store, c.Sender, locks{w.store, w.rdb, w.prefix, 20 * time.Millisecond}
		c.Store, c.Sender, c.Locker = d, mortalSender{d}, mortalLocker{d}
		if c.Audit != nil {
			c.Audit = w.openAudit("doomed") // which never writes: the node dies first
		}
	})
}

type mortalSender struct{ *mortal }

func (d mortalSender) Begin(ctx context.Context, deliveries ...service.Delivery) service.Sending {
	return sent(d.Send(ctx, deliveries...))
}

func (d mortalSender) Send(ctx context.Context, deliveries ...service.Delivery) (errs []error) {
	err := d.do(func() error { errs = d.sender.Send(ctx, deliveries...); return nil })
	if err != nil {
		errs = make([]error, len(deliveries))
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

type mortalLocker struct{ *mortal }

func (d mortalLocker) Lock(ctx context.Context, id string) (l service.Lock, s service.Loaded, err error) {
	if err = d.do(func() error { l, s, err = d.locker.Lock(ctx, id); return err }); err != nil && l == nil || d.dead() {
		return nil, s, err
	}
	return mortalLock{l, d.mortal}, s, err
}

type mortalLock struct {
	service.Lock
	d *mortal
}

func (l mortalLock) Release(ctx context.Context) error {
	return l.d.do(func() error { return l.Lock.Release(ctx) })
}

func (d *mortal) Now(ctx context.Context) (t time.Time, err error) {
	err = d.do(func() error { t, err = d.Store.Now(ctx); return err })
	return t, err
}

func (d *mortal) Load(ctx context.Context, id string) (s session.Session, t time.Time, err error) {
	err = d.do(func() error { s, t, err = d.Store.Load(ctx, id); return err })
	return s, t, err
}

func (d *mortal) Create(ctx context.Context, s session.Session, out []service.Entry, m service.Mark) (r service.Receipt, ok bool, err error) {
	err = d.do(func() error { r, ok, err = d.Store.Create(ctx, s, out, m); return err })
	return r, ok, err
}

func (d *mortal) Commit(ctx context.Context, s session.Session, token string, out []service.Entry, m service.Mark) (r service.Receipt, err error) {
	err = d.do(func() error { r, err = d.Store.Commit(ctx, s, token, out, m); return err })
	return r, err
}

func (d *mortal) Outbox(ctx context.Context, id, after string) (out []service.Entry, err error) {
	err = d.do(func() error { out, err = d.Store.Outbox(ctx, id, after); return err })
	return out, err
}

func (d *mortal) Settle(ctx context.Context, id string, r service.Settlement) error {
	return d.do(func() error { return d.Store.Settle(ctx, id, r) })
}

func (d *mortal) Key(ctx context.Context, id string) (k session.Key, err error) {
	err = d.do(func() error { k, err = d.Store.Key(ctx, id); return err })
	return k, err
}

func (d *mortal) PutKey(ctx context.Context, k session.Key) error {
	return d.do(func() error { return d.Store.PutKey(ctx, k) })
}

func (d *mortal) PutShare(ctx context.Context, key, id string, part int, share, attestation string) error {
	return d.do(func() error { return d.Store.PutShare(ctx, key, id, part, share, attestation) })
}

func (d *mortal) Shares(ctx context.Context, key string, epoch int, parts ...int) (list []string, err error) {
	err = d.do(func() error { list, err = d.Store.Shares(ctx, key, epoch, parts...); return err })
	return list, err
}

func (d *mortal) Attestations(ctx context.Context, key string, parts int) (list []string, err error) {
	err = d.do(func() error { list, err = d.Store.Attestations(ctx, key, parts); return err })
	return list, err
}

func (d *mortal) OpenSigning(ctx context.Context, key string, s service.Signing, r service.Reservation, match bool) (o service.Opened, err error) {
	err = d.do(func() error { o, err = d.Store.OpenSigning(ctx, key, s, r, match); return err })
	return o, err
}

func (d *mortal) Reserve(ctx context.Context, r service.Reservation) (g service.Grant, err error) {
	err = d.do(func() error { g, err = d.Store.Reserve(ctx, r); return err })
	return g, err
}

func (d *mortal) Release(ctx context.Context, r ...service.Release) error {
	return d.do(func() error { return d.Store.Release(ctx, r...) })
}

func (d *mortal) ShareBytes(ctx context.Context, key string, epoch, parts int) (n int64, err error) {
	err = d.do(func() error { n, err = d.Store.ShareBytes(ctx, key, epoch, parts); return err })
	return n, err
}

func (d *mortal) OpenReshare(ctx context.Context, key string, epoch int, r service.Reservation) (o service.OpenedReshare, err error) {
	err = d.do(func() error { o, err = d.Store.OpenReshare(ctx, key, epoch, r); return err })
	return o, err
}

func (d *mortal) Number(ctx context.Context, key, id string, above int) (n int, err error) {
	err = d.do(func() error { n, err = d.Store.Number(ctx, key, id, above); return err })
	return n, err
}

func (d *mortal) PutEpochShare(ctx context.Context, key, id string, epoch, part int, share string) error {
	return d.do(func() error { return d.Store.PutEpochShare(ctx, key, id, epoch, part, share) })
}

func (d *mortal) Certify(ctx context.Context, c service.Certification) error {
	return d.do(func() error { return d.Store.Certify(ctx, c) })
}

func (d *mortal) EpochsOf(ctx context.Context, key string) (list []session.Epoch, err error) {
	err = d.do(func() error { list, err = d.Store.EpochsOf(ctx, key); return err })
	return list, err
}

func (d *mortal) Lineage(ctx context.Context, key string, after, limit int) (list []service.Certificate, err error) {
	err = d.do(func() error { list, err = d.Store.Lineage(ctx, key, after, limit); return err })
	return list, err
}

func (d *mortal) Signings(ctx context.Context, key string) (k session.Key, open []service.Signing, last string, err error) {
	err = d.do(func() error { k, open, last, err = d.Store.Signings(ctx, key); return err })
	return k, open, last, err
}

func (d *mortal) Schedule(ctx context.Context, id string, at time.Time) error {
	return d.do(func() error { return d.Store.Schedule(ctx, id, at) })
}

func (d *mortal) Postpone(ctx context.Context, id string, from, to time.Time) error {
	return d.do(func() error { return d.Store.Postpone(ctx, id, from, to) })
}

func (d *mortal) Unschedule(ctx context.Context, ids ...string) error {
	return d.do(func() error { return d.Store.Unschedule(ctx, ids...) })
}

func (d *mortal) TakeDue(ctx context.Context, limit int, hold time.Duration) (t []service.Taken, err error) {
	err = d.do(func() error { t, err = d.Store.TakeDue(ctx, limit, hold); return err })
	return t, err
}
