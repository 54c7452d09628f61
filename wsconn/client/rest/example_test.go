package rest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/conclave-mpc/conclave/session/identity"
	"github.com/conclave-mpc/conclave/session/statement"
	"github.com/conclave-mpc/conclave/wsconn/client/request"
	"github.com/conclave-mpc/conclave/wsconn/client/rest"
)

// A backend requests a signature by one call of the web API. The same RequestID
// again is the same signing.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	api, err := rest.New(rest.Config{
		URLs: []string{"https://conclave.example"}, Token: rest.StaticToken(os.Getenv("CONCLAVE_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	key, err := api.Key(ctx, "treasury")
	if err != nil {
		log.Fatal(err)
	}
	sig, err := api.Sign(ctx, rest.SignRequest{KeyID: key.KeyID, AccountAddr: key.AccountAddr, Data: "pay bob 5", RequestID: "order-4711"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(sig.Signature) // Sign has verified it
}

// A backend refreshes a key: its committee gets new shares, and the old ones are of no
// use any more. The lineage is verified here, and so is the certificate of the new epoch.
func ExampleClient_Reshare() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	own, err := identity.Parse(os.Getenv("CONCLAVE_IDENTITY"))
	if err != nil {
		log.Fatal(err)
	}
	api, err := rest.New(rest.Config{
		URLs: []string{"https://conclave.example"}, Token: rest.StaticToken(os.Getenv("CONCLAVE_TOKEN")), Identity: own,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer api.Close()
	list, err := api.Lineage(ctx, "treasury")
	if err != nil {
		log.Fatal(err)
	}
	var certificates []*statement.Certificate
	for _, entry := range list {
		c, err := statement.ParseAnyCertificate(entry.Certificate)
		if err != nil {
			log.Fatal(err)
		}
		certificates = append(certificates, c)
	}
	lineage, err := statement.VerifyLineage(certificates)
	if err != nil {
		log.Fatal(err)
	}
	refresh := request.Refresh(lineage)
	refresh.RequestID = "refresh-2026-12"
	refresh.NewIdentities = []string{"alice", "bob", "carol"} // whose fingerprints were compared; or pin them in Config.Trust
	next, err := api.Reshare(ctx, refresh)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(next.Epoch, next.AccountAddr)
}
