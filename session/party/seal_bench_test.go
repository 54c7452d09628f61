package party_test

import (
	"testing"

	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/party/partytest"
	"github.com/conclave-mpc/conclave/session/pubkey"
)

// A party's work for each message besides the protocol: signing and sealing sent
// messages, checking and opening received ones.
func BenchmarkEnvelope(b *testing.B) {
	c, shares := partytest.Key(b)
	runs := c.SignRuns(b, shares, []int{1, 2}, digestOf(pubkey.Secp256k1, "digest"))
	content := make([]byte, 2<<10)
	for _, place := range []struct {
		name, round string
		to          int
	}{{"broadcast", "ecdsa/sign/1", 0}, {"sealed", "ecdsa/sign/1-mta", 2}} {
		code := party.CodeOf(runs[1], place.round)
		m, err := party.Forge(runs[1], code, place.to, content)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(place.name+"/write", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := party.Forge(runs[1], code, place.to, content); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(place.name+"/read", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := party.Content(runs[2], m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
