package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

var keygenCommand = command{
	name: "keygen", args: "USER USER…",
	brief: "create a key whose shares these users hold",
	about: `
Creates a key whose shares the named participants hold, in that order. All of them
must accept.

  $ conclave keygen --threshold 2 alice bob carol
  conclave: request id 4XK2P7… (give it with --request-id to try again safely)
  conclave: keygen of key-7GZ5XQ… began: session kg-P3KD…
  conclave: alice accepted
  …
  conclave: attempt 1 of alice, bob, carol
  conclave: done in 12.4s
  key         key-7GZ5XQ…
  curve       secp256k1
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  public key  0x03…
  attested    by alice (pinned), bob (pinned), carol (pinned)

With the --key-id of a running keygen it joins that keygen. With the --request-id of
an earlier request it returns that request's outcome, so that a script can retry
after any failure. It does not disconnect a participant of the same user.

Each participant attests the key with a signature. The key is refused unless the
attestations of all participants match the servers' record, checked against the
identities that this home knows. With --trust pinned, all participants must be
pinned (conclave trust); otherwise no request is sent. With --trust tofu, a
participant whose identity is not yet known, or that has no identity, is accepted with a
warning.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		var r rest.KeygenRequest
		curve := flags.String("curve", "", "`curve` of the key: secp256k1 (default) or ed25519")
		flags.StringVar(&r.KeyID, "key-id", "", "`id` of the key (default: a new one)")
		requestFlag(flags, &r.RequestID)
		flags.IntVar(&r.Threshold, "threshold", 2, "`n` parties must sign: the threshold, from 2 to the number of users")
		flags.DurationVar(&r.ExpiresIn, "expires-in", 0, "`duration` after which the request expires (default: the server's)")
		trust, limit := trustFlag(flags), timeoutFlag(flags)
		return func(ctx context.Context, args []string) error {
			pinnedOnly, err := trust()
			if err != nil {
				return err
			}
			if r.Curve, err = pubkey.ParseCurve(*curve); err != nil {
				return misuse("%s", err)
			}
			switch r.Participants = args; {
			case len(args) < 2:
				return misuse("keygen needs two or more users to hold the key")
			case r.Threshold < 2 || r.Threshold > len(args):
				return misuse("--threshold must be from 2 to %d, the number of users", len(args))
			}
			return limit(ctx, r.ExpiresIn, func(ctx context.Context) error { return c.keygen(ctx, r, pinnedOnly) })
		}
	},
}

func (c *cli) keygen(ctx context.Context, r rest.KeygenRequest, pinnedOnly bool) error {
	var key rest.Key
	if r.RequestID == "" {
		r.RequestID = rand.Text()
	}
	err := c.coordinate(ctx, pinnedOnly, r.RequestID, func(api *rest.Client) (err error) {
		key, err = api.Keygen(ctx, r)
		return err
	})
	if err != nil {
		c.unattested(err)
		return err
	}
	if err := c.remember(key); err != nil {
		return fmt.Errorf("the key %s was created, with address %s, but not recorded: %w", key.KeyID, key.AccountAddr, err)
	}
	return c.print(key, [2]string{"key", key.KeyID}, [2]string{"curve", string(key.Curve)},
		[2]string{"address", key.AccountAddr}, [2]string{"public key", key.PublicKey},
		[2]string{"attested", c.attested(key.AttestedBy)})
}

var signCommand = command{
	name: "sign", args: "KEY --data DATA",
	brief: "sign text, 0x and hex, or the bytes of a file",
	about: `
Signs data with a key and verifies the signature.

  $ conclave sign key-7GZ5XQ… --data "pay bob"
  conclave: request id ZP3Q8V… (give it with --request-id to try again safely)
  conclave: sign of key-7GZ5XQ… began: session sg-2…
  conclave: carol accepted
  conclave: alice accepted
  conclave: attempt 1 of alice, carol
  conclave: done in 1.2s
  signature   0x…
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  hash        eip191
  digest      0x…
  session     sg-2…
  $ conclave sign key-7GZ5XQ… --data 0xec09… --participants alice,carol
  $ conclave sign key-7GZ5XQ… --data @release.tar.sig-input --hash sha256

DATA is one of

  text        signed as an Ethereum personal message (--hash eip191)
  0x and hex  bytes. 32 bytes are a digest (--hash none); others are hashed like an
              Ethereum transaction (--hash keccak256). 32 bytes that are also a valid
              transaction need an explicit --hash
  @FILE, -    all bytes of the file, or of stdin, up to the end, as if given in hex:
              text in a file is hashed with keccak256. For a personal message give
              --hash eip191. 32 bytes need an explicit --hash. At most 65535 bytes

These defaults are those of secp256k1; on ed25519 the bytes themselves are signed,
without a hash. Text that begins with @ must be given as a file. A repeated
--request-id does not sign twice; it returns the outcome of the first request.

The address of a key created from this home is known. For other keys give --address;
otherwise the server's address is trusted as far as the participants attest it (see
conclave keygen -h).`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		c.serverFlags(flags)
		var r rest.SignRequest
		flags.StringVar(&r.Data, "data", "", "what to sign: "+dataHelp)
		flags.StringVar(&r.Hash, "hash", "", "hash `function` to apply first: none, keccak256, sha256, sha256d or eip191\n(default on secp256k1: none for 32 bytes of hex, keccak256 for other hex, eip191 for text;\n@FILE and - count as hex)")
		flags.StringVar(&r.AccountAddr, "address", "", "account `address` of the key")
		participants := flags.String("participants", "", "`users` to invite, separated by commas (default: all participants of the key)")
		requestFlag(flags, &r.RequestID)
		flags.StringVar(&r.SessionID, "session", "", "`id` of a running session to join (default: start a new one)")
		flags.DurationVar(&r.ExpiresIn, "expires-in", 0, "`duration` after which the request expires (default: the server's)")
		trust, limit := trustFlag(flags), timeoutFlag(flags)
		return func(ctx context.Context, args []string) error {
			pinnedOnly, err := trust()
			if err != nil {
				return err
			}
			if len(args) != 1 || r.Data == "" {
				return misuse("sign needs a key and --data")
			}
			r.KeyID, r.Participants = args[0], splitList(*participants)
			if r.Data, err = c.data(r.Data, r.Hash); err != nil {
				return err
			}
			return limit(ctx, r.ExpiresIn, func(ctx context.Context) error { return c.sign(ctx, r, pinnedOnly) })
		}
	},
}

func (c *cli) sign(ctx context.Context, r rest.SignRequest, pinnedOnly bool) error {
	if r.AccountAddr == "" {
		known, err := c.known()
		if err != nil {
			return err
		}
		if r.AccountAddr = known[r.KeyID]; r.AccountAddr == "" {
			c.console.say("this key was not created from this home: asking the server for its address")
			if r.AccountAddr, err = c.addressOf(ctx, r.KeyID, pinnedOnly); err != nil {
				return err
			}
		}
	}
	var err error
	if r.MinEpoch, err = c.latestEpoch(ctx, r.KeyID, r.AccountAddr); err != nil {
		return err
	}
	var sig rest.Signature
	if r.RequestID == "" {
		r.RequestID = rand.Text()
	}
	err = c.coordinate(ctx, pinnedOnly, r.RequestID, func(api *rest.Client) (err error) {
		sig, err = api.Sign(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	return c.print(sig, [2]string{"signature", sig.Signature}, [2]string{"address", sig.AccountAddr},
		[2]string{"hash", string(sig.Hash)}, [2]string{"digest", ownDigest(sig.Data, sig.Digest)}, [2]string{"session", sig.SessionID})
}

// coordinate sends requests over the web API, which needs no WebSocket, so that a
// user may make several requests at once, and beside a participant. It shows
// progress, and reports what becomes of a session that it leaves. The same requestID
// is the same request.
func (c *cli) coordinate(ctx context.Context, pinnedOnly bool, requestID string, do func(*rest.Client) error) error {
	identity, err := c.identity()
	if err != nil {
		return err
	}
	store, err := c.identities()
	if err != nil {
		return err
	}
	d := display{console: c.console, began: time.Now()}
	policy := trust.Of(store)
	policy.PinnedOnly = pinnedOnly
	var end request.Event // printed after the session's progress, which arrives on another connection
	api, err := c.open(rest.Config{
		Token: c.tokens(nil), User: c.user, Identity: identity, Trust: policy,
		OnEvent: func(e request.Event) {
			if _, ok := e.(request.Ended); ok {
				end = e
				return
			}
			d.event(e)
		},
	})
	if err != nil {
		return err
	}
	defer api.Close()
	c.console.say("request id %s (give it with --request-id to try again safely)", clean(requestID))
	stop := c.accompany(ctx, &d)
	err = do(api)
	stop()
	if end != nil {
		d.event(end)
	}
	d.done()
	if err == nil {
		c.console.say("done in %s", time.Since(d.began).Round(100*time.Millisecond))
	}
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return &timeoutError{session: d.session()}
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		if session := d.session(); session != "" {
			return fmt.Errorf("interrupted; session %s continues (see conclave sessions watch %s)", session, session)
		}
		return errors.New("interrupted before the request was accepted")
	}
	return err
}

// requestFlag lets a script repeat a command that may have been carried out.
func requestFlag(flags *flag.FlagSet, id *string) {
	const about = "`id` of the request, for safe retries: a repeated id returns the outcome of the first request (default: a new one, which is printed)"
	flags.StringVar(id, "request-id", "", about)
	flags.StringVar(id, "idempotency-key", "", "alias of --request-id: an `id`")
}

const knownFile = "keys.json"

// known returns the account addresses of the keys that were made from here, by key
// id: the server's later answers are checked against them.
func (c *cli) known() (map[string]string, error) {
	known := map[string]string{}
	path, err := c.path(knownFile)
	if err != nil {
		return nil, err
	}
	return known, readJSON(path, &known)
}

// remember adds a key to them. Several commands may call it at once.
func (c *cli) remember(key rest.Key) error {
	path, err := c.path(knownFile)
	if err != nil {
		return err
	}
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	known, err := c.known()
	if err != nil {
		return err
	}
	known[key.KeyID] = key.AccountAddr
	return writeJSON(path, known)
}
