package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

var requestCommand = command{
	name: "request", brief: "print a signed request for curl or another program to send; needs no server",
	about: `
Prints the body of a request to the web API, signed with this client's identity, so
that participants that have pinned the identity can approve it automatically.

  $ conclave request sign treasury --request-id order-4711 --data 'Pay 5 ether to Bob' > body.json
  $ curl -s -H @auth -H 'Idempotency-Key: order-4711' -d @body.json \
      "$CONCLAVE_URL/v1/keys/treasury/signatures?start=true&wait=30s"

Any program may send it, repeatedly too, until it expires (--expires-in, default one
hour). Send the value of --request-id with it as Idempotency-Key.`,
	subs: []command{requestSign, requestKeygen},
}

// bodyFlags defines the flags that both kinds of request have.
func (c *cli) bodyFlags(flags *flag.FlagSet, requestID *string, expiresIn *time.Duration) {
	c.localFlags(flags)
	flags.StringVar(&c.user, "user", "", "user `id` of the coordinator (default: the user of the login)")
	flags.StringVar(requestID, "request-id", "", "request `id`, to be sent as Idempotency-Key")
	flags.DurationVar(expiresIn, "expires-in", 0, "`duration` until the request and its session expire (default: 1h for the request, the server's for the session)")
}

var requestSign = command{
	name: "sign", args: "KEY --data DATA --request-id ID", brief: "print the body of POST /v1/keys/KEY/signatures?start=true",
	about: `
Prints the signed body of a request for a signature.

  $ conclave request sign treasury --request-id order-4711 --data 'Pay 5 ether to Bob'
  {"key_id":"treasury","data":"Pay 5 ether to Bob","account_addr":"0x9d8A…","session_id":"sg-…","hash":"eip191","signed_request":"conclave-req2.…"}

DATA and --hash are as in conclave sign. The address of a key created from this home
is known; for other keys give --address.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r rest.SignRequest
		c.bodyFlags(flags, &r.RequestID, &r.ExpiresIn)
		flags.StringVar(&r.Data, "data", "", "what to sign: "+dataHelp)
		flags.StringVar(&r.Hash, "hash", "", "hash `function` to apply first, as in conclave sign")
		flags.StringVar(&r.AccountAddr, "address", "", "account `address` of the key")
		participants := flags.String("participants", "", "`users` to invite, separated by commas (default: all participants of the key)")
		return func(ctx context.Context, args []string) (err error) {
			if len(args) != 1 || r.Data == "" || r.RequestID == "" {
				return misuse("request sign needs a key, --data and --request-id")
			}
			r.KeyID, r.Participants = args[0], splitList(*participants)
			if r.Data, err = c.data(r.Data, r.Hash); err != nil {
				return err
			}
			return c.requestSign(ctx, r)
		}
	},
}

func (c *cli) requestSign(ctx context.Context, r rest.SignRequest) error {
	if r.AccountAddr == "" {
		known, err := c.known()
		if err != nil {
			return err
		}
		if r.AccountAddr = known[r.KeyID]; r.AccountAddr == "" {
			return misuse("the key %s was not created from this home: give its address with --address", r.KeyID)
		}
	}
	var err error
	if r.MinEpoch, err = c.latestEpoch(ctx, r.KeyID, r.AccountAddr); err != nil {
		return err
	}
	return c.printBody(r)
}

var requestKeygen = command{
	name: "keygen", args: "USER USER… --request-id ID", brief: "print the body of POST /v1/keys?start=true",
	about: `
Prints the signed body of a request for a new key. The named participants hold its
shares, in that order.

  $ conclave request keygen --key-id treasury --threshold 2 --request-id new-treasury bob carol dave
  {"key_id":"treasury","threshold":2,"total_parts":3,"participants":["bob","carol","dave"],"curve":"secp256k1","signed_request":"conclave-req2.…"}`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r rest.KeygenRequest
		c.bodyFlags(flags, &r.RequestID, &r.ExpiresIn)
		curve := flags.String("curve", "", "`curve` of the key: secp256k1 (default) or ed25519")
		flags.StringVar(&r.KeyID, "key-id", "", "`id` of the key (default: derived from the user and --request-id)")
		flags.IntVar(&r.Threshold, "threshold", 2, "`n` parties must sign: the threshold, from 2 to the number of users")
		return func(_ context.Context, args []string) (err error) {
			if len(args) < 2 || r.RequestID == "" {
				return misuse("request keygen needs two or more users to hold the key, and --request-id")
			}
			if r.Curve, err = pubkey.ParseCurve(*curve); err != nil {
				return misuse("%s", err)
			}
			r.Participants = args
			return c.printBody(r)
		}
	},
}

// printBody prints a request, signed for the logged-in or named user.
func (c *cli) printBody(r signable) error {
	user := c.user
	if user == "" {
		p, err := c.profile()
		if err != nil {
			return err
		}
		user = p.User
	}
	if user == "" {
		return misuse("not logged in: give the coordinator's user id with --user")
	}
	id, err := c.identity()
	if err != nil {
		return err
	}
	body, err := r.Body(user, id)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, string(body))
	return err
}

// signable is a request whose body can be printed.
type signable interface {
	Body(user string, id *identity.Identity) ([]byte, error)
}
