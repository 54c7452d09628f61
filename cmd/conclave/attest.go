package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// knows returns a lookup of known identities. It does not create a home.
func (c *cli) knows() (func(user string) (trust.Known, bool, error), error) {
	dir, err := c.homeDir()
	if err != nil {
		return nil, err
	}
	switch _, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist):
		return func(string) (trust.Known, bool, error) { return trust.Known{}, false, nil }, nil
	case err != nil:
		return nil, err
	}
	store, err := dirstore.Open(dir)
	if err != nil {
		return nil, err
	}
	return store.Known, nil
}

// ownFingerprint is the fingerprint of this home's identity if it has one without a
// passphrase, else "".
func (c *cli) ownFingerprint() string {
	dir, err := c.homeDir()
	if err != nil {
		return ""
	}
	id, err := dirstore.ReadIdentity(filepath.Join(dir, identityFile), nil)
	if err != nil {
		return "" // no identity, or a protected one: it is treated as new, like others
	}
	return id.Public().Fingerprint()
}

// attested says who attests the address of a key, for a row, and warns of
// attestations by identities that were not known before.
func (c *cli) attested(who []trust.Attestor) string {
	if len(who) == 0 {
		c.console.say("%s", c.console.bold("warning: no participant attests this address; only the servers say that the key belongs to them"))
		return ""
	}
	var all, first, trust []string
	own := c.ownFingerprint()
	for _, a := range who {
		how := trustOf(a.Pinned)
		switch {
		case a.First && own != "" && a.Fingerprint == own:
			how = "with this home's identity"
		case a.First:
			how = "seen for the first time"
			first = append(first, a.User)
			trust = append(trust, fmt.Sprintf("conclave trust add %s %s", clean(a.User), a.Fingerprint))
		}
		all = append(all, fmt.Sprintf("%s (%s)", a.User, how))
	}
	if len(first) > 0 {
		c.console.say("%s", c.console.bold(fmt.Sprintf("warning: seen for the first time: %s", clean(strings.Join(first, ", ")))))
		c.console.say("  before you use the address, ask them to read you the output of conclave identity, and compare:")
		for _, line := range trust {
			c.console.say("  %s", line)
		}
	}
	return "by " + strings.Join(all, ", ")
}

// unattested says loudly that a key is refused.
func (c *cli) unattested(err error) {
	var e *trust.AttestationError
	if errors.As(err, &e) {
		c.console.say("%s", c.console.bold("REFUSED: the servers report a key that its participants do not attest"))
	}
}

// addressOf asks the server for the key's address: a request to sign names it. The
// address is believed as far as the participants attest it.
func (c *cli) addressOf(ctx context.Context, keyID string, pinnedOnly bool) (string, error) {
	api, err := c.api()
	if err != nil {
		return "", err
	}
	defer api.Close()
	key, err := api.Key(ctx, keyID)
	switch {
	case err != nil:
		return "", err
	case key.KeyID != keyID:
		return "", fmt.Errorf("the server returned another key than %s", keyID)
	case key.AccountAddr == "":
		return "", fmt.Errorf("key %s is %s, it has no address yet", keyID, clean(key.Status))
	}
	who, _, err := c.checkEpoch(ctx, api, key, pinnedOnly)
	if err != nil {
		return "", err
	}
	if by := c.attested(who); by != "" {
		c.console.say("address %s of a key requested by %s, attested %s", clean(key.AccountAddr), clean(key.Coordinator), clean(by))
	}
	return key.AccountAddr, nil
}

// checkKey checks the attestations of a key against the identities known here.
func (c *cli) checkKey(key wire.KeyInfo, pinnedOnly bool) ([]trust.Attestor, error) {
	known, err := c.knows()
	if err != nil {
		return nil, err
	}
	who, err := trust.CheckKey(key, known, pinnedOnly)
	c.unattested(err)
	return who, err
}

// maxKeyFile is more than the web API's record of a key with the maximum number of
// parties, or a long lineage.
const maxKeyFile = 64 << 20

// verifyKey checks a key in a file: its participants' attestations, in the output of
// conclave keys KEY -json or of the web API, or its whole lineage.
func (c *cli) verifyKey(path string, pinnedOnly bool) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	if certificates, rest, ok := readLineage(text); ok && len(text) <= maxKeyFile {
		return c.verifyLineage(certificates, rest, pinnedOnly)
	}
	var key wire.KeyInfo
	if len(text) > maxKeyFile || json.Unmarshal(text, &key) != nil || key.KeyID == "" || key.AccountAddr == "" {
		return fmt.Errorf("%s is not the output of conclave keys KEY -json", path)
	}
	who, err := c.checkKey(key, pinnedOnly)
	if err != nil {
		return err
	}
	if len(who) == 0 {
		return &trust.AttestationError{
			Fault: trust.AttestationMissing, KeyID: key.KeyID, SessionID: key.SessionID, AccountAddr: key.AccountAddr,
			Err: errors.New("no participant has attested it"),
		}
	}
	good := rest.Key{
		KeyID: key.KeyID, SessionID: key.SessionID, Curve: pubkey.Curve(key.Curve), AccountAddr: key.AccountAddr, PublicKey: key.PublicKey, AttestedBy: who,
	}
	by := c.attested(who)
	return c.print(good, [2]string{"good", "key " + key.KeyID}, [2]string{"address", key.AccountAddr},
		[2]string{"attested", by}, [2]string{"coordinator", key.Coordinator})
}
