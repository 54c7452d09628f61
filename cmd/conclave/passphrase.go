package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

const identityFile = "identity"

// identity returns this client's identity, which is created on first use: protected
// if there is a passphrase file.
func (c *cli) identity() (*identity.Identity, error) {
	path, err := c.path(identityFile)
	if err != nil {
		return nil, err
	}
	protected := false
	id, made, err := dirstore.LoadIdentity(path, func(made bool) ([]byte, error) {
		file := c.passphraseSource()
		if made && file == "" {
			return nil, nil
		}
		protected = true
		if made {
			return newPassphrase(file)
		}
		return c.passphrase(path, file)
	})
	switch {
	case made && protected:
		c.console.say("created a new identity, protected by the passphrase: %s", path)
	case made:
		c.console.say("created a new identity: %s", path)
	}
	return id, err
}

// passphraseSource is the name of the passphrase file, "" for none.
func (c *cli) passphraseSource() string {
	if c.passphraseFile != "" {
		return c.passphraseFile
	}
	return c.env("CONCLAVE_PASSPHRASE_FILE")
}

// passphrase reads the passphrase of an identity from a file or, without one, asks
// for it on a terminal. Without either it fails.
func (c *cli) passphrase(identity, file string) ([]byte, error) {
	if file != "" {
		return readPassphrase(file)
	}
	if !c.onTerminal() {
		return nil, nil
	}
	return c.askHidden("passphrase of " + identity)
}

// readPassphrase reads a private file, or a pipe such as /dev/fd/3. One line break
// at its end does not count.
func readPassphrase(file string) ([]byte, error) {
	text, err := secret.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read passphrase: %w", err)
	}
	text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
	if len(text) == 0 {
		return nil, fmt.Errorf("read passphrase: %s is empty", file)
	}
	return text, nil
}

// minPassphrase is the minimum length of a new passphrase: it alone protects the
// identity against a thief of the file.
const minPassphrase = 8

func newPassphrase(file string) ([]byte, error) {
	text, err := readPassphrase(file)
	if err != nil {
		return nil, err
	}
	return text, longEnough(text)
}

func longEnough(passphrase []byte) error {
	if len(passphrase) < minPassphrase {
		return fmt.Errorf("a passphrase must have at least %d bytes; six random words are better", minPassphrase)
	}
	return nil
}

// askNewPassphrase asks twice.
func (c *cli) askNewPassphrase() ([]byte, error) {
	if !c.onTerminal() {
		return nil, misuse("no terminal to read the new passphrase from; give --new-passphrase-file")
	}
	first, err := c.askHidden("new passphrase")
	if err != nil {
		return nil, err
	}
	if err := longEnough(first); err != nil {
		return nil, err
	}
	second, err := c.askHidden("repeat the new passphrase")
	defer clear(second)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, errors.New("the two passphrases differ; nothing was changed")
	}
	return first, nil
}

func (c *cli) onTerminal() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// dropTyped drops input typed before a question, so that it does not answer it.
func (c *cli) dropTyped() {
	if f, ok := c.stdin.(*os.File); ok && c.onTerminal() {
		_ = flushTyped(int(f.Fd())) // if it fails, an answer still needs its code
	}
}

// askHidden asks on the terminal that is stdin, without echo.
func (c *cli) askHidden(what string) ([]byte, error) {
	f, ok := c.stdin.(*os.File)
	if !ok {
		return nil, errors.New("there is no terminal to ask on")
	}
	// Before the question is shown: typing may begin at once.
	if restore, err := hush(int(f.Fd())); err == nil {
		defer restore()
	}
	c.console.print("conclave: " + clean(what) + ": ")
	text, err := term.ReadPassword(int(f.Fd()))
	c.console.print("\n")
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return text, nil
}
