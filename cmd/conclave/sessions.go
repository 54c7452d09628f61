package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var sessionsCommand = command{
	name: "sessions", args: "[SESSION]",
	brief: "list, show, watch or cancel your keygens and signings, or resend an outcome",
	about: `
Lists the keygens and signings that you take part in, newest first. An admin sees
all sessions. With a SESSION it is the same as conclave sessions show SESSION.

  $ conclave sessions
  SESSION   KIND    PHASE      KEY          CREATED              REASON
  sg-2…     sign    completed  key-7GZ5XQ…  2026-03-01 12:10:00
  kg-P3KD…  keygen  completed  key-7GZ5XQ…  2026-03-01 12:00:00`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		list := listAction(c, flags, (*cli).listSessions)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return list(ctx, args)
			}
			return c.withAPI(args, func(api *rest.Client) error { return c.showSession(ctx, api, args[0]) })
		}
	},
	subs: []command{sessionsList, sessionsShow, sessionsWatch, sessionsCancel, sessionsResend},
}

var sessionsList = command{
	name: "list", brief: "list your sessions",
	about: `
Lists the keygens and signings that you take part in, newest first. An admin sees
all sessions.

  $ conclave sessions list --limit 1
  SESSION  KIND  PHASE      KEY          CREATED              REASON
  sg-2…    sign  completed  key-7GZ5XQ…  2026-03-01 12:10:00`,
	setup: func(c *cli, flags *flag.FlagSet) action { return listAction(c, flags, (*cli).listSessions) },
}

var sessionsShow = command{
	name: "show", args: "SESSION", brief: "show the current state of a session",
	about: `
Shows the current state of a session: the participants' answers, the signers and the
outcome.

  $ conclave sessions show sg-2…
  session     sg-2…
  kind        sign
  phase       completed
  …
  part 1      bob accepted verified
  part 2      carol accepted
  signers     1,3
  data        "pay bob"
  …`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) == 0 {
				return misuse("sessions show needs a session")
			}
			return c.withAPI(args, func(api *rest.Client) error { return c.showSession(ctx, api, args[0]) })
		}
	},
}

var sessionsWatch = command{
	name: "watch", args: "[SESSION]", brief: "draw a session live",
	about: `
Draws the messages of a session live until its outcome, with one lane each for the
coordinator, the server and every participant.

  $ conclave sessions watch sg-2…
  sign sg-2… of key-7GZ5XQ…
  alice                    server                    bob    carol    dave
    |                        |                        |       |       |
    |--- sign_request ------>|                        |       |       |
    |                        |--- sign_invite ------->|       |       |
    |                        |--- sign_invite --------------->|       |
    |                        |--- sign_invite ----------------------->|
    |                        |<-- sign_response ------|       |       |  accepted
    |                        |<-- sign_response ----------------------|  accepted
    |                        |--- sign_params ------->|       |       |
    |                        |--- sign_params ----------------------->|
    |                        |<-- sign_result --------|       |       |  verified
    |<-- sign_complete ------|                        |       |       |  success
  outcome     success after 1.204s
  …

Without a SESSION it watches the newest running session, or waits for the next one.
The exit status is that of the outcome, as for conclave sign. With --json it prints
one line per state of the session.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		return func(ctx context.Context, args []string) error {
			return c.withAPI(args, func(api *rest.Client) error {
				if len(args) == 1 {
					return c.watch(ctx, api, args[0])
				}
				id, err := c.nextSession(ctx, api)
				if err != nil {
					return err
				}
				return c.watch(ctx, api, id)
			})
		}
	},
}

// nextSession is the newest running session, or the next one to begin, even if it
// has ended by the time it is seen.
func (c *cli) nextSession(ctx context.Context, api *rest.Client) (string, error) {
	last := ""
	for first := true; ; first = false {
		list, err := api.Sessions(ctx, rest.Page{Limit: 20})
		if err != nil {
			return "", fmt.Errorf("look for a session: %w", err)
		}
		for i, s := range list.Items {
			if _, ended := outcome(s); !ended || !first && i == 0 && s.SessionID != last {
				return s.SessionID, nil
			}
		}
		if first {
			c.console.say("no session is running; waiting for the next")
			if len(list.Items) > 0 {
				last = list.Items[0].SessionID
			}
		}
		if err := pause(ctx, followPoll); err != nil {
			return "", err
		}
	}
}

// watch draws a session until its end.
func (c *cli) watch(ctx context.Context, api *rest.Client, id string) error {
	out := c.screen()
	var now rest.SessionInfo
	var drawn chart
	err := follow(ctx, api, id, func(next rest.SessionInfo) error {
		before := now
		now = next
		if c.asJSON {
			return json.NewEncoder(c.stdout).Encode(now)
		}
		var lines []string
		if before.SessionID == "" {
			drawn = newChart(now, out.columns(), out)
			lines = append([]string{clean(fmt.Sprintf("%s %s of %s", now.Kind, now.SessionID, now.KeyID))}, drawn.head()...)
		}
		for _, s := range steps(before, now) {
			lines = append(lines, drawn.line(s))
		}
		if len(lines) > 0 {
			c.console.through(c.stdout, strings.Join(lines, "\n")+"\n")
		}
		status := ""
		if _, ended := outcome(now); !ended {
			status = clean(pending(now))
		}
		c.console.show(status)
		return nil
	})
	c.console.show("")
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return fmt.Errorf("stopped watching; session %s continues", id)
	}
	if err != nil {
		return fmt.Errorf("session %s: %w", id, err)
	}
	return c.watched(now)
}

// screen returns a console for stdout.
func (c *cli) screen() *console {
	w := c.stdout
	if a, ok := w.(asciiWriter); ok {
		w = a.w
	}
	s := newConsole(w, c.env)
	if !s.terminal {
		s.columns = func() int { return 160 }
	}
	s.color = s.color && !c.noColor
	return s
}

// watched reports the outcome.
func (c *cli) watched(s rest.SessionInfo) error {
	status, ended := outcome(s)
	if !ended {
		return io.ErrUnexpectedEOF
	}
	if !c.asJSON {
		if err := c.print(nil, result(s)...); err != nil {
			return err
		}
	}
	if status == wire.StatusSuccess {
		return nil
	}
	return &request.OutcomeError{
		Kind: request.Kind(s.Kind), SessionID: s.SessionID, KeyID: s.KeyID, Status: status, Reason: s.Reason, Culprits: s.Culprits,
	}
}

func (c *cli) listSessions(ctx context.Context, api *rest.Client, limit int) error {
	sessions, err := pages(ctx, limit, api.Sessions)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	if c.asJSON {
		return c.print(sessions)
	}
	if len(sessions) == 0 {
		c.console.say("no sessions")
		return nil
	}
	return table(c.stdout, "SESSION\tKIND\tPHASE\tKEY\tCREATED\tREASON", func(row func(...any)) {
		for _, s := range sessions {
			row(s.SessionID, s.Kind, s.Phase, s.KeyID, when(s.CreatedAt), s.Reason)
		}
	})
}

func (c *cli) showSession(ctx context.Context, api *rest.Client, id string) error {
	s, err := api.Session(ctx, id)
	if err != nil {
		return fmt.Errorf("session %s: %w", id, err)
	}
	rows := [][2]string{
		{"session", s.SessionID}, {"kind", s.Kind}, {"phase", s.Phase}, {"key", s.KeyID}, {"coordinator", s.Coordinator},
	}
	for _, r := range s.Responses {
		if r.Invited {
			rows = append(rows, [2]string{fmt.Sprintf("part %d", r.PartIndex), strings.TrimSpace(r.UserID + " " + r.Response + " " + r.Result)})
		}
	}
	rows = append(rows, [2]string{"signers", partsText(s.Signers)})
	if s.Kind == string(request.KindSign) {
		rows = append(rows, [2]string{"data", dataInLine(s.Data, resultColumns)}, [2]string{"hash", s.Hash}, [2]string{"digest", ownDigest(s.Data, s.Digest)})
	}
	rows = append(rows, [2]string{"address", s.AccountAddr}, [2]string{"signature", s.Signature}, [2]string{"reason", s.Reason},
		[2]string{"culprits", partsText(s.Culprits)}, [2]string{"created", when(s.CreatedAt)}, [2]string{"deadline", when(s.Deadline)},
		[2]string{"ended", when(s.EndedAt)})
	return c.print(s, rows...)
}

func partsText(parts []int) string {
	if len(parts) == 0 {
		return ""
	}
	return wire.FormatParts(parts)
}
