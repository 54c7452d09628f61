package redistest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	startTimeout = 20 * time.Second
	startTries   = 5 // a free port may be taken before redis-server binds it
)

// RealRedis is a redis-server process with its append-only file on, so that it
// keeps its data over [RealRedis.Kill] and [RealRedis.Restart]. Its methods are not
// safe for concurrent use.
type RealRedis struct {
	addr string
	dir  string
	args []string
	conf string // Sentinel configuration; empty for a data server
	ran  bool   // it has answered on its address
	cmd  *exec.Cmd
	done chan struct{}  // closed when the process has ended
	tied io.WriteCloser // stdin of the process that ends the server with the test binary
	tie  *exec.Cmd
}

// StartRedis starts a redis-server for this test alone and stops it, and
// removes its files, when the test ends. Further arguments go to its command
// line. Without redis-server on the PATH the test is skipped, or fails when
// CONCLAVE_REQUIRE_REAL=1.
func StartRedis(tb testing.TB, args ...string) *RealRedis {
	tb.Helper()
	needServer(tb)
	r, err := start(args...)
	if err != nil {
		tb.Fatalf("start redis-server: %v", err)
	}
	tb.Cleanup(r.remove)
	return r
}

// Addr returns host:port; it stays the same over restarts.
func (r *RealRedis) Addr() string { return r.addr }

// URL returns the address as go-redis and conclaved take it.
func (r *RealRedis) URL() string { return "redis://" + r.addr + "/0" }

// Client returns a new client of the server, closed when the test ends.
func (r *RealRedis) Client(tb testing.TB) redis.UniversalClient {
	tb.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: r.addr})
	tb.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Pid returns the process id of the running server.
func (r *RealRedis) Pid() int { return r.cmd.Process.Pid }

// Log returns what the server has printed so far.
func (r *RealRedis) Log() string {
	b, err := os.ReadFile(filepath.Join(r.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Kill ends the server with SIGKILL and waits until it is gone.
func (r *RealRedis) Kill() { r.end(syscall.SIGKILL) }

// Stop ends the server with SIGTERM, which lets it write its files.
func (r *RealRedis) Stop() { r.end(syscall.SIGTERM) }

// Restart starts the server again on the same address with the same files.
func (r *RealRedis) Restart(tb testing.TB) {
	tb.Helper()
	r.Kill()
	if err := r.run(); err != nil {
		tb.Fatalf("restart redis-server: %v", err)
	}
}

func start(args ...string) (*RealRedis, error) { return startWith(RealRedis{args: args}) }

// startWith starts a process with its own directory and port.
func startWith(like RealRedis) (*RealRedis, error) {
	dir, err := os.MkdirTemp("", "conclave-redis-")
	if err != nil {
		return nil, err
	}
	for range startTries {
		r := &RealRedis{dir: dir, args: like.args, conf: like.conf}
		if r.addr, err = freeAddr(); err != nil {
			break
		}
		if err = r.run(); err == nil {
			return r, nil
		}
	}
	_ = os.RemoveAll(dir)
	return nil, err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// run starts the process and waits until it answers with its data loaded.
func (r *RealRedis) run() error {
	args, err := r.commandLine()
	if err != nil {
		return err
	}
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	r.done = done
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(done)
	}(r.cmd)
	if err := r.tieToUs(); err != nil {
		r.Kill()
		return err
	}
	if err := r.await(); err != nil {
		r.Kill()
		return err
	}
	r.ran = true
	return nil
}

func (r *RealRedis) commandLine() ([]string, error) {
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		return nil, err
	}
	if r.conf == "" {
		return append([]string{"--bind", host, "--port", port, "--dir", r.dir,
			"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--logfile", "redis.log",
			"--maxmemory-policy", "noeviction", "--daemonize", "no"}, r.args...), nil
	}
	// A Sentinel writes its state to its configuration file.
	path := filepath.Join(r.dir, "sentinel.conf")
	if _, err := os.Stat(path); err != nil || !r.ran {
		text := fmt.Sprintf("bind %s\nport %s\ndir %s\nlogfile redis.log\n%s", host, port, r.dir, r.conf)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return []string{path, "--sentinel"}, nil
}

// tieToUs lets a shell wait on a pipe that only this process holds open: when
// the test binary dies without its cleanups (a panic, a timeout), the shell
// reads the end of file and ends the server.
func (r *RealRedis) tieToUs() error {
	tie := exec.Command("sh", "-c", `read -r _; kill -9 "$0"`, strconv.Itoa(r.cmd.Process.Pid))
	in, err := tie.StdinPipe()
	if err != nil {
		return err
	}
	if err := tie.Start(); err != nil {
		return err
	}
	r.tied, r.tie = in, tie
	return nil
}

func (r *RealRedis) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	defer rdb.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if rdb.Ping(ctx).Err() == nil {
			// The port may have been taken by another server meanwhile.
			pid, err := rdb.InfoMap(ctx, "server").Result()
			if err == nil && pid["Server"]["process_id"] == strconv.Itoa(r.cmd.Process.Pid) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-r.done:
			return errors.New("redis-server ended at once: " + r.Log())
		case <-ctx.Done():
			return fmt.Errorf("redis-server does not answer: %s", r.Log())
		}
	}
}

// end ends the process if it runs, after the shell that would otherwise: the
// process id may be reused afterwards.
func (r *RealRedis) end(sig syscall.Signal) {
	if r.tie != nil {
		_ = r.tie.Process.Kill()
		_ = r.tie.Wait()
		_ = r.tied.Close()
		r.tie = nil
	}
	select {
	case <-r.done:
		return
	default:
	}
	// A stopped process (SIGSTOP) would not see SIGTERM.
	_ = r.cmd.Process.Signal(syscall.SIGCONT)
	_ = r.cmd.Process.Signal(sig)
	<-r.done
}

func (r *RealRedis) remove() {
	r.Kill()
	_ = os.RemoveAll(r.dir)
}
