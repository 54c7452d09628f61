package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/secret"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// cli is the state that the commands share: the streams, and the flags for the
// servers and for this client's files.
type cli struct {
	stdin   io.Reader
	stdout  io.Writer
	console *console
	env     func(string) string

	commands       []command
	reachWithin    time.Duration // how long a command looks for a server
	reach          *reach
	home           string
	profileName    string
	passphraseFile string
	url            string
	tokenFile      string
	user           string
	ca             string
	asJSON         bool
	noColor        bool
	verbose        bool
}

// localFlags defines the flags of every command.
func (c *cli) localFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.home, "home", "", "`directory` of identity, shares and login (or CONCLAVE_HOME; default: ~/.conclave)")
	flags.StringVar(&c.profileName, "profile", "", "`name` of the profile in the home directory (or CONCLAVE_PROFILE; default: the one set by conclave profile use)")
	flags.StringVar(&c.passphraseFile, "passphrase-file", "", "`file` with the passphrase of a protected identity (or CONCLAVE_PASSPHRASE_FILE, the file's name; default: ask on the terminal)")
	flags.BoolVar(&c.asJSON, "json", false, "print the result as JSON")
	flags.BoolVar(&c.noColor, "no-color", false, "disable colours (also disabled by NO_COLOR, or without a terminal)")
}

// serverFlags defines the flags of the commands that talk to a server.
func (c *cli) serverFlags(flags *flag.FlagSet) {
	c.localFlags(flags)
	flags.StringVar(&c.url, "url", "", "base `URLs` of the servers, separated by commas (or CONCLAVE_URL; default: those of the login)")
	flags.StringVar(&c.tokenFile, "token-file", "", "`file` with the token (or CONCLAVE_TOKEN, the token itself; default: the token of the login)")
	flags.StringVar(&c.user, "user", "", "user `id` of the token, if the servers read it from a claim other than sub (--jwks-user-claim)")
	c.caFlag(flags)
	flags.BoolVar(&c.verbose, "verbose", false, "write a log to stderr, as JSON lines")
}

func (c *cli) caFlag(flags *flag.FlagSet) {
	flags.StringVar(&c.ca, "ca", "", "PEM `file` with the CA certificates for the servers' TLS certificates (or CONCLAVE_CA; default: the file of the login, else the system's)")
}

// caGiven returns the given file of authorities, "" for none.
func (c *cli) caGiven() (string, error) {
	file := c.ca
	if file == "" {
		file = c.env("CONCLAVE_CA")
	}
	if file == "" {
		return "", nil
	}
	return filepath.Abs(file)
}

// tls returns the TLS configuration for the servers of the login, or those given.
func (c *cli) tls() (*tls.Config, error) {
	file, err := c.caGiven()
	if err == nil && file == "" {
		var p profile
		p, err = c.profile()
		file = p.CA
	}
	if err != nil {
		return nil, err
	}
	return trusting(file)
}

// trusting returns a configuration that trusts only the authorities in a file, or
// nil, Go's defaults, for no file.
func trusting(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", file)
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// path returns the path of a file in the state directory, which it creates.
func (c *cli) path(name string) (string, error) {
	dir, err := c.homeDir()
	if err != nil {
		return "", err
	}
	if err := secret.MakeDir(dir); err != nil {
		return "", fmt.Errorf("make state directory: %w", err)
	}
	return filepath.Join(dir, name), nil
}

// readJSON leaves into unchanged if the file does not exist.
func readJSON(path string, into any) error {
	text, err := secret.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s is damaged; remove it", path)
	}
	return nil
}

// writeJSON replaces a file that only its owner may read.
func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return secret.WriteFile(path, append(text, '\n'))
}

var errNotLoggedIn = errors.New("not logged in")

// servers returns the base URLs.
func (c *cli) servers() ([]string, error) {
	text := c.url
	if text == "" {
		text = c.env("CONCLAVE_URL")
	}
	if text != "" {
		return splitList(text), nil
	}
	p, err := c.profile()
	if err == nil && len(p.URLs) == 0 {
		err = errNotLoggedIn
	}
	return p.URLs, err
}

// splitList splits at commas and drops empty elements.
func splitList(text string) []string {
	var list []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			list = append(list, item)
		}
	}
	return list
}

// tokens returns a source of tokens. It reads the token of the login again each
// time, so that logging in elsewhere renews it; once the token has expired, wait is
// called until there is a newer one, or an error is returned.
func (c *cli) tokens(wait func(ctx context.Context, p profile) error) rest.TokenSource {
	if c.tokenFile != "" {
		if wait == nil {
			return fileTokens(c.tokenFile, nil)
		}
		return fileTokens(c.tokenFile, c.awaitFile())
	}
	if token := c.env("CONCLAVE_TOKEN"); token != "" {
		return rest.StaticToken(token)
	}
	var renewer *rest.Renewer
	var once sync.Mutex
	return func(ctx context.Context) (string, error) {
		for {
			p, err := c.profile()
			if err != nil {
				return "", wire.Errorf(wire.CodeUnauthenticated, "login cannot be read: %s", err)
			}
			if p.Refresh != "" {
				once.Lock()
				if renewer == nil {
					renewer, err = c.renewer()
				}
				once.Unlock()
				if err != nil {
					return "", err
				}
				return renewer.Token(ctx)
			}
			if p.Token == "" {
				return "", wire.Errorf(wire.CodeUnauthenticated, "%s", errNotLoggedIn)
			}
			if p.ExpiresAt.IsZero() || time.Now().Before(p.ExpiresAt) {
				return p.Token, nil
			}
			if wait == nil {
				return "", wire.Errorf(wire.CodeTokenExpired, "the login has expired")
			}
			if err := wait(ctx, p); err != nil {
				return "", err
			}
		}
	}
}

// renewer renews this profile's login, and saves it in the profile.
func (c *cli) renewer() (*rest.Renewer, error) {
	path, err := c.path(profileFile)
	if err != nil {
		return nil, err
	}
	api, err := c.open(rest.Config{})
	if err != nil {
		return nil, err
	}
	return rest.NewRenewer(rest.RenewerConfig{
		API: api,
		Load: func() (rest.Token, error) {
			p, err := c.profile()
			return p.token(), err
		},
		Save: func(t rest.Token) error {
			p, err := c.profile()
			if err != nil || p.Seed != t.Seed { // or the user has logged in anew, or out
				return err
			}
			return writeJSON(path, p.with(t))
		},
		LockFile: path + ".lock",
		OnError:  func(err error) { c.console.say("%s", clean(err.Error())) },
	})
}

// config is the configuration that all clients of this program have in common.
func (c *cli) config() (client.Config, error) {
	urls, err := c.servers()
	if err != nil {
		return client.Config{}, err
	}
	secure, err := c.tls()
	if err != nil {
		return client.Config{}, err
	}
	cfg := client.Config{URLs: urls, Token: c.tokens(nil), User: c.user, TLS: secure}
	if c.verbose {
		log := zerolog.New(c.console).With().Timestamp().Logger()
		cfg.Log = &log
	}
	return cfg, nil
}

// api returns the web API of the servers, with this profile's tokens.
func (c *cli) api() (*rest.Client, error) {
	return c.open(rest.Config{Token: c.tokens(nil), User: c.user})
}

// open returns the web API of the servers of the login, or those given, with cfg for
// the rest. From here on the time limit for reaching a server runs.
func (c *cli) open(cfg rest.Config) (*rest.Client, error) {
	var err error
	if cfg.URLs, err = c.servers(); err != nil {
		return nil, err
	}
	if cfg.TLS, err = c.tls(); err != nil {
		return nil, err
	}
	cfg.OnAnswer = c.reach.reached
	api, err := rest.New(cfg)
	if err != nil {
		return nil, err
	}
	c.reach.seek(cfg.URLs)
	return api, nil
}

// print writes a result: as JSON if requested, else as rows of a name and a value.
// Rows without a value are left out.
func (c *cli) print(v any, rows ...[2]string) error {
	if c.asJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	var b strings.Builder
	for _, row := range rows {
		if row[1] != "" {
			fmt.Fprintf(&b, "%-11s %s\n", row[0], clean(row[1]))
		}
	}
	_, err := io.WriteString(c.stdout, b.String())
	return err
}
