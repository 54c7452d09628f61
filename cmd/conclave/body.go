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
	name: "request", brief: "print a signed request, for curl and other programs to send; needs no server",
	about: `
Prints the body of a request to the web API, signed by this client's identity, so that
participants that have pinned it approve by themselves. Any program may send it, once or
again, for as long as it holds (--expires-in, default one hour). The id of
--request-id must go with it as Idempotency-Key.

  $ conclave request sign treasury --request-id order-4711 --data 'Pay 5 ether to Bob' > body.json
  $ curl -s -H @auth -H 'Idempotency-Key: order-4711' -d @body.json \
      "$CONCLAVE_URL/v1/keys/treasury/signatures?start=true&wait=30s"`,
	subs: []command{requestSign, requestKeygen},
}

// bodyFlags are those that both kinds of request have.
func (c *cli) bodyFlags(flags *flag.FlagSet, requestID *string, expiresIn *time.Duration) {
	c.localFlags(flags)
	flags.StringVar(&c.user, "user", "", "user `id` of who asks (default: as logged in)")
	flags.StringVar(requestID, "request-id", "", "`id` that is sent as Idempotency-Key")
	flags.DurationVar(expiresIn, "expires-in", 0, "`time` for which the request holds, and after which its session is void (default: an hour, and the server's)")
}

var requestSign = command{
	name: "sign", args: "KEY --data DATA --request-id ID", brief: "print the body of POST /v1/keys/KEY/signatures?start=true",
	about: `
Prints the body that asks for a signature. DATA and --hash are as in conclave sign. The
address of a key that was made from here is known; for others give --address.

  $ conclave request sign treasury --request-id order-4711 --data 'Pay 5 ether to Bob'
  {"key_id":"treasury","data":"Pay 5 ether to Bob","account_addr":"0x9d8A…","session_id":"sg-…","hash":"eip191","signed_request":"conclave-req1.…"}`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r rest.SignRequest
		c.bodyFlags(flags, &r.RequestID, &r.ExpiresIn)
		flags.StringVar(&r.Data, "data", "", "what to sign: "+dataHelp)
		flags.StringVar(&r.Hash, "hash", "", "what to do to it first, as in conclave sign")
		flags.StringVar(&r.AccountAddr, "address", "", "account `address` of the key")
		participants := flags.String("participants", "", "`users` to invite, separated by commas (default: all who hold the key)")
		return func(_ context.Context, args []string) (err error) {
			if len(args) != 1 || r.Data == "" || r.RequestID == "" {
				return misuse("request sign needs a key, --data and --request-id")
			}
			r.KeyID, r.Participants = args[0], splitList(*participants)
			if r.Data, err = c.data(r.Data, r.Hash); err != nil {
				return err
			}
			return c.requestSign(r)
		}
	},
}

func (c *cli) requestSign(r rest.SignRequest) error {
	if r.AccountAddr == "" {
		known, err := c.known()
		if err != nil {
			return err
		}
		if r.AccountAddr = known[r.KeyID]; r.AccountAddr == "" {
			return misuse("the key %s was not made from here: give its address with --address", r.KeyID)
		}
	}
	return c.printBody(r)
}

var requestKeygen = command{
	name: "keygen", args: "USER USER… --request-id ID", brief: "print the body of POST /v1/keys?start=true",
	about: `
Prints the body that asks for a key whose parts the named participants hold, in that
order.

  $ conclave request keygen --key-id treasury --threshold 2 --request-id new-treasury bob carol dave
  {"key_id":"treasury","threshold":2,"total_parts":3,"participants":["bob","carol","dave"],"curve":"secp256k1","signed_request":"conclave-req1.…"}`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r rest.KeygenRequest
		c.bodyFlags(flags, &r.RequestID, &r.ExpiresIn)
		curve := flags.String("curve", "", "`curve`: secp256k1 (default) or ed25519")
		flags.StringVar(&r.KeyID, "key-id", "", "`id` of the key (default: one that follows from user and --request-id)")
		flags.IntVar(&r.Threshold, "threshold", 2, "how `many` must sign")
		return func(_ context.Context, args []string) (err error) {
			if len(args) < 2 || r.RequestID == "" {
				return misuse("request keygen needs the users who will hold the key, two or more, and --request-id")
			}
			if r.Curve, err = pubkey.ParseCurve(*curve); err != nil {
				return misuse("%s", err)
			}
			r.Participants = args
			return c.printBody(r)
		}
	},
}

// printBody prints a request, signed for who is logged in or was named.
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
		return misuse("nobody has logged in from here: say with --user who asks")
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
