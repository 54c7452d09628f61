package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/dirstore"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
	"github.com/conclave-mpc/conclave/wsconn/client/trust"
)

var reshareCommand = command{
	name: "reshare", args: "KEY --threshold T USER USER…",
	brief: "give a key new shares, for another committee or threshold",
	about: `
Gives a key new shares, for the named committee in that order, of which T must sign.
The key and its address stay the same. Members may be added, removed and kept.

  $ conclave reshare treasury --threshold 3 bob carol dave erin
  conclave: request id 4XK2P7… (give it with --request-id to try again safely)
  …
  conclave: done in 9.8s
  key         treasury
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  epoch       2
  signing     3 of 4: bob, carol, dave, erin
  certified   by the new committee, with the consent of bob, carol

As many members of the present committee as its threshold must take part, and all of
the new one. Everybody's identity must be pinned in this home (conclave trust), and a
new member's also in the homes of the present members, or they are asked. Until the new
epoch is certified the present one signs, and a reshare that fails changes nothing.

It needs a WebSocket, and disconnects a participant of the same user meanwhile. To get
new shares for the same committee use conclave refresh, to replace one member conclave
replace.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r resharing
		threshold := flags.Int("threshold", 0, "`n` parties of the new committee must sign, from 2 to the number of users")
		run := c.reshareFlags(flags, &r)
		return func(ctx context.Context, args []string) error {
			switch {
			case len(args) < 3:
				return misuse("reshare needs a key, --threshold and two or more users")
			case *threshold < 2 || *threshold > len(args)-1:
				return misuse("--threshold must be from 2 to %d, the number of users", len(args)-1)
			}
			r.key, r.users, r.threshold = args[0], args[1:], *threshold
			return run(ctx)
		}
	},
}

var refreshCommand = command{
	name: "refresh", args: "KEY",
	brief: "give a key new shares, for the same committee",
	about: `
Gives the committee of a key new shares. The former ones are deleted, and are worth
nothing together with the new ones: who has stolen one must begin again.

  $ conclave refresh treasury
  …
  key         treasury
  address     0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F
  epoch       2
  signing     2 of 3: bob, carol, dave
  certified   by the new committee, with the consent of bob, carol

Backups of devices and of Redis keep former shares: a refresh protects only what was
deleted everywhere. See conclave reshare -h.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r resharing
		run := c.reshareFlags(flags, &r)
		return func(ctx context.Context, args []string) error {
			if len(args) != 1 {
				return misuse("refresh needs a key")
			}
			r.key = args[0]
			return run(ctx)
		}
	},
}

var replaceCommand = command{
	name: "replace", args: "KEY OLD NEW",
	brief: "replace a member of a key's committee, or its lost device",
	about: `
Gives a key new shares, for the same committee but with the user NEW in the place of
OLD. OLD takes no part, and its share need not exist any more.

  $ conclave replace treasury carol erin
  …
  signing     2 of 3: bob, erin, dave
  certified   by the new committee, with the consent of bob, dave

For a user with a new device both names are the same. Its participant must have connected
with the new identity once. Ask the user for its fingerprint, over a channel that you
trust:

  $ conclave replace treasury bob bob --new-identity BOZJ6-L4GQE-TOPPJ-PCQ3C-5QUQ4-FJ7QA-MDNXS-YGOPA

The other members are shown the new identity as NEW DEVICE. The pin of the user in this
home changes once the epoch is certified. See conclave reshare -h.`,
	setup: func(c *cli, flags *flag.FlagSet) action {
		var r resharing
		flags.StringVar(&r.newIdentity, "new-identity", "", "`fingerprint` of the new identity of NEW, if it differs from the pinned one")
		run := c.reshareFlags(flags, &r)
		return func(ctx context.Context, args []string) error {
			switch {
			case len(args) != 3:
				return misuse("replace needs a key, the user to replace, and the user in its place")
			case args[1] == args[2] && r.newIdentity == "":
				return misuse("to replace a user by itself, give the fingerprint of its new device with --new-identity")
			}
			if r.newIdentity != "" {
				fingerprint, err := identity.ParseFingerprint(r.newIdentity)
				if err != nil {
					return misuse("--new-identity: %s", err)
				}
				r.newIdentity = fingerprint
			}
			r.key, r.out, r.in = args[0], args[1], args[2]
			return run(ctx)
		}
	},
}

// resharing is what the commands ask for: a committee, the same one, or that with one
// member for another.
type resharing struct {
	key       string
	users     []string // with threshold
	threshold int

	out, in, newIdentity string

	request   string
	expiresIn time.Duration
}

func (c *cli) reshareFlags(flags *flag.FlagSet, r *resharing) func(ctx context.Context) error {
	c.serverFlags(flags)
	requestFlag(flags, &r.request)
	flags.DurationVar(&r.expiresIn, "expires-in", 0, "`duration` after which the request expires (default: the server's)")
	limit := timeoutFlag(flags)
	return func(ctx context.Context) error {
		return limit(ctx, r.expiresIn, func(ctx context.Context) error { return c.reshare(ctx, *r) })
	}
}

func (c *cli) reshare(ctx context.Context, r resharing) error {
	store, err := c.identities()
	if err != nil {
		return err
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	defer api.Close()
	policy := trust.Pinned(store)
	lineage, _, err := c.lineageOf(ctx, api, store, policy, r.key)
	if err != nil {
		return err
	}
	ask, err := r.prepare(ctx, api, store, lineage)
	if err != nil {
		return err
	}
	if ask.RequestID = r.request; ask.RequestID == "" {
		ask.RequestID = rand.Text()
	}
	ask.ExpiresIn = r.expiresIn
	var done request.NewEpoch
	err = c.coordinate(ctx, true, ask.RequestID, func(api *rest.Client) (err error) {
		done, err = api.Reshare(ctx, ask)
		return err
	})
	if err != nil {
		return err
	}
	if err := keepLineage(ctx, store, done.Lineage); err != nil {
		return fmt.Errorf("epoch %d of key %s is certified, but not recorded: %w", done.Epoch, done.KeyID, err)
	}
	if r.newIdentity != "" {
		if _, err := store.Forget(r.in); err != nil {
			return err
		}
		if err := store.Pin(r.in, r.newIdentity); err != nil {
			return err
		}
	}
	return c.print(done, [2]string{"key", done.KeyID}, [2]string{"address", done.AccountAddr}, [2]string{"epoch", fmt.Sprint(done.Epoch)},
		[2]string{"signing", fmt.Sprintf("%d of %d: %s", done.Threshold, len(done.Participants), strings.Join(done.Participants, ", "))},
		[2]string{"certified", certifiedBy(done.Lineage)}, [2]string{"session", done.SessionID})
}

// certifiedBy describes in a few words the users who have certified the current epoch of
// a lineage.
func certifiedBy(l *statement.Lineage) string {
	c := l.Current()
	if len(c.Consents) == 0 {
		return "by its committee"
	}
	list := l.Certificates()
	var before *statement.Epoch
	for _, other := range list[:len(list)-1] {
		if other.Epoch != nil {
			before = other.Epoch
		}
	}
	var users []string
	for _, p := range c.Consents {
		if before != nil && p.Part <= len(before.Members) {
			users = append(users, before.Members[p.Part-1].User)
		}
	}
	return "by the new committee, with the consent of " + strings.Join(users, ", ")
}

// prepare returns the request that the command asks for.
func (r resharing) prepare(ctx context.Context, api *rest.Client, store *dirstore.Store, l *statement.Lineage) (request.Reshare, error) {
	switch {
	case r.in != "":
		by, err := r.memberOf(ctx, api, store, nil, r.in)
		if err != nil {
			return request.Reshare{}, err
		}
		ask, err := request.Replace(l, r.out, by)
		if r.newIdentity != "" {
			ask.NewIdentities = []string{r.in}
		}
		return ask, err
	case len(r.users) == 0:
		return request.Refresh(l), nil
	}
	ask := request.Reshare{Lineage: l, Threshold: r.threshold}
	for _, user := range r.users {
		m, err := r.memberOf(ctx, api, store, l.Epoch().Members, user)
		if err != nil {
			return ask, err
		}
		ask.Members = append(ask.Members, m)
	}
	return ask, nil
}

// memberOf returns a user with its whole identity: that of the present committee, or the
// registered one that has the pinned fingerprint, or the one given.
func (r resharing) memberOf(ctx context.Context, api *rest.Client, store *dirstore.Store, present []identity.Member, user string) (identity.Member, error) {
	for _, m := range present {
		if m.User == user {
			return identity.Member{User: user, Identity: m.Identity}, nil
		}
	}
	fingerprint := ""
	if user == r.in {
		fingerprint = r.newIdentity
	}
	if fingerprint == "" {
		known, ok, err := store.Known(user)
		switch {
		case err != nil:
			return identity.Member{}, err
		case !ok || !known.Pinned:
			return identity.Member{}, fmt.Errorf("%w: %s, who is to hold a share of the key", trust.ErrNotPinned, user)
		}
		fingerprint = known.Fingerprint
	}
	id, err := api.Identity(ctx, user, fingerprint)
	return identity.Member{User: user, Identity: id}, err
}

// lineageOf returns the verified lineage of a key, of the certificates that the server
// shows and those that this home has seen, and who attests its last epoch.
func (c *cli) lineageOf(ctx context.Context, api *rest.Client, store *dirstore.Store, policy trust.Policy, keyID string) (*statement.Lineage, []trust.Attestor, error) {
	list, err := api.Lineage(ctx, keyID)
	if err != nil {
		return nil, nil, fmt.Errorf("certificates of key %s: %w", keyID, err)
	}
	known, err := c.known()
	if err != nil {
		return nil, nil, err
	}
	address := known[keyID]
	var texts []string
	for _, item := range list {
		texts = append(texts, item.Certificate)
		if one, err := statement.ParseCertificate(item.Certificate); err == nil && address == "" {
			address = one.Epoch.AccountAddr
		}
	}
	kept, err := store.Lineage(ctx, keyID, address)
	if err != nil {
		return nil, nil, err
	}
	if kept != nil {
		for _, one := range kept.Certificates() {
			texts = append(texts, one.String())
		}
	}
	if len(texts) == 0 {
		return nil, nil, fmt.Errorf("key %s has no certificate: its participants attest nothing, or it does not exist", keyID)
	}
	return policy.CheckLineage(keyID, address, texts)
}

// checkEpoch checks who attests a key: the participants of its keygen or, once it has
// moved to another epoch, the members of the one that counts by its certificates. Then it
// returns the lineage too.
func (c *cli) checkEpoch(ctx context.Context, api *rest.Client, k rest.KeyInfo, pinnedOnly bool) ([]trust.Attestor, *statement.Lineage, error) {
	if k.Epoch <= 1 {
		who, err := c.checkKey(k, pinnedOnly)
		return who, nil, err
	}
	store, err := c.identities()
	if err != nil {
		return nil, nil, err
	}
	policy := trust.Of(store)
	policy.PinnedOnly = pinnedOnly
	lineage, who, err := c.lineageOf(ctx, api, store, policy, k.KeyID)
	if err != nil {
		return nil, nil, err
	}
	if e := lineage.Epoch(); e.AccountAddr != k.AccountAddr || e.Number < k.Epoch {
		return nil, nil, fmt.Errorf("the certificates of key %s lead to epoch %d of %s, and the server reports epoch %d of %s", k.KeyID, e.Number, e.AccountAddr, k.Epoch, k.AccountAddr)
	}
	return who, lineage, nil
}

// lineageRows shows a lineage, the epoch that counts first.
func lineageRows(l *statement.Lineage) (rows [][2]string) {
	if l == nil {
		return nil
	}
	rows = append(rows, [2]string{"epoch", fmt.Sprintf("%d, certified %s", l.Epoch().Number, certifiedBy(l))})
	name := "lineage"
	for _, one := range l.Certificates() {
		e := one.Epoch
		if e == nil {
			rows = append(rows, [2]string{name, fmt.Sprintf("%d: %s", one.Number(), one.Entry.Type)})
		} else {
			users := make([]string, len(e.Members))
			for i, m := range e.Members {
				users[i] = m.User
			}
			text := fmt.Sprintf("%d: %d of %d: %s", e.Number, e.Threshold, len(users), strings.Join(users, ", "))
			if e.Parent == nil {
				text += " (" + e.Origin + ")"
			}
			rows = append(rows, [2]string{name, text})
		}
		name = " "
	}
	return rows
}

// keepLineage keeps a lineage in this home: later requests to sign name its epoch, and an
// older one is not believed any more.
func keepLineage(ctx context.Context, store *dirstore.Store, l *statement.Lineage) error {
	for _, c := range l.Certificates() {
		if err := store.PutCertificate(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// latestEpoch returns the latest epoch of a key that this home knows, 0 for none.
func (c *cli) latestEpoch(ctx context.Context, keyID, address string) (int, error) {
	store, err := c.identities()
	if err != nil {
		return 0, err
	}
	l, err := store.Lineage(ctx, keyID, address)
	if err != nil || l == nil {
		return 0, err
	}
	return l.Epoch().Number, nil
}
