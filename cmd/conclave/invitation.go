package main

import (
	"fmt"
	"strings"

	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/wsconn/client"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

const clock = "2006-01-02 15:04:05"

// trusted says why the identity that has signed a request is taken for the
// coordinator's.
func trusted(inv client.Invitation) string {
	switch {
	case inv.Signer.Pinned:
		return "pinned"
	case inv.Signer.First:
		return "seen for the first time: ask " + inv.Coordinator + " for the fingerprint before you agree"
	}
	return "as before, but not pinned"
}

// caution says where the bytes that would be signed are not what they look like.
func caution(inv client.Invitation) string {
	if inv.Curve == pubkey.Secp256k1 && inv.Hash != string(pubkey.HashKeccak256) && pubkey.HexIsTransaction(inv.Data) {
		return "the data is an Ethereum transaction, but hashed with " + inv.Hash + " it is not one that would be signed"
	}
	return ""
}

// described lists names that are seen for the first time.
func described(names []string) string {
	list := make([]string, len(names))
	for i, name := range names {
		list[i] = wire.DescribeName(name)
	}
	return strings.Join(list, ", ")
}

// request shows who asks for what: all that would be agreed to.
func request(c *console, inv client.Invitation) string {
	var b strings.Builder
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "    %-13s %s\n", name, clean(value))
		}
	}
	what := "make a key"
	if inv.Kind == client.KindSign {
		what = "sign"
	}
	asker := wire.DescribeName(inv.Coordinator)
	if inv.Signer != nil && !inv.Signer.First { // seen before, under this very name
		asker = inv.Coordinator
	}
	fmt.Fprintf(&b, "conclave: %s asks you to %s\n", c.bold(clean(asker)), c.bold(what))
	row("key", wire.DescribeName(inv.KeyID))
	row("curve", string(inv.Curve))
	if inv.Kind == client.KindSign {
		row("address", inv.AccountAddr)
		row("data", printable(inv.Data))
		row("hash", inv.Hash)
		row("caution", caution(inv))
		row("digest", inv.Digest)
		row("invited", strings.Join(inv.Participants, ", "))
	} else {
		row("held by", described(inv.Participants))
	}
	if inv.Threshold > 0 {
		row("must sign", fmt.Sprintf("%d of them", inv.Threshold))
	}
	row("your part", fmt.Sprint(inv.PartIndex))
	if !inv.Deadline.IsZero() {
		row("answer until", inv.Deadline.Local().Format(clock))
	}
	row("session", inv.SessionID)
	if s := inv.Signer; s != nil {
		row("signed by", s.Fingerprint+", "+trusted(inv))
		row("asked at", s.IssuedAt.Local().Format(clock))
		row("holds until", s.ExpiresAt.Local().Format(clock))
		row("nonce", s.Nonce)
	} else {
		fmt.Fprintf(&b, "    %-13s %s\n", "signed by", c.paint(red, "NOBODY")+": that "+clean(inv.Coordinator)+" asks for this, only the server says")
	}
	return b.String()
}
