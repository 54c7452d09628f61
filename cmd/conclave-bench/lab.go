package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/conclave-mpc/conclave/session/preparams"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// lab is the environment of the benchmarks: a Redis, clusters on it, and the report.
// Its methods are for one goroutine.
type lab struct {
	options
	report *report
	log    io.Writer

	dir    string // of files that are removed with the lab
	url    string
	redis  *redis.Client
	server *process // nil for a Redis that was running before
	secret string   // of tokens
	number int      // of clusters so far
	ends   []func()

	brief bool // for a test: it matters only that measuring works, not the figures

	// preParams generates pre-parameters; a test has prepared ones.
	preParams func(ctx context.Context) (*preparams.Set, error)
}

func newLab(o options, log io.Writer) *lab {
	return &lab{
		options: o, log: log, secret: rand.Text() + rand.Text(),
		report: &report{Machine: thisMachine(), Began: time.Now().UTC(), Short: o.short},
		preParams: func(ctx context.Context) (*preparams.Set, error) {
			return preparams.Generate(ctx, preparams.Config{})
		},
	}
}

// say prints progress.
func (l *lab) say(format string, args ...any) {
	fmt.Fprintf(l.log, "conclave-bench: "+format+"\n", args...)
}

// pick returns the first for a full run, the second for a short one.
func pick[T any](l *lab, full, short T) T {
	if l.short {
		return short
	}
	return full
}

// measured returns how long to measure for.
func (l *lab) measured(full, short time.Duration) time.Duration {
	if l.brief {
		return short / 5
	}
	return pick(l, full, short)
}

// close ends everything that was started and removes its remains.
func (l *lab) close() error {
	for _, end := range l.ends {
		end()
	}
	var err error
	if l.redis != nil {
		if l.server == nil {
			err = l.sweep("conclave-bench-")
		}
		err = errors.Join(err, l.redis.Close())
	}
	if l.server != nil {
		l.server.kill()
	}
	if l.dir != "" {
		err = errors.Join(err, os.RemoveAll(l.dir))
	}
	return err
}

// sweep removes all keys of a prefix.
func (l *lab) sweep(prefix string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for cursor := uint64(0); ; {
		keys, next, err := l.redis.Scan(ctx, cursor, prefix+"*", 1000).Result()
		if err != nil {
			return fmt.Errorf("remove keys: %w", err)
		}
		if len(keys) > 0 {
			if err := l.redis.Unlink(ctx, keys...).Err(); err != nil {
				return fmt.Errorf("remove keys: %w", err)
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// open starts Redis and finds the program to run as a node, once.
func (l *lab) open(ctx context.Context) error {
	if l.redis != nil {
		return nil
	}
	dir, err := os.MkdirTemp("", "conclave-bench-")
	if err != nil {
		return err
	}
	l.dir = dir
	if l.url = l.options.redis; l.url == "" {
		if err := l.startRedis(); err != nil {
			return err
		}
	}
	opt, err := redis.ParseURL(l.url)
	if err != nil {
		return fmt.Errorf("-redis: %w", err)
	}
	rdb := redis.NewClient(opt)
	ready := func() error { return rdb.Ping(ctx).Err() }
	if l.server != nil {
		err = l.server.await(ctx, ready)
	} else {
		err = ready()
	}
	if err != nil {
		return errors.Join(err, rdb.Close())
	}
	l.redis = rdb
	return l.buildNode(ctx)
}

func (l *lab) startRedis() error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	_, port, _ := strings.Cut(addr, ":")
	l.server, err = spawn(l.dir, "redis", false, nil, "redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", l.dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	l.url = "redis://" + addr + "/0"
	return err
}

// buildNode builds conclaved, unless it was given or is not needed.
func (l *lab) buildNode(ctx context.Context) error {
	if l.conclaved != "" || l.profile != "" {
		return nil
	}
	l.conclaved = filepath.Join(l.dir, "conclaved")
	const module = "github.com/conclave-mpc/conclave"
	build := exec.CommandContext(ctx, "go", "build", "-o", l.conclaved, module+"/cmd/conclaved")
	// In conclaved's own module, so that the versions are those of its go.mod.
	where, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return fmt.Errorf("find conclaved's source (or name a program with -conclaved): %w", err)
	}
	build.Dir = strings.TrimSpace(string(where))
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build conclaved (or name one with -conclaved): %w\n%s", err, out)
	}
	return nil
}

// redisCPU returns the CPU time that Redis has used so far.
func (l *lab) redisCPU(ctx context.Context) (time.Duration, error) {
	info, err := l.redis.InfoMap(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("ask redis for its CPU time: %w", err)
	}
	sum := 0.0
	for _, name := range []string{"used_cpu_sys", "used_cpu_user"} {
		v, err := strconv.ParseFloat(info["CPU"][name], 64)
		if err != nil {
			return 0, fmt.Errorf("redis does not say its CPU time: %w", err)
		}
		sum += v
	}
	return time.Duration(sum * float64(time.Second)), nil
}

// cpu is CPU time used, by nodes and by Redis.
type cpu struct{ nodes, redis time.Duration }

func (c cpu) sum() time.Duration { return c.nodes + c.redis }

func (c cpu) since(before cpu) cpu { return cpu{c.nodes - before.nodes, c.redis - before.redis} }

// used returns what processes and Redis have used so far.
func (l *lab) used(ctx context.Context, processes []*process) (c cpu, err error) {
	for _, p := range processes {
		used, err := cpuOf(p.pid())
		if err != nil {
			return c, err
		}
		c.nodes += used
	}
	c.redis, err = l.redisCPU(ctx)
	return c, err
}

// clusterOf is some nodes with a prefix of their own.
type clusterOf struct {
	lab    *lab
	prefix string
	nodes  []*process
	bases  []string // http://host:port
}

// cluster starts n nodes and waits until they are ready.
func (l *lab) cluster(ctx context.Context, n int) (*clusterOf, error) {
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	l.number++
	c := &clusterOf{lab: l, prefix: fmt.Sprintf("conclave-bench-%s-%d:", rand.Text()[:8], l.number)}
	for i := range n {
		if err := c.add(ctx, fmt.Sprintf("n%d", i+1)); err != nil {
			c.close()
			return nil, err
		}
	}
	l.ends = append(l.ends, c.close)
	return c, nil
}

// kek lets clients of the seed protocol, which do not seal their shares, store a
// stand-in for a share.
const kek = "YSBrZXkgZm9yIG1lYXN1cmVtZW50cyBvbmx5LCAzMmI="

func (c *clusterOf) add(ctx context.Context, id string) error {
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	args := []string{"--listen", addr, "--redis", c.lab.url, "--redis-prefix", c.prefix, "--node-id", id, "--share-kek", kek,
		"--rate-limit", "-1", "--rate-limit-bytes", "-1", "--request-limit", "-1", "--register-limit", "-1", "--max-open-sessions", "-1", "--max-open-bytes", "-1", "--max-ended-bytes", "-1", "--max-key-bytes", "-1", "--drain-spread", "100ms", "--keygen-timeout", "1h", "--invite-timeout", "10m"}
	env := []string{"CONCLAVE_JWT_SECRET=" + c.lab.secret}
	name := fmt.Sprintf("%d-%s", c.lab.number, id)
	var p *process
	if c.lab.profile != "" {
		p, _, err = spawnOwn(ctx, c.lab.dir, name, "node", env, append([]string{"-profile", filepath.Join(c.lab.profile, name)}, args...)...)
	} else {
		p, err = spawn(c.lab.dir, name, false, env, c.lab.conclaved, args...)
	}
	if err != nil {
		return err
	}
	c.nodes, c.bases = append(c.nodes, p), append(c.bases, "http://"+addr)
	return p.await(ctx, func() error {
		resp, err := http.Get("http://" + addr + "/readyz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

func (c *clusterOf) close() {
	for _, p := range c.nodes {
		p.stop()
	}
}

// token is a token as a login would issue it.
func (l *lab) token(user string, role wire.Role) (string, error) {
	now := time.Now()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "roles": []wire.Role{role}, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(), "jti": rand.Text(),
	}).SignedString([]byte(l.secret))
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}
