package main

import (
	"context"
	"flag"
	"runtime"
	"runtime/debug"
)

var versionCommand = command{
	name: "version", brief: "show the version",
	about: `
Shows the version of this program, and its commit if the build recorded it.

  $ conclave version
  version     v0.1.0
  commit      0cf8a31…
  go          go1.26.0 linux/amd64`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		flags.BoolVar(&c.asJSON, "json", false, "print the result as JSON")
		return func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return misuse("version takes no arguments")
			}
			return c.printVersion()
		}
	},
}

func (c *cli) printVersion() error {
	v := struct {
		Version string `json:"version"`
		Commit  string `json:"commit,omitempty"`
		Go      string `json:"go"`
	}{Version: "(devel)", Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				v.Commit = s.Value + v.Commit
			case s.Key == "vcs.modified" && s.Value == "true":
				v.Commit += " (modified)"
			}
		}
	}
	return c.print(v, [2]string{"version", v.Version}, [2]string{"commit", v.Commit}, [2]string{"go", v.Go})
}
