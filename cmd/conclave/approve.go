package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/policy"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
)

// approval returns the approver that --approve names: nil for the prompt.
func (c *cli) approval(how string) (participant.Approver, error) {
	command, isCommand := strings.CutPrefix(how, "exec:")
	switch {
	case how == "prompt":
		return nil, nil
	case how == "always":
		c.console.say("approving everything that a pinned coordinator has signed")
		return participant.ApproveAll, nil
	case isCommand:
		return c.approveByCommand(strings.Fields(command))
	case filepath.Ext(how) == ".json":
		return c.approveByPolicy(how)
	}
	return nil, misuse("--approve must be prompt, always, a policy FILE.json, or exec:COMMAND")
}

const ratesFile = "rates.json"

func (c *cli) approveByPolicy(path string) (participant.Approver, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	counted, err := c.path(ratesFile)
	if err != nil {
		return nil, err
	}
	rates, err := dirstore.OpenRates(counted)
	if err != nil {
		return nil, err
	}
	rules, err := policy.Parse(text, rates)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.console.say("approving requests that %s allows and a pinned coordinator has signed", path)
	return participant.ByPolicy(rules), nil
}

// executor lets a command decide.
type executor struct {
	c    *cli
	path string
	args []string
}

const (
	execWithin    = 2 * time.Minute // if the invitation has no deadline
	execWaitDelay = time.Second     // if output is still held open after the command has ended
	maxExecOutput = 4 << 10
)

func (c *cli) approveByCommand(words []string) (participant.Approver, error) {
	if len(words) == 0 {
		return nil, misuse("--approve exec: needs a command")
	}
	path, err := exec.LookPath(words[0])
	if err != nil {
		return nil, fmt.Errorf("approval command: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	c.console.say("approving requests that %s allows and a pinned coordinator has signed", path)
	e := &executor{c: c, path: path, args: words[1:]}
	return participant.SignedOnly(e.approve), nil
}

func (e *executor) approve(ctx context.Context, inv participant.Invitation) (bool, string, error) {
	request, err := json.Marshal(inv)
	if err != nil {
		return false, "", err
	}
	until := inv.Deadline
	if until.IsZero() {
		until = time.Now().Add(execWithin)
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, e.path, e.args...)
	cmd.Stdin = bytes.NewReader(request)
	cmd.Stdout, cmd.Stderr = &limited{&stdout, maxExecOutput}, &limited{&stderr, maxExecOutput}
	cmd.Env, cmd.WaitDelay = e.environment(), execWaitDelay
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		// The command has ended, but a child of it holds its output open.
		_ = killGroup(cmd) // the group may be gone by now
	}
	for line := range strings.Lines(stderr.String()) {
		e.c.console.say("%s: %s", filepath.Base(e.path), clean(strings.TrimSpace(line)))
	}
	reason, _, _ := strings.Cut(stdout.String(), "\n")
	reason = strings.TrimSpace(reason)
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return false, "the approval command took too long", nil
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		if reason == "" {
			reason = "declined by a command"
		}
		return false, reason, nil
	case err != nil: // killed, or could not be started
		return false, "", fmt.Errorf("approval command: %w", err)
	}
	return true, reason, nil
}

// environment passes on the variables a program needs to run, and none that could be
// a secret.
func (e *executor) environment() []string {
	env := []string{}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "SYSTEMROOT"} {
		if value := e.c.env(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// limited keeps the beginning of the output.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
