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

	"github.com/conclave-mpc/conclave/session/audit"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

var auditCommand = command{
	name: "audit", brief: "check, or write out, the record of what the servers decided",
	about: `
The audit is the chain of what the servers have decided: who logged in, asked,
accepted, declined and was refused, how each session ended, what operators did.
Reading it from a server takes the role admin.

"export" writes it to stdout, one JSON object a line. "verify" recomputes every
hash, of the server's audit or of an exported FILE ("-" for stdin), and exits
with 1 and the place where the chain breaks, if it does:

  $ conclave audit verify --anchor 5d0f…
  entries     1204
  head        1204 9be1…

Note the head where those who run the servers cannot change it, and give its
hash as the anchor the next time: without that, nobody can see that the end is
missing, or that all was written anew.

  $ conclave audit export > audit.jsonl
  conclave: 1204 entries; go on with --after 1774000000000-0
  $ conclave audit export --after 1774000000000-0 >> audit.jsonl
  $ conclave audit verify audit.jsonl`,
	subs: []command{auditVerify, auditExport},
}

var auditVerify = command{
	name: "verify", args: "[FILE]", brief: "recompute every hash of the server's audit, or of an exported file",
	about: `
Recomputes every hash of the server's audit, or of an exported FILE ("-" for
stdin), and fails with the place where the chain breaks, if it does.

  $ conclave audit verify --anchor 5d0f…
  entries     1204
  head        1204 9be1…
  $ conclave audit verify audit.jsonl`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		anchor := flags.String("anchor", "", "`hash` of a head noted before; it must be in the chain, or just before its beginning")
		after := afterFlag(flags)
		return func(ctx context.Context, args []string) error {
			switch {
			case len(args) == 0:
				return c.auditVerify(*anchor, func(v *audit.Verifier) error {
					_, err := c.readAudit(ctx, *after, v.Add)
					return err
				})
			case len(args) == 1 && *after == "":
				return c.auditVerifyFile(args[0], *anchor)
			}
			return misuse("audit verify needs at most one FILE, and with it no --after")
		}
	},
}

func afterFlag(flags *flag.FlagSet) *string {
	return flags.String("after", "", "`position` on the server to begin after, as export names it")
}

var auditExport = command{
	name: "export", brief: "write the server's audit out, one JSON object a line",
	about: `
Writes the server's audit to stdout, one JSON object a line, and says where to go
on the next time.

  $ conclave audit export > audit.jsonl
  conclave: 1204 entries; go on with --after 1774000000000-0`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		after := afterFlag(flags)
		return func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("audit export takes no arguments")
			}
			return c.auditExport(ctx, *after)
		}
	},
}

// auditPage is how many entries are asked for at a time.
const auditPage = 1000

// readAudit gives each entry of the server's audit to add, and returns the
// position of the last one.
func (c *cli) readAudit(ctx context.Context, after string, add func(audit.Fields) error) (string, error) {
	api, err := c.api()
	if err != nil {
		return "", err
	}
	defer api.Close()
	for {
		page, err := api.Audit(ctx, rest.AuditPage{After: after, Limit: auditPage})
		if err != nil {
			return "", fmt.Errorf("read the audit: %w", err)
		}
		for _, f := range page.Items {
			if err := add(f); err != nil {
				return "", err
			}
		}
		after = page.Next
		if len(page.Items) < auditPage { // not until there are none: entries come all the time
			return after, nil
		}
	}
}

func (c *cli) auditExport(ctx context.Context, after string) error {
	out := bufio.NewWriter(c.stdout)
	entries := 0
	next, err := c.readAudit(ctx, after, func(f audit.Fields) error {
		line, err := f.Line()
		if err == nil {
			_, err = out.Write(line)
		}
		entries++
		return err
	})
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	c.console.say("%d entries; go on with --after %s", entries, clean(next))
	return nil
}

func (c *cli) auditVerifyFile(path, anchor string) error {
	in := c.stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewReader(in)
	return c.auditVerify(anchor, func(v *audit.Verifier) error {
		for {
			line, err := lines.ReadBytes('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return nil
			}
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read %s: %w", path, err)
			}
			if err := v.AddLine(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
				return err
			}
		}
	})
}

// audited is the result of verify.
type audited struct {
	Good    bool   `json:"good"`
	Entries int    `json:"entries"`
	HeadN   uint64 `json:"head_n"`
	Head    string `json:"head"`
}

// auditVerify holds the entries that read gives against each other.
func (c *cli) auditVerify(anchor string, read func(*audit.Verifier) error) error {
	v, err := audit.NewVerifier(anchor)
	if err != nil {
		return misuse("%s", err)
	}
	if err := read(v); err != nil {
		return err
	}
	head, err := v.End()
	if err != nil {
		return err
	}
	a := audited{true, v.Entries(), head.N, head.Hash}
	return c.print(a, [2]string{"entries", fmt.Sprint(a.Entries)}, [2]string{"head", fmt.Sprintf("%d %s", head.N, head.Hash)})
}
