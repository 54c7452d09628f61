// Package redistest runs the tests of the packages that keep their state in
// Redis: each on miniredis, which needs nothing installed, and again on a real
// redis-server where there is one.
//
//	func TestX(t *testing.T) {
//		redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient, prefix string) { … })
//	}
//
// A real server is chosen in this order: the one that CONCLAVE_TEST_REDIS names (a
// redis:// URL); one started from redis-server on the PATH, on a free port with its
// files in a temporary directory, shared by the tests that run at that time. With
// neither the real half is skipped, unless CONCLAVE_REQUIRE_REAL=1 makes that a
// failure. Tests are isolated by their key prefix; none may flush a database.
//
// A test that harms its server (kills it, flushes its scripts, drops its
// clients) starts one of its own with [StartRedis].
//
// The package is for tests only; no program of this module links it.
//
// Goroutines: one per started redis-server, which waits for the process and
// ends with it. The mutex shared.mu guards the shared server and its count.
package redistest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	chance "math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/cluster/redistest/sample"
)

const (
	envAddr    = "CONCLAVE_TEST_REDIS"
	envRequire = "CONCLAVE_REQUIRE_REAL"
)

// Each runs test twice as subtests, "miniredis" and "redis", each with its own
// client and a unique key prefix. Both are parallel, so they may still run when
// Each returns, as with t.Run.
func Each(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, prefix string)) {
	t.Helper()
	onMini(t, test)
	onReal(t, test)
}

// Best runs a test that is too long to run twice: as the one subtest "redis" if
// there is a real server or one is required, else as "miniredis". In the full set
// (see package sample) one test in four, chosen at random, runs on miniredis as
// well; with CONCLAVE_MINIREDIS=1 all do.
func Best(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, prefix string)) {
	t.Helper()
	switch {
	case sample.Full() && (os.Getenv("CONCLAVE_MINIREDIS") == "1" || chance.IntN(4) == 0):
		Each(t, test)
	case HasReal():
		onReal(t, test)
	default:
		onMini(t, test)
	}
}

func onMini(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, prefix string)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, Mini(t), Prefix())
	})
}

func onReal(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient, prefix string)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		rdb, prefix := Real(t), Prefix()
		if os.Getenv(envAddr) != "" {
			t.Cleanup(func() { removeKeys(rdb, prefix) })
		}
		test(t, rdb, prefix)
	})
}

// Mini starts a miniredis whose times to live follow the clock, and returns a
// client of it. Both end with the test.
func Mini(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	m := StartMini(tb)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// StartMini starts a miniredis for the duration of the test. By default its times
// to live stand still; here they follow the wall clock.
func StartMini(tb testing.TB) *miniredis.Miniredis {
	tb.Helper()
	m := miniredis.NewMiniRedis()
	m.ClockTTL(true)
	if err := m.Start(); err != nil {
		tb.Fatalf("start miniredis: %v", err)
	}
	tb.Cleanup(m.Close)
	return m
}

// Real returns a client of the real Redis that this test binary shares, for the
// duration of the test. Without one it skips the test, or fails it when
// CONCLAVE_REQUIRE_REAL=1.
func Real(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	url := os.Getenv(envAddr)
	if url == "" {
		needServer(tb)
		url = shared.acquire(tb).URL()
	}
	opt, err := redis.ParseURL(url)
	if err != nil {
		tb.Fatalf("parse %s: %v", envAddr, err)
	}
	rdb := redis.NewClient(opt)
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Prefix returns a unique key prefix.
func Prefix() string {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand does not fail on systems that Go supports
	}
	return "test-" + hex.EncodeToString(b[:]) + ":"
}

// HasReal reports whether Real returns a client, or must fail because one is
// required: a test that is too slow to run twice then runs on the real server.
func HasReal() bool {
	if os.Getenv(envAddr) != "" || os.Getenv(envRequire) == "1" {
		return true
	}
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// needServer skips or fails the test when redis-server is not on the PATH.
func needServer(tb testing.TB) {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return
	}
	if os.Getenv(envRequire) == "1" {
		tb.Fatalf("redis-server is not on the PATH and %s=1", envRequire)
	}
	tb.Skip("redis-server is not on the PATH")
}

// removeKeys removes a test's keys from a server that outlives the tests.
func removeKeys(rdb redis.UniversalClient, prefix string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for it := rdb.Scan(ctx, 0, prefix+"*", 1000).Iterator(); it.Next(ctx); {
		_ = rdb.Del(ctx, it.Val()).Err()
	}
}

// shared is the real server of this test binary: started by the first test that
// needs it, stopped when the last of those running is done.
var shared sharedServer

type sharedServer struct {
	mu     sync.Mutex
	users  int
	server *RealRedis
}

// acquire holds the mutex while the server starts: a second caller must wait for it
// anyway.
func (s *sharedServer) acquire(tb testing.TB) *RealRedis {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server == nil {
		server, err := start()
		if err != nil {
			tb.Fatalf("start redis-server: %v", err)
		}
		s.server = server
	}
	s.users++
	tb.Cleanup(s.release)
	return s.server
}

func (s *sharedServer) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.users == 0 {
		s.server.remove()
		s.server = nil
	}
}
