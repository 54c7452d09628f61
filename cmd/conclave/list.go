package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var keysCommand = command{
	synopsis: "keys [FLAGS] [KEY]",
	about:    `Lists the keys that you asked for or hold a part of, newest first, or shows one.`,
	setup: func(c *cli, flags *flag.FlagSet) func(context.Context, []string) error {
		c.serverFlags(flags)
		limit := flags.Int("limit", 50, "how `many` to list")
		return func(ctx context.Context, args []string) error {
			return c.withAPI(args, func(api *client.API) error {
				if len(args) == 1 {
					return c.showKey(ctx, api, args[0])
				}
				return c.listKeys(ctx, api, *limit)
			})
		}
	},
}

var sessionsCommand = command{
	synopsis: "sessions [FLAGS] [SESSION]",
	about:    `Lists the keygens and signings that you take part in, newest first, or shows one.`,
	setup: func(c *cli, flags *flag.FlagSet) func(context.Context, []string) error {
		c.serverFlags(flags)
		limit := flags.Int("limit", 50, "how `many` to list")
		return func(ctx context.Context, args []string) error {
			return c.withAPI(args, func(api *client.API) error {
				if len(args) == 1 {
					return c.showSession(ctx, api, args[0])
				}
				return c.listSessions(ctx, api, *limit)
			})
		}
	},
}

func (c *cli) withAPI(args []string, do func(*client.API) error) error {
	if len(args) > 1 {
		return misuse("at most one id")
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	defer api.Close()
	return do(api)
}

// pages collects up to limit items.
func pages[T any](ctx context.Context, limit int, get func(context.Context, client.Page) (client.List[T], error)) ([]T, error) {
	items := []T{} // not nil: an empty list is [] in JSON
	page := client.Page{}
	for len(items) < limit {
		page.Limit = min(limit-len(items), 100)
		list, err := get(ctx, page)
		if err != nil {
			return nil, err
		}
		items = append(items, list.Items...)
		if list.Next == "" || list.Next == page.Before {
			break
		}
		page.Before = list.Next
	}
	return items, nil
}

func (c *cli) listKeys(ctx context.Context, api *client.API, limit int) error {
	keys, err := pages(ctx, limit, api.Keys)
	if err != nil {
		return fmt.Errorf("list keys: %w", err)
	}
	if c.asJSON {
		return c.print(keys)
	}
	if len(keys) == 0 {
		c.console.say("no keys yet; conclave keygen makes one")
		return nil
	}
	return table(c.stdout, "KEY\tSTATUS\tCURVE\tOF\tADDRESS\tCREATED", func(row func(...any)) {
		for _, k := range keys {
			row(k.KeyID, k.Status, k.Curve, fmt.Sprintf("%d/%d", k.Threshold, k.TotalParts), k.AccountAddr, when(k.CreatedAt))
		}
	})
}

func (c *cli) showKey(ctx context.Context, api *client.API, id string) error {
	k, err := api.Key(ctx, id)
	if err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	by := ""
	if k.AccountAddr != "" && !c.asJSON {
		who, err := c.checkKey(k, false)
		if err != nil {
			return err
		}
		by = c.attested(who)
	}
	return c.print(k, [2]string{"key", k.KeyID}, [2]string{"status", k.Status}, [2]string{"curve", k.Curve},
		[2]string{"address", k.AccountAddr}, [2]string{"public key", k.PublicKey}, [2]string{"attested", by},
		[2]string{"signing", fmt.Sprintf("%d of %d: %s", k.Threshold, k.TotalParts, strings.Join(k.Participants, ", "))},
		[2]string{"coordinator", k.Coordinator}, [2]string{"created", when(k.CreatedAt)}, [2]string{"session", k.SessionID})
}

func (c *cli) listSessions(ctx context.Context, api *client.API, limit int) error {
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

func (c *cli) showSession(ctx context.Context, api *client.API, id string) error {
	s, err := api.Session(ctx, id)
	if err != nil {
		return fmt.Errorf("session %s: %w", id, err)
	}
	rows := [][2]string{
		{"session", s.SessionID}, {"kind", string(s.Kind)}, {"phase", s.Phase}, {"key", s.KeyID}, {"coordinator", s.Coordinator},
	}
	for _, r := range s.Responses {
		if r.Invited {
			rows = append(rows, [2]string{fmt.Sprintf("part %d", r.PartIndex), strings.TrimSpace(r.UserID + " " + r.Response + " " + r.Result)})
		}
	}
	rows = append(rows, [2]string{"signers", partsText(s.Signers)})
	if s.Kind == string(client.KindSign) {
		rows = append(rows, [2]string{"data", printable(s.Data)}, [2]string{"hash", s.Hash}, [2]string{"digest", s.Digest})
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

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// table writes columns below their heads.
func table(w io.Writer, head string, fill func(row func(...any))) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, head)
	fill(func(cells ...any) {
		for i, cell := range cells {
			if i > 0 {
				fmt.Fprint(tw, "\t")
			}
			fmt.Fprint(tw, clean(fmt.Sprint(cell)))
		}
		fmt.Fprintln(tw)
	})
	return tw.Flush()
}
