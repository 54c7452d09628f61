package service

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/wsconn/wire"
)

// FuzzShareKeeper: a client's share is stored sealed or encrypted, never in plain, and
// its owner gets it back unchanged, only for its own key and part.
func FuzzShareKeeper(f *testing.F) {
	keeper, err := NewShareKeeper(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	without, err := NewShareKeeper(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("key-1", 1, `{"secret":"plain"}`)
	f.Add("key-1", 2, `{"sealed":"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n"}`)
	f.Add("ключ", 16, `kek1:AAAA`)
	f.Add("k", 1, "kek1:\x00\"\\")
	f.Add("", 0, "")
	f.Fuzz(func(t *testing.T, key string, part int, share string) {
		if !wire.ValidID(key) {
			return // refused earlier
		}
		_, refused := without.Protect(key, part, share)
		kept, err := keeper.Protect(key, part, share)
		if err != nil || (refused == nil) != (kept == share) {
			t.Fatalf("kept %q as %q: %v; without a key: %v", share, kept, err, refused)
		}
		if kept == share && !strings.Contains(share, "AGE ENCRYPTED FILE") {
			t.Fatalf("%q is kept in the clear", share)
		}
		for _, place := range []int{part, part + 1} {
			payload, err := json.Marshal(&wire.SignParams{KeyID: key, PartIndex: place, ShareJSON: kept})
			if err != nil {
				t.Fatal(err)
			}
			frame, err := wire.Message{Type: wire.TypeSignParams, Payload: payload}.Encode()
			if err != nil {
				t.Fatal(err)
			}
			revealed, err := keeper.Reveal(frame)
			if err != nil {
				if place == part {
					t.Fatalf("cannot reveal what it has kept: %v", err)
				}
				continue
			}
			if place != part && kept != share {
				t.Fatal("revealed in another place")
			}
			var m wire.Message
			var p wire.SignParams
			if err := json.Unmarshal(revealed, &m); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(m.Payload, &p); err != nil {
				t.Fatal(err)
			}
			if want := jsonText(t, share); p.ShareJSON != want {
				t.Errorf("got back %q, want %q", p.ShareJSON, want)
			}
		}
	})
}

// jsonText is a text after JSON encoding, which replaces bytes that are not UTF-8.
func jsonText(t *testing.T, text string) (out string) {
	t.Helper()
	data, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// FuzzReveal gives the keeper frames that a mailbox might contain.
func FuzzReveal(f *testing.F) {
	keeper, err := NewShareKeeper(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"type":"sign_params","payload":{"key_id":"k","part_index":1,"share_json":"kek1:AAAA"}}`))
	f.Add([]byte(`{"type":"sign_invite","payload":{"data":"\"share_json\":\"kek1:"}}`))
	f.Add([]byte(`"share_json":"kek1:`))
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := keeper.Reveal(frame)
		if err == nil && !bytes.Equal(got, frame) {
			t.Errorf("opened what nobody can have encrypted: %q", frame)
		}
	})
}
