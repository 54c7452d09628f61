package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// watched counts the commands sent to Redis while do runs, by name. Commands called
// by a script do not count: they do not cross the network. On a shared Redis it also
// counts those of other clients.
func (l *lab) watched(ctx context.Context, do func() error) (map[string]int, error) {
	opt, err := redis.ParseURL(l.url)
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", opt.Addr)
	if err != nil {
		return nil, fmt.Errorf("watch redis: %w", err)
	}
	defer conn.Close()
	if opt.Password != "" {
		fmt.Fprintf(conn, "AUTH %s %s\r\n", orElse(opt.Username, "default"), opt.Password)
	}
	fmt.Fprint(conn, "MONITOR\r\n")
	const end = "conclave-bench: end of watch"
	count := map[string]int{}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && lines.Text() != "+OK" {
		// the answer to AUTH
	}
	seen := make(chan error, 1)
	go func() {
		for lines.Scan() {
			// +1339518083.107412 [0 127.0.0.1:60866] "evalsha" "…"; a script's have "lua" for the address
			fields := strings.SplitN(lines.Text(), " ", 5)
			if strings.Contains(lines.Text(), end) {
				seen <- nil
				return
			}
			if len(fields) >= 4 && fields[2] != "lua]" {
				count[strings.ToLower(strings.Trim(fields[3], `"`))]++
			}
		}
		seen <- fmt.Errorf("watch redis: %w", lines.Err())
	}()
	if err := do(); err != nil {
		return nil, err
	}
	if err := l.redis.Echo(ctx, end).Err(); err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(answerWithin))
	return count, <-seen
}

// commands returns how many commands the nodes send to Redis for a signing, one at a
// time, and says which.
func (g *groups) commands(ctx context.Context, l *lab) (float64, error) {
	const signings = 20
	quiet, err := l.watched(ctx, func() error { return pause(ctx, time.Second) })
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	count, err := l.watched(ctx, func() error {
		for range signings {
			if _, err := g.list[0].sign(ctx); err != nil {
				return err
			}
			// Work after an outcome (late results, the due list) belongs to it.
			if err := pause(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	seconds := time.Since(begun).Seconds()
	sum := 0.0
	var text []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		// Heartbeats, probes and sweeps continue meanwhile.
		n := max(0, float64(count[name])-float64(quiet[name])*seconds) / signings
		sum += n
		if n >= 0.1 {
			text = append(text, fmt.Sprintf("%s %.1f", name, n))
		}
	}
	l.say("commands a signing: %s", strings.Join(text, ", "))
	return sum, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// redisRests waits until Redis does not rewrite its file: after many writes it does
// so in the background, which would distort measurements.
func (l *lab) redisRests(ctx context.Context) error {
	for range 600 {
		info, err := l.redis.InfoMap(ctx, "persistence").Result()
		if err != nil {
			return fmt.Errorf("ask redis for its file: %w", err)
		}
		at := info["Persistence"]
		if at["aof_rewrite_in_progress"] == "0" && at["aof_rewrite_scheduled"] == "0" && at["rdb_bgsave_in_progress"] == "0" {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("redis does not become idle")
}
