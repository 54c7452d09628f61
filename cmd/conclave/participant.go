package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/participant"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

var participantCommand = command{
	name:  "participant",
	brief: "hold shares, answer invitations, take part in keygens and signings",
	about: `
Holds this user's shares and takes part in keygens and signings, until it is
interrupted. On a terminal it asks about one request at a time, requests of pinned
coordinators first:

  $ conclave participant
  conclave: identity MPI7M-…
  conclave: connected to n1
  conclave: carol asks you to sign with key treasury
    address    0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
    data       "pay bob"
    hash       eip191
    digest     0x…
    …
    key        treasury
    address    0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
    asked by   carol
    signed by  BOZJ6-…, pinned
  conclave: sign with treasury for carol? [y k7f3/n k7f3] y k7f3
  conclave: sign sg-2… accepted
  conclave: sign sg-2…: attempt 1 with parts 1,3
  sign sg-2… [##########..............] round 4 of 9 · waiting for dave
  conclave: sign sg-2…: our part is done
  conclave: sign sg-2…: success

An answer repeats the code of its question. The code is new for each question, so
that input typed for one question cannot answer another. A request fits on a screen
of 80 columns and 24 lines. If its data is too long, the prompt shows how many bytes
are hidden; the answer "show" prints all of it.

The other values of --approve ask no questions. They consider only requests signed
by a coordinator whose identity is pinned (conclave trust):

  always        approves all of them
  FILE.json     a policy decides; go doc policy.Policy documents the format
  exec:COMMAND  a command decides. It gets the request as JSON on stdin, approves
                with exit status 0, and prints the reason on the first line of
                stdout. It is split at spaces and run without a shell, in an
                environment without secrets. At the deadline of the invitation it
                is killed, with the processes that it started

The participant renews its login if it runs at least once every few weeks, and exits
with status 6 when the login is revoked. The file of --token-file is re-read:
replace it before the token expires.

Shares are stored in the home directory, sealed to this client's identity. Back up
the whole directory (see conclave backup -h).`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		approve := flags.String("approve", "prompt", "`mode` of answering invitations: prompt, always, a policy FILE.json, or exec:COMMAND")
		pinned := trustFlag(flags)
		keygens := flags.Int("keygens-per-hour", 120, "join at most `n` keygens per hour of one coordinator, and of all unknown coordinators together")
		ahead := flags.Int("preparams", 1, "keep `n` sets of pre-parameters ready, sealed in the home directory, so that a keygen starts at once")
		return func(ctx context.Context, args []string) error {
			pinnedOnly, err := pinned()
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
			approver, err := c.approval(*approve)
			if err != nil {
				return err
			}
			if approver == nil && !c.onTerminal() {
				return misuse("--approve prompt needs a terminal on stdin; use --approve always, a policy FILE.json, or exec:COMMAND")
			}
			cfg := participant.Config{
				Approve: approver, Trust: trust.Policy{PinnedOnly: pinnedOnly}, KeygensPerHour: *keygens,
			}
			return c.participant(ctx, *approve, cfg, *ahead)
		}
	},
}

// participant asks at the prompt if part.Approve is nil.
func (c *cli) participant(ctx context.Context, how string, part participant.Config, ahead int) error {
	c.reach.reached() // no time limit: it looks for a server until it is interrupted
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
	store, err := dirstore.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := c.noteApproval(how); err != nil {
		return fmt.Errorf("record how requests are approved: %w", err)
	}
	prompt := part.Approve == nil
	d := display{console: c.console, began: time.Now(), asks: prompt}
	cfg.OnEvent, cfg.Token = d.event, c.tokens(c.awaitLogin())
	part.Shares = store
	kept, err := dirstore.OpenPreParams(filepath.Join(dir, "preparams"), cfg.Identity)
	if err != nil {
		return err
	}
	part.PreParams = &participant.PreParamsMaker{Ahead: ahead, Dir: kept}
	member, err := client.New(cfg)
	if err != nil {
		return misuse("%s", err)
	}
	c.console.say("identity %s", cfg.Identity.Public().Fingerprint())

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	part.SignedOnly = !prompt // as for all approvers without a person
	var a *asker
	if prompt {
		part.AskAtOnce = 1 // the participant decides the order: pinned coordinators first
		a = &asker{console: c.console, terminal: c.onTerminal(), flush: c.dropTyped, lines: make(chan string), stop: cancel}
		part.Approve = a.approve
	}
	serving, err := participant.New(member, part)
	if err != nil {
		return misuse("%s", err)
	}
	if prompt {
		a.waiting = serving.Waiting
		// It may outlive this function, in a read of stdin that cannot be interrupted.
		go a.read(ctx, c.stdin)
	}
	defer party.SpareThread()()
	err = serving.Serve(ctx)
	d.done()
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, errNobodyToAsk) {
		return cause
	}
	if err == nil {
		c.console.say("stopped")
	}
	return err
}

// loginPoll is the interval for checking whether an expired login was renewed.
const loginPoll = time.Second

// awaitLogin waits until the user has logged in again.
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
