package party

import (
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/conclave-mpc/conclave/session/pubkey"
)

func TestRoundTables(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, k := range []kind{kindKeygen, kindSign, kindReshare} {
		for _, c := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
			codes := map[byte]bool{}
			last := 1
			for _, rd := range roundsOf(k, c) {
				if codes[rd.Code] || names[rd.Name] || names[rd.MessageType()] {
					t.Errorf("%s occurs twice", rd.Name)
				}
				codes[rd.Code], names[rd.Name], names[rd.MessageType()] = true, true, true
				if rd.Number < last || rd.Number > last+1 || rd.Max > MaxBodyBytes-sealOverhead-bodyHeader {
					t.Errorf("%s is in round %d after round %d", rd.Name, rd.Number, last)
				}
				last = rd.Number
			}
		}
	}
}

// TestRoundsFitAMailbox: one party's messages to another in a whole keygen or reshare, or
// in two attempts of a signing, take at most half of the recipient's unread limit for one
// sender in one session.
func TestRoundsFitAMailbox(t *testing.T) {
	t.Parallel()
	const most, mostBytes, overhead = 512, 4 << 20, 256 + 512 // cluster.Config.GroupMax, GroupMaxBytes; a frame's other fields
	source, err := os.ReadFile("../../cluster/cluster.go")    // not imported by this package
	if err != nil {
		t.Fatal(err)
	}
	for _, preset := range []string{"number(&c.GroupMax, 512)", "number(&c.GroupMaxBytes, 4<<20)"} {
		if !strings.Contains(string(source), preset) {
			t.Errorf("cluster's limits are others: it has no %s", preset)
		}
	}
	for _, c := range []pubkey.Curve{pubkey.Secp256k1, pubkey.Ed25519} {
		for k, attempts := range map[kind]int{kindKeygen: 1, kindSign: 2, kindReshare: 1} {
			messages, bytes := 0, 0
			for _, rd := range roundsOf(k, c) {
				messages++
				bytes += base64.StdEncoding.EncodedLen(rd.Max+sealOverhead+bodyHeader) + overhead
				if !rd.P2P { // its echo, a digest for each party
					messages++
					bytes += 4<<10 + overhead
				}
			}
			t.Logf("%s of %s: %d messages, %d bytes", c, k, messages, bytes)
			if messages *= attempts; messages > most/2 || bytes*attempts > mostBytes/2 {
				t.Errorf("%s of %s: %d messages, %d bytes in %d attempts", c, k, messages, bytes*attempts, attempts)
			}
		}
	}
}
