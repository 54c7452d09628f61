package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/secret"
)

var recoverCommand = command{
	name: "recover", args: "FILE FILE… | sign KEYFILE --data DATA",
	brief: "rebuild a private key from shares, after a disaster; needs no server",
	about: `
Rebuilds a private key from a threshold of its shares, offline, for the case that
the committee can no longer sign. Each FILE is a sealed share; the identities of the
owners open them, in any order:

  $ conclave recover bob.json dave.json --identity bob-identity --identity dave-identity

WHOEVER HAS THE RESULT HAS THE KEY: no threshold and no approval protect it any
longer, and this cannot be undone. Use an offline machine that is wiped afterwards,
move the funds of the key to a new key at once, and never make a habit of it. The
command asks for confirmation.

The result is a new file of mode 0600. Its field "private_key" is 0x and 32 bytes of
hex:
  secp256k1  the number, big-endian, as Ethereum and Bitcoin programs expect it
  ed25519    the secret scalar modulo the group order, little-endian, as RFC 8032
             encodes scalars. It is not a seed: a threshold key has no seed, and
             programs that require a seed (most do) cannot use it
"recover sign" signs with such a file, on both curves, as the committee would,
and checks both the key and the signature.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r recovery
		flags.BoolVar(&c.asJSON, "json", false, "print the result as JSON")
		flags.Func("identity", "`file` of an owner's identity; repeat it for each owner", appendTo(&r.identities))
		flags.Func("passphrase-file", "`file` with the passphrase of a protected identity: one for all identities, or one for each --identity, in the same order (default: ask on the terminal)", appendTo(&r.passphrases))
		flags.StringVar(&r.to, "to", "", "new `file` for the private key, or - for stdout (default: private-key-ADDRESS.json)")
		flags.BoolVar(&r.understood, "i-understand", false, "do not ask for confirmation")
		data := flags.String("data", "", "with sign: what to sign: "+dataHelp+", as with conclave sign")
		hash := flags.String("hash", "", "with sign: hash `function` to apply first: none, keccak256, sha256, sha256d or eip191 (default: as for conclave sign)")
		return func(_ context.Context, args []string) error {
			switch {
			case len(args) == 2 && args[0] == "sign" && *data != "":
				bytes, err := c.data(*data, *hash)
				if err != nil {
					return err
				}
				return c.signRecovered(args[1], bytes, *hash)
			case len(args) > 0 && args[0] == "sign":
				return misuse("recover sign needs the file of a private key and --data")
			case *data != "" || *hash != "":
				return misuse("--data and --hash can be used with recover sign only")
			case len(args) == 0 || len(r.identities) == 0:
				return misuse("recover needs the files of shares, and the identities of their owners with --identity")
			case len(r.passphrases) > 1 && len(r.passphrases) != len(r.identities):
				return misuse("give one --passphrase-file for all identities, or one for each")
			}
			r.shares = args
			return c.recover(r)
		}
	},
}

func appendTo(list *[]string) func(string) error {
	return func(value string) error { *list = append(*list, value); return nil }
}

type recovery struct {
	shares, identities, passphrases []string
	to                              string
	understood                      bool
}

// recovered is the file of a private key.
type recovered struct {
	Warning     string       `json:"warning"`
	KeyID       string       `json:"key_id"`
	Curve       pubkey.Curve `json:"curve"`
	AccountAddr string       `json:"account_addr"`
	PublicKey   string       `json:"public_key"`
	Form        string       `json:"form"` // of private_key
	PrivateKey  string       `json:"private_key"`
}

const recoveredWarning = "whoever reads this file has the whole key; move its funds and destroy it"

var forms = map[pubkey.Curve]string{
	pubkey.Secp256k1: "big-endian number",
	pubkey.Ed25519:   "little-endian scalar, not a seed",
}

func (c *cli) recover(r recovery) error {
	shares, err := c.openShares(r)
	if err != nil {
		return err
	}
	public := shares[0].Public()
	if !r.understood {
		if err := c.confirmRecovery(public); err != nil {
			return err
		}
	}
	key, err := share.Recover(shares)
	if err != nil {
		return err
	}
	defer key.Wipe()
	text, err := json.MarshalIndent(recovered{
		recoveredWarning, public.KeyID, public.Curve, public.AccountAddr, public.PublicKey, forms[public.Curve], key.Secret(),
	}, "", "  ")
	if err != nil {
		return err
	}
	text = append(text, '\n')
	defer clear(text)
	if r.to == "-" {
		_, err := c.stdout.Write(text)
		return err
	}
	if r.to == "" {
		r.to = "private-key-" + public.AccountAddr + ".json"
	}
	if err := secret.CreateFile(r.to, text); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	c.console.say("%s", c.console.bold("the private key is in "+r.to+"; whoever reads it has the key"))
	return c.print(map[string]string{"key_id": public.KeyID, "account_addr": public.AccountAddr, "public_key": public.PublicKey, "file": r.to},
		[2]string{"key", public.KeyID}, [2]string{"curve", string(public.Curve)}, [2]string{"address", public.AccountAddr},
		[2]string{"public key", public.PublicKey}, [2]string{"file", r.to})
}

// openShares opens each share with the identity, of several, that it is sealed to.
func (c *cli) openShares(r recovery) ([]*share.Share, error) {
	texts := make([]string, len(r.shares))
	for i, file := range r.shares { // before a passphrase is asked for
		text, err := readShareFile(file)
		if err != nil {
			return nil, err
		}
		if _, err := share.ParsePublic(text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		texts[i] = text
	}
	var ids []*identity.Identity
	for i, path := range r.identities {
		file := ""
		switch len(r.passphrases) {
		case 0:
		case 1:
			file = r.passphrases[0]
		default:
			file = r.passphrases[i]
		}
		id, err := dirstore.ReadIdentity(path, func(bool) ([]byte, error) { return c.passphrase(path, file) })
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	shares := make([]*share.Share, len(texts))
	for i, text := range texts {
		held, err := openWithAny(text, ids)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.shares[i], err)
		}
		shares[i] = held
	}
	return shares, nil
}

func openWithAny(text string, ids []*identity.Identity) (held *share.Share, err error) {
	for _, id := range ids {
		if held, err = share.Open(text, id); !errors.Is(err, share.ErrNotOwner) {
			break
		}
	}
	return held, err
}

// confirmation has to be typed, followed by a code.
const confirmation = "give me the whole key"

func (c *cli) confirmRecovery(p share.Public) error {
	c.console.say("%s", c.console.bold("this ends the protection by the committee"))
	c.console.say("the private key of %s (key %s) will exist in one place; whoever reads it can sign alone, for ever", clean(p.AccountAddr), clean(p.KeyID))
	c.console.say("use an offline machine that is wiped afterwards, and move the funds of the key to a new key at once")
	if !c.onTerminal() {
		return misuse("no terminal to confirm on; give --i-understand")
	}
	// The code rules out pasted text and text typed for another question.
	wanted := confirmation + " " + newCode()
	c.dropTyped()
	c.console.say("to continue, type: %s", wanted)
	line, err := bufio.NewReader(io.LimitReader(c.stdin, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read confirmation: %w", err)
	}
	if strings.TrimSpace(line) != wanted {
		return errors.New("not confirmed; nothing was rebuilt")
	}
	return nil
}

// signRecovered signs with a private key in a file.
func (c *cli) signRecovered(path, data, hash string) error {
	text, err := secret.ReadFile(path)
	if err != nil {
		return err
	}
	defer clear(text)
	var r recovered
	if err := json.Unmarshal(text, &r); err != nil {
		return fmt.Errorf("%s is not the file of a recovered key", path)
	}
	curve, err := pubkey.ParseCurve(string(r.Curve))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	key, err := share.ParsePrivateKey(curve, r.PublicKey, r.PrivateKey)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer key.Wipe()
	digest, how, err := pubkey.Digest(curve, data, hash)
	if err != nil {
		return misuse("%s", err)
	}
	sig, err := key.Sign(digest)
	if err != nil {
		return err
	}
	public, err := curve.ParseKey(r.PublicKey)
	if err != nil {
		return err
	}
	address, err := curve.Address(public)
	if err != nil {
		return err
	}
	signature, digestText := pubkey.Encode(sig), pubkey.Encode(digest)
	return c.print(map[string]string{"signature": signature, "account_addr": address, "hash": string(how), "digest": digestText},
		[2]string{"signature", signature}, [2]string{"address", address}, [2]string{"hash", string(how)}, [2]string{"digest", ownDigest(data, digestText)})
}
