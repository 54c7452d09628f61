package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"

	"github.com/conclave-mpc/conclave/cluster/node"
)

// runNode is a node inside this program, so that it can be profiled. It accepts
// those of conclaved's flags that this program passes.
func runNode(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) (err error) {
	var cfg node.Config
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	profile := flags.String("profile", "", "")
	shareKEK := flags.String("share-kek", "", "")
	flags.StringVar(&cfg.Listen, "listen", "", "")
	flags.StringVar(&cfg.Redis, "redis", "", "")
	flags.StringVar(&cfg.RedisPrefix, "redis-prefix", "", "")
	flags.StringVar(&cfg.NodeID, "node-id", "", "")
	flags.Float64Var(&cfg.RateLimit, "rate-limit", 0, "")
	flags.IntVar(&cfg.RateLimitBytes, "rate-limit-bytes", 0, "")
	flags.Float64Var(&cfg.RequestLimit, "request-limit", 0, "")
	flags.IntVar(&cfg.MaxOpenSessions, "max-open-sessions", 0, "")
	flags.Int64Var(&cfg.MaxOpenBytes, "max-open-bytes", 0, "")
	flags.Int64Var(&cfg.MaxEndedBytes, "max-ended-bytes", 0, "")
	flags.Int64Var(&cfg.MaxKeyBytes, "max-key-bytes", 0, "")
	flags.Float64Var(&cfg.RegisterLimit, "register-limit", 0, "")
	flags.DurationVar(&cfg.DrainSpread, "drain-spread", 0, "")
	flags.DurationVar(&cfg.KeygenTimeout, "keygen-timeout", 0, "")
	flags.DurationVar(&cfg.InviteTimeout, "invite-timeout", 0, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if cfg.ShareKEK, err = base64.StdEncoding.DecodeString(*shareKEK); err != nil {
		return err
	}
	cfg.JWTSecret = []byte(os.Getenv("CONCLAVE_JWT_SECRET"))
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	finish, err := profiled(*profile)
	if err != nil {
		return errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
	}
	fmt.Fprintln(stdout, "listening", n.Addr())
	untilEnd(ctx, stdin)
	return errors.Join(finish(), n.Stop(context.WithoutCancel(ctx)))
}

// profiled begins a CPU profile, and returns a function that ends it and writes one
// of allocations beside it.
func profiled(path string) (finish func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	runtime.MemProfileRate = 64 << 10
	f, err := os.Create(path + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, err
	}
	return func() error {
		pprof.StopCPUProfile()
		allocs, err := os.Create(path + ".allocs")
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), pprof.Lookup("allocs").WriteTo(allocs, 0), allocs.Close())
	}, nil
}
