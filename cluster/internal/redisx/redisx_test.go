package redisx_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/conclave-mpc/conclave/cluster/internal/redisx"
	"github.com/conclave-mpc/conclave/cluster/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trips counts round trips of one client.
type trips struct{ n atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmds)
	}
}

// alone returns a separate client of the same server, which ends calls with their
// context.
func alone(t *testing.T, rdb redis.UniversalClient) *redis.Client {
	t.Helper()
	opt := *rdb.(*redis.Client).Options()
	opt.ContextTimeoutEnabled = true
	one := redis.NewClient(&opt)
	t.Cleanup(func() { _ = one.Close() })
	return one
}

// Many callers share round trips. Each has its own replies and errors, in the order
// of its commands.
func TestRoundTripsAreShared(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		one, count := alone(t, rdb), &trips{}
		one.AddHook(count)
		c := redisx.New(one)
		if !c.Whole() {
			t.Error("one server is taken for several")
		}
		ctx := context.Background()
		const callers, each = 32, 25
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				key := fmt.Sprint(prefix, i)
				for k := range each {
					incr, wrong := redis.NewIntCmd(ctx, "incr", key), redis.NewIntCmd(ctx, "llen", key)
					none, got := redis.NewStringCmd(ctx, "get", key+"-none"), redis.NewStringCmd(ctx, "get", key)
					err := c.Do(ctx, incr, none, got)
					if err != nil || incr.Val() != int64(k+1) || got.Val() != fmt.Sprint(k+1) || !errors.Is(none.Err(), redis.Nil) {
						t.Errorf("%v: counted %d, read %q, want %d", err, incr.Val(), got.Val(), k+1)
					}
					if err := c.Do(ctx, wrong); !redis.HasErrorPrefix(err, "WRONGTYPE") || wrong.Err() != err {
						t.Errorf("got %v, want that it is no list", err)
					}
				}
			})
		}
		all.Wait()
		if n := count.n.Load(); n < each || n >= callers*each {
			t.Errorf("%d calls took %d round trips", 2*callers*each, n)
		}
	})
}

// A script that Redis does not have still runs, each call once, beside known ones.
func TestMissingScripts(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		c, ctx := redisx.New(rdb), context.Background()
		script := redisx.NewScript("return redis.call('INCRBY', KEYS[1], ARGV[1]) -- " + prefix)
		key := []string{prefix + "n"}
		for want := int64(3); want <= 9; want += 3 {
			first, plain, second := script.Call(key, 1), redis.NewIntCmd(ctx, "incr", key[0]), script.Call(key, 1)
			if err := c.Do(ctx, first, plain, second); err != nil {
				t.Fatal(err)
			}
			if n, err := second.Int64(); err != nil || n != want {
				t.Errorf("got %d, %v, want %d", n, err, want)
			}
			if n, err := first.Int64(); err != nil || n >= want {
				t.Errorf("the first call returned %d, %v", n, err)
			}
		}
		broken := redisx.NewScript("return redis.error_reply('NO WAY')").Call(key)
		if err := c.Do(ctx, broken); err == nil || !strings.Contains(err.Error(), "NO WAY") {
			t.Errorf("got %v, want the script's error", err)
		}
	})
}

// A leaving caller returns when its context ends, however long Redis takes, whether
// alone or waiting for others. The others get their replies, and commands not yet
// sent are not carried out.
func TestLeaving(t *testing.T) {
	t.Parallel()
	server := redistest.StartRedis(t)
	rdb := server.Client(t)
	c, ctx := redisx.New(alone(t, rdb)), context.Background()
	if err := c.Do(ctx, redis.NewIntCmd(ctx, "incr", "n")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	do := func(ctx context.Context, patience time.Duration) <-chan error {
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			ended <- c.Do(ctx, redis.NewIntCmd(ctx, "incr", "n"))
		}()
		return ended
	}
	in := func(what string, ended <-chan error, within time.Duration) error {
		t.Helper()
		select {
		case err := <-ended:
			return err
		case <-time.After(within):
			t.Fatalf("%s has not returned", what)
			return nil
		}
	}
	leads := do(ctx, 600*time.Millisecond)
	time.Sleep(50 * time.Millisecond) // it is in flight
	cancelled, cancel := context.WithCancel(ctx)
	stays, leaves, goes := do(ctx, time.Minute), do(ctx, 30*time.Millisecond), do(cancelled, time.Minute)
	time.Sleep(10 * time.Millisecond)
	cancel()
	if err := in("who leaves", leaves, 400*time.Millisecond); !errors.Is(err, redisx.ErrLeft) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want that the caller left", err)
	}
	if err := in("who goes", goes, 400*time.Millisecond); !errors.Is(err, redisx.ErrLeft) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the caller went", err)
	}
	if err := in("who leads", leads, 2*time.Second); err == nil {
		t.Error("a Redis that is stopped has answered")
	}
	if err := syscall.Kill(server.Pid(), syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := in("who stays", stays, 10*time.Second); err != nil {
		t.Errorf("who stays: %v", err)
	}
	// The first one, perhaps the leader (its reply was lost), and the one that stayed.
	if n, err := rdb.Get(ctx, "n").Int(); err != nil || n != 2 && n != 3 {
		t.Errorf("counted %d, %v, want 2 or 3: who left was not on its way", n, err)
	}
	if err := c.Do(cancelled, redis.NewIntCmd(ctx, "incr", "n")); !errors.Is(err, redisx.ErrLeft) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that the context had ended", err)
	}
}

// A Redis Cluster server is recognised by its refusal.
func TestApart(t *testing.T) {
	t.Parallel()
	shards := redistest.StartShards(t, 1, 0)
	c, ctx := redisx.New(shards.Servers[0].Client(t)), context.Background()
	script := redisx.NewScript("return redis.call('INCR', KEYS[1]) + redis.call('INCR', KEYS[2])")
	if err := c.Do(ctx, script.Call([]string{"a", "b"})); !redis.HasErrorPrefix(err, "CROSSSLOT") || c.Whole() {
		t.Errorf("got %v, whole %t", err, c.Whole())
	}
	if c := redisx.New(shards.Client(t)); c.Whole() {
		t.Error("several servers are taken for one")
	} else if call := script.Call([]string{"{a}1", "{a}2"}); c.Do(ctx, call, redis.NewStatusCmd(ctx, "set", "b", 1)) != nil || call.Val() != int64(2) {
		t.Errorf("got %v, %v", call.Val(), call.Err())
	}
}

// gate holds each round trip until released.
type gate struct{ at, proceed chan struct{} }

func (g gate) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (g gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (g gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.at <- struct{}{}
		<-g.proceed
		return next(ctx, cmds)
	}
}

// A command in flight when its caller's context is cancelled is waited for, so that
// its outcome is known.
func TestCancelledOnTheWay(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		one, ctx, g := alone(t, rdb), context.Background(), gate{make(chan struct{}), make(chan struct{})}
		if err := one.Ping(ctx).Err(); err != nil { // a new connection also sends a command
			t.Fatal(err)
		}
		one.AddHook(g)
		c := redisx.New(one)
		incr := func() *redis.IntCmd { return redis.NewIntCmd(ctx, "incr", prefix+"n") }
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- c.Do(ctx, incr()) }()
		<-g.at
		cancelled, cancel := context.WithCancel(ctx)
		cmd := incr()
		go func() { second <- c.Do(cancelled, cmd) }()
		for c.Waiting() == 0 {
			time.Sleep(time.Millisecond)
		}
		g.proceed <- struct{}{}
		if err := <-first; err != nil {
			t.Fatal(err)
		}
		<-g.at
		cancel()
		g.proceed <- struct{}{}
		if err := <-second; err != nil || cmd.Val() != 2 {
			t.Errorf("got %v, counted %d, want what was on its way", err, cmd.Val())
		}
	})
}

// fragile is a connection that breaks, or falls silent, on demand.
type fragile struct {
	net.Conn
	breaks, silent *atomic.Bool
	said           bool // the one reply before it breaks
}

// Read implements net.Conn. Before it breaks it returns one line, one reply.
func (f *fragile) Read(b []byte) (int, error) {
	if f.said {
		return 0, io.EOF
	}
	n, err := f.Conn.Read(b)
	if f.silent.CompareAndSwap(true, false) {
		_, _ = io.Copy(io.Discard, f.Conn) // until closed, or the deadline
		return 0, os.ErrDeadlineExceeded
	}
	if line := bytes.IndexByte(b[:n], '\n'); line >= 0 && f.breaks.CompareAndSwap(true, false) {
		f.said = true
		return line + 1, err
	}
	return n, err
}

// fragileClient is a client whose connections are fragile, with one already open.
func fragileClient(t *testing.T, rdb redis.UniversalClient) (one *redis.Client, breaks, silent *atomic.Bool) {
	t.Helper()
	breaks, silent = new(atomic.Bool), new(atomic.Bool)
	opt := *rdb.(*redis.Client).Options()
	opt.ContextTimeoutEnabled = true
	opt.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		return &fragile{Conn: conn, breaks: breaks, silent: silent}, err
	}
	one = redis.NewClient(&opt)
	t.Cleanup(func() { _ = one.Close() })
	if err := one.Ping(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	return one, breaks, silent
}

// A connection that breaks between the replies of a round trip does not affect
// answered callers: only the others' commands are repeated.
func TestBrokenBetweenAnswers(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		one, breaks, _ := fragileClient(t, rdb)
		ctx, g := context.Background(), gate{make(chan struct{}), make(chan struct{})}
		one.AddHook(g)
		c := redisx.New(one)
		var all sync.WaitGroup
		count := func(key string) *redis.IntCmd {
			cmd := redis.NewIntCmd(ctx, "incr", prefix+key)
			all.Go(func() {
				if err := c.Do(ctx, cmd); err != nil {
					t.Error(err)
				}
			})
			return cmd
		}
		count("before")
		<-g.at
		var cmds []*redis.IntCmd
		for i := range 3 {
			cmds = append(cmds, count(fmt.Sprint(i)))
			for c.Waiting() < i+1 {
				time.Sleep(time.Millisecond)
			}
		}
		g.proceed <- struct{}{}
		<-g.at
		breaks.Store(true)
		g.proceed <- struct{}{}
		done := make(chan struct{})
		go func() { defer close(done); all.Wait() }()
		for open := true; open; { // a new connection, and a repetition for two of them
			select {
			case <-g.at:
				g.proceed <- struct{}{}
			case <-done:
				open = false
			}
		}
		for i, want := range []int64{1, 2, 2} {
			if got := cmds[i].Val(); got != want {
				t.Errorf("caller %d counted %d, want %d", i, got, want)
			}
			if n, err := rdb.Get(ctx, prefix+fmt.Sprint(i)).Int64(); err != nil || n != want {
				t.Errorf("the command of caller %d was carried out %d times (%v), want %d", i, n, err, want)
			}
		}
	})
}

// A silent connection blocks its own callers, and later ones only for a moment.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) {
		one, _, silent := fragileClient(t, rdb)
		c := redisx.New(one)
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		silent.Store(true)
		var held, behind atomic.Int64
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if i > 0 {
					time.Sleep(50 * time.Millisecond)
				}
				if err := c.Do(ctx, redis.NewIntCmd(ctx, "incr", prefix+"n")); err != nil {
					held.Add(1)
				} else {
					behind.Add(1)
				}
			})
		}
		for tries := 0; behind.Load() < 19 && tries < 1000; tries++ {
			time.Sleep(2 * time.Millisecond)
		}
		if n := behind.Load(); n != 19 {
			t.Errorf("%d callers behind a silent connection had their answers, want 19", n)
		}
		cancel()
		all.Wait()
	})
}
