package main

import (
	"context"
	"flag"
)

var identityCommand = command{
	synopsis: "identity [FLAGS]",
	about: `
Shows this client's identity, which is made on first use. Others know a
participant by its fingerprint: read it to them over a channel that you trust.`,
	setup: func(c *cli, flags *flag.FlagSet) func(context.Context, []string) error {
		c.localFlags(flags)
		whole := flags.Bool("public", false, "show the whole public identity")
		return func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("identity takes no arguments")
			}
			id, err := c.identity()
			if err != nil {
				return err
			}
			public := id.Public()
			rows := [][2]string{{"fingerprint", public.Fingerprint()}}
			if *whole {
				rows = append(rows, [2]string{"identity", public.String()})
			}
			return c.print(map[string]string{"fingerprint": public.Fingerprint(), "identity": public.String()}, rows...)
		}
	},
}
