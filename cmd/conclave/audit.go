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
	name: "audit", brief: "verify or export the audit, the record of the servers' decisions",
	about: `
Verifies or exports the audit, the hash chain of the servers' decisions: logins,
requests, answers, refusals, the outcome of each session, and what operators did.
Reading it from a server requires the role admin.

  $ conclave audit verify --anchor 5d0f…
  entries     1204
  head        1204 9be1…
  $ conclave audit export > audit.jsonl
  conclave: 1204 entries; go on with --after 1774000000000-0
  $ conclave audit export --after 1774000000000-0 >> audit.jsonl
  $ conclave audit verify audit.jsonl

"export" writes it to stdout, one JSON object per line. "verify" recomputes every
hash, of the server's audit or of an exported FILE ("-" for stdin). If the chain is
broken, it exits with 1 and names the entry.

Store the head where the operators of the servers cannot change it, and pass its
hash as --anchor the next time. Without an anchor, a truncated or completely
rewritten audit cannot be detected.`,
	subs: []command{auditVerify, auditExport},
}

var auditVerify = command{
	name: "verify", args: "[FILE]", brief: "recompute every hash of the server's audit, or of an exported file",
	about: `
Recomputes every hash of the server's audit, or of an exported FILE ("-" for
stdin). If the chain is broken, it fails and names the entry.

  $ conclave audit verify --anchor 5d0f…
  entries     1204
  head        1204 9be1…
  $ conclave audit verify audit.jsonl`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		anchor := flags.String("anchor", "", "`hash` of an earlier head; it must be in the chain, or directly before its first entry")
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
			return misuse("audit verify takes at most one FILE, and --after only without it")
		}
	},
}

func afterFlag(flags *flag.FlagSet) *string {
	return flags.String("after", "", "`position` on the server to start after, as printed by export")
}

var auditExport = command{
	name: "export", brief: "export the server's audit, one JSON object per line",
	about: `
Writes the server's audit to stdout, one JSON object per line, and prints the
position to continue from the next time.

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

// auditPage is how many entries are requested at a time.
const auditPage = 1000

// readAudit passes each entry of the server's audit to add, and returns the position
// of the last one.
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
		if len(page.Items) < auditPage { // do not wait for an empty page: new entries arrive all the time
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

// auditVerify checks the entries that read returns against each other.
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
