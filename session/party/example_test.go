package party_test

import (
	"fmt"
	"log"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/party"
	"github.com/conclave-mpc/conclave/session/pubkey"
	"github.com/conclave-mpc/conclave/session/share"
)

// Two parties generate a key and seal their shares. In practice each is in its own
// process, connected by a network.
func Example() {
	binding := party.Binding{
		SessionID: "s-1", Attempt: 1, KeyID: "savings", Curve: pubkey.Ed25519, Threshold: 2, TotalParts: 2,
	}
	var identities []*identity.Identity
	for i, user := range []string{"alice", "bob"} {
		id, err := identity.New()
		if err != nil {
			log.Fatal(err)
		}
		identities = append(identities, id)
		binding.Parties = append(binding.Parties, identity.Member{Index: i + 1, User: user, Identity: id.Public()})
	}
	var runs []*party.Run
	for i, id := range identities {
		binding.Self = i + 1
		// On secp256k1, PreParams from GeneratePreParams are needed too.
		run, err := party.NewKeygen(party.KeygenConfig{Binding: binding, Identity: id})
		if err != nil {
			log.Fatal(err)
		}
		defer run.Close()
		runs = append(runs, run)
	}
	for i, run := range runs {
		if err := run.Start(); err != nil {
			log.Fatal(err)
		}
		go func() {
			for m := range run.Out() {
				if err := runs[1-i].Accept(m); err != nil {
					log.Print(err)
				}
			}
		}()
	}
	for i, run := range runs {
		<-run.Done()
		if err := run.Err(); err != nil {
			log.Fatal(err)
		}
		sealed, err := run.Share().Seal(identities[i].Recipient())
		if err != nil {
			log.Fatal(err)
		}
		public, err := share.ParsePublic(sealed)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(public.User, "holds part", public.PartIndex, "of", public.KeyID)
	}
	// Output:
	// alice holds part 1 of savings
	// bob holds part 2 of savings
}
