// Command node is a Conclave node inside another program. It is an example of
// package cluster/node, for a program in its own module.
//
//	export CONCLAVE_LISTEN=127.0.0.1:8080 CONCLAVE_REDIS=redis://127.0.0.1:6379/0 CONCLAVE_JWT_SECRET=…
//	node
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/conclave-mpc/conclave/cluster/node"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg := node.Config{Listen: os.Getenv("CONCLAVE_LISTEN"), Redis: os.Getenv("CONCLAVE_REDIS"), JWTSecret: []byte(os.Getenv("CONCLAVE_JWT_SECRET"))}
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg node.Config) error {
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	fmt.Println("node", n.ID(), "listens on", n.Addr())
	<-ctx.Done()
	ending, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return n.Stop(ending)
}
