package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

var verifyCommand = command{
	name: "verify", args: "--data DATA --signature SIG (--address ADDR | --public-key KEY) | --evidence FILE | --key FILE",
	brief: "check a signature, a key's attestations, or evidence; needs no server",
	about: `
Checks a signature, offline. It exits with 0 if the signature is valid and with 1 if
it is not.

  $ conclave verify --address 0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F \
      --data "pay bob" --signature 0x…
  good        secp256k1 signature by 0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  digest      0x…

With --key it checks the attestations of a key against the identities that this home
knows: that the address is that of the key that the participants created. FILE is
the output of conclave keys KEY -json or of GET /v1/keys/KEY. If FILE is the output
of GET /v1/keys/KEY/lineage, it checks every certificate of the key from the first
on: that each epoch was attested by all its members, with the consent of enough
members of the one before.

With --evidence it checks evidence that a participant has stored against a party that
signed two different messages where one is allowed, and names the party. Anybody can
produce evidence against an identity that they created themselves: compare the
identity with the one that is pinned here, or that its owner shows.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var v verification
		c.localFlags(flags)
		evidence := flags.String("evidence", "", "`file` of evidence to check")
		key := flags.String("key", "", "`file` with the key whose attestations to check")
		trust := trustFlag(flags)
		flags.StringVar(&v.curve, "curve", "", "`curve` of the key: secp256k1 or ed25519 (default: the curve of the address, else secp256k1)")
		flags.StringVar(&v.address, "address", "", "account `address` of the key")
		flags.StringVar(&v.publicKey, "public-key", "", "public `key`, 0x and hex")
		flags.StringVar(&v.data, "data", "", "what was signed: "+dataHelp+", as with conclave sign")
		flags.StringVar(&v.hash, "hash", "", "hash `function` that was applied: none, keccak256, sha256, sha256d or eip191 (default: as for conclave sign)")
		flags.StringVar(&v.signature, "signature", "", "`signature`, 0x and hex")
		return func(_ context.Context, args []string) error {
			given := map[string]bool{}
			flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
			ofSignature := given["data"] || given["signature"] || given["address"] || given["public-key"] || given["hash"] || given["curve"]
			pinnedOnly, err := trust()
			switch {
			case err != nil:
				return err
			case len(args) > 0:
				return misuse("verify takes no arguments, only flags")
			case given["evidence"] && (ofSignature || given["key"] || given["trust"]):
				return misuse("--evidence cannot be combined with other flags")
			case given["evidence"]:
				return c.verifyEvidence(*evidence)
			case given["key"] && ofSignature:
				return misuse("--key cannot be combined with other flags")
			case given["key"]:
				return c.verifyKey(*key, pinnedOnly)
			case given["trust"]:
				return misuse("--trust can be used with --key only")
			case !given["data"] || !given["signature"]:
				return misuse("verify needs --data and --signature")
			case given["address"] == given["public-key"]:
				return misuse("verify needs either --address or --public-key")
			}
			if v.data, err = c.data(v.data, v.hash); err != nil {
				return err
			}
			return c.verify(v)
		}
	},
}

type verification struct{ curve, address, publicKey, data, hash, signature string }

// verified is the result of verify.
type verified struct {
	Good        bool         `json:"good"`
	Curve       pubkey.Curve `json:"curve"`
	AccountAddr string       `json:"account_addr"`
	PublicKey   string       `json:"public_key"`
	Hash        pubkey.Hash  `json:"hash"`
	Digest      string       `json:"digest"`
}

func (c *cli) verify(v verification) error {
	curve, err := v.curveOf()
	if err != nil {
		return misuse("%s", err)
	}
	digest, hash, err := pubkey.Digest(curve, v.data, v.hash)
	if err != nil {
		return misuse("%s", err)
	}
	sig, err := pubkey.Decode(v.signature)
	if err != nil {
		return misuse("signature: %s", err)
	}
	var pub []byte
	address := v.address
	if address != "" {
		if address, err = curve.ParseAddress(v.address); err != nil {
			return misuse("address: %s", err)
		}
		_, pub, err = curve.CompleteFor(address, digest, sig)
	} else {
		if pub, err = curve.ParseKey(v.publicKey); err != nil {
			return misuse("%s", err)
		}
		if address, err = curve.Address(pub); err != nil {
			return misuse("%s", err)
		}
		_, err = curve.Complete(pub, digest, sig)
	}
	if err != nil {
		return wire.Errorf(wire.CodeInvalidSignature, "bad: %s", err)
	}
	good := verified{true, curve, address, pubkey.Encode(pub), hash, pubkey.Encode(digest)}
	return c.print(good, [2]string{"good", fmt.Sprintf("%s signature by %s", curve, address)},
		[2]string{"hash", string(hash)}, [2]string{"digest", ownDigest(v.data, good.Digest)})
}

// curveOf is the curve that was named, else that of the address: an Ethereum address
// begins with 0x, which base58 does not.
func (v verification) curveOf() (pubkey.Curve, error) {
	if v.curve == "" && v.address != "" {
		if _, err := pubkey.Ed25519.ParseAddress(v.address); err == nil {
			return pubkey.Ed25519, nil
		}
	}
	return pubkey.ParseCurve(v.curve)
}
