package service_test

import (
	"context"
	"slices"
	"testing"

	"github.com/conclave-mpc/conclave/session/service"
	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// unread implements service.Waiting on the world's mailboxes, of which boss has
// acknowledged the first few.
type unread struct {
	*mailboxes
	acked int
}

func (u *unread) Waiting(_ context.Context, user string, _ uint64, most int) (frames [][]byte, err error) {
	box := u.of(user)
	for _, m := range slices.Backward(box[min(u.acked, len(box)):]) {
		frame, err := m.Encode()
		if err != nil {
			return nil, err
		}
		if len(frames) < most {
			frames = append(frames, frame)
		}
	}
	return frames, nil
}

// TestRepeatAfterTheEnd has a coordinator that names no ids repeat its request, because
// its socket closed before it received the outcome: it gets that outcome, and nothing
// is begun. After an acknowledgement, an equal request is a new one.
func TestRepeatAfterTheEnd(t *testing.T) {
	each(t, func(w *world) {
		told := &unread{mailboxes: w.mail}
		v := w.node(func(c *service.Config) { c.Waiting = told })
		w.keygen(v, "vault", true)
		told.acked = len(w.mail.of("boss"))
		c := w.cast(v, true)
		c.skip()
		begun := func(want int) {
			w.Helper()
			n := 0
			for _, m := range w.mail.of("alice") {
				if m.Type == wire.TypeSignInvite {
					n++
				}
			}
			if n != want {
				w.Fatalf("alice was invited %d times, want %d", n, want)
			}
		}
		if reply := w.must(v, "boss", signRequest("vault", "one", "alice", "bob")); reply != nil {
			w.Fatalf("got %T", reply)
		}
		c.act()
		begun(1)
		again := w.must(v, "boss", signRequest("vault", "one", "alice", "bob"))
		if out, ok := again.(*wire.SignComplete); !ok || out.Status != wire.StatusSuccess {
			w.Fatalf("the repetition is answered by %+v", again)
		}
		w.must(v, "boss", signRequest("vault", "two", "alice", "bob")) // a different request is a new one
		c.act()
		begun(2)
		told.acked = len(w.mail.of("boss"))
		w.must(v, "boss", signRequest("vault", "one", "alice", "bob"))
		c.act()
		begun(3)
	})
}

// TestRepeatOfAFailedKeygen is the same with a keygen that has failed.
func TestRepeatOfAFailedKeygen(t *testing.T) {
	each(t, func(w *world) {
		told := &unread{mailboxes: w.mail}
		v := w.node(func(c *service.Config) { c.Waiting = told })
		w.must(v, "boss", keygenRequest("vault"))
		w.must(v, "alice", &wire.KeygenResponse{KeyID: "vault", PartIndex: 1, Response: &no})
		again := w.must(v, "boss", keygenRequest("vault"))
		if out, ok := again.(*wire.KeygenConfirm); !ok || out.Status != wire.StatusRejected {
			w.Fatalf("the repetition is answered by %+v", again)
		}
		told.acked = len(w.mail.of("boss"))
		if reply := w.must(v, "boss", keygenRequest("vault")); reply != nil {
			w.Fatalf("another try is answered by %+v", reply)
		}
	})
}
