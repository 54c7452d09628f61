package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/wsconn/client"
)

var participantCommand = command{
	name:  "participant",
	brief: "hold shares, answer invitations, take part in keygens and signings",
	about: `
Holds this user's shares and takes part in keygens and signings, until it is
interrupted. Each invitation is shown, with all that its coordinator has signed,
and asked about:

  $ conclave participant
  conclave: identity MPI7M-…
  conclave: connected to n1
  conclave: carol asks you to sign
      key           key-7GZ5XQ…
      curve         secp256k1
      address       0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
      data          "pay bob"
      hash          eip191
      digest        0x…
      …
      signed by     BOZJ6-…, pinned
  conclave: sign? [y/N] y
  conclave: sign sg-2… accepted
  conclave: sign sg-2…: attempt 1 with parts 1,3
  sign sg-2… [##########..............] round 4 of 9 · waiting for dave
  conclave: sign sg-2…: our part is done
  conclave: sign sg-2…: success

Otherwise nobody is asked, and only what a coordinator has signed whose identity
is pinned (conclave trust) is considered at all. With --approve always all of it
is approved. With --approve FILE.json a policy decides; go doc client.Policy says
what is in it. With --approve exec:COMMAND the command gets the request as JSON
on stdin; it approves by exit status 0, and the first line of its stdout is the
reason. It is split at spaces and run without a shell, with an environment that
holds no secrets, and has until the invitation's deadline; then it is killed, with
what it has started.

Shares are kept in the home directory, sealed to this client's
identity; keep a copy of both (see conclave share -h).`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		approve := flags.String("approve", "prompt", "`how` to answer invitations: prompt, always, a policy FILE.json, or exec:COMMAND")
		trust := trustFlag(flags)
		keygens := flags.Int("keygens-per-hour", 120, "how `many` keygens of one coordinator to take part in within an hour, and of all unknown ones together")
		ahead := flags.Int("preparams", 1, "how `many` sets of pre-parameters to keep ready, sealed in the home directory, so that a keygen need not wait")
		return func(ctx context.Context, args []string) error {
			pinnedOnly, err := trust()
			switch {
			case len(args) > 0:
				return misuse("participant takes no arguments")
			case err != nil:
				return err
			case *ahead < 0 || *ahead > 100:
				return misuse("--preparams must be from 0 to 100")
			case *keygens < 1:
				return misuse("--keygens-per-hour must be at least 1")
			}
			how, err := c.approval(*approve)
			if err != nil {
				return err
			}
			return c.participant(ctx, how, func(cfg *client.Config) {
				cfg.PinnedOnly, cfg.KeygensPerHour = pinnedOnly, *keygens
			}, *ahead)
		}
	},
}

// participant asks at the prompt where approve is nil.
func (c *cli) participant(ctx context.Context, approve client.Approver, set func(*client.Config), ahead int) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if cfg.Identity, err = c.identity(); err != nil {
		return err
	}
	dir, err := c.homeDir()
	if err != nil {
		return err
	}
	store, err := client.OpenDirStore(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	d := display{console: c.console, began: time.Now(), asks: approve == nil}
	cfg.Store, cfg.OnEvent, cfg.Token = store, d.event, c.tokens(c.awaitLogin())
	set(&cfg)
	if approve == nil {
		cfg.AskAtOnce = 1 // whose turn it is, the client knows: pinned coordinators first
	} else {
		cfg.SignedOnly = true // as all approvers behind which nobody looks
	}
	kept, err := client.OpenPreParamsDir(filepath.Join(dir, "preparams"), cfg.Identity)
	if err != nil {
		return err
	}
	cfg.PreParams = &client.PreParamsMaker{Ahead: ahead, Dir: kept}
	participant, err := client.New(cfg)
	if err != nil {
		return misuse("%s", err)
	}
	c.console.say("identity %s", cfg.Identity.Public().Fingerprint())

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if approve == nil {
		a := &asker{console: c.console, lines: make(chan string), stop: cancel}
		if f, ok := c.stdin.(*os.File); ok {
			a.terminal = term.IsTerminal(int(f.Fd()))
		}
		// It alone may outlive this function, in a read of stdin that nothing can end.
		go a.read(ctx, c.stdin)
		approve = a.approve
	}
	defer party.SpareThread()()
	err = participant.Serve(ctx, approve)
	d.done()
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, errNobodyToAsk) {
		return cause
	}
	if err == nil {
		c.console.say("stopped")
	}
	return err
}

// loginPoll is how often an expired login is looked at again.
const loginPoll = time.Second

// awaitLogin waits until somebody has logged in again.
func (c *cli) awaitLogin() func(context.Context, profile) error {
	var once sync.Once
	return func(ctx context.Context, p profile) error {
		once.Do(func() {
			c.console.say("the login of %s has expired; waiting for conclave login %s %s", p.User, strings.Join(p.URLs, ","), p.User)
		})
		select {
		case <-time.After(loginPoll):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errNobodyToAsk = errors.New("stdin has ended, there is nobody to ask; to approve all, say --approve always")

// asker asks about one invitation at a time.
type asker struct {
	console  *console
	terminal bool // stdin is one
	lines    chan string
	stop     context.CancelCauseFunc // ends the participant
	turn     sync.Mutex
}

// read reads answers until stdin ends. Stdin that is empty from the beginning is
// a mistake that should show at once; that of a script may end with its last
// answer.
func (a *asker) read(ctx context.Context, stdin io.Reader) {
	in := bufio.NewScanner(stdin)
	any := false
	for in.Scan() {
		any = true
		select {
		case a.lines <- in.Text():
		case <-ctx.Done():
			return
		}
	}
	if !any {
		a.stop(errNobodyToAsk)
	}
	close(a.lines)
}

func (a *asker) approve(ctx context.Context, inv client.Invitation) (bool, string, error) {
	a.turn.Lock()
	defer a.turn.Unlock()
	if ctx.Err() != nil {
		return false, "", ctx.Err()
	}
	for range maxTypedAhead {
		if !a.terminal {
			break
		}
		select {
		case <-a.lines: // typed before the question, and so no answer to it
		default:
		}
	}
	return a.ask(ctx, inv)
}

const maxTypedAhead = 64

// ask puts the question.
func (a *asker) ask(ctx context.Context, inv client.Invitation) (bool, string, error) {
	prompt := "conclave: take part? [y/N]"
	if inv.Kind == client.KindSign {
		prompt = "conclave: sign? [y/N]"
	}
	a.console.ask(request(a.console, inv), prompt)
	for {
		select {
		case line, ok := <-a.lines:
			a.console.answered(ok && a.terminal)
			if !ok {
				a.stop(errNobodyToAsk)
				return false, "", errNobodyToAsk
			}
			switch strings.ToLower(strings.TrimSpace(line)) {
			case "y", "yes":
				return true, "", nil
			case "n", "no", "":
				return false, "declined by hand", nil
			}
			a.console.ask("conclave: please answer y or n\n", prompt)
		case <-ctx.Done():
			a.console.answered(false)
			a.console.say("the question is void: %s has ended", clean(inv.SessionID))
			return false, "", ctx.Err()
		}
	}
}
