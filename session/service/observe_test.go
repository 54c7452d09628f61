package service_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// watched is an Observer and a Tracer that records its calls as text.
type watched struct {
	mu    sync.Mutex
	told  []string
	trees map[string][]string // by session: parts of the work, each with its parents
}

func (o *watched) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, fmt.Sprintf(format, args...))
}

func (o *watched) Began(s session.Session) { o.add("%s began", s.Kind) }
func (o *watched) Locked(wait time.Duration, err error) {
	o.add("locked %v", err == nil && wait >= 0)
}
func (o *watched) LockLost()               { o.add("lock lost") }
func (o *watched) Denied(reason string)    { o.add("refused %s", reason) }
func (o *watched) Swept(taken, failed int) { o.add("swept %d %d", taken, failed) }

type inside struct{}

func (o *watched) Stepped(from, to session.Session) {
	o.add("%s %s to %s", to.Kind, from.Phase, to.Phase)
}

// tracer is watched as a Tracer, with another Stepped.
type tracer struct{ *watched }

func (o tracer) Begin(ctx context.Context, id, part string) (context.Context, func(error)) {
	path, _ := ctx.Value(inside{}).(string)
	path = strings.TrimPrefix(path+" > "+part, " > ")
	return context.WithValue(ctx, inside{}, path), func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.trees == nil {
			o.trees = map[string][]string{}
		}
		o.trees[id] = append(o.trees[id], path)
	}
}

func (o tracer) Stepped(ctx context.Context, _, to session.Session) {
	o.add("in %v: %s", ctx.Value(inside{}), to.Phase)
}

func (o *watched) count(what string) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, told := range o.told {
		if told == what {
			n++
		}
	}
	return n
}

// TestObserver runs a keygen and a signing on two nodes and checks the recorded calls:
// each beginning and each end once, and the parts of the work.
func TestObserver(t *testing.T) {
	each(t, func(w *world) {
		var o watched
		observe := func(c *service.Config) { c.Observer, c.Tracer = &o, tracer{&o} }
		a, b := w.node(observe), w.node(observe)
		w.keygen(a, "vault", false)
		c := w.cast(b, false)
		c.skip()
		w.must(a, "boss", signRequest("vault", "hello"))
		c.act()
		s := w.the(session.Sign)
		if s.Phase != session.Completed {
			t.Fatalf("the signing is %s", s.Phase)
		}
		for _, what := range []string{
			"keygen began", "sign began", "keygen inviting to running", "sign inviting to running", "keygen running to completed", "sign running to completed",
			"in begin: inviting", "in step signed: completed", "in store key > step key stored: completed",
		} {
			want := 1
			if what == "in begin: inviting" {
				want = 2
			}
			if n := o.count(what); n != want {
				t.Errorf("%q was told %d times, want %d: %q", what, n, want, o.told)
			}
		}
		if o.count("locked true") == 0 || o.count("locked false") != 0 {
			t.Errorf("locks: %q", o.told)
		}
		for _, path := range []string{
			"begin", "begin > deliver", "step responded > lock", "step responded > commit", "step responded > deliver", "step signed > commit",
		} {
			if !slices.Contains(o.trees[s.ID], path) {
				t.Errorf("no part %q of the signing: %q", path, o.trees[s.ID])
			}
		}
	})
}

// TestObserverSweep sweeps a session that is due.
func TestObserverSweep(t *testing.T) {
	each(t, func(w *world) {
		var o watched
		v := w.node(func(c *service.Config) { c.Observer, c.Tracer = &o, tracer{&o} })
		w.must(v, "boss", keygenRequest("vault"))
		w.sweepAll(v)
		w.refused(v, "boss", &wire.SessionCancel{SessionID: "nowhere"}, wire.CodeNotFound)
		if o.count("locked false") != 0 {
			t.Errorf("what is not there was told as a lock that is not to be had: %q", o.told)
		}
		if o.count("swept 1 0") != 1 {
			t.Errorf("told %q", o.told)
		}
	})
}
