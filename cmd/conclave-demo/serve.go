package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

// commandMark begins each printed line that a shell can run unchanged.
const commandMark = "    $ "

// serve keeps the cluster up until ctx ends, and prints how to use it.
func (m *demo) serve(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "conclave-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	home := filepath.Join(dir, m.asks.user)
	if err := m.asks.writeHome(home, m.door.URL(), m.holds); err != nil {
		return fmt.Errorf("write the home of %s: %w", m.asks.user, err)
	}
	m.printAccess(home)
	<-ctx.Done()
	return nil
}

// writeHome creates a home directory of the conclave command, as conclave login
// leaves it, with the identity that the participants have pinned, and theirs pinned.
// The file token holds the token for other programs.
func (m *member) writeHome(dir, url string, pinned []*member) error {
	store, err := dirstore.Open(dir)
	if err != nil {
		return err
	}
	defer store.Close()
	for _, p := range pinned {
		if err := store.Pin(p.user, p.identity.Public().Fingerprint()); err != nil {
			return err
		}
	}
	login, err := json.Marshal(map[string]any{
		"urls": []string{url}, "user_id": m.user, "roles": []string{string(m.role)}, "token": m.token.Secret, "expires_at": m.token.ExpiresAt,
	})
	if err != nil {
		return err
	}
	return errors.Join(
		dirstore.ProtectIdentity(filepath.Join(dir, "identity"), m.identity, nil),
		secret.WriteFile(filepath.Join(dir, "profile.json"), login),
		secret.WriteFile(filepath.Join(dir, "token"), []byte(m.token.Secret+"\n")),
	)
}

// printAccess prints how to use the cluster. It prints no command whose program is
// missing.
func (m *demo) printAccess(home string) {
	m.d.title("The cluster stays up until Ctrl-C")
	m.d.line("  url      " + m.door.URL())
	for _, p := range m.everyone() {
		m.d.line(fmt.Sprintf("\n  %s (%s), until %s\n  token    %s", p.user, p.role, p.token.ExpiresAt.Local().Format(time.DateTime), p.token.Secret))
	}
	m.d.line("\n  In another terminal, in this directory, as alice:")
	if program := conclaveCommand(); program != "" {
		for _, args := range []string{
			"sign treasury --data 'hello'", "keys show treasury", "sessions list", "whoami",
		} {
			m.d.line(commandMark + "CONCLAVE_HOME=" + quote(home) + " " + program + " " + args)
		}
	} else {
		m.d.line("    (for conclave commands, build ./cmd/conclave, or start this in the source directory)")
	}
	if _, err := exec.LookPath("curl"); err == nil {
		m.d.line(fmt.Sprintf(`%scurl -s -H "Authorization: Bearer $(cat %s)" %s/v1/keys`, commandMark, quote(filepath.Join(home, "token")), m.door.URL()))
	}
	if _, err := exec.LookPath("redis-cli"); err == nil {
		m.d.line(fmt.Sprintf("%sredis-cli -p %s --scan --pattern 'conclave:*'", commandMark, m.redis.Port()))
	}
	m.d.line("\n  Ctrl-C stops the cluster and removes its files.")
}

// conclaveCommand is the command line that runs conclave here, "" if it cannot run.
func conclaveCommand() string {
	if _, err := os.Stat("cmd/conclave/main.go"); err == nil {
		if _, err := exec.LookPath("go"); err == nil {
			return "go run ./cmd/conclave"
		}
	}
	if _, err := exec.LookPath("conclave"); err == nil {
		return "conclave"
	}
	return ""
}

// quote quotes a path for a shell, if it needs that.
func quote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
