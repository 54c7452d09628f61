package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/cluster/node"
)

const (
	nodeCommand = "node"
	secretEnv   = "CONCLAVE_JWT_SECRET"
	startWithin = 20 * time.Second
)

// runNode is a node process. It prints its address, and ends with the process that
// started it: then its standard input ends.
func runNode(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error {
	var cfg node.Config
	flags := flag.NewFlagSet(nodeCommand, flag.ContinueOnError)
	flags.StringVar(&cfg.Redis, "redis", "", "")
	flags.StringVar(&cfg.NodeID, "node-id", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg.Listen, cfg.DrainSpread = "127.0.0.1:0", 100*time.Millisecond
	cfg.JWTSecret = []byte(os.Getenv(secretEnv))
	log := zerolog.New(os.Stderr).Level(zerolog.ErrorLevel).With().Timestamp().Logger()
	cfg.Log = &log
	n, err := node.New(cfg)
	if err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	fmt.Fprintln(stdout, n.Addr())
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(ended)
	}()
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return n.Stop(context.WithoutCancel(ctx))
}

// nodeProcess is a running node.
type nodeProcess struct {
	id    string
	addr  string // host:port
	cmd   *exec.Cmd
	stdin io.Closer
	once  sync.Once
}

// startNode starts this program again as a node.
func startNode(ctx context.Context, id, redisURL, secret string) (*nodeProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start node %s: %w", id, err)
	}
	cmd := exec.Command(self, nodeCommand, "-redis", redisURL, "-node-id", id)
	cmd.Env = append(os.Environ(), secretEnv+"="+secret)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	stdin, err1 := cmd.StdinPipe()
	stdout, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		return nil, fmt.Errorf("start node %s: %w", id, err)
	}
	p := &nodeProcess{id: id, cmd: cmd, stdin: stdin}
	address := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(stdout).ReadString('\n')
		address <- strings.TrimSpace(line)
	}()
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case p.addr = <-address:
	case <-ctx.Done():
	}
	if p.addr == "" {
		p.kill()
		return nil, fmt.Errorf("start node %s: it did not start: %s", id, complaint.String())
	}
	return p, nil
}

// kill is kill -9.
func (p *nodeProcess) kill() {
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// stop asks the node to drain and end.
func (p *nodeProcess) stop() {
	p.once.Do(func() {
		_ = p.stdin.Close()
		_ = p.cmd.Wait()
	})
}
