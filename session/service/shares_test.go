package service_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session"
	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// dump returns every value in the world's part of Redis.
func (w *world) dump() string {
	w.Helper()
	var b strings.Builder
	for _, key := range w.rdb.Keys(w.ctx, w.prefix+"*").Val() {
		fmt.Fprintln(&b, key)
		switch kind := w.rdb.Type(w.ctx, key).Val(); kind {
		case "hash":
			fmt.Fprintln(&b, w.rdb.HGetAll(w.ctx, key).Val())
		case "stream":
			fmt.Fprintln(&b, w.rdb.XRange(w.ctx, key, "-", "+").Val())
		case "zset":
			fmt.Fprintln(&b, w.rdb.ZRange(w.ctx, key, 0, -1).Val())
		case "string":
			fmt.Fprintln(&b, w.rdb.Get(w.ctx, key).Val())
		default:
			w.Fatalf("%s is a %s", key, kind)
		}
	}
	return b.String()
}

// TestPlainSharesRestEncrypted searches all of Redis and the mailboxes for a plain
// share, while signing parameters that hold it wait in the outbox.
func TestPlainSharesRestEncrypted(t *testing.T) {
	each(t, func(w *world) {
		v := w.node(nil)
		w.keygen(v, "vault", true)
		c := w.cast(v, true)
		c.skip()
		w.mail.setFail(func(d service.Delivery) error {
			if bytes.Contains(d.Frame, []byte("sign_params")) && d.To == "bob" {
				return errDead
			}
			return nil
		})
		w.must(v, "boss", signRequest("vault", "hello", "alice", "bob"))
		c.acts = func(_ string, p wire.Payload) bool { _, params := p.(*wire.SignParams); return !params }
		c.act()
		redis := w.dump()
		if !strings.Contains(redis, "sign_params") || !strings.Contains(redis, "kek1:") {
			w.Fatal("the test looks in the wrong place")
		}
		if strings.Contains(redis, "very secret") {
			w.Error("a plain share is in Redis")
		}
		box := w.mail.of("alice")
		frame, err := box[len(box)-1].Encode()
		if err != nil {
			w.Fatal(err)
		}
		if bytes.Contains(frame, []byte("very secret")) {
			w.Error("a plain share is in a mailbox")
		}

		// It is decrypted only on its way to its owner's socket.
		keeper := func(kek []byte) *service.ShareKeeper {
			k, err := service.NewShareKeeper(kek)
			if err != nil {
				w.Fatal(err)
			}
			return k
		}
		right, wrong, none := keeper(make([]byte, 32)), keeper(bytes.Repeat([]byte{1}, 32)), keeper(nil)
		opened, err := right.Reveal(frame)
		if err != nil {
			w.Fatal(err)
		}
		m, err := wire.Decode(opened, len(opened))
		if err != nil {
			w.Fatal(err)
		}
		var p wire.SignParams
		decode(w, m, &p)
		if p.ShareJSON != shareOf("alice", true) {
			w.Errorf("revealed %q", p.ShareJSON)
		}
		for what, moved := range map[string][]byte{
			"part": bytes.Replace(frame, []byte(`"part_index":1`), []byte(`"part_index":2`), 1),
			"key":  bytes.Replace(frame, []byte(`"key_id":"vault"`), []byte(`"key_id":"other"`), 1),
		} {
			if out, err := right.Reveal(moved); err == nil || bytes.Contains(out, []byte("very secret")) {
				w.Errorf("a share moved to another %s is opened: %v", what, err)
			}
		}
		if out, err := wrong.Reveal(frame); err == nil || strings.Contains(err.Error(), "secret") {
			w.Errorf("another key opens it: %s, %v", out, err)
		}
		if out, err := none.Reveal(frame); err != nil || !bytes.Equal(out, frame) {
			w.Errorf("without a key: %v", err)
		}
		other := []byte(`{"type":"tss_message","payload":{"share_json":"kek1:AAAA"}}`)
		if out, err := right.Reveal(other); err != nil || !bytes.Equal(out, other) {
			w.Errorf("another message: %s, %v", out, err)
		}
	})
}

// TestPlainSharesRefused: without a key to encrypt it, a plain share is refused.
func TestPlainSharesRefused(t *testing.T) {
	each(t, func(w *world) {
		keeper, err := service.NewShareKeeper(nil)
		if err != nil {
			w.Fatal(err)
		}
		v := w.node(func(c *service.Config) { c.Shares = keeper })
		c := w.cast(v, true)
		c.acts = func(_ string, p wire.Payload) bool { _, params := p.(*wire.KeygenParams); return !params }
		w.must(v, "boss", keygenRequest("vault"))
		c.act()
		report := &wire.KeygenComplete{KeyID: "vault", PartIndex: 1, AccountAddr: theKey.Address}
		for _, plain := range []string{
			shareOf("alice", true), "x", `{"sealed":"no"}`, `["sealed"]`, `{"sealed":"-----BEGIN AGE ENCRYPTED FILE-----"}`,
			`"-----BEGIN AGE ENCRYPTED FILE-----\n-----END AGE ENCRYPTED FILE-----"`, "kek1:AAAA",
		} {
			report.ShareJSON = plain
			w.refused(v, "alice", report, wire.CodeShareNotSealed)
		}
		if n := w.rdb.Exists(w.ctx, w.prefix+"key:{vault}:shares").Val(); n != 0 {
			w.Error("a refused share was stored")
		}
		// The coordinator gets the reason at once, without culprits.
		s := w.the(session.Keygen)
		if s.Phase != session.Failed || !strings.Contains(s.Reason, "CONCLAVE_SHARE_KEK") || len(s.Culprits) != 0 {
			w.Errorf("%s: %q, culprits %v", s.Phase, s.Reason, s.Culprits)
		}
		told, ok := w.outcomes()[0].(*wire.KeygenConfirm)
		if !ok || told.Status != wire.StatusFailed || told.Reason != s.Reason {
			w.Errorf("the coordinator is told %+v", told)
		}

		w.must(v, "boss", keygenRequest("vault"))
		c.act()
		report.ShareJSON = shareOf("alice", false)
		w.must(v, "alice", report)
		got, err := w.store.Shares(w.ctx, "vault", 1, 1)
		if err != nil || got[0] != report.ShareJSON {
			w.Errorf("a sealed share is stored as %q, %v", got, err)
		}
	})
}

func TestShareKeeperWantsAWholeKey(t *testing.T) {
	t.Parallel()
	if _, err := service.NewShareKeeper(make([]byte, 31)); err == nil {
		t.Error("31 bytes are a key")
	}
}
