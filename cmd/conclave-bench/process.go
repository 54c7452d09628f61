package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const startWithin = 30 * time.Second

// process is a child. Its output goes to a file, whose end is shown if it does not
// start.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	tie  *exec.Cmd // see tieToUs
	hold io.Closer // the child, or tie, ends when this is closed
	done chan struct{}
	once sync.Once
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// spawn starts a program. One of our own roles ends with its standard input, and so
// with us; any other program is tied.
func spawn(dir, name string, own bool, env []string, program string, args ...string) (p *process, err error) {
	p = &process{name: name, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	if p.log, err = os.Create(filepath.Join(dir, name+".log")); err != nil {
		return nil, err
	}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if own {
		if p.hold, err = p.cmd.StdinPipe(); err != nil {
			return nil, err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	if !own {
		if err := p.tieToUs(); err != nil {
			p.kill()
			return nil, err
		}
	}
	return p, nil
}

// tieToUs lets a shell wait on a pipe that only this process holds open: if it dies
// without having ended the child, the shell ends it.
func (p *process) tieToUs() error {
	p.tie = exec.Command("sh", "-c", fmt.Sprintf("read -r _; kill -9 %d", p.pid()))
	in, err := p.tie.StdinPipe()
	if err != nil {
		return err
	}
	p.hold = in
	return p.tie.Start()
}

// untie ends the shell before the child, whose pid may be reused later.
func (p *process) untie() {
	if p.tie != nil && p.tie.Process != nil {
		_ = p.tie.Process.Kill()
		_ = p.tie.Wait()
	}
	if p.hold != nil {
		_ = p.hold.Close()
	}
}

// stop asks the child to end, and waits.
func (p *process) stop() { p.end(syscall.SIGTERM) }

func (p *process) kill() { p.end(syscall.SIGKILL) }

func (p *process) end(sig os.Signal) {
	p.once.Do(func() {
		p.untie()
		_ = p.cmd.Process.Signal(sig)
		select {
		case <-p.done:
		case <-time.After(startWithin):
			_ = p.cmd.Process.Kill()
			<-p.done
		}
		_ = p.log.Close()
	})
}

// await polls ready until it returns nil, the child ends, or too much time passes.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-poll.C:
			continue
		case <-p.done:
			err = errors.New("it has ended")
		case <-ctx.Done():
		}
		text, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("%s does not come up: %w\n%s", p.name, err, text[max(0, len(text)-2000):])
	}
}

// freeAddr returns an address that is not in use now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// roles are the roles in which this program starts itself as a child.
var roles map[string]func(ctx context.Context, args []string, stdin io.Reader, stdout io.Writer) error

func init() { // not in the declaration, to avoid an initialization cycle
	roles = map[string]func(context.Context, []string, io.Reader, io.Writer) error{
		"node": runNode, "bare-relay": runBareRelay, "lean-server": runLean,
	}
}

// spawnOwn starts this program in a role and returns the address it prints.
func spawnOwn(ctx context.Context, dir, name, role string, env []string, args ...string) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p, err := spawn(dir, name, true, append(env, asRole+"=1"), self, append([]string{role}, args...)...)
	if err != nil {
		return nil, "", err
	}
	address := ""
	err = p.await(ctx, func() error {
		f, err := os.Open(p.log.Name())
		if err != nil {
			return err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
				address = rest
				return nil
			}
		}
		return errors.New("no address yet")
	})
	if err != nil {
		p.kill()
		return nil, "", err
	}
	return p, address, nil
}

// asRole tells the test binary to act as this program.
const asRole = "CONCLAVE_BENCH_ROLE"

// untilEnd ends when stdin does: then the parent process has ended.
func untilEnd(ctx context.Context, stdin io.Reader) {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(ended)
	}()
	select {
	case <-ctx.Done():
	case <-ended:
	}
}
