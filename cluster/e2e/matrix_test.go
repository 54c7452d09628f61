package e2e_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// How long a probe may take after the end of an act. On a quiet machine it is
// healedIn, which CONCLAVE_MATRIX=strict asserts; other tests run beside this one.
const healedAtLast = time.Minute

func healBound() time.Duration {
	if os.Getenv("CONCLAVE_MATRIX") == "strict" {
		return healedIn
	}
	return healedAtLast
}

// act is an operator's action or a failure of Redis, nodes or clocks.
type act struct {
	name  string
	on    redisKind
	lasts time.Duration // from do to undo
	// closes means that nodes may close sockets, whose clients connect again. No
	// client ever gives up a socket by itself.
	closes bool
	// loses means that Redis loses its newest accepted writes.
	loses bool

	prepare func(w *stage) // before anything is acknowledged; nil for nothing
	do      func(w *stage)
	undo    func(w *stage) // nil where do undoes it
}

// probe is one subsystem: its acknowledged work before an act, new work during it, and
// checks after it. Nil means nothing. Endless work runs until ctx ends.
type probe struct {
	before func()
	during func()
	after  func(ctx context.Context) error
}

// TestMatrix crosses acts with subsystems: nothing acknowledged is lost, no culprit
// is named, no socket is deaf, and soon after the act's end everything works,
// without a client reconnecting by itself and without a restart. One run of an act
// is observed by all probes. CONCLAVE_MATRIX=strict asserts 10 s.
//
// The sample runs three short acts.
func TestMatrix(t *testing.T) {
	t.Parallel()
	needRedis(t)
	if testing.Short() {
		t.Skip("faults against real processes are left out with -short")
	}
	run := acts
	if !sample.Full() {
		run = sample.Of(3, slices.DeleteFunc(slices.Clone(acts), func(a act) bool {
			return a.on >= onShards || a.loses || a.lasts > 2*time.Second
		}))
	}
	for _, a := range run {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			a.run(t)
		})
	}
}

func (a act) run(t *testing.T) {
	w := newStage(t, a)
	cells := make([]probe, len(probes))
	for i, p := range probes {
		cells[i] = p.on(w)
		if cells[i].before != nil {
			cells[i].before()
		}
	}
	if t.Failed() {
		return
	}
	before := w.connections()
	a.do(w)
	for _, c := range cells {
		if c.during != nil {
			c.during()
		}
	}
	waitFor(w.life, a.lasts)
	if a.undo != nil {
		a.undo(w)
	}
	ended := time.Now()
	w.judge(cells, ended)
	w.noneConnectedAgain(before)
	w.hold()
	breaches := w.excused(w.settle())
	t.Run("history", func(t *testing.T) {
		for _, b := range breaches {
			t.Error(b)
		}
		w.blamesNobody(t)
	})
}

// judge runs the checks after the act's end, concurrently, and reports each probe as
// a test of its own.
func (w *stage) judge(cells []probe, ended time.Time) {
	w.t.Helper()
	ctx, cancel := context.WithDeadline(w.life, ended.Add(healBound()))
	defer cancel()
	errs, took := make([]error, len(cells)), make([]time.Duration, len(cells))
	var wg sync.WaitGroup
	for i, c := range cells {
		wg.Go(func() {
			errs[i] = c.after(ctx)
			took[i] = time.Since(ended)
		})
	}
	wg.Wait()
	worst := 0
	for i := range took {
		if took[i] > took[worst] {
			worst = i
		}
	}
	w.t.Logf("everything works %s after the act's end, last %s", took[worst].Round(10*time.Millisecond), probes[worst].name)
	for i, p := range probes {
		w.t.Run(p.name, func(t *testing.T) {
			if errs[i] != nil {
				t.Errorf("%s after the act's end: %v", took[i].Round(time.Millisecond), errs[i])
			}
		})
	}
}

// until waits for ok to return nil; its error names the unmet condition.
func until(ctx context.Context, ok func() error) error {
	err := ok()
	for err != nil && waitFor(ctx, 50*time.Millisecond) {
		err = ok()
	}
	return err
}

// excused drops breaches by Redis's own losses, which no promise covers.
func (w *stage) excused(all []breach) []breach {
	if !w.act.loses {
		return all
	}
	return slices.DeleteFunc(all, func(b breach) bool {
		return b.class == lost || b.class == duplicated || b.class == contradictory || strings.Contains(b.text, w.lost.name)
	})
}

// blamesNobody checks that no session names a culprit, in Redis or in messages.
func (w *stage) blamesNobody(t *testing.T) {
	t.Helper()
	sessions := 0
	for _, key := range w.keys("session:*") {
		if strings.HasSuffix(key, ":outbox") {
			continue
		}
		sessions++
		f := w.rdb.HGetAll(context.Background(), key).Val()
		if f["culprits"] != "" && !strings.HasPrefix(f["data"], unanswered) {
			t.Errorf("%s blames %s: %s, %s", key, f["culprits"], f["phase"], f["reason"])
		}
	}
	if sessions == 0 {
		t.Error("there are no sessions")
	}
}

// connections counts how often each user has connected.
func (w *stage) connections() map[string]int64 {
	all := map[string]int64{}
	for _, g := range w.groups {
		for _, s := range g.speakers() {
			if s != w.late() {
				all[s.user] = s.conns.Load()
			}
		}
	}
	return all
}

// noneConnectedAgain checks that no node closed a socket, unless it may. A busy
// machine can lose a node's lease in an act that is too short for that.
func (w *stage) noneConnectedAgain(before map[string]int64) {
	w.t.Helper()
	if w.act.closes || w.act.lasts < leaseTTL/2 && strings.Contains(w.c.logs.String(), `"message":"lease lost"`) {
		return
	}
	for user, n := range w.connections() {
		if n != before[user] {
			w.t.Errorf("%s has connected %d times since, want none", user, n-before[user])
		}
	}
}

// success waits for an outcome and returns an error unless it is the requested one
// and names no culprit.
func success(ctx context.Context, what string, outcome <-chan wire.Payload) error {
	return ends(ctx, what, wire.StatusSuccess, outcome)
}

func ends(ctx context.Context, what string, want wire.Status, outcome <-chan wire.Payload) error {
	select {
	case p := <-outcome:
		status, reason, culprits := wire.Status(""), "", []int(nil)
		switch p := p.(type) {
		case *wire.SignComplete:
			status, reason, culprits = p.Status, p.Reason, p.Culprits
		case *wire.KeygenConfirm:
			status, reason, culprits = p.Status, p.Reason, p.Culprits
		}
		// An expired session may name the parties that did not answer.
		if status != want || len(culprits) > 0 && status != wire.StatusExpired {
			return fmt.Errorf("%s: %q, %s, culprits %v; want %s", what, status, reason, culprits, want)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has no outcome", what)
	}
}
