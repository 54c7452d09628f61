package participant

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/clienttest"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
)

var errKilled = errors.New("the process was killed")

// mortal is a MemStore whose process is killed at a write: before it takes effect, or
// after it. From then on no operation succeeds.
type mortal struct {
	*MemStore
	mu    sync.Mutex
	left  int // writes before the kill; below 0 for none
	after bool
	dead  bool
	where string
	kill  func()
}

// write does a write, unless the process dies at it.
func (m *mortal) write(what string, do func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errKilled
	}
	if m.left--; m.left != 0 {
		return do()
	}
	m.dead, m.where = true, what
	if m.after {
		_ = do()
	}
	m.kill()
	return errKilled
}

func (m *mortal) Put(ctx context.Context, text string) error {
	return m.write("share", func() error { return m.MemStore.Put(ctx, text) })
}

func (m *mortal) DeleteEpoch(ctx context.Context, keyID, address string, epoch int) error {
	return m.write("deletion", func() error { return m.MemStore.DeleteEpoch(ctx, keyID, address, epoch) })
}

func (m *mortal) PutCertificate(ctx context.Context, c *statement.Certificate) error {
	return m.write("certificate", func() error { return m.MemStore.PutCertificate(ctx, c) })
}

func (m *mortal) Numbers(ctx context.Context, keyID, address string, change func(*Numbers) error) (n Numbers, err error) {
	if change == nil {
		return m.MemStore.Numbers(ctx, keyID, address, nil)
	}
	err = m.write("numbers", func() error {
		n, err = m.MemStore.Numbers(ctx, keyID, address, change)
		return err
	})
	return n, err
}

func (m *mortal) Write(ctx context.Context, r Record) error {
	return m.write("journal", func() error { return m.MemStore.Write(ctx, r) })
}

// dies is end for a participant whose store may have failed it.
func (p *peer) dies() {
	p.stop()
	if p.result != nil {
		<-p.result
		p.result = nil
	}
}

// TestReshareKilled kills a participant before and after each of its writes during a
// refresh. Started again, it lets the refresh succeed or fail; its key signs, under one
// epoch or the other, and no share is lost.
func TestReshareKilled(t *testing.T) {
	t.Parallel()
	for n, beyond := 1, false; !beyond && n < 60; n++ {
		for _, after := range []bool{false, true} {
			if !sample.Full() && (n+btoi(after))%3 != 0 {
				continue
			}
			if where := killedAt(t, n, after); where == "" {
				beyond = true
			} else {
				t.Logf("write %d, after it: %t: %s", n, after, where)
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// killedAt returns at what kind of write the participant was killed, "" if it made fewer
// writes.
func killedAt(t *testing.T, n int, after bool) (where string) {
	w := newResharing(t, nil)
	bob := w.peers["bob"]
	bob.end()
	died := make(chan struct{})
	store := &mortal{MemStore: bob.store.(*MemStore), left: n, after: after, kill: func() { close(died); go bob.stop() }}
	bob.store = store
	store.left = n
	bob.start()
	ended := make(chan error, 1)
	go func() {
		_, err := w.c.Reshare(clienttest.Within(t), request.Refresh(w.lineage))
		ended <- err
	}()
	var result error
	select {
	case <-died:
		bob.dies()
		store.mu.Lock()
		where, bob.store = store.where, store.MemStore
		store.mu.Unlock()
		bob.start()
		select {
		case result = <-ended:
		case <-time.After(time.Minute):
			t.Fatalf("killed at write %d (%s, after it: %t): the reshare does not end", n, where, after)
		}
	case result = <-ended:
		store.mu.Lock()
		store.left = -1
		store.mu.Unlock()
	}
	w.f.Mu.Lock()
	list := w.f.Lineages["made"]
	w.f.Mu.Unlock()
	l, err := statement.VerifyLineage(list)
	if err != nil {
		t.Fatal(err)
	}
	if result == nil && l.Epoch().Number == 1 {
		t.Fatal("reported as certified, and it is not")
	}
	w.lineage = l
	what := fmt.Sprintf("killed at write %d (%s, after it: %t), then at epoch %d: ", n, where, after, l.Epoch().Number)
	if err := w.trySign("alice", "bob"); err != nil {
		t.Fatal(what, err)
	}
	if l.Epoch().Number > 1 {
		w.settled()
	}
	for _, p := range w.peers {
		p.dies()
	}
	_ = w.c.Close()
	return where
}

// gated is a MemStore that finishes storing the first share only when its participant has
// taken the number of a second attempt.
type gated struct {
	*MemStore
	mu      sync.Mutex
	numbers int
	second  chan struct{}
}

func (g *gated) Put(ctx context.Context, text string) error {
	<-g.second
	return g.MemStore.Put(ctx, text)
}

func (g *gated) Numbers(ctx context.Context, keyID, address string, change func(*Numbers) error) (Numbers, error) {
	n, err := g.MemStore.Numbers(ctx, keyID, address, change)
	if change != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.numbers++; g.numbers == 2 {
			close(g.second)
		}
	}
	return n, err
}

// TestReshareAttemptsOverlap: a participant stores the share of an attempt when the next
// one has begun, or is killed in the next one. The next one is not taken for finished.
func TestReshareAttemptsOverlap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		alice func(s *MemStore, kill func()) testStore
	}{
		{"stored late", func(s *MemStore, _ func()) testStore { return &gated{MemStore: s, second: make(chan struct{})} }},
		{"killed in the second", func(s *MemStore, kill func()) testStore {
			return &mortal{MemStore: s, left: 9, after: true, kill: kill} // at the second share
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newResharing(t, nil)
			alice, bob := w.peers["alice"], w.peers["bob"]
			alice.end()
			bob.end()
			aliceDied, bobDied := make(chan struct{}), make(chan struct{})
			aliceStore, bobStore := alice.store.(*MemStore), bob.store.(*MemStore)
			alice.store = tc.alice(aliceStore, func() { alice.stop(); close(aliceDied) })
			bob.store = &mortal{MemStore: bobStore, left: 5, after: true, kill: func() { close(bobDied); go bob.stop() }}
			alice.start()
			bob.start()
			ended := make(chan error, 1)
			go func() {
				_, err := w.c.Reshare(clienttest.Within(t), request.Refresh(w.lineage))
				ended <- err
			}()
			deadline := time.After(time.Minute)
			for {
				select {
				case <-bobDied:
					bobDied = nil
					bob.dies()
					bob.store = bobStore
					bob.start()
				case <-aliceDied:
					aliceDied = nil
					alice.dies()
					alice.store = aliceStore
					alice.start()
				case err := <-ended:
					if err != nil {
						t.Error(err)
					}
					return
				case <-deadline:
					t.Fatal("the reshare does not end")
				}
			}
		})
	}
}
